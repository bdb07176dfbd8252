package odoodb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/jackc/pgx/v5"
)

// collect runs Odoo's job base.autovacuum_job, of which the collection of attachments is the part that matters here. As
// Odoo does, it takes the job's row for as long as the job runs, and leaves a job alone that somebody else has taken:
// https://github.com/odoo/odoo/blob/17.0/odoo/addons/base/models/ir_cron.py
func collect(ctx context.Context, o WriterOptions, sales *Sales) error {
	err := with(ctx, o.DSN, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, repeatableRead, func(tx pgx.Tx) error {
			var job int
			err := tx.QueryRow(ctx, `SELECT id FROM ir_cron WHERE active AND id = (
				SELECT res_id FROM ir_model_data WHERE module = 'base' AND name = 'autovacuum_job')
				FOR NO KEY UPDATE SKIP LOCKED`).Scan(&job)
			if errors.Is(err, pgx.ErrNoRows) {
				sales.Skipped.Add(1)
				return nil
			}
			if err != nil {
				return err
			}
			removed, err := collectAttachments(ctx, o)
			if err != nil {
				return err
			}
			sales.Collections.Add(1)
			sales.Removed.Add(int64(removed))
			_, err = tx.Exec(ctx, "UPDATE ir_cron SET lastcall = now() AT TIME ZONE 'UTC' WHERE id = $1", job)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("collect attachments: %w", err)
	}
	return nil
}

// collectAttachments removes the marked files that are in no row:
// https://github.com/odoo/odoo/blob/17.0/odoo/addons/base/models/ir_attachment.py, _gc_file_store
func collectAttachments(ctx context.Context, o WriterOptions) (removed int, err error) {
	files := filestore(o.Filestore)
	err = with(ctx, o.DSN, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, repeatableRead, func(tx pgx.Tx) error {
			// The lock comes before the transaction's snapshot: whoever was writing is then seen.
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout TO '10s'; LOCK TABLE ir_attachment IN SHARE MODE"); err != nil {
				return err
			}
			marked, err := files.marked()
			if err != nil {
				return err
			}
			rows, err := tx.Query(ctx, "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname = ANY($1)", marked)
			if err != nil {
				return err
			}
			names, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			needed := map[string]bool{}
			for _, fname := range names {
				needed[fname] = true
			}
			for _, fname := range marked {
				if !needed[fname] {
					if err := os.Remove(files.path(fname)); err == nil {
						removed++
					} else if !errors.Is(err, fs.ErrNotExist) {
						return err
					}
				}
				if err := os.Remove(files.path(checklist + "/" + fname)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return removed, err
}
