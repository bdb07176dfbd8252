package odoodb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Report says what a database and its filestore hold, and what is wrong with them.
type Report struct {
	Orders       int
	Attachments  int      // rows with a file
	Unreferenced int      // files in no row
	Problems     []string // at most 20
}

// maxProblems bounds the problems of a report.
const maxProblems = 20

// broken are questions whose answer is 0 in every state that was ever committed.
var broken = map[string]string{
	"orders whose lines do not add up": `SELECT count(*) FROM pos_order o LEFT JOIN (SELECT order_id, sum(price_subtotal_incl) AS total
		FROM pos_order_line GROUP BY order_id) l ON l.order_id = o.id WHERE o.amount_total IS DISTINCT FROM l.total`,
	"orders that are not in the accounts": `SELECT count(*) FROM pos_order o LEFT JOIN account_move m ON m.id = o.account_move
		WHERE m.amount_total IS DISTINCT FROM o.amount_total`,
	"numbers of stock moves and order lines that differ": `SELECT abs((SELECT count(*) FROM stock_move) - (SELECT count(*) FROM pos_order_line))`,
}

// Check reads one snapshot of the database and the files that it names. It knows nothing of how backups are made.
func Check(ctx context.Context, dsn, folder string) (Report, error) {
	var r Report
	err := with(ctx, dsn, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM pos_order").Scan(&r.Orders); err != nil {
				return err
			}
			for what, sql := range broken {
				var n int
				if err := tx.QueryRow(ctx, sql).Scan(&n); err != nil {
					return err
				}
				if n != 0 {
					r.problem("%d %s", n, what)
				}
			}
			return r.checkFiles(ctx, tx, filestore(folder))
		})
	})
	if err != nil {
		return Report{}, fmt.Errorf("check database: %w", err)
	}
	return r, nil
}

// checkFiles compares every row with its file.
func (r *Report) checkFiles(ctx context.Context, tx pgx.Tx, files filestore) error {
	rows, err := tx.Query(ctx, "SELECT store_fname, checksum, file_size FROM ir_attachment WHERE store_fname IS NOT NULL")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var fname, checksum string
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&fname, &checksum, &size}, func() error {
		r.Attachments++
		if seen[fname] {
			return nil
		}
		seen[fname] = true
		switch err := files.verify(fname, checksum, size); {
		case errors.Is(err, fs.ErrNotExist):
			r.problem("attachment %s has no file", fname)
		case err != nil:
			r.problem("%v", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return files.walk("", func(name string) {
		if !seen[name] {
			r.Unreferenced++
		}
	})
}

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// Err is what is wrong, nil for nothing.
func (r Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(r.Problems, "; "))
}
