package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Users of PostgreSQL.
const (
	PostgresAdmin = "postgres" // superuser
	PostgresOdoo  = "odoo"     // owns the databases that CreateDatabase creates, and may create more
)

// postgresSettings are those of a server whose data nobody needs after a crash of the machine.
var postgresSettings = []string{
	"listen_addresses=127.0.0.1",
	"unix_socket_directories=",        // data directories of tests have longer paths than sockets may have
	"dynamic_shared_memory_type=mmap", // in the data directory, which goes with the lab
	"fsync=off",
	"shared_buffers=128MB",
	"max_wal_size=4GB",
	"log_min_messages=warning",
}

// postgres is the database server that Debian has. It is alone in a process namespace: however it ends, the processes
// of its connections end before it counts as gone. Pause stops its first process only: connections that are open go on.
type postgres struct{}

func (postgres) Name() string    { return PostgreSQL }
func (postgres) Needs() []string { return nil }

// Quit is the signal of the fast shutdown, which does not wait for clients.
func (postgres) Quit() syscall.Signal { return syscall.SIGINT }

func (postgres) Command(ctx context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(PostgreSQL)
	if err != nil {
		return nil, err
	}
	l.PostgresAddress = loopback(port)
	if _, err := os.Stat(l.path("postgres", "data")); errors.Is(err, fs.ErrNotExist) {
		if err := l.initPostgres(ctx, binary); err != nil {
			return nil, fmt.Errorf("create data directory of PostgreSQL: %w", err)
		}
	}
	cmd := exec.Command(binary, "-D", l.path("postgres", "data"), "-p", strconv.Itoa(port))
	for _, setting := range postgresSettings {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	cmd.SysProcAttr = inUserNamespace(syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC)
	return cmd, nil
}

// initPostgres creates the data directory with both users. Their passwords are in files alone.
func (l *Lab) initPostgres(ctx context.Context, binary string) error {
	data, unfinished := l.path("postgres", "data"), l.path("postgres", "unfinished")
	if err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(l.path("postgres"), 0o700)); err != nil {
		return err
	}
	admin, odoo := rand.Text(), rand.Text()
	pgpass := fmt.Sprintf("127.0.0.1:*:*:%s:%s\n127.0.0.1:*:*:%s:%s\n", PostgresAdmin, admin, PostgresOdoo, odoo)
	if err := writeFile(l.PostgresPassFile(), []byte(pgpass), 0o600); err != nil {
		return err
	}
	if err := writeFile(l.PostgresPasswordFile(), []byte(odoo+"\n"), 0o600); err != nil {
		return err
	}
	passwordFile := l.path("postgres", "admin-password")
	if err := writeFile(passwordFile, []byte(admin+"\n"), 0o600); err != nil {
		return err
	}
	err := l.runPostgres(ctx, filepath.Join(filepath.Dir(binary), "initdb"), "", "--pgdata="+unfinished, "--username="+PostgresAdmin,
		"--pwfile="+passwordFile, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-sync")
	if err = errors.Join(err, os.Remove(passwordFile)); err != nil {
		return err
	}
	createRole := fmt.Sprintf("CREATE ROLE %s LOGIN CREATEDB PASSWORD '%s'\n", PostgresOdoo, odoo)
	if err := l.runPostgres(ctx, binary, createRole, "--single", "-D", unfinished, "postgres"); err != nil {
		return err
	}
	return os.Rename(unfinished, data)
}

// runPostgres runs a program of PostgreSQL, all of which refuse to be root, to its end.
func (l *Lab) runPostgres(ctx context.Context, program, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = l.path("postgres")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + os.TempDir()}
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = inUserNamespace(0)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, bytes.TrimSpace(out))
	}
	return nil
}

func (postgres) Ready(ctx context.Context, l *Lab) error {
	conn, err := pgx.Connect(ctx, l.PostgresDSN(PostgresOdoo, "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// PostgresPassFile names the file with the passwords of both users, as environment variable PGPASSFILE wants it.
func (e *Endpoints) PostgresPassFile() string { return e.path("postgres", "pgpass") }

// PostgresPasswordFile names the file with the password of [PostgresOdoo] and nothing else.
func (e *Endpoints) PostgresPasswordFile() string {
	return e.path("postgres", PostgresOdoo+".password")
}

// PostgresDSN says how to connect as the user, for PostgreSQL's own tools and for pgx. It holds no secret.
func (e *Endpoints) PostgresDSN(user, database string) string {
	host, port, err := net.SplitHostPort(e.PostgresAddress)
	if err != nil {
		host, port = "", "" // the lab has no PostgreSQL: clients say that they cannot connect
	}
	quote := func(value string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
	}
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s passfile=%s sslmode=disable",
		quote(host), quote(port), quote(user), quote(database), quote(e.PostgresPassFile()))
}

// PostgresTool returns the path of a program of PostgreSQL, such as "pg_dump": of the newest version that Debian's
// packages have installed, else the one on PATH.
func PostgresTool(name string) (string, error) {
	paths, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	newest, path := -1, ""
	for _, p := range paths {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		if err == nil && major > newest && executable(p) {
			newest, path = major, p
		}
	}
	if path != "" {
		return path, nil
	}
	if path, err = exec.LookPath(name); err != nil {
		return "", fmt.Errorf("find %s: %w: install Debian's package postgresql", name, err)
	}
	return path, nil
}
