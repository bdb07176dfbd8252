package odoodb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// repeatableRead is the isolation of Odoo's transactions.
var repeatableRead = pgx.TxOptions{IsoLevel: pgx.RepeatableRead}

// serializationFailure is the code of a transaction that another one came in the way of.
const serializationFailure = "40001"

// A till sells, one order after the other.
type till struct {
	conn   *pgx.Conn
	files  filestore
	sales  *Sales
	random *rand.Rand
}

// sell makes one order with its account move, lines and stock moves. Every third order has an attachment, every tenth
// sale deletes one of the newest thousand.
func (t *till) sell(ctx context.Context) error {
	attach, remove := t.random.IntN(3) == 0, t.random.IntN(10) == 0
	deleted := 0
	err := pgx.BeginTxFunc(ctx, t.conn, repeatableRead, func(tx pgx.Tx) error {
		if attach {
			// Before the snapshot and the file. Odoo takes it with the row, and so loses the file if a collection comes in
			// between: what shall be found here is a backup's fault alone.
			if _, err := tx.Exec(ctx, "LOCK TABLE ir_attachment IN ROW EXCLUSIVE MODE"); err != nil {
				return err
			}
		}
		move, err := t.order(ctx, tx)
		if err == nil && attach {
			err = t.attach(ctx, tx, move)
		}
		if err == nil && remove {
			deleted, err = t.remove(ctx, tx)
		}
		return err
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == serializationFailure {
		return nil // another till wrote the same row: as Odoo, try anew
	}
	if err != nil {
		return fmt.Errorf("sell: %w", err)
	}
	t.sales.Orders.Add(1)
	t.sales.Deleted.Add(int64(deleted))
	if attach {
		t.sales.Attachments.Add(1)
	}
	return nil
}

// order inserts the rows of one order and returns its account move.
func (t *till) order(ctx context.Context, tx pgx.Tx) (move int, err error) {
	price, products, now := 1+t.random.IntN(90), 1+t.random.IntN(5000-3), time.Now().UTC()
	values := pgx.NamedArgs{"price": price, "product": products, "now": now, "partner": 1 + t.random.IntN(1000)}
	err = tx.QueryRow(ctx, `INSERT INTO account_move (name, state, move_type, date, partner_id, company_id, amount_total,
		amount_residual, payment_state, create_uid, create_date, write_uid, write_date)
		VALUES ('POSS/live', 'posted', 'out_receipt', @now::timestamp, @partner::int, 1, 3 * @price::int, 0, 'paid', 1, @now, 1, @now)
		RETURNING id`, values).Scan(&move)
	if err != nil {
		return 0, err
	}
	values["move"] = move
	var order int
	err = tx.QueryRow(ctx, `INSERT INTO pos_order (name, uuid, state, date_order, partner_id, company_id, account_move, amount_tax,
		amount_total, amount_paid, amount_return, create_uid, create_date, write_uid, write_date)
		VALUES ('Shop/live', gen_random_uuid(), 'done', @now::timestamp, @partner::int, 1, @move::int, 3 * @price::int * 0.19,
			3 * @price, 3 * @price, 0, 1, @now, 1, @now)
		RETURNING id`, values).Scan(&order)
	if err != nil {
		return 0, err
	}
	values["order"] = order
	for _, sql := range []string{
		"UPDATE res_partner SET write_date = @now WHERE id = @partner", // rows change too, not only their number
		`INSERT INTO pos_order_line (name, order_id, product_id, qty, price_unit, price_subtotal, price_subtotal_incl, create_uid,
		create_date, write_uid, write_date)
		SELECT 'Shop/live', @order::int, @product::int + i, 1, @price::int, @price / 1.19, @price, 1, @now::timestamp, 1, @now
		FROM generate_series(0, 2) i`,
		`INSERT INTO stock_move (name, state, date, product_id, product_uom_qty, quantity, location_id, location_dest_id, company_id,
		create_uid, create_date, write_uid, write_date)
		SELECT 'live', 'done', @now::timestamp, @product::int + i, 1, 1, 8, 5, 1, 1, @now, 1, @now FROM generate_series(0, 2) i`,
	} {
		if _, err := tx.Exec(ctx, sql, values); err != nil {
			return 0, err
		}
	}
	return move, nil
}

// attach adds a document to an account move: the file, its mark, the row.
func (t *till) attach(ctx context.Context, tx pgx.Tx, move int) error {
	i := t.random.IntN(1 << 40)
	a := newAttachment(i, 16<<10)
	a.record = move
	row, err := a.store(t.files, time.Now().UTC())
	if err != nil {
		return err
	}
	if a.content != nil && !a.inDatabase {
		fname, _ := storeName(a.content)
		if err := t.files.mark(fname); err != nil { // the transaction may yet fail
			return err
		}
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"ir_attachment"}, attachmentColumns, pgx.CopyFromRows([][]any{row}))
	return err
}

// remove deletes one of the newest attachments, unless another till has just done so.
func (t *till) remove(ctx context.Context, tx pgx.Tx) (deleted int, err error) {
	var fname *string
	err = tx.QueryRow(ctx, `DELETE FROM ir_attachment WHERE id = (
		SELECT id FROM ir_attachment WHERE id > (SELECT max(id) FROM ir_attachment) - $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING store_fname`, 1+t.random.IntN(1000)).Scan(&fname)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err == nil && fname != nil {
		err = t.files.mark(*fname)
	}
	return 1, err
}
