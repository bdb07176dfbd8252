package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/mod/sumdb/tlog"
)

// spooled is a record that the remote does not have yet, with all that must
// reach the remote before or with it.
type spooled struct {
	Index    uint64        `json:"index"`
	Envelope []byte        `json:"envelope"`
	Blobs    []spooledBlob `json:"blobs,omitempty"`
	Keep     []spooledKeep `json:"keep,omitempty"`
}

type spooledBlob struct {
	BlobRef
	Data []byte `json:"data"`
}

type spooledKeep struct {
	Ref    string            `json:"ref"`
	Commit []byte            `json:"commit"` // the commit object
	Files  map[string][]byte `json:"files"`
}

// spoolEntry is what is kept in memory of a spooled record.
type spoolEntry struct {
	Record
	leaf  tlog.Hash
	blob  plumbing.Hash
	bytes int64 // of the spool file
}

// spool is a directory with one file per unpublished record. A file appears by
// rename after its bytes are on disk; anything else there was never
// acknowledged and is removed.
type spool struct {
	dir     string
	entries []spoolEntry // by Index, without holes
	bytes   int64
	write   func(name string, data []byte) error // durable; replaced by tests
}

func (s *spool) path(index uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d.json", index))
}

// openSpool reads what an earlier run left.
func openSpool(dir string, trusted *Trusted) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	s := &spool{dir: dir, write: writeDurably}
	for _, n := range names { // sorted, so by index
		path := filepath.Join(dir, n.Name())
		index, err := strconv.ParseUint(strings.TrimSuffix(n.Name(), ".json"), 10, 64)
		if err != nil || path != s.path(index) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("clear spool: %w", err)
			}
			continue
		}
		item, size, err := s.read(index)
		if err != nil {
			return nil, err
		}
		r, err := openRecord(item.Envelope, trusted, 0)
		if err != nil {
			return nil, damaged(path, err)
		}
		r.Index = index
		s.entries = append(s.entries, newSpoolEntry(r, item.Envelope, size))
		s.bytes += size
	}
	return s, nil
}

func newSpoolEntry(r Record, envelope []byte, size int64) spoolEntry {
	return spoolEntry{
		Record: r, bytes: size,
		leaf: tlog.RecordHash(envelope),
		blob: plumbing.ComputeHash(plumbing.BlobObject, envelope),
	}
}

func damaged(path string, err error) error {
	return &StalledError{
		What: "evidence file " + path + " is damaged", Err: err,
		Hint: "the disk lost data: keep a copy of the directory, then empty it; the next start declares a gap",
	}
}

// add stores a record durably: when it returns nil the record survives a crash.
func (s *spool) add(item spooled, r Record) error {
	data, err := json.Marshal(item)
	if err != nil {
		return fmt.Errorf("encode spool file: %w", err)
	}
	if err := s.write(s.path(item.Index), data); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	s.entries = append(s.entries, newSpoolEntry(r, item.Envelope, int64(len(data))))
	s.bytes += int64(len(data))
	return nil
}

// read gives a spooled record with its parts, and the file's size in bytes.
// It wraps [fs.ErrNotExist] when the record has been published meanwhile.
func (s *spool) read(index uint64) (spooled, int64, error) {
	var item spooled
	f, err := os.Open(s.path(index))
	if err != nil {
		return item, 0, fmt.Errorf("open spool file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f) // written by this package, which bounds every part
	if err != nil {
		return item, 0, fmt.Errorf("read spool file: %w", err)
	}
	if err := json.Unmarshal(data, &item); err != nil {
		return item, 0, damaged(f.Name(), err)
	}
	if item.Index != index {
		return item, 0, damaged(f.Name(), errors.New("it holds another record"))
	}
	return item, int64(len(data)), nil
}

// drop removes the first n records, which have been published.
func (s *spool) drop(n int) error {
	var errs []error
	for _, e := range s.entries[:n] {
		s.bytes -= e.bytes
		errs = append(errs, os.Remove(s.path(e.Index)))
	}
	s.entries = slices.Clone(s.entries[n:]) // readers may hold the old slice
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

// writeDurably writes a file so that it has either all its bytes or does not
// exist, even after power loss. After an error the file does not exist, or the
// error is an [undoneError].
func writeDurably(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // never counted; swept at the next start
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return &undoneError{err}
	}
	return nil
}

// undoneError says that a file is in place but perhaps not durably.
type undoneError struct{ error }

func (e *undoneError) Unwrap() error { return e.error }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
