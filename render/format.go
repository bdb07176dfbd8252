package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	colourRed    = "\x1b[31m"
	colourGreen  = "\x1b[32m"
	colourYellow = "\x1b[33m"
	colourOff    = "\x1b[0m"
)

// FormatDiff writes changes for people: one line for each object, below it one
// for each field. Control characters in values are escaped.
func FormatDiff(w io.Writer, changes []ObjectChange, colour bool) error {
	b := bufio.NewWriter(w)
	paint := func(c, s string) string {
		if !colour {
			return s
		}
		return c + s + colourOff
	}
	for _, c := range changes {
		sign, hue := "~", colourYellow
		switch c.Action {
		case ActionCreated:
			sign, hue = "+", colourGreen
		case ActionDeleted:
			sign, hue = "-", colourRed
		}
		fmt.Fprintf(b, "%s\n", paint(hue, fmt.Sprintf("%s %s %s", sign, clean(c.Ref.String()), c.Action)))
		for _, f := range c.Fields {
			path := clean(f.Path)
			switch {
			case f.Old == nil:
				fmt.Fprintf(b, "    %s: %s\n", path, paint(colourGreen, show(f.New)))
			case f.New == nil:
				fmt.Fprintf(b, "    %s: %s removed\n", path, paint(colourRed, show(f.Old)))
			case f.Old == masked && f.New == masked:
				fmt.Fprintf(b, "    %s: %s\n", path, paint(colourYellow, masked))
			default:
				fmt.Fprintf(b, "    %s: %s -> %s\n", path, paint(colourRed, show(f.Old)), paint(colourGreen, show(f.New)))
			}
		}
		if c.More > 0 {
			fmt.Fprintf(b, "    … and %d more\n", c.More)
		}
	}
	return b.Flush()
}

func isControl(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// clean keeps what an author wrote from steering the terminal.
func clean(s string) string {
	if strings.ContainsFunc(s, isControl) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// show writes a value on one line.
func show(v any) string {
	if s, ok := v.(string); ok {
		if s == "" {
			return `""`
		}
		return clean(s)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	return clean(string(data))
}
