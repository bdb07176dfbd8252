package backup

import (
	"context"
	"fmt"
	"io"

	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// write seals what fill writes, and stores it as it comes.
func (t *taking) write(ctx context.Context, key, contentType string, lock store.Lock, fill func(io.Writer) error) (Entry, error) {
	from, to := io.Pipe()
	// A store that reads cannot be interrupted.
	stop := context.AfterFunc(ctx, func() { _ = from.CloseWithError(context.Cause(ctx)) })
	defer stop()
	type result struct {
		sealed seal.Sealed
		err    error
	}
	done := make(chan result, 1)
	go func() {
		sealed, err := t.seal(to, fill)
		_ = to.CloseWithError(err) // io.EOF if nil
		done <- result{sealed, err}
	}()
	o, err := t.store.Create(ctx, key, from, lock)
	if err != nil {
		_ = from.CloseWithError(err)
	} else {
		_ = from.Close()
	}
	r := <-done
	switch {
	case err != nil: // of the stream's, if that failed first
		return Entry{}, err
	case r.err != nil:
		return Entry{}, fmt.Errorf("write %s: %w", key, r.err)
	case o.SHA256 != r.sealed.SHA256 || o.Size != r.sealed.Bytes:
		return Entry{}, fmt.Errorf("write %s: %w: the store has written something else", key, store.ErrChanged)
	}
	t.meter.stored(o.Size)
	return Entry{Object: o, PlainSHA256: r.sealed.PlainSHA256, PlainBytes: r.sealed.PlainBytes, ContentType: contentType}, nil
}

// seal seals what fill writes. What a source that fails has written is not ended.
func (t *taking) seal(to io.Writer, fill func(io.Writer) error) (seal.Sealed, error) {
	w, err := seal.NewWriter(to, t.recipients...)
	if err != nil {
		return seal.Sealed{}, err
	}
	if err := fill(metered{w, &t.meter}); err != nil {
		w.Abort()
		return seal.Sealed{}, err
	}
	return w.Close()
}

// metered counts what is written.
type metered struct {
	io.Writer
	meter *meter
}

func (m metered) Write(p []byte) (int, error) {
	n, err := m.Writer.Write(p)
	m.meter.passed(n)
	return n, err
}
