package odoodb_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// seeded returns a database with files.
func seeded(t *testing.T) *lab.Database {
	t.Helper()
	d := labtest.Database(t, labtest.Shared(t, lab.PostgreSQL))
	err := odoodb.Seed(t.Context(), odoodb.Options{
		DSN: d.DSN, Filestore: d.Filestore, Attachments: 200, AttachmentBytes: 2048, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// query returns one value.
func query[T any](t *testing.T, dsn, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var value T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func check(t *testing.T, dsn, filestore string) odoodb.Report {
	t.Helper()
	report, err := odoodb.Check(t.Context(), dsn, filestore)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// A seeded database is whole: rows of every table, unique files, URLs, contents in the database, and keys.
func TestSeed(t *testing.T) {
	t.Parallel()
	d := seeded(t)
	report := check(t, d.DSN, d.Filestore)
	if report.Err() != nil || report.Orders != 100 || report.Attachments != 196 || report.Unreferenced != 0 {
		t.Errorf("report is %+v", report)
	}
	for _, table := range []string{"res_company", "res_partner", "res_users", "ir_config_parameter", "ir_module_module", "ir_model_data",
		"ir_cron", "ir_attachment", "product_product", "sale_order", "account_move", "pos_order", "pos_order_line", "stock_move"} {
		if n := query[int](t, d.DSN, "SELECT count(*) FROM "+table); n == 0 {
			t.Errorf("%s is empty", table)
		}
		if next, last := query[int](t, d.DSN, "SELECT nextval($1)", table+"_id_seq"), query[int](t, d.DSN, "SELECT max(id) FROM "+table); next != last+1 {
			t.Errorf("the next row of %s is %d, the last was %d", table, next, last)
		}
	}
	if n := query[int](t, d.DSN, "SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'f') AND convalidated"); n < 14+13 {
		t.Errorf("there are %d primary and foreign keys", n)
	}
	if n := query[int](t, d.DSN, "SELECT count(DISTINCT store_fname) FROM ir_attachment"); n != 196-10 {
		t.Errorf("%d different files, want one in twenty shared", n)
	}
}

// While shops sell and attachments are collected, what is committed is whole at every moment.
func TestWrite(t *testing.T) {
	t.Parallel()
	d := seeded(t)
	ctx, stop := context.WithCancel(t.Context())
	var sales odoodb.Sales
	done := make(chan error, 1)
	go func() {
		done <- odoodb.Write(ctx, odoodb.WriterOptions{DSN: d.DSN, Filestore: d.Filestore, Tills: 2, Collect: 20 * time.Millisecond}, &sales)
	}()
	labtest.Eventually(t, "attachments added, deleted and collected", func(context.Context) error {
		if sales.Attachments.Load() < 20 || sales.Deleted.Load() < 20 || sales.Removed.Load() < 5 {
			return fmt.Errorf("%d added, %d deleted, %d removed", sales.Attachments.Load(), sales.Deleted.Load(), sales.Removed.Load())
		}
		return nil
	})
	// The guard of a backup: with the job taken no collection runs, and nobody waits.
	guard, err := pgx.Connect(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close(t.Context())
	tx, err := guard.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "guard", func(ctx context.Context) error { // not while a collection runs
		var id int
		return tx.QueryRow(ctx, "SELECT id FROM ir_cron WHERE id = 1 FOR NO KEY UPDATE").Scan(&id)
	})
	ran, skipped, sold := sales.Collections.Load(), sales.Skipped.Load(), sales.Orders.Load()
	labtest.Eventually(t, "guarded sales", func(context.Context) error {
		if sales.Skipped.Load() < skipped+3 || sales.Orders.Load() < sold+20 {
			return fmt.Errorf("%d orders, %d skipped", sales.Orders.Load()-sold, sales.Skipped.Load()-skipped)
		}
		return nil
	})
	if report := check(t, d.DSN, d.Filestore); report.Err() != nil {
		t.Errorf("while shops sell: %v", report.Err())
	}
	if now := sales.Collections.Load(); now != ran {
		t.Errorf("%d collections ran while their job was taken", now-ran)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	report := check(t, d.DSN, d.Filestore)
	if report.Err() != nil || int64(report.Orders) < 100+sales.Orders.Load() {
		t.Errorf("afterwards: %+v, %d orders sold", report, sales.Orders.Load())
	}
}

// The check finds what backups get wrong.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	d := seeded(t)
	file := func() string {
		return filepath.Join(d.Filestore, query[string](t, d.DSN, "SELECT store_fname FROM ir_attachment WHERE store_fname IS NOT NULL ORDER BY id LIMIT 1"))
	}
	content, err := os.ReadFile(file())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		damage  func() error
		problem string
	}{
		{"no file", func() error { return os.Remove(file()) }, "has no file"},
		{"truncated file", func() error { return os.WriteFile(file(), content[:50], 0o600) }, "has 50 bytes"},
		{"flipped bit", func() error {
			flipped := bytes.Clone(content)
			flipped[40] ^= 1
			return os.WriteFile(file(), flipped, 0o600)
		}, "with SHA-1"},
	} {
		if err := test.damage(); err != nil {
			t.Fatal(err)
		}
		if err := check(t, d.DSN, d.Filestore).Err(); err == nil || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if err := os.WriteFile(file(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "DELETE FROM pos_order_line WHERE id = 7"); err != nil {
		t.Fatal(err)
	}
	report := check(t, d.DSN, d.Filestore)
	if text := fmt.Sprint(report.Problems); len(report.Problems) != 2 || !strings.Contains(text, "1 orders whose lines") || !strings.Contains(text, "1 numbers of stock") {
		t.Errorf("a lost row: %v", report.Problems)
	}
}

// A dump made by PostgreSQL's own tools, and the files copied after it, are whole while shops sell.
func TestDumpOfALiveDatabase(t *testing.T) {
	t.Parallel()
	d := seeded(t)
	ctx, stop := context.WithCancel(t.Context())
	var sales odoodb.Sales
	done := make(chan error, 1)
	go func() {
		done <- odoodb.Write(ctx, odoodb.WriterOptions{DSN: d.DSN, Filestore: d.Filestore, Tills: 2}, &sales)
	}()
	labtest.Eventually(t, "sales", func(context.Context) error {
		if sales.Orders.Load() < 20 {
			return fmt.Errorf("%d orders", sales.Orders.Load())
		}
		return nil
	})
	dump := filepath.Join(t.TempDir(), "dump")
	tool(t, "pg_dump", "-Fc", "-Z0", "--file="+dump, "--dbname="+d.DSN)
	copied := t.TempDir()
	copyFiles(t, d.Filestore, copied)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	restored := labtest.Database(t, labtest.Shared(t, lab.PostgreSQL))
	tool(t, "pg_restore", "--exit-on-error", "--dbname="+restored.DSN, dump)
	report := check(t, restored.DSN, copied)
	if report.Err() != nil || report.Orders < 120 {
		t.Errorf("report is %+v", report)
	}
}

// tool runs one of PostgreSQL's tools.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := lab.PostgresTool(name)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// copyFiles copies a folder while files come; none goes.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil || relative == "." {
			return err
		}
		if entry.IsDir() {
			return os.Mkdir(filepath.Join(to, relative), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
