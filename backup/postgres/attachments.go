package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"
)

// An Attachment is a row of ir_attachment.
type Attachment struct {
	ID       int64
	Store    string // store_fname; "" for a content in the database, or a URL
	Checksum string // SHA-1 of the content, hexadecimal; "" if the row has none
	Size     int64  // of the content, in bytes; 0 if the row does not say
}

// Attachments yields all attachments, sorted by the bytes of Store. They are not kept in memory. An error is the last.
func (r *Reader) Attachments(ctx context.Context) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		stopped := false
		err := r.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, `SELECT id::bigint, coalesce(store_fname, ''), coalesce(checksum, ''),
				coalesce(file_size, 0)::bigint FROM ir_attachment ORDER BY coalesce(store_fname, '') COLLATE "C", id`)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				r.silence.pause()
				var a Attachment
				if err := rows.Scan(&a.ID, &a.Store, &a.Checksum, &a.Size); err != nil {
					return err
				}
				if !yield(a, nil) {
					stopped = true
					return nil
				}
				r.silence.again()
			}
			return rows.Err()
		})
		if err != nil && !stopped {
			yield(Attachment{}, fmt.Errorf("list attachments: %w", err))
		}
	}
}
