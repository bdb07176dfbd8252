package evidence

import (
	"encoding/json"
	"fmt"
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
		if slices.Contains(e.keep, ref) {
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
