package evidence

import "errors"

var (
	// ErrSpoolFull says that the spool holds as much as it may. The caller
	// must not act: what it would do could not be recorded.
	ErrSpoolFull = errors.New("evidence spool is full")
	// ErrNotInitialized says that the audit remote has no branch of this log
	// and that nobody asked for a new one.
	ErrNotInitialized = errors.New("the audit remote has no evidence branch")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("evidence log is closed")
	// ErrLocked says that another process has the log's directory open.
	ErrLocked = errors.New("evidence directory is in use by another process")
	// ErrErased says that a blob's month was deleted from the audit remote. The
	// record that names the blob stays provable.
	ErrErased = errors.New("blob was erased")
	// ErrTooLarge says that a draft is larger than the format allows.
	ErrTooLarge = errors.New("larger than the format allows")
)

// StalledError needs a human: retrying cannot help.
type StalledError struct {
	What string // what is wrong, with both sides of a disagreement
	Hint string // what an operator can do about it
	Err  error  // may be nil
}

// Error reads "what: err (hint)".
func (e *StalledError) Error() string {
	text := e.What
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *StalledError) Unwrap() error { return e.Err }
