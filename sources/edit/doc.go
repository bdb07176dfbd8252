// Package edit changes the files that people write: the images of a kustomization and what release.yaml says. All of it
// is pure: text in, text out.
//
// A file is edited line by line at the places that a parser names, so that its comments, blank lines, order and
// indentation stay. The editor of "kustomize edit" is internal to that program, moves comments and drops blank lines;
// re-encoding YAML nodes drops blank lines and changes indentation. What comes out is parsed again and compared with
// what was meant: an edit that would change anything else is an error.
package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// ErrShape says that a file is written in a way that cannot be edited without rewriting it.
var ErrShape = errors.New("it is written in a way that cannot be edited in place")

// document parses text as one document with a mapping at its root.
func document(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: it has several documents", ErrShape)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: it is no mapping", ErrShape)
	}
	return doc.Content[0], nil
}

// field finds a key of a mapping and its value; nil when there is none.
func field(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}

// lastLine is the last line that a node begins something on; what is written over several lines ends later.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// scalar writes a string as YAML, quoted where it must be.
func scalar(text string) string {
	out, err := yaml.Marshal(text)
	if err != nil || strings.Count(string(out), "\n") != 1 {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// lines splits text after its line ends; the last one gets one.
func lines(text []byte) (list []string, end string) {
	end = "\n"
	if bytes.Contains(text, []byte("\r\n")) {
		end = "\r\n"
	}
	list = strings.SplitAfter(string(text), "\n")
	if last := len(list) - 1; list[last] == "" {
		list = list[:last]
	} else {
		list[last] += end
	}
	return list, end
}
