package declaration

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a declaration, at its place.
type Error struct {
	Position
	What, Why, Remedy string
	cause             error
}

// Error gives "file:line:column: what: why: remedy".
func (e Error) Error() string {
	return fmt.Sprintf("%s: %s: %s: %s", e.Position, e.What, e.Why, e.Remedy)
}

// Unwrap gives the error behind it, where there is one.
func (e Error) Unwrap() error { return e.cause }

// Errors is everything that is wrong, sorted by file, line and column.
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

func (e *Errors) add(at Position, what, why, remedy string) {
	*e = append(*e, Error{Position: at, What: what, Why: why, Remedy: remedy})
}

// sorted gives the errors by place, at most [maxProblems] of one file, or nil
// when there are none.
func (e Errors) sorted() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	kept := make(Errors, 0, len(e))
	for first := 0; first < len(e); {
		end := first
		for end < len(e) && e[end].File == e[first].File {
			end++
		}
		kept = append(kept, e[first:min(end, first+maxProblems)]...)
		if more := end - first - maxProblems; more > 0 {
			kept.add(e[first+maxProblems].Position, fmt.Sprintf("%d more problems", more), fmt.Sprintf("only the first %d of a file are told", maxProblems), "correct these first")
		}
		first = end
	}
	return kept
}
