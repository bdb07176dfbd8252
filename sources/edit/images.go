package edit

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Image is an entry of images: in a kustomization. Empty fields are not written.
type Image struct {
	Name    string // as the manifests say it, without tag and digest
	NewName string
	NewTag  string
	Digest  string
}

// Reference splits an image reference as Kustomize does.
func Reference(image string) (name, tag, digest string) {
	name, digest, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name, tag = name[:colon], name[colon+1:]
	}
	return name, tag, digest
}

// imageFields are what an [Image] decides, in the order they are added. A tagSuffix goes, since it would change the tag.
var imageFields = []string{"newName", "newTag", "digest", "tagSuffix"}

func (i Image) fields() map[string]string {
	return map[string]string{"newName": i.NewName, "newTag": i.NewTag, "digest": i.Digest}
}

// SetImages makes the entries of these names say what is given and leaves the others alone, as "kustomize edit set
// image" does.
func SetImages(text []byte, images []Image) ([]byte, error) {
	root, err := document(text)
	if err != nil {
		return nil, err
	}
	want, err := wanted(text, images)
	if err != nil {
		return nil, err
	}
	list, end := lines(text)
	e := editor{lines: list, end: end}
	if err := e.set(root, images); err != nil {
		return nil, err
	}
	out := []byte(strings.Join(e.lines, ""))
	var got map[string]any
	if err := yaml.Unmarshal(out, &got); err != nil || !reflect.DeepEqual(got, want) {
		return nil, fmt.Errorf("%w: write images: as a list with one field on each line", ErrShape)
	}
	return out, nil
}

// ClearImages takes images: away. The result is for rendering, not for people.
func ClearImages(text []byte) ([]byte, error) {
	root, err := document(text)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "images" {
			root.Content = slices.Delete(root.Content, i, i+2)
			break
		}
	}
	return yaml.Marshal(root)
}

// wanted is the file's data with the images in it.
func wanted(text []byte, images []Image) (map[string]any, error) {
	var data map[string]any
	if err := yaml.Unmarshal(text, &data); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	entries, _ := data["images"].([]any)
	for _, image := range images {
		var entry map[string]any
		for _, e := range entries {
			m, ok := e.(map[string]any)
			if ok && m["name"] == image.Name {
				if entry != nil {
					return nil, fmt.Errorf("images: names %q twice: remove one", image.Name)
				}
				entry = m
			}
		}
		if entry == nil {
			entry = map[string]any{"name": image.Name}
			entries = append(entries, entry)
		}
		for _, name := range imageFields {
			delete(entry, name)
			if value := image.fields()[name]; value != "" {
				entry[name] = value
			}
		}
	}
	if len(entries) > 0 {
		data["images"] = entries
	}
	return data, nil
}

// editor changes lines; from the last to the first, so that the numbers of the others stay.
type editor struct {
	lines []string
	end   string // of a line
}

func (e *editor) replace(first, last int, with ...string) { // lines count from 1; last may be first-1: nothing goes
	e.lines = slices.Replace(e.lines, first-1, last, with...)
}

func (e *editor) set(root *yaml.Node, images []Image) error {
	key, value := field(root, "images")
	var items []*yaml.Node
	if value != nil {
		items = value.Content
		if value.Style&yaml.FlowStyle != 0 && len(items) > 0 {
			return fmt.Errorf("%w: line %d: write images: as a list with one entry on each line", ErrShape, value.Line)
		}
	}
	known := map[string]Image{}
	var added []Image
	for _, image := range images {
		if slices.ContainsFunc(items, func(item *yaml.Node) bool { return nameOf(item) == image.Name }) {
			known[image.Name] = image
		} else {
			added = append(added, image)
		}
	}
	dash := "- "
	switch {
	case len(items) > 0:
		last := items[len(items)-1]
		dash = e.prefix(last)
		e.add(lastLine(last)+1, dash, added)
	case value != nil && len(added) > 0: // images: [] or nothing
		comment := comment(key, value)
		e.replace(key.Line, value.Line, "images:"+comment+e.end)
		e.add(key.Line+1, indentOf(root)+dash, added)
	case len(added) > 0:
		e.lines = append(e.lines, "images:"+e.end)
		e.add(len(e.lines)+1, indentOf(root)+dash, added)
	}
	for _, item := range slices.Backward(items) {
		image, ok := known[nameOf(item)]
		if !ok || image == current(item) {
			continue
		}
		if err := e.item(item, image); err != nil {
			return err
		}
	}
	return nil
}

func nameOf(item *yaml.Node) string {
	_, value := field(item, "name")
	if item.Kind != yaml.MappingNode || value == nil {
		return ""
	}
	return value.Value
}

// current is what an entry says; nothing, when an Image cannot say it.
func current(item *yaml.Node) Image {
	odd := false
	text := func(name string) string {
		_, value := field(item, name)
		if value == nil {
			return ""
		}
		odd = odd || value.Tag != "!!str" // newTag: 18.0
		return value.Value
	}
	image := Image{Name: text("name"), NewName: text("newName"), NewTag: text("newTag"), Digest: text("digest")}
	if suffix, _ := field(item, "tagSuffix"); suffix != nil || odd {
		return Image{}
	}
	return image
}

// indentOf is how far the lists of a file are indented; "kustomize edit" does not indent.
func indentOf(root *yaml.Node) string {
	for _, c := range root.Content {
		if c.Kind == yaml.SequenceNode && c.Style&yaml.FlowStyle == 0 && len(c.Content) > 0 {
			return strings.Repeat(" ", c.Column-1)
		}
	}
	return ""
}

// prefix is what stands before an entry on its line, with the dash.
func (e *editor) prefix(item *yaml.Node) string {
	line := e.lines[item.Line-1]
	return line[:min(len(line), item.Column-1)]
}

// add writes new entries before a line.
func (e *editor) add(at int, dash string, images []Image) {
	var out []string
	for _, image := range images {
		out = append(out, dash+"name: "+scalar(image.Name)+e.end)
		for _, name := range imageFields {
			if value := image.fields()[name]; value != "" {
				out = append(out, strings.Repeat(" ", len(dash))+name+": "+scalar(value)+e.end)
			}
		}
	}
	e.replace(at, at-1, out...)
}

// item makes one entry say what the image says.
func (e *editor) item(item *yaml.Node, image Image) error {
	if item.Style&yaml.FlowStyle != 0 {
		return e.flowItem(item, image)
	}
	dash, fields, left := e.prefix(item), image.fields(), image.fields()
	indent := strings.Repeat(" ", len(dash))
	keys := map[int]int{} // line → index of the key
	for i := 0; i < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		if _, taken := keys[key.Line]; taken || value.Line != key.Line || value.Kind != yaml.ScalarNode {
			return fmt.Errorf("%w: line %d: write one field on each line", ErrShape, key.Line)
		}
		keys[key.Line] = i
	}
	first, last := item.Line, lastLine(item)
	var out []string
	named := false
	for at := first; at <= last; at++ {
		line := e.lines[at-1]
		i, isKey := keys[at]
		if !isKey {
			out = append(out, line)
			continue
		}
		key, value := item.Content[i], item.Content[i+1]
		text := line[min(len(line), key.Column-1):]
		if slices.Contains(imageFields, key.Value) {
			if fields[key.Value] == "" {
				continue
			}
			delete(left, key.Value)
			if fields[key.Value] != value.Value || value.Tag != "!!str" {
				text = key.Value + ": " + scalar(fields[key.Value]) + comment(key, value) + e.end
			}
		}
		if named {
			out = append(out, indent+text)
		} else {
			out, named = slices.Insert(out, 0, dash+text), true
		}
	}
	for _, name := range imageFields {
		if left[name] != "" {
			out = append(out, indent+name+": "+scalar(left[name])+e.end)
		}
	}
	e.replace(first, last, out...)
	return nil
}

// flowItem is for an entry like {name: a, newTag: b}.
func (e *editor) flowItem(item *yaml.Node, image Image) error {
	if lastLine(item) != item.Line {
		return fmt.Errorf("%w: line %d: write the entry on one line", ErrShape, item.Line)
	}
	fields, about := image.fields(), comment(item)
	var parts []string
	for i := 0; i < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		if about == "" {
			about = comment(key, value)
		}
		if !slices.Contains(imageFields, key.Value) {
			parts = append(parts, key.Value+": "+flowScalar(value.Value))
		} else if fields[key.Value] != "" {
			parts = append(parts, key.Value+": "+flowScalar(fields[key.Value]))
			delete(fields, key.Value)
		}
	}
	for _, name := range imageFields {
		if fields[name] != "" {
			parts = append(parts, name+": "+flowScalar(fields[name]))
		}
	}
	e.replace(item.Line, item.Line, e.prefix(item)+"{"+strings.Join(parts, ", ")+"}"+about+e.end)
	return nil
}

// flowScalar quotes what would end a scalar between braces.
func flowScalar(text string) string {
	if strings.ContainsAny(text, ",[]{}") {
		return fmt.Sprintf("%q", text)
	}
	return scalar(text)
}

// comment is the comment at the end of a line, with a space before it.
func comment(nodes ...*yaml.Node) string {
	for _, n := range nodes {
		if n.LineComment != "" {
			return " " + n.LineComment
		}
	}
	return ""
}
