package calendar

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a [Spec].
type Error struct {
	Path              string // the field, such as freezes[1].repeat; empty for the calendar as a whole
	What, Why, Remedy string
}

// Error gives "path: what: why: remedy".
func (e Error) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.What, e.Why, e.Remedy)
	if e.Path == "" {
		return text
	}
	return e.Path + ": " + text
}

// Errors is everything that is wrong with a [Spec], in the order of its fields.
type Errors []Error

// Error gives one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each of them.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i := range e {
		errs[i] = e[i]
	}
	return errs
}

func (e *Errors) add(path, what, why, remedy string) {
	*e = append(*e, Error{Path: path, What: what, Why: why, Remedy: remedy})
}

// problem is why a field's text is wrong and what to do about it.
type problem struct{ why, remedy string }
