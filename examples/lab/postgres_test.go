package lab

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgreSQL keeps databases over a restart and over a crash, and stops though clients are connected.
func TestPostgresKeepsItsDatabases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startLab(t, dir, PostgreSQL)
	d, err := l.CreateDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(d.Filestore); err != nil {
		t.Error(err)
	}
	exec := func(dsn, sql string) error {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), sql)
		return err
	}
	for _, sql := range []string{"CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)"} {
		if err := exec(d.DSN, sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec(d.DSN, "CREATE ROLE another"); err == nil {
		t.Error("the owner of a database could create a role")
	}
	idle, err := pgx.Connect(t.Context(), d.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close(t.Context())
	address := l.PostgresAddress
	if err := l.Restart(t.Context(), PostgreSQL); err != nil || l.PostgresAddress != address {
		t.Fatalf("after a restart it is at %s, before at %s: %v", l.PostgresAddress, address, err)
	}
	if log, err := os.ReadFile(l.path("logs", PostgreSQL+".log")); err != nil || !strings.Contains(string(log), "administrator command") {
		t.Errorf("an idle connection held up the shutdown: %s, %v", log, err)
	}
	if err := l.Kill(PostgreSQL); err != nil {
		t.Fatal(err)
	}
	if found := processesOf(t, dir); len(found) > 0 {
		t.Errorf("still running after a crash: %q", found)
	}
	if err := l.StartServer(t.Context(), PostgreSQL); err != nil {
		t.Fatal(err)
	}
	if err := exec(d.AdminDSN, "UPDATE kept SET id = 2"); err != nil {
		t.Error(err)
	}
	if err := l.DropDatabase(t.Context(), d); err != nil {
		t.Error(err)
	}
	if err := exec(d.DSN, "SELECT"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("connected to a dropped database: %v", err)
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if found := processesOf(t, dir); len(found) > 0 {
		t.Errorf("still running after Stop: %q", found)
	}
}

// The tools of PostgreSQL are of the server's own version and log in with the passwords that the lab has in a file.
func TestPostgresTools(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), PostgreSQL)
	var versions []string
	for _, name := range []string{"postgres", "pg_dump", "pg_restore", "pg_dumpall", "pg_basebackup", "pg_verifybackup", "pg_amcheck"} {
		path, err := PostgresTool(name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), path, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, version, _ := strings.Cut(string(out), " (PostgreSQL) ")
		if versions = append(versions, version); version != versions[0] {
			t.Errorf("%s is of version %s, the server of %s", name, version, versions[0])
		}
	}
	dump, err := PostgresTool("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.CreateDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), dump, "--dbname="+d.DSN)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PostgreSQL database dump complete") {
		t.Errorf("%v: %s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), dump, "--no-password", "--dbname="+d.DSN+" passfile=/nonexistent")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("dumped without a password: %s", out)
	}
	if _, err := l.CreateDatabase(t.Context(), "../shop"); err == nil {
		t.Error("created a database outside the data directory")
	}
	if _, err := l.CreateDatabase(t.Context(), "shop"); err == nil {
		t.Error("created a database twice")
	}
	if _, err := PostgresTool("pg_nonesuch"); err == nil || !strings.Contains(err.Error(), "package postgresql") {
		t.Errorf("found a tool that PostgreSQL does not have: %v", err)
	}
}
