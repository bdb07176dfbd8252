package render

import (
	"errors"
	"fmt"
	"strings"
)

// ErrEmpty says that a kustomization renders to no object at all. It is an error
// and never an empty desired state.
var ErrEmpty = errors.New("render is empty")

// RefusedError says what in a commit keeps it from being rendered or released,
// where it is, and what its author can do.
type RefusedError struct {
	File         string // path in the tree; "" when not known
	Line, Column int    // from 1; 0 when not known
	Object       string // [Ref.String], when it is about one object
	Reason       string
	Remedy       string
	Err          error // behind it, may be nil
}

// Error gives "file:line:column: object: reason: remedy".
func (e *RefusedError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
		}
		b.WriteString(": ")
	}
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	b.WriteString(e.Reason)
	if e.Remedy != "" {
		b.WriteString(": " + e.Remedy)
	}
	return b.String()
}

// Unwrap gives the error behind it, which may be nil.
func (e *RefusedError) Unwrap() error { return e.Err }
