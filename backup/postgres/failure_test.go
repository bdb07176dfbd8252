package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// ourChild returns a program of PostgreSQL that this process has started for a database.
func ourChild(t *testing.T, name, database string) int {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		command, _ := os.ReadFile(path)
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		program, _, _ := strings.Cut(string(command), "\x00")
		if filepath.Base(program) == name && strings.Contains(string(environ), "PGDATABASE="+database+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("%s does not run", name)
	return 0
}

// The secret is in no argument and in no variable of pg_dump; and a pg_dump that is killed is an error.
func TestDumpKilled(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, ballast)
	secret := password(t, e, lab.PostgresOdoo)
	s := begin(t, c, Options{})
	err := s.Dump(t.Context(), &atFirst{do: func() {
		pid := ourChild(t, "pg_dump", d.Name)
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil || len(data) == 0 || bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s of pg_dump has the password, or cannot be read: %v", file, err)
			}
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the dump: %v", err)
	}
	if err := s.Dump(t.Context(), io.Discard); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// What takes the dump may fail, and the caller may have enough: pg_dump ends.
func TestDumpIsNotWanted(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	_, c := seeded(t, e)
	s := begin(t, c, Options{})
	full := errors.New("the store is full")
	if err := s.Dump(t.Context(), failing{full}); !errors.Is(err, full) {
		t.Errorf("the dump: %v", err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := s.Dump(ctx, &atFirst{do: func() { cancel(enough) }}); !errors.Is(err, enough) {
		t.Errorf("the dump: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Read([]byte) (int, error)  { return 0, f.err }

// A server that restarts fails the dump, the questions and the guard.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	l := labtest.Start(t, lab.PostgreSQL)
	d, c := seeded(t, &l.Endpoints)
	execute(t, d.DSN, ballast)
	s := begin(t, c, Options{})
	err := s.Dump(t.Context(), &atFirst{do: func() {
		if err := l.Restart(t.Context(), lab.PostgreSQL); err != nil {
			t.Error(err)
		}
	}})
	if err == nil {
		t.Error("the dump succeeded")
	}
	for _, err := range s.Attachments(t.Context()) {
		if err == nil {
			t.Error("there are attachments")
		}
	}
	if _, err := s.Fingerprints(t.Context()); err == nil {
		t.Error("there are fingerprints")
	}
	if err := s.Release(t.Context()); !errors.Is(err, ErrGuard) {
		t.Errorf("the guard: %v", err)
	}
	begin(t, c, Options{})
}

// What is wrong is said, with a remedy and without the secret.
func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, good := seeded(t, e)
	empty := labtest.Database(t, e)
	readOnly, _ := seeded(t, e)
	execute(t, readOnly.AdminDSN, fmt.Sprintf(`ALTER DATABASE "%s" SET default_transaction_read_only = on`, readOnly.Name))
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "pg_dump"), []byte("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "pg_dump"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	const wrong = "s3cret-and-wrong"
	with := func(change func(*Connection)) Connection {
		c := good
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		c      Connection
		tools  Tools
		want   string
		is     error
		hinted bool
	}{
		"wrong password":     {c: with(func(c *Connection) { c.PasswordFile = passwordFile(t, wrong) }), want: "password authentication failed"},
		"no password file":   {c: with(func(c *Connection) { c.PasswordFile += "-missing" }), want: "read password", is: os.ErrNotExist},
		"two lines":          {c: with(func(c *Connection) { c.PasswordFile = passwordFile(t, wrong+"\nuser") }), want: "no password of one line"},
		"no such database":   {c: with(func(c *Connection) { c.Database = "nowhere" }), want: `"nowhere" does not exist`},
		"no server":          {c: with(func(c *Connection) { c.Port = 1 }), want: "refused"},
		"TLS is not there":   {c: with(func(c *Connection) { c.TLS = "require" }), want: "TLS"},
		"no authorities":     {c: with(func(c *Connection) { c.TLS = "" }), want: "needs a file with the authorities"},
		"unknown sslmode":    {c: with(func(c *Connection) { c.TLS = "prefer" }), want: "none of"},
		"two servers":        {c: with(func(c *Connection) { c.Host = "a,b" }), want: "one server"},
		"not Odoo's":         {c: with(func(c *Connection) { c.Database = empty.Name }), is: ErrNotOdoo},
		"read-only":          {c: with(func(c *Connection) { c.Database = readOnly.Name }), want: "read-only", hinted: true},
		"no programs":        {tools: Tools{Folders: []string{t.TempDir()}}, is: ErrTools, hinted: true},
		"programs of 9.6":    {tools: Tools{Folders: []string{other}}, want: "is of version 9.6.24", is: ErrTools, hinted: true},
		"programs that fail": {tools: Tools{Folders: []string{broken}}, want: "exit status 3", is: ErrTools, hinted: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.c
			if c == (Connection{}) {
				c = good
			}
			s, err := Begin(t.Context(), c, test.tools, Options{})
			if err == nil {
				s.Close()
			}
			var h *HintError
			if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) || errors.As(err, &h) != test.hinted {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), password(t, e, lab.PostgresOdoo))) {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
	// A user that may read only: the guard needs more.
	role := "reader-" + labtest.Name(t)
	execute(t, d.AdminDSN, fmt.Sprintf(`CREATE ROLE "%[1]s" LOGIN PASSWORD 'only'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "%[1]s"`, role))
	defer func() { execute(t, d.AdminDSN, fmt.Sprintf(`DROP OWNED BY "%[1]s"; DROP ROLE "%[1]s"`, role)) }()
	reader := with(func(c *Connection) { c.User, c.PasswordFile = role, passwordFile(t, "only") })
	if _, err := Begin(t.Context(), reader, Tools{}, Options{}); err == nil || !strings.Contains(err.Error(), "GRANT SELECT, UPDATE ON ir_cron") {
		t.Errorf("as a reader: %v", err)
	}
	execute(t, d.AdminDSN, fmt.Sprintf(`GRANT UPDATE ON ir_cron TO "%[1]s"; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "%[1]s"`, role))
	s := begin(t, reader, Options{})
	if err := s.Dump(t.Context(), io.Discard); err != nil {
		t.Errorf("as a user that may read all, and lock the job: %v", err)
	}
}
