package odoodb

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// checklist is the folder of a filestore with the marks for the collection.
const checklist = "checklist"

// A filestore is the folder of one database.
type filestore string

func (f filestore) path(fname string) string {
	return filepath.Join(string(f), filepath.FromSlash(fname))
}

// storeName is the name of a file with the content, and its checksum.
func storeName(content []byte) (fname, checksum string) {
	sum := sha1.Sum(content)
	checksum = hex.EncodeToString(sum[:])
	return checksum[:2] + "/" + checksum, checksum
}

// write writes content in place, unless it is there.
func (f filestore) write(content []byte) (fname, checksum string, err error) {
	fname, checksum = storeName(content)
	path := f.path(fname)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			file, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fname, checksum, nil
	}
	if err == nil {
		_, err = file.Write(content)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return "", "", fmt.Errorf("write attachment: %w", err)
	}
	return fname, checksum, nil
}

// mark puts a file on the checklist.
func (f filestore) mark(fname string) error {
	path := f.path(checklist + "/" + fname)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("mark attachment: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return fmt.Errorf("mark attachment: %w", err)
	}
	return nil
}

// marked returns what is on the checklist.
func (f filestore) marked() ([]string, error) {
	var names []string
	err := f.walk(checklist, func(fname string) { names = append(names, fname) })
	return names, err
}

// walk visits the files two levels below a folder of the filestore, as their store names. A folder that is not there
// has none.
func (f filestore) walk(folder string, visit func(fname string)) error {
	folders, err := os.ReadDir(f.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list filestore: %w", err)
	}
	for _, dir := range folders {
		if !dir.IsDir() || dir.Name() == checklist {
			continue
		}
		files, err := os.ReadDir(f.path(folder + "/" + dir.Name()))
		if err != nil {
			return fmt.Errorf("list filestore: %w", err)
		}
		for _, file := range files {
			visit(dir.Name() + "/" + file.Name())
		}
	}
	return nil
}

// verify compares a file with what its row says. The error is fs.ErrNotExist for a file that is not there.
func (f filestore) verify(fname, checksum string, size int64) error {
	file, err := os.Open(f.path(fname))
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha1.New()
	n, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != size || got != checksum {
		return fmt.Errorf("attachment %s has %d bytes with SHA-1 %s, its row says %d and %s", fname, n, got, size, checksum)
	}
	return nil
}
