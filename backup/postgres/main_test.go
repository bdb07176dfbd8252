package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

func TestMain(m *testing.M) {
	if arguments := os.Getenv(envChild); arguments != "" {
		if err := child(arguments); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	labtest.Main(m)
}

// connection reaches a database of the lab as one of its users.
func connection(t testing.TB, e *lab.Endpoints, user, database string) Connection {
	t.Helper()
	host, port, err := net.SplitHostPort(e.PostgresAddress)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Connection{Host: host, Port: number, User: user, Database: database, TLS: "disable", PasswordFile: passwordFile(t, password(t, e, user))}
}

func password(t testing.TB, e *lab.Endpoints, user string) string {
	t.Helper()
	pgpass, err := os.ReadFile(e.PostgresPassFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(pgpass)) {
		if _, found, ok := strings.Cut(strings.TrimSpace(line), ":*:*:"+user+":"); ok {
			return found
		}
	}
	t.Fatalf("no password of %s", user)
	return ""
}

func passwordFile(t testing.TB, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// seeded returns an Odoo database with files.
func seeded(t testing.TB, e *lab.Endpoints) (*lab.Database, Connection) {
	t.Helper()
	d := labtest.Database(t, e)
	err := odoodb.Seed(t.Context(), odoodb.Options{
		DSN: d.DSN, Filestore: d.Filestore, Attachments: 200, AttachmentBytes: 2048, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, connection(t, e, lab.PostgresOdoo, d.Name)
}

// execute runs SQL, one statement or several.
func execute(t testing.TB, dsn, sql string) {
	t.Helper()
	conn := session(t, dsn)
	defer closeConn(conn)
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value asks for one value.
func value[T any](t testing.TB, dsn, sql string, args ...any) T {
	t.Helper()
	conn := session(t, dsn)
	defer closeConn(conn)
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func session(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// begin takes a snapshot, which ends with the test.
func begin(t testing.TB, c Connection, o Options) *Snapshot {
	t.Helper()
	s, err := Begin(t.Context(), c, Tools{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// folder is one that every user may pass through, as scratch servers need it, and has a short path.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// scratch starts a server that ends with the test, and leaves nothing.
func scratch(t testing.TB) *Server {
	t.Helper()
	dir := folder(t)
	major, err := strconv.Atoi(installed(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Scratch(t.Context(), dir, Tools{}, major)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the folder: %v, %v", left, err)
		}
	})
	return s
}

// installed is the major version of the lab's server.
func installed(t testing.TB) string {
	t.Helper()
	path, err := lab.PostgresTool("postgres")
	if err != nil {
		t.Fatal(err)
	}
	version, _, err := versionOf(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	major, _, _ := strings.Cut(version, ".")
	return major
}

// selling runs shops until the returned function is called, which says how many orders were made meanwhile.
func selling(t testing.TB, d *lab.Database, collect time.Duration) (sales *odoodb.Sales, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	sales = &odoodb.Sales{}
	ended := make(chan error, 1)
	go func() {
		ended <- odoodb.Write(ctx, odoodb.WriterOptions{DSN: d.DSN, Filestore: d.Filestore, Tills: 2, Pause: time.Millisecond, Collect: collect}, sales)
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return sales, stop
}

// orders waits until some more orders have been made.
func orders(t testing.TB, sales *odoodb.Sales, more int64) {
	t.Helper()
	want := sales.Orders.Load() + more
	labtest.Eventually(t, "orders", func(context.Context) error {
		if n := sales.Orders.Load(); n < want {
			return fmt.Errorf("%d orders of %d", n, want)
		}
		return nil
	})
}

func collect(t testing.TB, r **Reader) []Attachment {
	t.Helper()
	var list []Attachment
	for a, err := range (*r).Attachments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 && list[len(list)-1].Store > a.Store {
			t.Fatalf("%q comes after %q", a.Store, list[len(list)-1].Store)
		}
		list = append(list, a)
	}
	return list
}

var scanText = pgx.RowTo[string]
