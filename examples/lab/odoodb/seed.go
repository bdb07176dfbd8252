package odoodb

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

var (
	//go:embed tables.sql
	tablesSQL string
	//go:embed rows.sql
	rowsSQL string
	//go:embed keys.sql
	keysSQL string
)

const (
	bytesPerOrder      = 1980     // of the database, for an order with its lines, moves and indexes
	bytesPerAttachment = 900      // of the database
	emptyBytes         = 20 << 20 // of a database without orders
	fewestOrders       = 100
)

// Options say what a seeded database holds.
type Options struct {
	DSN             string    // an empty database
	Filestore       string    // its folder, empty
	Bytes           int64     // about how large the database shall be; 0: as small as makes sense
	Attachments     int       // rows in ir_attachment
	AttachmentBytes int       // mean size of an attachment, bytes; 0 means 16 KiB
	Now             time.Time // when the last order was made
}

// Seed creates tables, rows, files, keys and statistics. The last order is one minute before Now.
func Seed(ctx context.Context, o Options) error {
	if o.AttachmentBytes == 0 {
		o.AttachmentBytes = 16 << 10
	}
	orders := max(fewestOrders, (o.Bytes-emptyBytes-bytesPerAttachment*int64(o.Attachments))/bytesPerOrder)
	if err := run(ctx, o.DSN, tablesSQL); err != nil {
		return fmt.Errorf("seed database: create tables: %w", err)
	}
	values := pgx.NamedArgs{"orders": orders, "now": o.Now.UTC().Format("2006-01-02 15:04:05")}
	group, fillCtx := errgroup.WithContext(ctx)
	group.SetLimit(3) // attachments wait for the disk
	group.Go(func() error {
		return with(fillCtx, o.DSN, func(conn *pgx.Conn) error { return seedAttachments(fillCtx, conn, o) })
	})
	for _, sql := range statements(rowsSQL) {
		group.Go(func() error { return run(fillCtx, o.DSN, sql, pgx.QueryExecModeSimpleProtocol, values) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("seed database: fill tables: %w", err)
	}
	if err := addKeys(ctx, o.DSN); err != nil {
		return fmt.Errorf("seed database: add keys: %w", err)
	}
	// Otherwise the server does it in the background, while something is measured.
	if err := run(ctx, o.DSN, "VACUUM ANALYZE"); err != nil {
		return fmt.Errorf("seed database: %w", err)
	}
	return nil
}

// tableName finds the table that a statement of keys.sql is about.
var tableName = regexp.MustCompile(`(?:ALTER TABLE|ON) ([a-z_]+)`)

// addKeys creates keys and indexes, one table on each core at a time, then foreign keys, then sets the sequences.
func addKeys(ctx context.Context, dsn string) error {
	var tables, foreign []string
	ofTable := map[string][]string{}
	for _, sql := range statements(keysSQL) {
		table := tableName.FindStringSubmatch(sql)[1]
		switch {
		case strings.Contains(sql, "FOREIGN KEY"):
			foreign = append(foreign, sql)
			continue
		case ofTable[table] == nil:
			tables = append(tables, table)
		}
		ofTable[table] = append(ofTable[table], sql)
	}
	group, keysCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, table := range tables {
		sql := append(ofTable[table], fmt.Sprintf("SELECT setval('%s_id_seq', max(id)) FROM %s", table, table))
		group.Go(func() error { return run(keysCtx, dsn, "SET maintenance_work_mem = '256MB';"+strings.Join(sql, ";\n")) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return run(ctx, dsn, strings.Join(foreign, ";\n"))
}

// statements splits a file of SQL.
func statements(sql string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimSpace(sql), ";"), ";\n")
}

// run executes SQL on a connection of its own.
func run(ctx context.Context, dsn, sql string, args ...any) error {
	return with(ctx, dsn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}

// with connects for the time that do takes.
func with(ctx context.Context, dsn string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}
