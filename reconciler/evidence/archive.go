package evidence

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// segmentRecords is the number of records per archive file.
const segmentRecords = 10_000

// archive holds the published records of this machine: per branch, files of
// 10,000 envelopes, one a line, and a file "ids" with 32 bytes a record. It
// saves a fetch at every start and can be rebuilt from the remote; a file per
// record, loose objects or packs would cost the disk far more than the
// records do. Directories of branches other than the current one may be
// deleted.
type archive struct {
	dir string
	// end of what counts in the current branch: whatever lies behind was
	// written but not committed, and is overwritten.
	branch string
	size   uint64
	offset int64 // in the segment that holds record size, or begins with it
}

func (a *archive) segment(branch string, seq uint64) string {
	return filepath.Join(a.dir, filepath.FromSlash(branch), fmt.Sprintf("%05d.jsonl", seq/segmentRecords))
}

// bytes is how much all files together hold.
func (a *archive) bytes() (total int64, err error) {
	err = filepath.WalkDir(a.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure archive: %w", err)
	}
	return total, nil
}

func (a *archive) idsPath(branch string) string {
	return filepath.Join(a.dir, filepath.FromSlash(branch), "ids")
}

// open finds the end of the branch's size records.
func (a *archive) open(branch string, size uint64) error {
	a.branch, a.size, a.offset = branch, size, 0
	if size%segmentRecords == 0 {
		return nil
	}
	from := size - size%segmentRecords
	return a.read(branch, from, size, func(_ uint64, line []byte) error {
		a.offset += int64(len(line))
		return nil
	})
}

// append stores records that follow the end. They count once commit is called;
// calling append again before that replaces them.
func (a *archive) append(envelopes [][]byte, ids []recordID) error {
	dir := filepath.Dir(a.idsPath(a.branch))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	if err := a.appendIDs(ids); err != nil {
		return err
	}
	seq, offset, created := a.size, a.offset, false
	for len(envelopes) > 0 {
		n := min(uint64(len(envelopes)), segmentRecords-seq%segmentRecords)
		created = created || seq%segmentRecords == 0
		if err := appendSegment(a.segment(a.branch, seq), offset, envelopes[:n]); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		envelopes, seq, offset = envelopes[n:], seq+n, 0
	}
	for ; created; dir = filepath.Dir(dir) { // up to the directory that holds the archive's
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("sync archive: %w", err)
		}
		created = dir != filepath.Dir(a.dir)
	}
	return nil
}

func appendSegment(path string, offset int64, envelopes [][]byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(offset)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	w := bufio.NewWriterSize(f, 64<<10)
	for _, e := range envelopes {
		if err == nil {
			_, err = w.Write(e)
		}
	}
	if err == nil {
		err = w.Flush()
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (a *archive) appendIDs(ids []recordID) error {
	f, err := os.OpenFile(a.idsPath(a.branch), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open archive IDs: %w", err)
	}
	data := make([]byte, 0, len(ids)*sha256.Size)
	for _, id := range ids {
		data = append(data, id[:]...)
	}
	_, err = f.WriteAt(data, int64(a.size)*sha256.Size)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write archive IDs: %w", err)
	}
	return nil
}

// commit makes appended records count.
func (a *archive) commit(envelopes [][]byte) {
	for _, e := range envelopes {
		if a.size%segmentRecords == 0 {
			a.offset = 0
		}
		a.size++
		a.offset += int64(len(e))
	}
	if a.size%segmentRecords == 0 {
		a.offset = 0
	}
}

// read passes records from up to but not including to.
func (a *archive) read(branch string, from, to uint64, fn func(seq uint64, line []byte) error) error {
	for from < to {
		end := min(to, from-from%segmentRecords+segmentRecords)
		if err := readSegment(a.segment(branch, from), from, end, fn); err != nil {
			return err
		}
		from = end
	}
	return nil
}

func readSegment(path string, from, to uint64, fn func(seq uint64, line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return damaged(path, err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 64<<10)
	for seq := from - from%segmentRecords; seq < to; seq++ {
		line, err := readLine(lines)
		if err != nil {
			return damaged(path, err)
		}
		if seq < from {
			continue
		}
		if err := fn(seq, line); err != nil {
			return err
		}
	}
	return nil
}

// readLine reads one envelope, its newline included.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxEnvelope:
			return nil, ErrTooLarge
		}
	}
}

// ids gives the record IDs from up to but not including to.
func (a *archive) ids(branch string, from, to uint64) ([]recordID, error) {
	if from == to {
		return nil, nil
	}
	f, err := os.Open(a.idsPath(branch))
	if errors.Is(err, fs.ErrNotExist) && branch != a.branch {
		return nil, nil // an older branch, deleted to save room
	}
	if err != nil {
		return nil, damaged(a.idsPath(branch), err)
	}
	defer f.Close()
	data := make([]byte, (to-from)*sha256.Size)
	if _, err := f.ReadAt(data, int64(from)*sha256.Size); err != nil {
		return nil, damaged(f.Name(), err)
	}
	ids := make([]recordID, to-from)
	for i := range ids {
		copy(ids[i][:], data[i*sha256.Size:])
	}
	return ids, nil
}
