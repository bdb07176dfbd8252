package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// markPrefix begins the comment on a database that is being restored.
	markPrefix = "purser restore "
	// holdPatience is how long a hold is waited for: that of a process which was killed ends when the server notices.
	holdPatience = 2 * time.Second
	maxBeside    = 1000 // databases that are listed
)

// A Mark says of a database beside a place what it is, in a comment on it. It is gone once the restore is finished.
type Mark struct {
	Name   string `json:"name"`   // of the database when it was created
	Place  string `json:"place"`  // the database that it is to become
	Backup string `json:"backup"` // that is being restored
	Folder string `json:"folder"` // of its filestore
	Target string `json:"target"` // what the folder is to become
}

func (m Mark) String() string {
	data, err := json.Marshal(m)
	if err != nil { // strings have a JSON
		panic(err)
	}
	return markPrefix + string(data)
}

// parseMark reads a comment; nil if it is no mark.
func parseMark(comment *string) *Mark {
	if comment == nil {
		return nil
	}
	data, is := strings.CutPrefix(*comment, markPrefix)
	var m Mark
	if !is || json.Unmarshal([]byte(data), &m) != nil {
		return nil
	}
	return &m
}

// Marked lists the databases of the place's server that restores have marked as beside this place.
func (p Place) Marked(ctx context.Context) ([]Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	fail := func(err error) ([]Mark, error) {
		return nil, fmt.Errorf("look for what earlier restores left: %w", err)
	}
	conn, err := p.maintenance().connect(ctx, "purser backup: look")
	if err != nil {
		return fail(err)
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, `SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database
		WHERE shobj_description(oid, 'pg_database') LIKE $1 ORDER BY datname LIMIT $2`, markPrefix+"%", maxBeside)
	if err != nil {
		return fail(err)
	}
	type described struct {
		Name    string
		Comment *string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[described])
	if err != nil {
		return fail(err)
	}
	var marks []Mark
	for _, d := range all {
		if m := parseMark(d.Comment); m != nil && m.Name == d.Name && m.Place == p.Database && m.Name != p.Database {
			marks = append(marks, *m)
		}
	}
	return marks, nil
}

// mark comments on a database.
func (p Place) mark(ctx context.Context, m Mark) error {
	return p.execute(ctx, "mark database", "COMMENT ON DATABASE "+pgx.Identifier{m.Name}.Sanitize()+" IS "+literal(m.String()))
}

// Unmark takes the mark from the database at the place, whose restore is finished.
func (p Place) Unmark(ctx context.Context) error {
	return p.execute(ctx, "take mark from database", "COMMENT ON DATABASE "+pgx.Identifier{p.Database}.Sanitize()+" IS NULL")
}

// A Hold says to others that a database beside a place is in use. It ends with the process that has it, and with its session.
type Hold struct {
	conn *pgx.Conn
	stop context.CancelCauseFunc // of what watches it; nil when nothing does
	done chan struct{}
}

// Hold takes the hold of a database by its name; it need not exist. It fails with [ErrBusy] if another process has it.
func (p Place) Hold(ctx context.Context, name string) (*Hold, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	fail := func(err error) (*Hold, error) { return nil, fmt.Errorf("hold database %s: %w", name, err) }
	conn, err := p.maintenance().connect(ctx, "purser backup: hold")
	if err != nil {
		return fail(err)
	}
	sum := sha256.Sum256([]byte(markPrefix + name))
	key := int64(binary.BigEndian.Uint64(sum[:8]))
	err = settle(ctx, conn, 0)
	if err == nil {
		_, err = conn.Exec(ctx, "SET lock_timeout = "+strconv.FormatInt(holdPatience.Milliseconds(), 10))
	}
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key)
	}
	if err != nil {
		closeConn(conn)
		if code(err) == codeLockNotAvailable {
			err = fmt.Errorf("%w: another process restores it", ErrBusy)
		}
		return fail(err)
	}
	return &Hold{conn: conn}, nil
}

// holdEvery is how often a hold is looked at.
const holdEvery = 5 * time.Second

// ErrHold says that a hold was lost: another process may remove what it was for.
var ErrHold = errors.New("the session that says to others that the database is in use has ended")

// Watch gives a context that ends with the hold. It is called once.
func (h *Hold) Watch(ctx context.Context) context.Context {
	ctx, h.stop = context.WithCancelCause(ctx)
	h.done = make(chan struct{})
	go func() {
		defer close(h.done)
		ticker := time.NewTicker(holdEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			ask, cancel := context.WithTimeout(ctx, queryTimeout)
			err := h.conn.Ping(ask)
			cancel()
			if err != nil {
				h.stop(fmt.Errorf("%w: %w", ErrHold, err))
				return
			}
		}
	}()
	return ctx
}

// Close gives it back.
func (h *Hold) Close() {
	if h.stop != nil {
		h.stop(nil)
		<-h.done
	}
	closeConn(h.conn)
}
