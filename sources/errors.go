package sources

import (
	"errors"
	"fmt"
)

// ErrDamaged says that the local object store cannot give an object it should
// hold: a missing or altered pack, a failing disk. Nothing may be concluded
// about the tree.
var ErrDamaged = errors.New("object store is damaged")

// RefusedError says that a path of the tree is something Purser does not read:
// a link out of the tree, a submodule, a Git LFS pointer, a file that is too
// large, a path that tries to leave the tree.
type RefusedError struct {
	Path   string // as asked for, or as found in the tree
	Reason string
	Remedy string // what the author of the commit can do
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refuse %q: %s: %s", e.Path, e.Reason, e.Remedy)
}

// HintError is an error with what the operator can do about it.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() + " (" + e.Hint + ")" }

// Unwrap gives the error the hint belongs to.
func (e *HintError) Unwrap() error { return e.Err }

func hint(err error, text string) error {
	if err == nil {
		return nil
	}
	return &HintError{Err: err, Hint: text}
}
