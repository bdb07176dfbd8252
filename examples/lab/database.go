package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
)

// databaseName limits names to what is safe in a path and in SQL.
var databaseName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// databaseTimeout bounds the creation or removal of a database.
const databaseTimeout = time.Minute

// A Database is a database on the lab's PostgreSQL server together with a folder for its filestore.
type Database struct {
	Name      string
	DSN       string // as its owner
	AdminDSN  string // as the superuser
	Filestore string // folder, empty at first
}

// Database says how to reach a database.
func (e *Endpoints) Database(name string) *Database {
	return &Database{
		Name: name, DSN: e.PostgresDSN(PostgresOdoo, name), AdminDSN: e.PostgresDSN(PostgresAdmin, name),
		Filestore: e.path("filestore", name),
	}
}

// CreateDatabase creates an empty database as Odoo does. It is an error if it exists.
func (e *Endpoints) CreateDatabase(ctx context.Context, name string) (*Database, error) {
	if !databaseName.MatchString(name) {
		return nil, fmt.Errorf("create database %q: name must match %s", name, databaseName)
	}
	err := e.postgresExec(ctx, fmt.Sprintf(`CREATE DATABASE %s OWNER %s ENCODING 'UTF8' LC_COLLATE 'C' TEMPLATE template0`,
		pgx.Identifier{name}.Sanitize(), PostgresOdoo))
	if err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}
	d := e.Database(name)
	if err := os.MkdirAll(d.Filestore, 0o700); err != nil {
		return nil, fmt.Errorf("create filestore of %s: %w", name, err)
	}
	return d, nil
}

// DropDatabase removes a database, whoever is connected to it, and its filestore.
func (e *Endpoints) DropDatabase(ctx context.Context, d *Database) error {
	err := e.postgresExec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", pgx.Identifier{d.Name}.Sanitize()))
	if err = errors.Join(err, os.RemoveAll(d.Filestore)); err != nil {
		return fmt.Errorf("drop database %s: %w", d.Name, err)
	}
	return nil
}

func (e *Endpoints) postgresExec(ctx context.Context, sql string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, e.PostgresDSN(PostgresAdmin, "postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
