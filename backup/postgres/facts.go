package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Facts say what a snapshot is of.
type Facts struct {
	At               time.Time `json:"at"`  // everything committed before is in the snapshot
	LSN              string    `json:"lsn"` // not before any commit that is in the snapshot
	Timeline         int64     `json:"timeline"`
	SystemIdentifier string    `json:"systemIdentifier"`
	ServerVersion    string    `json:"serverVersion"`
	Major            int       `json:"major"`
	DumpVersion      string    `json:"dumpVersion"` // of pg_dump
	Database         Database  `json:"database"`
	Bytes            int64     `json:"bytes"` // the database on its disk
	Odoo             Odoo      `json:"odoo"`
}

// A Database is what one is created as.
type Database struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	Collate  string `json:"collate"`
	CType    string `json:"ctype"`
	Provider string `json:"provider"`         // of the locale: libc, icu or builtin
	Locale   string `json:"locale,omitempty"` // of a provider other than libc
}

// Odoo is what Odoo says about itself.
type Odoo struct {
	Base    string    `json:"base"`              // installed version of the module base
	Modules []Module  `json:"modules"`           // installed, sorted by name
	Pending []string  `json:"pending,omitempty"` // modules that are to be installed, upgraded or removed
	Last    []Created `json:"last"`              // the newest row of business tables
}

// A Module is one that is installed.
type Module struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Created says when the newest row of a table was created. A closed shop creates none.
type Created struct {
	Table string    `json:"table"`
	ID    int64     `json:"id"`
	At    time.Time `json:"at,omitzero"`
}

// BusinessTables are those of Odoo's own modules that say when the shop was last open. One without modules lacks them.
var BusinessTables = []string{"pos_order", "sale_order", "account_move", "stock_move"}

// Facts asks for all of them.
func (s *Snapshot) Facts(ctx context.Context) (f Facts, err error) {
	err = answered(ctx, func(ctx context.Context) (err error) {
		f, err = s.facts(ctx)
		return err
	})
	if err != nil {
		return Facts{}, fmt.Errorf("ask for facts: %w", err)
	}
	return f, nil
}

func (s *Snapshot) facts(ctx context.Context) (Facts, error) {
	f := Facts{At: s.At.UTC(), LSN: s.lsn, Major: s.major, DumpVersion: s.dump.version}
	var database []byte
	err := s.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		f.ServerVersion = conn.PgConn().ParameterStatus("server_version")
		return conn.QueryRow(ctx, `SELECT (SELECT system_identifier::text FROM pg_control_system()),
			('x' || substr(pg_walfile_name($1::pg_lsn), 1, 8))::bit(32)::bigint,
			pg_database_size(current_database()), pg_encoding_to_char(encoding), to_jsonb(d)::text
			FROM pg_database d WHERE datname = current_database()`, s.lsn).
			Scan(&f.SystemIdentifier, &f.Timeline, &f.Bytes, &f.Database.Encoding, &database)
	})
	if err == nil {
		err = f.Database.parse(database)
	}
	if err == nil {
		f.Odoo, err = s.Odoo(ctx)
	}
	return f, err
}

// parse reads a row of pg_database, whose columns depend on the server's version.
func (d *Database) parse(row []byte) error {
	var columns struct {
		Name      string  `json:"datname"`
		Collate   string  `json:"datcollate"`
		CType     string  `json:"datctype"`
		Provider  string  `json:"datlocprovider"` // since 15
		ICULocale *string `json:"daticulocale"`   // 15 and 16
		Locale    *string `json:"datlocale"`      // since 17
	}
	if err := json.Unmarshal(row, &columns); err != nil {
		return fmt.Errorf("read row of pg_database: %w", err)
	}
	providers := map[string]string{"": "libc", "c": "libc", "i": "icu", "b": "builtin"}
	provider, ok := providers[columns.Provider]
	if !ok {
		return fmt.Errorf("read row of pg_database: unknown provider of locales %q", columns.Provider)
	}
	d.Name, d.Collate, d.CType, d.Provider = columns.Name, columns.Collate, columns.CType, provider
	for _, locale := range []*string{columns.ICULocale, columns.Locale} {
		if locale != nil && provider != "libc" {
			d.Locale = *locale
		}
	}
	return nil
}

// Odoo asks what Odoo says about itself.
func (r *Reader) Odoo(ctx context.Context) (Odoo, error) {
	var o Odoo
	modules, err := query(ctx, r, "list modules", pgx.RowTo[[3]string], `SELECT ARRAY[name, coalesce(state, ''), coalesce(latest_version, '')]
		FROM ir_module_module WHERE state = 'installed' OR state LIKE 'to %' ORDER BY name COLLATE "C"`)
	if err != nil {
		return Odoo{}, err
	}
	for _, m := range modules {
		if m[1] != "installed" {
			o.Pending = append(o.Pending, m[0]+": "+m[1])
			continue
		}
		o.Modules = append(o.Modules, Module{m[0], m[2]})
		if m[0] == "base" {
			o.Base = m[2]
		}
	}
	there, err := query(ctx, r, "list tables", pgx.RowTo[string],
		"SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS t(name, i) WHERE to_regclass('public.' || name) IS NOT NULL ORDER BY i", BusinessTables)
	if err != nil {
		return Odoo{}, err
	}
	for _, table := range there {
		last, err := query(ctx, r, "read last row of "+table, func(row pgx.CollectableRow) (Created, error) {
			c, at := Created{Table: table}, (*time.Time)(nil)
			err := row.Scan(&c.ID, &at)
			if at != nil {
				c.At = at.UTC()
			}
			return c, err
		}, "SELECT id::bigint, create_date FROM public."+pgx.Identifier{table}.Sanitize()+" ORDER BY id DESC LIMIT 1")
		if err != nil {
			return Odoo{}, err
		}
		o.Last = append(o.Last, last...)
	}
	return o, nil
}

// create is the statement that creates a database like d under another name.
func (d Database) create(name string, major int) string {
	sql := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE template0 ENCODING " + literal(d.Encoding) +
		" LC_COLLATE " + literal(d.Collate) + " LC_CTYPE " + literal(d.CType)
	switch {
	case d.Provider == "icu":
		sql += " LOCALE_PROVIDER icu ICU_LOCALE " + literal(d.Locale)
	case d.Provider == "builtin":
		sql += " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + literal(d.Locale)
	case major >= 15:
		sql += " LOCALE_PROVIDER libc"
	}
	return sql
}

// literal quotes a string of SQL, for servers with standard_conforming_strings, as all are by default.
func literal(value string) string {
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}
