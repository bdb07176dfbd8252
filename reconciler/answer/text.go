package answer

import (
	"fmt"
	"strings"
	"unicode"
)

// Bounds on what is written to a forge.
const (
	mostDescription = 140    // characters of a status
	mostReason      = 600    // characters of one reason or remedy
	mostName        = 200    // characters of a name
	mostErrors      = 10     // errors of a release that does not render
	commentBytes    = 50_000 // a forge takes some more
	diffBytes       = 24_000 // of all release diffs of a comment
)

// clean makes a text one printable line of at most so many characters.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // control characters, line ends, and those that change the direction of text
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}

// literal makes a text show as itself in Markdown, wherever it stands: most of it comes from commits, whose authors would
// like it to be something else. What could be markup is written as a character reference, which no forge takes for
// markup, and behind what could begin a mention, a reference or an address there is a space without width.
func literal(text string, most int) string {
	var b strings.Builder
	for _, r := range clean(text, most) {
		switch {
		case r >= 0x80 || r == ' ' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
		}
		if strings.ContainsRune("@#!$%&~^:", r) {
			b.WriteString("&#8203;")
		}
	}
	return b.String()
}

// code is a literal text in a fixed-width face.
func code(text string) string { return "<code>" + literal(text, mostName) + "</code>" }

// shortCommit is a commit as people read it.
func shortCommit(id string) string { return id[:min(len(id), 12)] }

// codes lists a few names.
func codes(names []string) string {
	const most = 10
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, code(name))
	}
	if len(names) > most {
		list = append(list, fmt.Sprintf("%d more", len(names)-most))
	}
	return strings.Join(list, ", ")
}
