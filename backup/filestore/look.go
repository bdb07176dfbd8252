package filestore

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	smallContent = 1 << 20   // bytes up to which a content is kept in memory
	copyBuffer   = 128 << 10 // bytes
)

// A look is what a file was found to be.
type look struct {
	content
	problem *Problem // why the file is not the content; else nil, and then
	data    []byte   // the content, if it is small and was to be kept,
	file    *os.File // or the open file, at its begin; whoever has the look closes it
	length  int64    // of the file in bytes
	changed time.Time
}

func (l *look) close() {
	if l.file != nil {
		_ = l.file.Close() // only read
	}
}

// lookAt reads the file of a content inside root and compares it. Small contents are kept in memory if keep is set, large
// ones stay open.
func lookAt(root *os.Root, c content, keep bool) (l look) {
	l = look{content: c}
	// Without O_NONBLOCK, opening a named pipe would wait.
	file, err := root.OpenFile(filepath.FromSlash(c.store), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		l.problem = c.problem(Missing, "there is no file")
		return l
	}
	if err != nil {
		l.problem = c.problem(Unreadable, "%v", err)
		return l
	}
	keepOpen := false
	defer func() {
		if !keepOpen {
			_ = file.Close() // only read
		}
	}()
	info, err := file.Stat()
	switch {
	case err != nil:
		l.problem = c.problem(Unreadable, "%v", err)
		return l
	case !info.Mode().IsRegular():
		l.problem = c.problem(Unreadable, "it is no regular file")
		return l
	}
	l.length, l.changed = info.Size(), info.ModTime()
	if c.size >= 0 && l.length != c.size {
		l.problem = c.problem(WrongSize, "the file has %d bytes, not %d", l.length, c.size)
		return l
	}
	l.problem, err = l.read(file, keep)
	if err != nil {
		l.problem = c.problem(Unreadable, "%v", err)
	}
	if keep && l.problem == nil && l.data == nil {
		keepOpen, l.file = true, file
	}
	return l
}

// read compares the open file with its checksum.
func (l *look) read(file *os.File, keep bool) (*Problem, error) {
	sum := sha1.New()
	var n int64
	var err error
	if keep && l.length <= smallContent {
		l.data = make([]byte, l.length)
		var got int
		got, err = io.ReadFull(file, l.data)
		sum.Write(l.data[:got])
		n = int64(got)
		if err == io.EOF || err == io.ErrUnexpectedEOF { // it became shorter
			err = nil
		}
	} else {
		n, err = io.CopyBuffer(onlyWriter{sum}, onlyReader{io.LimitReader(file, l.length)}, make([]byte, copyBuffer))
		if err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		return nil, err
	}
	if n != l.length {
		return l.content.problem(WrongSize, "the file has become shorter while it was read, from %d to %d bytes", l.length, n), nil
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != l.sha1 {
		return l.content.problem(WrongSum, "the file has SHA-1 %s, not %s", got, l.sha1), nil
	}
	return nil, nil
}

// onlyReader and onlyWriter hide the methods with which io.CopyBuffer would not use the buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// openFilestore opens the folder, out of which no name and no link leads then.
func openFilestore(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open filestore: %w", err)
	}
	return root, nil
}
