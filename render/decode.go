package render

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// decodeObjects reads the objects as a client of the printed YAML would.
func decodeObjects(m resmap.ResMap, limits Limits) ([]*unstructured.Unstructured, error) {
	if m.Size() > limits.Objects {
		return nil, &RefusedError{Reason: fmt.Sprintf("it has %d objects, more than the limit of %d", m.Size(), limits.Objects),
			Remedy: "split the environment into several"}
	}
	var total int64
	tooLarge := &RefusedError{Reason: fmt.Sprintf("its objects have more than %d bytes", limits.OutputBytes),
		Remedy: "split the environment into several"}
	// Text that is copied shares its memory up to here, so it is added up first.
	for _, res := range m.Resources() {
		if total += textBytes(res.YNode()); total > limits.OutputBytes {
			return nil, tooLarge
		}
	}
	total = 0
	objs := make([]*unstructured.Unstructured, 0, m.Size())
	for _, res := range m.Resources() {
		obj, size, err := decodeObject(res)
		if err != nil {
			return nil, err
		}
		if total += size; total > limits.OutputBytes {
			return nil, tooLarge
		}
		objs = append(objs, &unstructured.Unstructured{Object: obj})
	}
	return objs, nil
}

// decodeObject gives one object and about how long its JSON is, in bytes.
func decodeObject(res *resource.Resource) (map[string]any, int64, error) {
	var d direct
	if v, ok := d.value(res.YNode(), false); ok {
		if obj, ok := v.(map[string]any); ok {
			return obj, d.size, nil
		}
	}
	return decodePrinted(res)
}

// decodePrinted prints the object and reads it back, which is what defines its value.
func decodePrinted(res *resource.Resource) (map[string]any, int64, error) {
	data, err := json.Marshal(res)
	if err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", res.CurId(), err)
	}
	obj := map[string]any{}
	if err := utiljson.Unmarshal(data, &obj); err != nil {
		return nil, 0, fmt.Errorf("decode %s: %w", res.CurId(), err)
	}
	return obj, int64(len(data)), nil
}

// direct reads values from Kustomize's nodes without printing them. It only knows nodes that printing and parsing
// certainly leaves alone, which are nearly all; a test compares the two ways.
type direct struct {
	size int64 // of the JSON, but for escapes
}

// value is not ok for a node that has to be printed. flow says that a collection around it is in flow style.
func (d *direct) value(n *kyaml.Node, flow bool) (v any, ok bool) {
	if n == nil || n.Anchor != "" || n.FootComment != "" {
		return nil, false
	}
	flow = flow || n.Style&kyaml.FlowStyle != 0
	// Printed beside a collection that is in flow style or empty, comments can break it.
	comments := n.HeadComment != "" || n.LineComment != ""
	if comments && (flow || n.Kind != kyaml.ScalarNode) {
		return nil, false
	}
	switch n.Kind {
	case kyaml.MappingNode:
		return d.mapping(n, flow)
	case kyaml.SequenceNode:
		return d.sequence(n, flow)
	case kyaml.ScalarNode:
		return d.scalar(n)
	}
	return nil, false
}

func (d *direct) mapping(n *kyaml.Node, flow bool) (v any, ok bool) {
	if n.Style&^kyaml.FlowStyle != 0 || n.Tag != "" && n.Tag != kyaml.NodeTagMap || len(n.Content)%2 != 0 {
		return nil, false
	}
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		k, ok := d.key(n.Content[i], flow)
		if !ok {
			return nil, false
		}
		if _, twice := m[k]; twice {
			return nil, false
		}
		if m[k], ok = d.value(n.Content[i+1], flow); !ok {
			return nil, false
		}
	}
	d.size += int64(1 + len(m) + max(1, len(m)))
	return m, true
}

func (d *direct) key(n *kyaml.Node, flow bool) (string, bool) {
	if n == nil || n.Kind != kyaml.ScalarNode || n.LineComment != "" || strings.Contains(n.Value, "\n") || n.Value == "<<" {
		return "", false
	}
	v, ok := d.value(n, flow)
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	return s, ok
}

func (d *direct) sequence(n *kyaml.Node, flow bool) (v any, ok bool) {
	if n.Style&^kyaml.FlowStyle != 0 || n.Tag != "" && n.Tag != kyaml.NodeTagSeq {
		return nil, false
	}
	list := make([]any, len(n.Content))
	for i := range n.Content {
		if list[i], ok = d.value(n.Content[i], flow); !ok {
			return nil, false
		}
	}
	d.size += int64(1 + max(1, len(list)))
	return list, true
}

var quoted = kyaml.SingleQuotedStyle | kyaml.DoubleQuotedStyle | kyaml.LiteralStyle

func (d *direct) scalar(n *kyaml.Node) (v any, ok bool) {
	if n.Style&^quoted != 0 || n.Alias != nil {
		return nil, false
	}
	d.size += int64(len(n.Value)) + 2
	switch tag := n.ShortTag(); {
	case tag == kyaml.NodeTagString:
		if !plainText(n) {
			return nil, false
		}
		return n.Value, true
	case n.Style != 0:
		return nil, false
	case tag == kyaml.NodeTagBool:
		return n.Value == "true", n.Value == "true" || n.Value == "false"
	case tag == kyaml.NodeTagNull:
		return nil, n.Value == "null"
	case tag == kyaml.NodeTagInt:
		return plainInteger(n.Value)
	}
	return nil, false
}

// plainInteger reads decimal numbers without anything that could be read in another way.
func plainInteger(s string) (v any, ok bool) {
	digits := strings.TrimPrefix(s, "-")
	if len(digits) > 18 || digits == "" || digits[0] == '0' && s != "0" {
		return nil, false
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil && digits[0] != '+'
}

// plainText reports text that every style of YAML keeps.
func plainText(n *kyaml.Node) bool {
	s := n.Value
	lines := strings.Contains(s, "\n")
	if lines || n.Style&kyaml.LiteralStyle != 0 {
		// As a block: no hints for indentation, no comment behind the marker, no space before a line's end.
		if s == "" || s[0] == ' ' || s[0] == '\t' || s[0] == '\n' || n.LineComment != "" || n.Style&kyaml.SingleQuotedStyle != 0 ||
			strings.Contains(s, " \n") || strings.Contains(s, "\t\n") || strings.HasSuffix(s, "\n\n") || s[len(s)-1] == ' ' || s[len(s)-1] == '\t' {
			return false
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			return plainRunes(s[i:])
		case c < ' ' && c != '\n', c == 0x7f:
			return false
		}
	}
	return true
}

// plainRunes reports text without control characters and other separators of lines.
func plainRunes(s string) bool {
	for _, r := range s {
		switch {
		case r == '\n':
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r >= 0xfffd:
			return false
		}
	}
	return true
}

// textBytes adds up the text below a node, with each time it is used.
func textBytes(n *kyaml.Node) int64 {
	total := int64(len(n.Value)) + 1
	for _, c := range n.Content {
		total += textBytes(c)
	}
	return total
}
