package evidence

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/mod/sumdb/tlog"
)

// spool holds the unpublished records in segments, in the order of the log. A
// record is added by one write, and is on disk once a flush that began later has
// ended. A file "durable" says up to where that was; it is overwritten after
// every flush without being flushed itself. So after a loss of power it may lag,
// and whatever is damaged before it was damaged later: only what is behind it may
// be a write that never ended.
//
// The log's mutex guards it; reading a record's frame needs no lock.
type spool struct {
	dir      string
	entries  []spoolEntry // by Index, without holes
	bytes    int64        // of their frames
	segments []*segment   // oldest first
	active   *segment     // the last one, where it takes further records
	durable  uint64       // records below are on disk
	entered  bool         // a segment was created and the directory not flushed
	mark     *os.File     // the file "durable"
	disk     disk
}

// disk is what tests replace to have faults.
type disk struct {
	write func(f *os.File, data []byte, offset int64) (int, error)
	sync  func(f *os.File) error
}

// spoolEntry is what is kept in memory of a spooled record, about 200 bytes.
type spoolEntry struct {
	Index, Seq                uint64
	Epoch                     int
	Type, Environment, Branch string
	id                        recordID
	leaf                      tlog.Hash
	blob                      plumbing.Hash
	keep                      []string // refs that it moves; nil for most
	segment                   *segment
	offset, size              int64 // of the frame
}

// markSize is index and CRC-32C of the file "durable".
const markSize = 12

func (s *spool) path(first uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d.seg", first))
}

func newSpoolEntry(r Record, envelope []byte) (spoolEntry, error) {
	e := spoolEntry{
		Index: r.Index, Seq: r.Seq, Epoch: r.Epoch, Type: r.Type, Environment: r.Environment, Branch: r.Branch,
		leaf: tlog.RecordHash(envelope),
		blob: plumbing.ComputeHash(plumbing.BlobObject, envelope),
	}
	for _, k := range r.Keep {
		e.keep = append(e.keep, k.Ref)
	}
	n, err := hex.Decode(e.id[:], []byte(r.ID))
	if err == nil && n != len(e.id) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return e, fmt.Errorf("parse record ID %q: %w", r.ID, err)
	}
	return e, nil
}

// errInDoubt says that what is on disk is not known.
var errInDoubt = errors.New("evidence spool is in doubt, restart the agent")

func inDoubt(err error) error { return fmt.Errorf("%w: %w", errInDoubt, err) }

func damaged(path string, err error) error {
	return &StalledError{
		What: "evidence file " + path + " is damaged", Err: err,
		Hint: "the disk lost data: keep a copy of the directory, then empty it; the next start declares a gap",
	}
}

// end is the index of the next record, or 0 for an empty spool.
func (s *spool) end() uint64 {
	if n := len(s.entries); n > 0 {
		return s.entries[n-1].Index + 1
	}
	return 0
}

// add writes a record behind the others. On an error nothing was added; after
// [errInDoubt] nothing further can be.
func (s *spool) add(e spoolEntry, item spooled) error {
	bound := item.size()
	if bound > maxFrame {
		return fmt.Errorf("record with blobs and kept files of %d bytes, at most %d: %w", bound, maxFrame, ErrTooLarge)
	}
	if s.active == nil || s.active.size >= segmentBytes {
		if err := s.begin(e.Index); err != nil {
			return err
		}
	}
	g := s.active
	frame := appendFrame(make([]byte, 0, bound), e.Index, item)
	if _, err := s.disk.write(g.file, frame, g.size); err != nil {
		err = fmt.Errorf("write spool: %w", err)
		if cut := g.file.Truncate(g.size); cut != nil {
			return inDoubt(errors.Join(err, cut))
		}
		return err
	}
	e.segment, e.offset, e.size = g, g.size, int64(len(frame))
	g.size, g.end, g.dirty = g.size+e.size, e.Index+1, true
	s.entries = append(s.entries, e)
	s.bytes += e.size
	return nil
}

// begin creates the segment for the record.
func (s *spool) begin(first uint64) error {
	if s.active != nil && s.active.size == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path(first), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create spool segment: %w", err)
	}
	s.active = &segment{first: first, end: first, file: f}
	s.segments = append(s.segments, s.active)
	s.entered = true
	return nil
}

// flush is what must reach the disk so that the records below upTo are durable.
type flush struct {
	spool   *spool
	upTo    uint64
	files   []*os.File
	entered bool
}

// unflushed takes over everything that was written and not flushed.
func (s *spool) unflushed() flush {
	w := flush{spool: s, upTo: s.end(), entered: s.entered}
	s.entered = false
	for _, g := range s.segments {
		if g.dirty {
			w.files = append(w.files, g.file)
			g.dirty = false
		}
	}
	return w
}

// run needs no lock.
func (w flush) run() error {
	for _, f := range w.files {
		if err := w.spool.disk.sync(f); err != nil {
			return fmt.Errorf("flush spool: %w", err)
		}
	}
	if w.entered {
		if err := syncDir(w.spool.dir); err != nil {
			return fmt.Errorf("flush spool: %w", err)
		}
	}
	return nil
}

// flushed notes that the records below upTo are durable.
func (s *spool) flushed(upTo uint64) error {
	if _, err := s.mark.WriteAt(encodeMark(upTo), 0); err != nil {
		return fmt.Errorf("mark spool: %w", err)
	}
	s.durable = upTo
	return nil
}

// forget begins anew: nothing was acknowledged.
func (s *spool) forget() error {
	if err := s.flushed(0); err != nil {
		return err
	}
	if err := s.mark.Sync(); err != nil {
		return fmt.Errorf("mark spool: %w", err)
	}
	return nil
}

// ready are the records that are durable.
func (s *spool) ready() []spoolEntry {
	n := len(s.entries)
	for n > 0 && s.entries[n-1].Index >= s.durable {
		n--
	}
	return s.entries[:n]
}

// find gives the entry of a record that is spooled.
func (s *spool) find(index uint64) (spoolEntry, bool) {
	if n := len(s.entries); n == 0 || index < s.entries[0].Index || index > s.entries[n-1].Index {
		return spoolEntry{}, false
	}
	return s.entries[index-s.entries[0].Index], true
}

// frame reads the record's frame as it was written. It wraps [fs.ErrClosed] when
// the record has been published meanwhile.
func (e spoolEntry) frame() ([]byte, error) {
	data := make([]byte, e.size)
	if _, err := e.segment.file.ReadAt(data, e.offset); errors.Is(err, io.EOF) {
		return nil, damaged(e.segment.file.Name(), err)
	} else if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	if binary.BigEndian.Uint64(data[8:]) != e.Index || crc32.Checksum(data[8:], castagnoli) != binary.BigEndian.Uint32(data[4:]) {
		return nil, damaged(e.segment.file.Name(), fmt.Errorf("record %d: %w", e.Index, errTorn))
	}
	return data, nil
}

// read gives a spooled record with its parts. The errors are those of frame.
func (e spoolEntry) read() (spooled, error) {
	frame, err := e.frame()
	if err != nil {
		return spooled{}, err
	}
	item, err := parseSpooled(frame[frameHeader:])
	if err == nil && tlog.RecordHash(item.Envelope) != e.leaf {
		err = errors.New("it holds another record")
	}
	if err != nil {
		return spooled{}, damaged(e.segment.file.Name(), err)
	}
	return item, nil
}

// record gives a spooled record. Its signature was verified when the log was
// opened, or made by this process: the digest of its bytes is still the same.
func (e spoolEntry) record() (Record, error) {
	item, err := e.read()
	if err != nil {
		return Record{}, err
	}
	r, err := parseRecord(item.Envelope, 0)
	if err != nil {
		return Record{}, damaged(e.segment.file.Name(), err)
	}
	r.Index = e.Index
	return r, nil
}

// drop forgets the first n records, which have been published, and removes
// segments that hold no others.
func (s *spool) drop(n int) error {
	for i := range s.entries[:n] {
		s.bytes -= s.entries[i].size
		s.entries[i].keep, s.entries[i].segment = nil, nil
	}
	s.entries = s.entries[n:]
	if len(s.entries) == 0 {
		s.entries = nil
	}
	var errs []error
	for len(s.segments) > 0 && (len(s.entries) == 0 || s.segments[0].end <= s.entries[0].Index) {
		errs = append(errs, s.removeFirst())
	}
	return errors.Join(errs...)
}

// removeFirst removes a segment whose records are all published.
func (s *spool) removeFirst() error {
	g := s.segments[0]
	if s.segments = s.segments[1:]; g == s.active {
		s.active = nil
	}
	g.close()
	if err := os.Remove(g.file.Name()); err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

func (s *spool) close() {
	for _, g := range s.segments {
		g.close()
	}
	if s.mark != nil {
		_ = s.mark.Close()
	}
}
