package sources

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1" // Git's own pack checksum
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// encodedObjects is where a pack's objects come from.
type encodedObjects interface {
	EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error)
}

// packStream is a pack being written. Close ends the writing and waits for it.
type packStream struct {
	*io.PipeReader
	done chan struct{}
}

func (p *packStream) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// streamPack writes the objects as a pack without deltas, one at a time, so that
// memory does not grow with the pack.
func streamPack(ctx context.Context, from encodedObjects, ids []plumbing.Hash) io.ReadCloser {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(writePack(ctx, w, from, ids)) // never fails
	}()
	return &packStream{r, done}
}

// writePack follows https://git-scm.com/docs/pack-format.
func writePack(ctx context.Context, out io.Writer, from encodedObjects, ids []plumbing.Hash) (err error) {
	defer func() { // go-git may panic on damaged packs
		if p := recover(); p != nil {
			err = fmt.Errorf("write pack: %v", p)
		}
	}()
	w := &packWriter{out: out, sum: sha1.New()}
	if w.zip, err = zlib.NewWriterLevel(io.Discard, zlib.BestSpeed); err != nil {
		return err
	}
	head := append([]byte("PACK"), 0, 0, 0, 2)
	w.write(binary.BigEndian.AppendUint32(head, uint32(len(ids))))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("write pack: %w", err)
		}
		obj, err := from.EncodedObject(plumbing.AnyObject, id)
		if err != nil {
			return fmt.Errorf("write pack: object %s: %w", id, err)
		}
		if err := w.object(obj); err != nil {
			return fmt.Errorf("write pack: object %s: %w", id, err)
		}
	}
	w.write(w.sum.Sum(nil))
	if w.err != nil {
		return fmt.Errorf("write pack: %w", w.err)
	}
	return nil
}

type packWriter struct {
	out io.Writer
	sum hash.Hash
	zip *zlib.Writer
	err error // the first one
}

func (w *packWriter) write(b []byte) {
	if w.err == nil {
		w.sum.Write(b)
		_, w.err = w.out.Write(b)
	}
}

func (w *packWriter) object(obj plumbing.EncodedObject) error {
	size := obj.Size()
	first := byte(obj.Type())<<4 | byte(size&0x0f)
	var head []byte
	for size >>= 4; size > 0; size >>= 7 {
		head = append(head, first|0x80)
		first = byte(size & 0x7f)
	}
	w.write(append(head, first))
	r, err := obj.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	var buf bytes.Buffer
	w.zip.Reset(&buf)
	n, err := io.Copy(w.zip, r)
	if err = errors.Join(err, w.zip.Close()); err != nil {
		return err
	}
	if n != obj.Size() {
		return io.ErrUnexpectedEOF
	}
	w.write(buf.Bytes())
	return w.err
}
