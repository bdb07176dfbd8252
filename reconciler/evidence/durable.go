package evidence

import (
	"errors"
	"os"
	"path/filepath"
)

// writeDurably writes a file so that it has either all its bytes or those it had
// before, even after a loss of power.
func writeDurably(path string, data []byte) error {
	if err := writeFlushed(path, data); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeFlushed is like writeDurably, but after a loss of power the file may be as
// it was before until its directory is flushed.
func writeFlushed(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-*")
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
	return os.Rename(f.Name(), path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
