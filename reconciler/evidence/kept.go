package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// keepStore holds what the keep refs of the remote hold, one file per ref.
type keepStore struct{ dir string }

func (s keepStore) path(ref string) string {
	return filepath.Join(s.dir, url.PathEscape(strings.TrimPrefix(ref, keepPrefix)))
}

// put writes what the ref keeps; it is durable once the directory is flushed.
func (s keepStore) put(ref string, files map[string][]byte) error {
	data, err := json.Marshal(files)
	if err != nil {
		return fmt.Errorf("encode kept files: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("create keep store: %w", err)
	}
	if err := writeFlushed(s.path(ref), data); err != nil {
		return fmt.Errorf("store kept files: %w", err)
	}
	return nil
}

func (s keepStore) get(ref string) (map[string][]byte, error) {
	data, err := os.ReadFile(s.path(ref))
	if err != nil {
		return nil, fmt.Errorf("read kept files of %s: %w", ref, err)
	}
	var files map[string][]byte
	if err := json.Unmarshal(data, &files); err != nil {
		return nil, damaged(s.path(ref), err)
	}
	return files, nil
}

// Kept returns the files that the newest record moving the ref kept there,
// published or not. It wraps [fs.ErrNotExist] when no record did.
func (l *Log) Kept(ref string) (map[string][]byte, error) {
	if err := checkKeep(Keep{Ref: ref}); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock() // publishing moves a spooled record's files to the store
	for _, e := range slices.Backward(l.spool.entries) {
		if e.beside != nil && slices.Contains(e.beside.keep, ref) {
			return e.files(ref)
		}
	}
	return l.keeps.get(ref)
}

// files gives what a spooled record keeps under the ref.
func (e spoolEntry) files(ref string) (map[string][]byte, error) {
	item, err := e.read()
	if err != nil {
		return nil, err
	}
	for _, k := range item.Keep {
		if k.Ref == ref {
			return k.Files, nil
		}
	}
	return nil, damaged(e.segment.file.Name(), fmt.Errorf("record %d has no files of %s", e.Index, ref))
}

// blobStore holds published blobs by month and digest. A month that is gone
// from the remote is removed here too: erasing must reach every copy.
type blobStore struct{ dir string }

func cutDigest(digest string) (string, bool) { return strings.CutPrefix(digest, "sha256:") }

func (s blobStore) monthDir(ref string) string {
	return filepath.Join(s.dir, strings.TrimPrefix(ref, blobPrefix))
}

// put writes a blob; it is durable once the month's directory is flushed.
func (s blobStore) put(ref, digest string, data []byte) error {
	name, err := hexDigest(digest)
	if err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if err := os.MkdirAll(s.monthDir(ref), 0o700); err != nil {
		return fmt.Errorf("create blob store: %w", err)
	}
	path := filepath.Join(s.monthDir(ref), name)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := writeFlushed(path, data); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	return nil
}

func (s blobStore) get(b BlobRef) ([]byte, error) {
	name, err := hexDigest(b.Digest)
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	f, err := os.Open(filepath.Join(s.monthDir(b.Ref), name))
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBlob+1))
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if digestOf(data) != b.Digest {
		return nil, damaged(f.Name(), errors.New("its digest is "+digestOf(data)))
	}
	return data, nil
}

// forgetErased removes months that the remote no longer has.
func (s blobStore) forgetErased(have refs) error {
	months, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, m := range months {
		if _, ok := have[blobPrefix+m.Name()]; ok {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, m.Name())); err != nil {
			return fmt.Errorf("remove erased blobs: %w", err)
		}
	}
	return nil
}
