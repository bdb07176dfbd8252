package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// testStall is for how long nothing may move in tests of what hangs.
const testStall = time.Second

// gated reaches a database through a gate that is open.
func gated(t *testing.T, c Connection) (*lab.Gate, Connection) {
	t.Helper()
	g, err := lab.NewGate(net.JoinHostPort(c.Host, c.port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	host, port, err := net.SplitHostPort(g.Address)
	if err != nil {
		t.Fatal(err)
	}
	c.Host = host
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return g, c
}

func hangs(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "nothing has moved for "+testStall.String()) || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Errorf("%s: %v", what, err)
	}
}

// ballast is more than fits between the server and whoever reads the dump: else that may be whole before anything happens to it.
const ballast = `CREATE TABLE ballast AS SELECT repeat(md5(n::text), 1000) AS text FROM generate_series(1, 1000) AS n`

// A network that passes nothing, a pg_dump that is stopped, and a lock that pg_dump waits for: each ends the dump in time.
func TestDumpHangs(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	t.Run("the network", func(t *testing.T) {
		t.Parallel()
		d, c := seeded(t, e)
		execute(t, d.DSN, ballast)
		g, c := gated(t, c)
		s := begin(t, c, Options{Stall: testStall})
		hangs(t, "the dump", s.Dump(t.Context(), &atFirst{do: g.Shut}))
		_, err := s.Fingerprints(t.Context())
		hangs(t, "fingerprints", err)
	})
	t.Run("the program", func(t *testing.T) {
		t.Parallel()
		d, c := seeded(t, e)
		execute(t, d.DSN, ballast)
		s := begin(t, c, Options{Stall: testStall})
		hangs(t, "the dump", s.Dump(t.Context(), &atFirst{do: func() {
			if err := syscall.Kill(ourChild(t, "pg_dump", d.Name), syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
		}}))
	})
	t.Run("a lock", func(t *testing.T) {
		t.Parallel()
		d, c := seeded(t, e)
		execute(t, d.DSN, "CREATE SEQUENCE locked")
		s := begin(t, c, Options{Stall: testStall})
		other := session(t, d.DSN)
		defer closeConn(other)
		if _, err := other.Exec(t.Context(), "BEGIN; ALTER SEQUENCE locked OWNED BY NONE; ALTER TABLE locked RENAME TO unlocked", pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		hangs(t, "the dump", s.Dump(t.Context(), io.Discard))
		if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		if err := s.Dump(t.Context(), io.Discard); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// A network that passes nothing in the middle of an answer.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, `INSERT INTO ir_attachment (name, type, store_fname, checksum, file_size)
		SELECT 'a', 'binary', repeat('f', 200) || n, repeat('0', 40), 1 FROM generate_series(1, 50000) AS n`)
	g, c := gated(t, c)
	s := begin(t, c, Options{Stall: testStall})
	var last error
	rows := 0
	for _, err := range s.Attachments(t.Context()) {
		if rows++; rows == 1 {
			g.Shut()
		}
		last = err
	}
	if rows < 2 {
		t.Error("no row came")
	}
	hangs(t, "attachments", last)
}

// A table that somebody has locked is not waited for longer than a change of tables.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	other := session(t, d.DSN)
	defer closeConn(other)
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE ir_attachment IN ACCESS EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	s, err := Begin(t.Context(), c, Tools{}, Options{LockWait: testStall})
	if err == nil {
		s.Close()
	}
	if err == nil || code(err) != codeLockNotAvailable || !strings.Contains(err.Error(), "something changes tables for longer than 1s") {
		t.Errorf("begin: %v", err)
	}
}

// What takes the dump may take any time.
func TestSlowReaderIsNoStall(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, ballast)
	s := begin(t, c, Options{Stall: testStall})
	ctx, cancel := context.WithTimeout(t.Context(), 2*testStall)
	defer cancel()
	if err := s.Dump(t.Context(), &atFirst{do: func() { <-ctx.Done() }}); err != nil {
		t.Error(err)
	}
}
