package render

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resource"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// expectSameDecoding compares the object read directly with what is printed and read back. It says whether the direct
// way was taken.
func expectSameDecoding(t *testing.T, res *resource.Resource) bool {
	t.Helper()
	var d direct
	got, ok := d.value(res.YNode(), false)
	if !ok {
		return false
	}
	want, _, err := decodePrinted(res)
	if err != nil {
		t.Fatalf("read directly as %#v, but not when printed: %v\n%s", got, err, res.MustString())
	}
	if !reflect.DeepEqual(got, any(want)) {
		t.Fatalf("read directly as\n%#v\nprinted as\n%#v\n%s", got, want, res.MustString())
	}
	return true
}

// randomText is made of what YAML gives a meaning to.
func randomText(r *rand.Rand) string {
	pieces := []string{"a", "b", "word", " ", "  ", "\n", "\n\n", "\t", ":", ": ", "- ", "#", " #", "'", `"`, "{", "}", "[", "]", ",", "&", "*", "!", "|", ">",
		"%", "@", "`", "\\", "?", "=", "<<", "~", "null", "true", "yes", "1", "0", "07", "0x1", "1.5", "1e3", "-", "--- ", "...", "é", "€", "\u00a0", "\u0085",
		"\u2028", "\ufeff", "\U0001f600", "\x01", "\r", "\x7f", "2026-01-02", "1_000", "on", ".inf"}
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	if r.IntN(20) == 0 {
		b.WriteString(strings.Repeat(" word", 60))
	}
	return b.String()
}

func randomNode(r *rand.Rand, depth int) *kyaml.Node {
	n := &kyaml.Node{}
	if r.IntN(6) == 0 {
		n.HeadComment = "# " + strings.Join([]string{pick(r, "", "head", "a: b", "- |"), pick(r, "", "'", "#")}, "\n# ")
	}
	if r.IntN(6) == 0 {
		n.LineComment = "# note"
	}
	kind := r.IntN(4)
	switch {
	case depth > 0 && kind == 0:
		n.Kind, n.Tag = kyaml.MappingNode, pick(r, "", kyaml.NodeTagMap)
		for range r.IntN(4) {
			k := randomScalar(r)
			if r.IntN(4) > 0 {
				k = kyaml.NewStringRNode(fmt.Sprint("k", r.IntN(1000))).YNode()
			}
			k.HeadComment, k.LineComment = n.HeadComment, pick(r, "", "", "", "# key")
			n.Content = append(n.Content, k, randomNode(r, depth-1))
		}
	case depth > 0 && kind == 1:
		n.Kind, n.Tag = kyaml.SequenceNode, pick(r, "", kyaml.NodeTagSeq)
		for range r.IntN(4) {
			n.Content = append(n.Content, randomNode(r, depth-1))
		}
	default:
		s := randomScalar(r)
		s.HeadComment, s.LineComment = n.HeadComment, n.LineComment
		return s
	}
	if r.IntN(4) == 0 {
		n.Style = kyaml.FlowStyle
	}
	return n
}

func randomScalar(r *rand.Rand) *kyaml.Node {
	n := &kyaml.Node{Kind: kyaml.ScalarNode, Value: randomText(r)}
	n.Tag = pick(r, "", "", kyaml.NodeTagString, kyaml.NodeTagString, kyaml.NodeTagInt, kyaml.NodeTagBool, kyaml.NodeTagNull, kyaml.NodeTagFloat, "!own")
	n.Style = pick(r, 0, 0, 0, kyaml.DoubleQuotedStyle, kyaml.SingleQuotedStyle, kyaml.LiteralStyle, kyaml.FoldedStyle)
	switch r.IntN(6) {
	case 0:
		n.Value = pick(r, "true", "false", "null", "", "0", "1", "-7", "0100", "123456789012345678", "1234567890123456789", "-0", "+1")
	case 1:
		n.Value = strings.Repeat("line of text\n", r.IntN(3)) + n.Value
	}
	return n
}

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func TestObjectsAreReadAsPrinted(t *testing.T) {
	t.Parallel()
	direct := 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		object := kyaml.MustParse("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n")
		object.YNode().Content = append(object.YNode().Content, kyaml.NewStringRNode("data").YNode(), randomNode(r, 3))
		res, err := provider.NewDefaultDepProvider().GetResourceFactory().ResourcesFromRNodes([]*kyaml.RNode{object})
		if err != nil || len(res) != 1 {
			continue
		}
		if expectSameDecoding(t, res[0]) {
			direct++
		}
	}
	if direct < 3_000 {
		t.Errorf("only %d of 20000 were read directly", direct)
	}
}

func FuzzObjectsAreReadAsPrinted(f *testing.F) {
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x} # note\ndata:\n  # head\n  a: |\n    text\n     more\n  b: >-\n    folded\n  c: \"\\u00e9\"\n  d: 'it''s'\n")
	for _, root := range []string{corpus, "../examples/estate"} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(p) != ".yaml" {
				return err
			}
			data, err := os.ReadFile(p)
			f.Add(string(data))
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if checkAliases([]byte(text)) != nil || tooDeep([]byte(text)) > 0 {
			return
		}
		objs, err := parseObjects(text)
		if err != nil {
			return
		}
		for _, o := range objs {
			expectSameDecoding(t, o)
		}
	})
}
