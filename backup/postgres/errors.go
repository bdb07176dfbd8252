package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrTools says that a program of PostgreSQL is missing, or is of another major version than the server.
	ErrTools = errors.New("a program of PostgreSQL is missing")
	// ErrNotOdoo says that a database has no job base.autovacuum_job.
	ErrNotOdoo = errors.New("the database has no job base.autovacuum_job: it is none of Odoo's")
	// ErrGuard says that Odoo may have collected attachments during the backup, which has failed.
	ErrGuard = errors.New("the guard against the collection of attachments is lost")
	// ErrStalled says that a server, or a program of PostgreSQL, was silent for so long that it was given up.
	ErrStalled = errors.New("nothing has moved")
	// ErrHeld says that a snapshot was held for as long as it may be.
	ErrHeld = errors.New("the snapshot was held for too long")
	// ErrArchive says that a stream is no dump that pg_restore can read.
	ErrArchive = errors.New("the dump cannot be read")
	// ErrBusy says that somebody is connected to a database that is to be renamed.
	ErrBusy = errors.New("somebody is connected to the database")
	// ErrEnded is the error of questions to a snapshot that was given back.
	ErrEnded = errors.New("the snapshot has ended")
)

// Codes of errors: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeLockNotAvailable = "55P03"
	codeInUse            = "55006"
	codeNoTable          = "42P01"
	codeNoPrivilege      = "42501"
	codeReadOnly         = "25006"
)

// A HintError is an error with what the operator can do about it.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() + " (" + e.Hint + ")" }

// Unwrap returns the error itself.
func (e *HintError) Unwrap() error { return e.Err }

func hint(err error, format string, args ...any) error {
	return &HintError{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// code is the code of the server's error, "" if it is none.
func code(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// Missing says that an error is about a table that is not there.
func Missing(err error) bool { return code(err) == codeNoTable }
