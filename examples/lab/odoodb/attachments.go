package odoodb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// kinds of attachments: a third of them compress well.
var kinds = []struct{ suffix, mimetype, head string }{
	{"pdf", "application/pdf", "%PDF-1.7\n"},
	{"jpg", "image/jpeg", "\xff\xd8\xff\xe0"},
	{"csv", "text/csv", "barcode;name;quantity\n"},
}

// attachmentColumns of the rows that an attachment's values are for.
var attachmentColumns = []string{"name", "res_model", "res_id", "company_id", "type", "url", "public", "db_datas", "store_fname", "file_size",
	"checksum", "mimetype", "index_content", "create_uid", "create_date", "write_uid", "write_date"}

// An attachment is one row and, unless it has a URL or keeps its content in the database, a file.
type attachment struct {
	name, model, mimetype string
	record                int
	content               []byte // nil: it has a URL
	inDatabase            bool   // as with Odoo's setting ir_attachment.location = db
}

// newAttachment makes the i-th attachment of about size bytes. One in twenty has the content of another one, one in a
// hundred a URL, one in a hundred its content in the database.
func newAttachment(i, size int) attachment {
	a := attachment{model: "account.move", record: 1 + i/2}
	source := i
	if i%20 == 19 {
		source = i - 1
	}
	kind := kinds[source%len(kinds)]
	a.name, a.mimetype = fmt.Sprintf("document-%d.%s", i, kind.suffix), kind.mimetype
	if i%100 == 50 {
		return a
	}
	a.inDatabase = i%100 == 51
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(source))
	random := rand.NewChaCha8(seed)
	// From a quarter of the size to seven quarters.
	body := make([]byte, size/4+int(random.Uint64()%uint64(size+size/2+1)))
	if kind.suffix == "csv" {
		for at := 0; at < len(body); {
			at += copy(body[at:], fmt.Appendf(nil, "40%011d;Product %d;%d\n", random.Uint64()%1e6, random.Uint64()%5000, random.Uint64()%9))
		}
	} else {
		_, _ = random.Read(body) // never fails
	}
	a.content = append([]byte(kind.head), body...)
	return a
}

// store writes the file, if there is to be one, and returns the row's values.
func (a attachment) store(f filestore, now time.Time) ([]any, error) {
	kind, index := "binary", any(nil)
	var url, fname, checksum, size, data any
	switch {
	case a.content == nil:
		kind, url = "url", "https://www.example.com/"+a.name
	case a.inDatabase:
		_, sum := storeName(a.content)
		data, size, checksum = a.content, len(a.content), sum
	default:
		name, sum, err := f.write(a.content)
		if err != nil {
			return nil, err
		}
		fname, checksum, size = name, sum, len(a.content)
	}
	if a.mimetype == "text/csv" {
		index = string(bytes.ToValidUTF8(a.content[:min(len(a.content), 2000)], nil))
	}
	return []any{a.name, a.model, a.record, 1, kind, url, false, data, fname, size, checksum, a.mimetype, index, 1, now, 1, now}, nil
}

// seedAttachments writes count files and rows, on both cores.
func seedAttachments(ctx context.Context, conn *pgx.Conn, o Options) error {
	files := filestore(o.Filestore)
	group, ctx := errgroup.WithContext(ctx)
	rows := make(chan []any, 256)
	numbers := make(chan int)
	group.Go(func() error {
		defer close(numbers)
		for i := range o.Attachments {
			select {
			case numbers <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	makers, makersCtx := errgroup.WithContext(ctx)
	for range 2 {
		makers.Go(func() error {
			for i := range numbers {
				row, err := newAttachment(i, o.AttachmentBytes).store(files, o.Now)
				if err != nil {
					return err
				}
				select {
				case rows <- row:
				case <-makersCtx.Done():
					return makersCtx.Err()
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(rows)
		return makers.Wait()
	})
	group.Go(func() error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"ir_attachment"}, attachmentColumns, pgx.CopyFromFunc(func() ([]any, error) {
			return <-rows, nil // nil after the last
		}))
		if err != nil {
			return fmt.Errorf("fill ir_attachment: %w", err)
		}
		return nil
	})
	return group.Wait()
}
