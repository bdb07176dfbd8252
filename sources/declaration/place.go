package declaration

import (
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// within is the place of a line and column, both from 1 and in characters, of the text that the document has at path.
// YAML folds, escapes and indents texts, so the text is laid beside the file: its visible characters are there in the
// same order. Where an escape (\u00e4) stands for another character, it is the beginning of the text.
func (doc *document) within(path string, line, column int) Position {
	n := doc.exprs[path]
	if n == nil {
		return doc.mark(path)
	}
	text := []rune(n.Value)
	at := offset(text, line, column)
	place := cursor{rest: doc.data, Position: Position{doc.File, 1, 1}}
	place.skipTo(n.Line, n.Column)
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		place.skipTo(n.Line+1, 1)
	}
	for i, r := range text {
		if unicode.IsSpace(r) {
			continue
		}
		if !place.find(r) {
			return doc.mark(path)
		}
		if i >= at {
			return place.Position
		}
		place.step()
	}
	return place.Position // behind its last character
}

// offset is the index in text of a line and column, at most its length.
func offset(text []rune, line, column int) int {
	i := 0
	for ; line > 1 && i < len(text); i++ {
		if text[i] == '\n' {
			line--
		}
	}
	return min(i+max(column-1, 0), len(text))
}

// cursor is a place in a file and what follows it.
type cursor struct {
	Position
	rest []byte
}

func (c *cursor) step() {
	r, size := utf8.DecodeRune(c.rest)
	c.rest = c.rest[size:]
	if c.Column++; r == '\n' {
		c.Line, c.Column = c.Line+1, 1
	}
}

func (c *cursor) skipTo(line, column int) {
	for len(c.rest) > 0 && (c.Line < line || c.Line == line && c.Column < column) {
		c.step()
	}
}

// find moves to the next r; false when there is none.
func (c *cursor) find(r rune) bool {
	for len(c.rest) > 0 {
		if next, _ := utf8.DecodeRune(c.rest); next == r {
			return true
		}
		c.step()
	}
	return false
}
