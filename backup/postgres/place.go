package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// A Place is where a database of a given server may be restored: the one that its connection names, which need not exist.
// The user has to be allowed to create databases, and to own the one that is replaced.
type Place struct {
	Connection
	// Maintenance is a database to connect to while others are created and renamed; "" means postgres.
	Maintenance string
}

// A State says what is at a place.
type State struct {
	Major    int   `json:"major"` // of the server
	Exists   bool  `json:"exists"`
	Objects  int64 `json:"objects"`  // tables, views, sequences and functions; those of extensions do not count
	Sessions int64 `json:"sessions"` // others who are connected to it
	Mark     *Mark `json:"-"`        // left by a restore that was killed between its renames
}

// named is the place's server with another database.
func (p Place) named(database string) Connection {
	c := p.Connection
	c.Database = database
	return c
}

func (p Place) maintenance() Connection {
	if p.Maintenance == "" {
		return p.named("postgres")
	}
	return p.named(p.Maintenance)
}

// Look says what is at the place.
func (p Place) Look(ctx context.Context) (State, error) {
	s, err := p.look(ctx)
	if err != nil {
		return State{}, fmt.Errorf("look at %s: %w", p.Connection, err)
	}
	return s, nil
}

func (p Place) look(ctx context.Context) (s State, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := p.maintenance().connect(ctx, "purser backup: look")
	if err != nil {
		return s, err
	}
	defer closeConn(conn)
	if s.Major, err = major(conn); err != nil {
		return s, err
	}
	// What kind of session another user's is not everybody may see; those without a user are the server's own.
	var comment *string
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1),
		(SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usesysid IS NOT NULL),
		(SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1)`, p.Database).Scan(&s.Exists, &s.Sessions, &comment)
	s.Mark = parseMark(comment)
	if err != nil || !s.Exists {
		return s, err
	}
	inside, err := p.connect(ctx, "purser backup: look")
	if err != nil {
		return s, err
	}
	defer closeConn(inside)
	const ours = `n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = x.oid AND d.deptype = 'e')`
	return s, inside.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_class x JOIN pg_namespace n ON n.oid = relnamespace WHERE `+ours+`) +
		(SELECT count(*) FROM pg_proc x JOIN pg_namespace n ON n.oid = pronamespace WHERE `+ours+`) + (SELECT count(*) FROM pg_largeobject_metadata)`).Scan(&s.Objects)
}

// Restore restores a dump into a new database beside the place, like d and under the name of the mark, which it gets. All of it
// belongs to the user; roles and rights are not restored. The folder dir takes the dump, in a file without a name, and the server is
// given nothing of one that does not end well. After an error the database is removed.
func (p Place) Restore(ctx context.Context, t Tools, d Database, m Mark, dump io.Reader, dir string, jobs int) error {
	d.Name = m.Name
	if err := p.restore(ctx, t, d, m, dump, dir, jobs); err != nil {
		return fmt.Errorf("restore database: %w", err)
	}
	return nil
}

func (p Place) restore(ctx context.Context, t Tools, d Database, m Mark, dump io.Reader, dir string, jobs int) error {
	s, err := p.look(ctx)
	if err != nil {
		return err
	}
	tool, err := t.find(ctx, "pg_restore", s.Major)
	if err != nil {
		return err
	}
	analyzer, err := t.find(ctx, "vacuumdb", s.Major)
	if err != nil {
		return err
	}
	if err := create(ctx, p.maintenance(), d, s.Major); err != nil {
		return err
	}
	on := p.named(d.Name)
	err = p.mark(ctx, m)
	if err == nil {
		err = fill(ctx, tool, on, dump, dir, max(1, jobs), false)
	}
	if err == nil {
		err = analyze(ctx, analyzer, on, max(1, jobs))
	}
	if err != nil {
		return errors.Join(err, p.Drop(context.WithoutCancel(ctx), d.Name))
	}
	return nil
}

// analyze gives a database the statistics without which its first users would wait long.
func analyze(ctx context.Context, vacuumdb tool, on Connection, jobs int) error {
	_, err := program{tool: vacuumdb, on: on, args: []string{"--analyze-only", "--quiet", "--no-password", "--jobs=" + strconv.Itoa(jobs),
		"--dbname=dbname=" + quoteWord(on.Database)}}.run(ctx)
	if err != nil {
		return fmt.Errorf("make statistics: %w", err)
	}
	return nil
}

// Read reads a database of the place's server.
func (p Place) Read(ctx context.Context, database string) (*Reader, error) {
	return Read(ctx, p.named(database))
}

// forced is the first major version that drops a database to which somebody is connected.
const forced = 13

// Drop removes a database that [Place.Restore] made, and ends the sessions that an ended program may have left in it.
func (p Place) Drop(ctx context.Context, database string) error {
	if database == p.Database {
		return fmt.Errorf("drop database %q: it is not beside the place", database)
	}
	s, err := p.look(ctx)
	if err != nil {
		return fmt.Errorf("drop database: %w", err)
	}
	sql := "DROP DATABASE IF EXISTS " + pgx.Identifier{database}.Sanitize()
	if s.Major >= forced {
		sql += " WITH (FORCE)"
	}
	return p.execute(ctx, "drop database", sql)
}

// Swap gives the place to a database that [Place.Restore] made. What has been there is kept under the name aside; "" if there
// is nothing. Both happen or neither does. It fails if somebody is connected to either.
func (p Place) Swap(ctx context.Context, database, aside string) error {
	rename := func(from, to string) string {
		return "ALTER DATABASE " + pgx.Identifier{from}.Sanitize() + " RENAME TO " + pgx.Identifier{to}.Sanitize() + ";"
	}
	sql := rename(database, p.Database)
	if aside != "" {
		sql = rename(p.Database, aside) + sql
	}
	return p.execute(ctx, "rename databases", "BEGIN; "+sql+" COMMIT")
}

func (p Place) execute(ctx context.Context, what, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := p.maintenance().connect(ctx, "purser backup: restore")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		if code(err) == codeInUse {
			err = hint(fmt.Errorf("%w: %w", ErrBusy, err), "stop Odoo, and whoever else uses the database")
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
