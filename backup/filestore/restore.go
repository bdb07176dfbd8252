package filestore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrOccupied says that the folder to restore into has something in it.
var ErrOccupied = errors.New("the folder is not empty")

// partialSuffix is of the folder that a restore works in.
const partialSuffix = ".partial"

// Restore makes the folder dir, which must be empty or missing, of all contents that a stream of attachments names. It
// works in the folder dir.partial, which becomes dir when everything is there, has its checksum and is on the disk. If packs
// do not give back everything, the error is an [IncompleteError], and dir.partial stays, with all that they gave.
func Restore(ctx context.Context, index io.Reader, packs packReader, dir string) (Unpacked, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return Unpacked{}, fmt.Errorf("restore filestore to %s: %w", dir, ErrOccupied)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Unpacked{}, fmt.Errorf("restore filestore: %w", err)
	}
	dir = filepath.Clean(dir)
	partial := dir + partialSuffix
	if err := os.Mkdir(partial, 0o755); err != nil {
		return Unpacked{}, fmt.Errorf("restore filestore: %w", err)
	}
	u, err := restoreTo(ctx, index, packs, partial)
	incomplete := (*IncompleteError)(nil)
	switch {
	case errors.As(err, &incomplete):
		return u, fmt.Errorf("restore filestore, as far as possible to %s: %w", partial, err)
	case err != nil:
		return u, errors.Join(fmt.Errorf("restore filestore: %w", err), os.RemoveAll(partial))
	}
	if err := unix.Rename(partial, dir); err != nil { // replaces an empty folder, and no other
		return u, fmt.Errorf("restore filestore, all of which is in %s: rename it to %s: %w", partial, dir, err)
	}
	if err := syncDisk(filepath.Dir(dir)); err != nil {
		return u, fmt.Errorf("restore filestore: %w", err)
	}
	return u, nil
}

func restoreTo(ctx context.Context, index io.Reader, packs packReader, dir string) (Unpacked, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Unpacked{}, err
	}
	defer root.Close()
	to := &target{root: root, made: map[string]bool{".": true}}
	u := &unpacker{packs: packs, keep: to.write, bad: to.remove}
	if err := u.run(ctx, filepath.Dir(dir), index); err != nil {
		return u.done, err
	}
	return u.done, syncDisk(dir)
}

// syncDisk waits until the file system of a folder is on its disk: for many small files that is much quicker than to wait
// for each.
func syncDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write %s to disk: %w", dir, err)
	}
	return nil
}

// A target is a folder that is restored into.
type target struct {
	root *os.Root
	made map[string]bool // folders that are there
}

func (t *target) write(c content, r io.Reader) error {
	if folder := path.Dir(c.store); !t.made[folder] {
		if err := t.root.MkdirAll(filepath.FromSlash(folder), 0o755); err != nil {
			return err
		}
		t.made[folder] = true
	}
	file, err := t.root.OpenFile(filepath.FromSlash(c.store), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return errOccupied
	}
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(onlyWriter{file}, onlyReader{r}, make([]byte, copyBuffer))
	return errors.Join(err, file.Close())
}

func (t *target) remove(c content) error { return t.root.Remove(filepath.FromSlash(c.store)) }

// summed hashes what is read, and keeps the error of the reading apart from those of whoever writes.
type summed struct {
	r     io.Reader
	sum   hash.Hash
	bytes int64
	err   error // never io.EOF
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n]) // never fails
	s.bytes += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
