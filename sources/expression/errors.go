package expression

import (
	"errors"
	"fmt"
	"strings"
)

// ErrCost says that an evaluation was ended because it cost more than [CostLimit].
var ErrCost = errors.New("it costs too much")

// Error is one thing that is wrong with an expression, at its place in the text.
type Error struct {
	Line, Column int // from 1; columns count characters
	Why, Remedy  string
}

// Error gives "line:column: why: remedy".
func (e Error) Error() string {
	return fmt.Sprintf("%d:%d: %s: %s", e.Line, e.Column, e.Why, e.Remedy)
}

// Errors is everything that is wrong with an expression, by place.
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
