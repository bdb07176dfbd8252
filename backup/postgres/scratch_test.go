package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// backedUp is a small backup.
type backedUp struct {
	database Database
	prints   []Fingerprint
	dump     []byte
}

func backUp(t testing.TB, c Connection) backedUp {
	t.Helper()
	s := begin(t, c, Options{})
	defer s.Close()
	facts, err := s.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	prints, err := s.Fingerprints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := s.Dump(t.Context(), &dump); err != nil {
		t.Fatal(err)
	}
	return backedUp{facts.Database, prints, dump.Bytes()}
}

// Whatever is restored, it reaches no server and is nobody.
func TestScratchIsIsolated(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	s := scratch(t)
	conn, err := s.Connection("postgres").connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	_, port, _ := strings.Cut(e.PostgresAddress, ":")
	run := func(script string) string {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "CREATE TEMP TABLE IF NOT EXISTS said (line text); TRUNCATE said"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "COPY said FROM PROGRAM "+literal("("+script+") 2>&1; true")); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		var said string
		if err := conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(line, ' '), '') FROM said").Scan(&said); err != nil {
			t.Fatal(err)
		}
		return said
	}
	if said := run("exec bash -c 'echo reached >/dev/tcp/127.0.0.1/" + port + "'"); !strings.Contains(said, "unreachable") {
		t.Errorf("to the source: %q", said)
	}
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", "echo reached >/dev/tcp/127.0.0.1/"+port).CombinedOutput(); err != nil {
		t.Errorf("from here the source cannot be reached either: %v: %s", err, out)
	}
	if said := run("id -u"); said != strconv.Itoa(nobody) {
		t.Errorf("the server is user %q", said)
	}
	if said := run("grep CapEff /proc/self/status | tr '\\t' ' '"); !strings.HasSuffix(said, " 0000000000000000") && os.Geteuid() == 0 {
		t.Errorf("the server may do %q", said)
	}
	if said := run("kill -0 " + strconv.Itoa(os.Getpid()) + " && echo seen"); strings.HasSuffix(said, "seen") {
		t.Errorf("the server sees our process: %q", said)
	}
	if _, err := (Connection{Host: s.dir, User: s.user, Database: "postgres"}).connect(t.Context(), "test"); err == nil {
		t.Error("there is no password")
	}
}

// A server that is closed leaves nothing, and so does the next one of those that their agents have left.
func TestScratchLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	major, err := strconv.Atoi(installed(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{scratchName + "1234/data", "of-others"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first, err := Scratch(t.Context(), dir, Tools{}, major)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Scratch(t.Context(), dir, Tools{}, major)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := Read(t.Context(), first.Connection("postgres"))
	if err != nil {
		t.Fatalf("the second server has ended the first: %v", err)
	}
	reader.Close()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", first.pid))
	if err != nil {
		t.Fatal(err)
	}
	// A session that works does not hold up the end.
	busy := make(chan error)
	go func() {
		conn, err := second.Connection("postgres").connect(t.Context(), "busy")
		busy <- err
		if err == nil {
			_, err = conn.Exec(t.Context(), "SELECT pg_sleep(3600)")
			closeConn(conn)
		}
		busy <- err
	}()
	if err := <-busy; err != nil {
		t.Error(err)
	}
	for _, s := range []*Server{first, second, second} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-busy; err == nil {
		t.Error("the session went on")
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if is, err := os.Readlink(link); err == nil && is == namespace {
			t.Errorf("%s is still of the server", link)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "of-others" {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// Scratch says why it cannot start, and leaves nothing.
func TestScratchRefuses(t *testing.T) {
	t.Parallel()
	major, err := strconv.Atoi(installed(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	long := filepath.Join(dir, strings.Repeat("l", 90))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx   context.Context
		dir   string
		major int
		want  string
	}{
		"other version": {t.Context(), dir, 9, "initdb of PostgreSQL 9"},
		"long path":     {t.Context(), long, major, "too long a path"},
		"no folder":     {t.Context(), filepath.Join(dir, "none"), major, "no such file"},
		"cancelled":     {cancelled, dir, major, "canceled"},
	} {
		if s, err := Scratch(test.ctx, test.dir, Tools{}, test.major); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = s.Close()
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "**", scratchName+"*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// What is wrong with a dump or with its stream is an error of the restore.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	_, c := seeded(t, e)
	b := backUp(t, c)
	s := scratch(t)
	rotten := errors.New("the stream is rotten")
	for name, test := range map[string]struct {
		in   io.Reader
		want string
	}{
		"half":           {bytes.NewReader(b.dump[:len(b.dump)/2]), "pg_restore"},
		"nothing":        {bytes.NewReader(nil), "too short"},
		"no dump":        {strings.NewReader("PGDUMP, but not really one at all"), "does not appear to be a valid archive"},
		"rotten inside":  {io.MultiReader(bytes.NewReader(b.dump[:len(b.dump)/2]), failing{rotten}), rotten.Error()},
		"rotten at last": {io.MultiReader(bytes.NewReader(b.dump), failing{rotten}), rotten.Error()},
	} {
		d := b.database
		d.Name = "restored " + name
		if err := s.Restore(t.Context(), d, test.in, 2); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "rotten") { // the server was given nothing of it
			reader, err := Read(t.Context(), s.Connection(d.Name))
			if err != nil {
				t.Fatal(err)
			}
			tables, err := query(t.Context(), reader, "", scanText, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
			if reader.Close(); err != nil || len(tables) > 0 {
				t.Errorf("%s: there are %v, %v", name, tables, err)
			}
		}
	}
	rest := bytes.NewReader(append(bytes.Clone(b.dump), "what follows is read as well"...))
	if err := s.Restore(t.Context(), b.database, rest, 2); err != nil || rest.Len() > 0 {
		t.Errorf("%d bytes were not read: %v", rest.Len(), err)
	}
	if err := s.Restore(t.Context(), b.database, bytes.NewReader(b.dump), 2); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("once more: %v", err)
	}
	if err := s.RestoreRoles(t.Context(), strings.NewReader("CREATE ROLE fine; CREATE ROLE;")); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("broken roles: %v", err)
	}
}

// Compare finds what has become of rows and tables.
func TestCompareFindsDifferences(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, `CREATE TABLE large (id serial PRIMARY KEY, t text);
		INSERT INTO large (t) SELECT repeat(md5(i::text), 8) FROM generate_series(1, 40000) i`)
	b := backUp(t, c)
	for sql, want := range map[string]string{
		"DROP TABLE large": "public.large: the table is missing",
		"TRUNCATE large":   "public.large: keys are from 0 to 0, not from 1 to 40000",
		"DELETE FROM large WHERE id BETWEEN 20000 AND 23000": "public.large: the 2046 rows that were hashed have other contents",
		"UPDATE large SET t = '' WHERE id = 40000":           "public.large: the 2046 rows that were hashed have other contents",
		"DELETE FROM large WHERE id = 40000":                 "public.large: keys are from 1 to 39999, not from 1 to 40000",
		"UPDATE res_partner SET name = 'x' WHERE id = 3":     "public.res_partner: the 1010 rows that were hashed have other contents",
		"DELETE FROM stock_move WHERE id = 3":                "public.stock_move: 299 rows were hashed, not 300",
		"CREATE TABLE more (id int)":                         "public.more: the table has no fingerprint",
		"ALTER TABLE large DROP CONSTRAINT large_pkey":       "public.large: its key is no longer id",
		"SELECT 1": "",
	} {
		reader, err := Read(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		var differences []Difference
		// It happens in the reader's own transaction, of which nothing stays.
		conn := reader.conn
		if _, err = conn.Exec(t.Context(), "ROLLBACK; BEGIN; "+sql, pgx.QueryExecModeSimpleProtocol); err == nil {
			differences, err = reader.Compare(t.Context(), b.prints)
		}
		reader.Close()
		var got []string
		for _, d := range differences {
			got = append(got, d.Table+": "+d.What)
		}
		if err != nil || strings.Join(got, "; ") != want {
			t.Errorf("%s: got %q, %v; want %q", sql, got, err, want)
		}
	}
}

// Names need not be easy.
func TestOddNames(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d := labtest.Database(t, e)
	odd := `postgresql://we"ird'\ = ` + d.Name
	quoted := `"` + strings.ReplaceAll(odd, `"`, `""`) + `"`
	execute(t, d.AdminDSN, "CREATE DATABASE "+quoted+" OWNER "+lab.PostgresOdoo)
	defer execute(t, d.AdminDSN, "DROP DATABASE "+quoted+" WITH (FORCE)")
	c := connection(t, e, lab.PostgresAdmin, odd)
	func() {
		conn, err := c.connect(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		defer closeConn(conn)
		_, err = conn.PgConn().Exec(t.Context(), `CREATE TABLE ir_cron (id int PRIMARY KEY); INSERT INTO ir_cron VALUES (7);
			CREATE TABLE ir_model_data (module text, name text, model text, res_id int);
			INSERT INTO ir_model_data VALUES ('base', 'autovacuum_job', 'ir.cron', 7);
			CREATE TABLE ir_module_module (name text, state text, latest_version text);
			CREATE SCHEMA "o'dd; --"; CREATE TABLE "o'dd; --"."t ""able" ("k ""ey" int PRIMARY KEY, "row" text, purser_row int);
			INSERT INTO "o'dd; --"."t ""able" SELECT i, repeat('o', 1000), i FROM generate_series(1, 20000) i`).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
	}()
	b := backUp(t, c)
	s := scratch(t)
	if err := s.Restore(t.Context(), b.database, bytes.NewReader(b.dump), 1); err != nil {
		t.Fatal(err)
	}
	restored, err := Read(t.Context(), s.Connection(odd))
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if differences, err := restored.Compare(t.Context(), b.prints); err != nil || len(differences) > 0 || len(b.prints) != 4 {
		t.Errorf("%d fingerprints, differences %v, %v", len(b.prints), differences, err)
	}
	snapshot := begin(t, c, Options{})
	var roles bytes.Buffer
	if err := snapshot.Roles(t.Context(), &roles); err != nil || !strings.Contains(roles.String(), "CREATE ROLE "+lab.PostgresOdoo) {
		t.Errorf("roles: %v", err)
	}
}

// envChild makes the test binary restore a dump, without the rights of root: the folder, the dump, the database.
const envChild = "PURSER_POSTGRES_RESTORE"

func child(arguments string) error {
	if dir, is := strings.CutPrefix(arguments, waitsFor); is {
		return startAndWait(dir)
	}
	var database Database
	words := strings.SplitN(arguments, " ", 4)
	major, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(words[3]), &database); err != nil {
		return err
	}
	dump, err := os.Open(words[2])
	if err != nil {
		return err
	}
	defer dump.Close()
	s, err := Scratch(context.Background(), words[1], Tools{}, major)
	if err != nil {
		return err
	}
	err = s.Restore(context.Background(), database, dump, 2)
	if err == nil {
		fmt.Println("restored")
	}
	err = errors.Join(err, s.Close())
	if left, _ := os.ReadDir(words[1]); len(left) > 0 {
		return errors.Join(err, fmt.Errorf("left are %v", left))
	}
	return err
}

// Without root's rights a restore works as well; a disk that becomes full fails it, and nothing is left.
func TestRestoreWithoutRights(t *testing.T) {
	t.Parallel()
	e := labtest.Shared(t, lab.PostgreSQL)
	d, c := seeded(t, e)
	execute(t, d.DSN, `CREATE TABLE large (id serial PRIMARY KEY, t text);
		INSERT INTO large (t) SELECT repeat(md5(i::text), 60) FROM generate_series(1, 60000) i`)
	b := backUp(t, c)
	dir := folder(t)
	dump := filepath.Join(t.TempDir(), "dump")
	if err := os.WriteFile(dump, b.dump, 0o600); err != nil {
		t.Fatal(err)
	}
	database, err := json.Marshal(b.database)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "unshare", "-Urm", "sh", "-c", script+` exec "$1"`, dir, os.Args[0])
		cmd.Env = append(os.Environ(), envChild+"="+strings.Join([]string{installed(t), dir, dump, string(database)}, " "))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(""); err != nil || !strings.Contains(out, "restored") {
		t.Errorf("without rights: %v: %s", err, out)
	}
	out, err := run(`mount -t tmpfs -o size=100m none "$0" &&`)
	if err == nil || !strings.Contains(strings.ToLower(out), "no space left on device") || strings.Contains(out, "left are") {
		t.Errorf("on a full disk: %v: %s", err, out)
	}
}
