package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// Replay passes every record, published and spooled, in order, until fn fails. It
// may run beside Add and Run and ends with the records there were when it began.
// Records older than this machine holds are left out: the first one passed is then
// the state record that opens a branch, or, where earlier branches were deleted by
// hand, the oldest left.
//
// Every record is verified before fn sees it. For the published ones one
// signature is enough: that of the branch's newest checkpoint, whose root is that
// of the files of this machine.
func (l *Log) Replay(fn func(Record) error) error {
	l.mu.Lock()
	branches := l.state.Branches
	published, head := l.state.Published.index(), l.head.index()
	l.mu.Unlock()
	for i, b := range branches {
		end := published
		if i+1 < len(branches) {
			end = branches[i+1].Base
		}
		if end == b.Base || l.absent(b.Branch) {
			continue
		}
		if err := l.replayArchive(b, end-b.Base, fn); err != nil {
			return err
		}
	}
	for index := published; index < head; index++ {
		if err := l.replaySpooled(index, fn); err != nil {
			return err
		}
	}
	return nil
}

// absent says that a branch's archive was deleted.
func (l *Log) absent(branch string) bool {
	_, err := os.Stat(l.archive.idsPath(branch))
	return errors.Is(err, fs.ErrNotExist)
}

// replayArchive passes the branch's records, of which there are so many.
func (l *Log) replayArchive(b branchStart, size uint64, fn func(Record) error) error {
	if err := l.prove(b, size); err != nil {
		return err
	}
	return l.archive.read(b.Branch, 0, size, func(seq uint64, line []byte) error {
		r, err := parseRecord(line, b.Base)
		if err == nil && (r.Seq != seq || r.Branch != b.Branch || r.Writer != l.o.Writer) {
			err = fmt.Errorf("it is record %d of %s", r.Seq, r.Branch)
		}
		if err != nil {
			return damaged(l.archive.segment(b.Branch, seq), fmt.Errorf("record %d: %w", seq, err))
		}
		return fn(r)
	})
}

// prove compares the root of the branch's records with its signed checkpoint.
func (l *Log) prove(b branchStart, size uint64) error {
	var have frontier
	err := l.archive.read(b.Branch, 0, size, func(_ uint64, line []byte) error {
		have.add(tlog.RecordHash(line))
		return nil
	})
	if err != nil {
		return err
	}
	want, err := openCheckpoint(b.Checkpoint, l.o.Trusted, l.o.Writer, b.Branch)
	if err == nil && (want.Size != size || want.Root != have.root()) {
		err = fmt.Errorf("its %d records have the root %s, the checkpoint of %d has %s", size, have.root(), want.Size, want.Root)
	}
	if err != nil {
		return damaged(filepath.Dir(l.archive.idsPath(b.Branch)), err)
	}
	return nil
}

func (l *Log) replaySpooled(index uint64, fn func(Record) error) error {
	l.mu.Lock()
	e, spooled := l.spool.find(index)
	l.mu.Unlock()
	var r Record
	err := fs.ErrClosed
	if spooled {
		r, err = e.record()
	}
	if errors.Is(err, fs.ErrClosed) { // published meanwhile
		l.mu.Lock()
		r, err = l.recordAt(index)
		l.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return fn(r)
}
