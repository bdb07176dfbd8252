package render

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxAliasedNodes bounds what the aliases of one file expand to. Kustomize
// expands them all, so that a few lines could fill the memory.
const maxAliasedNodes = 200_000

// checkAliases refuses YAML whose aliases expand to too much. What is not YAML
// passes: Kustomize does not expand it.
func checkAliases(data []byte) error {
	if bytes.IndexByte(data, '&') < 0 || bytes.IndexByte(data, '*') < 0 {
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return nil
		}
		if nodes := expandedNodes(&doc, map[*yaml.Node]int{}); nodes > maxAliasedNodes {
			return fmt.Errorf("its YAML aliases expand to more than %d values", maxAliasedNodes)
		}
	}
}

// expandedNodes counts the nodes below n with aliases expanded, up to a little
// more than the limit. seen is the memo; a node in the making counts as too much.
func expandedNodes(n *yaml.Node, seen map[*yaml.Node]int) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return 0
	}
	if size, ok := seen[n]; ok {
		return size
	}
	seen[n] = maxAliasedNodes + 1
	size := 1
	for _, c := range n.Content {
		if size += expandedNodes(c, seen); size > maxAliasedNodes {
			return maxAliasedNodes + 1
		}
	}
	seen[n] = size
	return size
}

// maxNesting bounds how deep values are nested. Kustomize's time grows with the
// square of it.
const maxNesting = 200

// tooDeep gives the line where YAML is nested deeper than maxNesting, or 0. What
// is not YAML passes.
func tooDeep(data []byte) int {
	if !canBeDeep(data) {
		return 0
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			return 0
		}
		if line := deepLine(&doc, -1); line > 0 { // the document is a node, too
			return line
		}
	}
}

// canBeDeep reports cheaply whether text can be nested so deep at all: each level
// needs a bracket, or a column of indentation or of markers before a line's text.
func canBeDeep(data []byte) bool {
	brackets := bytes.Count(data, []byte("[")) + bytes.Count(data, []byte("{"))
	columns := 0
	for line := range bytes.Lines(data) {
		columns = max(columns, len(line)-len(bytes.TrimLeft(line, " \t-?:")))
	}
	return brackets+columns+1 >= maxNesting
}

// deepLine gives the line of the first node below n that is too deep, or 0.
// Aliases count as what they stand for where Kustomize has them expanded.
func deepLine(n *yaml.Node, depth int) int {
	if depth > maxNesting {
		return n.Line
	}
	for _, c := range n.Content {
		if line := deepLine(c, depth+1); line > 0 {
			return line
		}
	}
	return 0
}

// tooDeepInside is [tooDeep] for the YAML in texts of a kustomization, such as
// inline patches.
func tooDeepInside(data []byte) int {
	if !canBeDeepInside(data) {
		return 0
	}
	return deepTextLine(positions{data}.docs())
}

// canBeDeepInside reports cheaply whether a text in the YAML can be nested so deep at all. Such a text has no bracket
// and no marker that data has not, but for escapes; where lines are joined, each gives a space at most.
func canBeDeepInside(data []byte) bool {
	levels, columns, lines := 0, 0, 0
	for line := range bytes.Lines(data) {
		lines++
		columns = max(columns, len(line)-len(bytes.TrimLeft(line, " \t-?:")))
	}
	for _, c := range data {
		switch c {
		case '[', '{', '-', '?', ':':
			levels++
		case '\\':
			return true
		}
	}
	return levels+columns+lines+1 >= maxNesting
}

func deepTextLine(nodes []*yaml.Node) int {
	for _, n := range nodes {
		if n.Kind == yaml.ScalarNode && tooDeep([]byte(n.Value)) > 0 {
			return n.Line
		}
		if line := deepTextLine(n.Content); line > 0 {
			return line
		}
	}
	return 0
}

// positions finds the place of a value in a YAML file for error messages.
type positions struct{ data []byte }

// docs parses the file up to its first error.
func (p positions) docs() []*yaml.Node {
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(p.data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil || len(doc.Content) == 0 {
			return docs
		}
		docs = append(docs, doc.Content[0])
	}
}

// field gives the place of the scalar value below the first top-level key that
// is one of keys, else of that key, else 1:1. Keys compare as Kustomize compares
// them: without case.
func (p positions) field(value string, keys ...string) (line, column int) {
	line, column = 1, 1
	for _, doc := range p.docs() {
		for i := 0; doc.Kind == yaml.MappingNode && i+1 < len(doc.Content); i += 2 {
			k, v := doc.Content[i], doc.Content[i+1]
			if !equalsAny(k.Value, keys) {
				continue
			}
			if n := findScalar(v, value, 0); n != nil && value != "" {
				return n.Line, n.Column
			}
			if line == 1 && column == 1 {
				line, column = k.Line, k.Column
			}
		}
	}
	return line, column
}

// value gives the place of the first scalar with that value anywhere.
func (p positions) value(value string) (line, column int) {
	for _, doc := range p.docs() {
		if n := findScalar(doc, value, 0); n != nil {
			return n.Line, n.Column
		}
	}
	return 1, 1
}

func equalsAny(s string, keys []string) bool {
	for _, k := range keys {
		if strings.EqualFold(s, k) {
			return true
		}
	}
	return false
}

func findScalar(n *yaml.Node, value string, depth int) *yaml.Node {
	if n == nil || depth > 100 {
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return findScalar(n.Alias, value, depth+1)
	case yaml.ScalarNode:
		if n.Value == value {
			return n
		}
	}
	for _, c := range n.Content {
		if got := findScalar(c, value, depth+1); got != nil {
			return got
		}
	}
	return nil
}

// yamlErrorLine gives the line that a YAML syntax error names, or 1.
func yamlErrorLine(err error) int {
	line := 1
	for ; err != nil; err = errors.Unwrap(err) {
		if _, rest, ok := strings.Cut(err.Error(), "yaml: line "); ok {
			if n, _ := fmt.Sscanf(rest, "%d", &line); n == 1 {
				return line
			}
		}
	}
	return 1
}
