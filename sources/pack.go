package sources

import (
	"bytes"
	"context"
	"crypto/sha1" // Git's own object and pack checksum
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// ErrTooLarge says that a fetch brings more than the limits allow. Nothing of
// it was kept.
var ErrTooLarge = errors.New("the fetch exceeds a limit")

// receivePack stores the pack that r gives: bounded, checked, indexed, on disk
// in full before it gets its name. On any error nothing of it stays.
func receivePack(ctx context.Context, dir string, r io.Reader, limits Limits) (id plumbing.Hash, err error) {
	f, err := os.CreateTemp(packDir(dir), "tmp_pack_")
	if err != nil {
		return id, fmt.Errorf("store pack: %w", err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // gone already when all went well
	}()
	n, err := io.Copy(f, io.LimitReader(r, limits.PackBytes+1))
	if err != nil {
		return id, fmt.Errorf("receive pack: %w", err)
	}
	if n > limits.PackBytes {
		return id, hint(fmt.Errorf("receive pack: %w: more than %d bytes", ErrTooLarge, limits.PackBytes),
			"remove large files from the branch's history, or raise the pack limit in the agent's configuration")
	}
	count, err := checkTrailer(f, n)
	if err != nil || count == 0 {
		return id, err
	}
	if err := checkObjects(ctx, f, count, limits); err != nil {
		return id, err
	}
	return installPack(ctx, dir, f)
}

// checkTrailer reads the pack once and compares its checksum: a truncated pack
// ends here. It gives the number of objects.
func checkTrailer(f io.ReadSeeker, size int64) (uint32, error) {
	if size < 12+sha1.Size {
		return 0, fmt.Errorf("receive pack: truncated after %d bytes: %w", size, io.ErrUnexpectedEOF)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("read pack: %w", err)
	}
	var head [12]byte
	h := sha1.New()
	r := io.TeeReader(f, h)
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, fmt.Errorf("read pack: %w", err)
	}
	if string(head[:4]) != "PACK" {
		return 0, errors.New("receive pack: the server sent something that is not a pack")
	}
	if _, err := io.CopyN(io.Discard, r, size-int64(len(head))-sha1.Size); err != nil {
		return 0, fmt.Errorf("read pack: %w", err)
	}
	want := h.Sum(nil)
	got := make([]byte, sha1.Size)
	if _, err := io.ReadFull(f, got); err != nil {
		return 0, fmt.Errorf("read pack: %w", err)
	}
	if !bytes.Equal(got, want) {
		return 0, fmt.Errorf("receive pack: truncated or altered on the way, its checksum differs: %w", io.ErrUnexpectedEOF)
	}
	return binary.BigEndian.Uint32(head[8:]), nil
}

// checkObjects inflates every object once, keeping none, so that a small pack
// cannot become large in memory when it is indexed.
func checkObjects(ctx context.Context, f io.ReadSeeker, count uint32, limits Limits) error {
	if int64(count) > limits.PackObjects {
		return fmt.Errorf("receive pack: %w: %d objects, more than %d", ErrTooLarge, count, limits.PackObjects)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read pack: %w", err)
	}
	s := packfile.NewScanner(f)
	for range count {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("check pack: %w", err)
		}
		h, err := s.NextObjectHeader()
		if err != nil {
			return fmt.Errorf("check pack: %w", err)
		}
		if h.Length > limits.ObjectBytes {
			return objectTooLarge(h.Length, limits)
		}
		var start prefix
		if _, _, err := s.NextObject(&start); err != nil {
			return fmt.Errorf("check pack: object at %d: %w", h.Offset, err)
		}
		if h.Type.IsDelta() {
			size, err := start.resultSize()
			if err != nil {
				return fmt.Errorf("check pack: object at %d: %w", h.Offset, err)
			}
			if size > uint64(limits.ObjectBytes) {
				return objectTooLarge(int64(min(size, 1<<62)), limits)
			}
		}
	}
	return nil
}

func objectTooLarge(size int64, limits Limits) error {
	return hint(fmt.Errorf("receive pack: %w: an object of %d bytes, more than %d", ErrTooLarge, size, limits.ObjectBytes),
		"remove the large file from the branch's history, or raise the object limit in the agent's configuration")
}

// prefix keeps the first bytes written: a delta begins with the sizes of its
// base and of its result, as base-128 numbers.
type prefix struct {
	buf [2 * binary.MaxVarintLen64]byte
	n   int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.n += copy(p.buf[p.n:], b)
	return len(b), nil
}

func (p *prefix) resultSize() (uint64, error) {
	_, n := binary.Uvarint(p.buf[:p.n])
	if n <= 0 {
		return 0, errors.New("malformed delta")
	}
	size, m := binary.Uvarint(p.buf[n:p.n])
	if m <= 0 {
		return 0, errors.New("malformed delta")
	}
	return size, nil
}

// installPack indexes the pack in f and gives both their names.
func installPack(ctx context.Context, dir string, f *os.File) (id plumbing.Hash, err error) {
	defer func() { // go-git may panic on hostile packs
		if p := recover(); p != nil {
			err = fmt.Errorf("index pack: %v", p)
		}
	}()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return id, fmt.Errorf("read pack: %w", err)
	}
	index := new(idxfile.Writer)
	parser, err := packfile.NewParser(packfile.NewScanner(&untilDone{ctx, f}), index)
	if err != nil {
		return id, fmt.Errorf("index pack: %w", err)
	}
	if id, err = parser.Parse(); err != nil {
		return id, fmt.Errorf("index pack: %w", err)
	}
	base := filepath.Join(packDir(dir), "pack-"+id.String())
	if _, err := os.Stat(base + ".idx"); err == nil {
		return id, nil // the same pack again
	}
	mem, err := index.Index()
	if err != nil {
		return id, fmt.Errorf("index pack: %w", err)
	}
	tmp := filepath.Join(packDir(dir), "tmp_idx_"+id.String())
	if err := writeIndex(tmp, mem); err != nil {
		_ = os.Remove(tmp)
		return id, fmt.Errorf("store pack: %w", err)
	}
	for _, step := range []func() error{
		f.Sync,
		func() error { return os.Rename(f.Name(), base+".pack") },
		func() error { return os.Rename(tmp, base+".idx") },
		func() error { return syncDir(packDir(dir)) },
	} {
		if err := step(); err != nil {
			for _, name := range []string{tmp, base + ".idx", base + ".pack"} {
				_ = os.Remove(name)
			}
			return id, fmt.Errorf("store pack: %w", err)
		}
	}
	return id, nil
}

func writeIndex(name string, mem *idxfile.MemoryIndex) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = idxfile.NewEncoder(f).Encode(mem)
	return errors.Join(err, f.Sync(), f.Close())
}

// untilDone ends reads when ctx ends.
type untilDone struct {
	ctx context.Context
	f   io.ReadSeeker
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.f.Read(p)
}

func (u *untilDone) Seek(offset int64, whence int) (int64, error) {
	return u.f.Seek(offset, whence)
}
