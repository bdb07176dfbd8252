package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options bound a snapshot.
type Options struct {
	// GuardWait is how long a collection that runs is waited for; 0 means 10 minutes.
	GuardWait time.Duration
	// LockWait is how long a change of tables that runs is waited for; 0 means a minute.
	LockWait time.Duration
	// Stall is how long the server may not answer, and pg_dump write nothing; 0 means 10 minutes.
	Stall time.Duration
	// MaxHold is how long the snapshot may last, because vacuum removes nothing that is younger; 0 means 2 hours.
	MaxHold time.Duration
	Log     *slog.Logger // of what PostgreSQL's programs say though they succeed; nil for none

	guardTurn time.Duration // between two turns of the guard; 0 means guardTurn
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&o.GuardWait, 10*time.Minute)
	set(&o.LockWait, time.Minute)
	set(&o.MaxHold, 2*time.Hour)
	set(&o.Stall, defaultStall)
	set(&o.guardTurn, guardTurn)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// attempts to lock the tables that the snapshot has, while others are created and dropped.
const attempts = 5

// A Snapshot is one point of a database whose attachments are guarded.
type Snapshot struct {
	*Reader
	At time.Time // everything committed before is in the snapshot

	connection Connection
	options    Options
	dump, all  tool
	major      int
	id         string // of the exported snapshot
	lsn        string // not before any commit that is in the snapshot
	guard      *guard
	cap        *time.Timer
}

// Begin guards attachments and takes a snapshot. The caller ends it with Close, after which Odoo collects again.
func Begin(ctx context.Context, c Connection, t Tools, o Options) (*Snapshot, error) {
	s := &Snapshot{connection: c, options: o.withDefaults()}
	conn, err := c.connect(ctx, "purser backup: snapshot")
	if err != nil {
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	s.Reader = newReader(ctx, conn, s.options.Stall)
	if err := s.begin(ctx, t); err != nil {
		s.Close()
		return nil, fmt.Errorf("begin snapshot of %s: %w", c, err)
	}
	return s, nil
}

func (s *Snapshot) begin(ctx context.Context, t Tools) (err error) {
	if s.major, err = major(s.conn); err != nil {
		return err
	}
	if s.dump, err = t.find(ctx, "pg_dump", s.major); err != nil {
		return err
	}
	if s.all, err = t.find(ctx, "pg_dumpall", s.major); err != nil {
		return err
	}
	lost := func(err error) { s.end(err) }
	if s.guard, err = takeGuard(ctx, s.connection, s.options.GuardWait, s.options.guardTurn, lost); err != nil {
		return err
	}
	s.cap = time.AfterFunc(s.options.MaxHold, func() {
		s.end(fmt.Errorf("%w: %s", ErrHeld, s.options.MaxHold))
	})
	return s.ask(ctx, s.take)
}

// major is the server's major version.
func major(conn *pgx.Conn) (int, error) {
	version := conn.PgConn().ParameterStatus("server_version")
	number, err := strconv.Atoi(version[:len(version)-len(strings.TrimLeft(version, "0123456789"))])
	if err != nil || number < 12 {
		return 0, fmt.Errorf("the server is PostgreSQL %q: 12 is the oldest", version)
	}
	return number, nil
}

const tablesSQL = `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	ORDER BY 1`

// take locks all tables, as pg_dump does, but before the snapshot is taken: a change that rewrites a table ends before, or
// waits. Otherwise the table would be empty in the snapshot.
func (s *Snapshot) take(ctx context.Context, conn *pgx.Conn) error {
	for range attempts {
		before, err := tables(ctx, conn)
		if err != nil {
			return err
		}
		// The server ends a snapshot that nobody uses any more, such as one of an agent that is stopped.
		if err := s.Reader.begin(ctx, s.options.MaxHold+time.Minute); err != nil {
			return err
		}
		err = s.lockTables(ctx, conn, before)
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT pg_export_snapshot(), statement_timestamp(), pg_current_wal_lsn()::text").
				Scan(&s.id, &s.At, &s.lsn)
		}
		var now []string
		if err == nil {
			if now, err = tables(ctx, conn); err == nil && slices.Equal(before, now) {
				return nil
			}
		}
		if err != nil && code(err) != codeNoTable {
			return err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
	return errors.New("tables are created or dropped all the time")
}

func tables(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, tablesSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (s *Snapshot) lockTables(ctx context.Context, conn *pgx.Conn, tables []string) error {
	if len(tables) == 0 {
		return ErrNotOdoo
	}
	_, err := conn.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d; LOCK TABLE ONLY %s IN ACCESS SHARE MODE",
		s.options.LockWait.Milliseconds(), strings.Join(tables, ", ONLY ")), pgx.QueryExecModeSimpleProtocol)
	if code(err) == codeLockNotAvailable {
		return hint(fmt.Errorf("lock tables: %w", err), "something changes tables for longer than %s: back up before or after it", s.options.LockWait)
	}
	return err
}

// Dump writes the database, in pg_dump's custom format without compression. Reading the snapshot may go on beside it.
func (s *Snapshot) Dump(ctx context.Context, w io.Writer) error {
	return s.run(ctx, program{tool: s.dump, on: s.connection, out: w, args: []string{
		"--format=custom", "--compress=0", "--no-password", "--snapshot=" + s.id,
		"--lock-wait-timeout=" + strconv.FormatInt(s.options.LockWait.Milliseconds(), 10),
	}})
}

// Roles writes the roles of the server as SQL for psql: with the hashes of passwords, if the user may read them.
func (s *Snapshot) Roles(ctx context.Context, w io.Writer) error {
	args := []string{"--roles-only", "--no-password", "--database=dbname=" + quoteWord(s.connection.Database)}
	may, err := query(ctx, s.Reader, "dump roles", pgx.RowTo[bool], "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
	if err != nil {
		return err
	}
	if !may[0] {
		args = append(args, "--no-role-passwords")
	}
	return s.run(ctx, program{tool: s.all, on: s.connection, out: w, args: args})
}

func (s *Snapshot) run(ctx context.Context, p program) error {
	ctx, unbind := s.bind(ctx)
	defer unbind()
	p.stall = s.options.Stall
	said, err := p.run(ctx)
	if err == nil && said != "" {
		s.options.Log.Warn("PostgreSQL's program succeeded, but says something", "program", p.tool.path, "says", said)
	}
	return err
}

// End ends the snapshot, which may be asked no more; attachments stay guarded. An error says that it ended before.
func (s *Snapshot) End() error {
	s.cap.Stop()
	err := context.Cause(s.life)
	s.Reader.Close()
	if err != nil {
		return fmt.Errorf("end snapshot: %w", err)
	}
	return nil
}

// Release lets Odoo collect attachments again. Without an error it has not collected any since Begin; else all that was
// copied may lack files.
func (s *Snapshot) Release(ctx context.Context) error {
	if err := s.guard.release(ctx); err != nil {
		return fmt.Errorf("release guard: %w", err)
	}
	return nil
}

// Close ends all that has not ended. It may be called again.
func (s *Snapshot) Close() {
	if s.cap != nil {
		s.cap.Stop()
	}
	if s.guard != nil {
		s.guard.close()
	}
	s.Reader.Close()
}
