package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// openSpool reads what an earlier run left and makes all of it durable. Records
// below published may be missing.
func openSpool(dir string, published uint64, trusted *Trusted) (_ *spool, err error) {
	s := &spool{dir: dir, disk: disk{write: (*os.File).WriteAt, sync: (*os.File).Sync}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	if err := s.openSegments(); err != nil {
		return nil, err
	}
	if err := s.openMark(); err != nil {
		return nil, err
	}
	if err := s.load(published, trusted); err != nil {
		return nil, err
	}
	if err := s.secureTail(); err != nil {
		return nil, err
	}
	return s, nil
}

// openSegments opens the segments and removes what is none.
func (s *spool) openSegments() error {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	for _, n := range names { // sorted, so by index
		path := filepath.Join(s.dir, n.Name())
		first, err := strconv.ParseUint(strings.TrimSuffix(n.Name(), ".seg"), 10, 64)
		switch {
		case n.Name() == "durable":
			continue
		case err != nil || path != s.path(first):
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("clear spool: %w", err)
			}
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("open spool: %w", err)
		}
		s.segments = append(s.segments, &segment{first: first, file: f})
	}
	return nil
}

func (s *spool) openMark() error {
	path := filepath.Join(s.dir, "durable")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if len(s.segments) > 0 {
			return damaged(path, err)
		}
		if err := writeDurably(path, encodeMark(0)); err != nil {
			return fmt.Errorf("create spool: %w", err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	s.mark = f
	var data [markSize]byte
	if _, err := f.ReadAt(data[:], 0); err != nil {
		return damaged(path, err)
	}
	s.durable = binary.BigEndian.Uint64(data[:])
	if data != [markSize]byte(encodeMark(s.durable)) {
		return damaged(path, errTorn)
	}
	return nil
}

func encodeMark(durable uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, markSize), durable)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// load reads the segments up to the first record that was never written whole.
func (s *spool) load(published uint64, trusted *Trusted) error {
	for len(s.segments) > 1 && s.segments[1].first <= published {
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	segments := s.segments
	for i, g := range segments {
		limit := uint64(math.MaxUint64)
		if i+1 < len(segments) {
			limit = segments[i+1].first
		}
		err := g.scan(limit, func(index uint64, payload []byte, offset, size int64) error {
			return s.loadRecord(g, index, payload, offset, size, trusted)
		})
		if err != nil {
			return err
		}
		if max(g.end, published) < s.durable && (g.end < limit || i+1 == len(segments)) {
			return damaged(g.file.Name(), fmt.Errorf("record %d: %w", g.end, errTorn))
		}
		if g.end < limit && i+1 < len(segments) {
			return s.cut(i)
		}
	}
	if n := len(segments); n > 0 && segments[n-1].end == segments[n-1].first {
		return s.cut(n - 2)
	}
	return nil
}

// cut removes the segments behind i, which hold nothing that was acknowledged,
// and i itself where it holds nothing at all.
func (s *spool) cut(i int) error {
	for i >= 0 && s.segments[i].end == s.segments[i].first {
		i--
	}
	for _, g := range s.segments[i+1:] {
		g.close()
		if err := os.Remove(g.file.Name()); err != nil {
			return fmt.Errorf("clear spool: %w", err)
		}
	}
	s.segments = s.segments[:i+1]
	if err := syncDir(s.dir); err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

func (s *spool) loadRecord(g *segment, index uint64, payload []byte, offset, size int64, trusted *Trusted) error {
	item, err := parseSpooled(payload)
	if err != nil {
		return damaged(g.file.Name(), err)
	}
	r, err := openRecord(item.Envelope, trusted, 0)
	if err != nil {
		return damaged(g.file.Name(), err)
	}
	r.Index = index
	e, err := newSpoolEntry(r, item.Envelope)
	if err != nil {
		return damaged(g.file.Name(), err)
	}
	if n := len(s.entries); n > 0 && s.entries[n-1].Branch == e.Branch {
		e.Branch = s.entries[n-1].Branch // one copy in memory
	}
	e.segment, e.offset, e.size = g, offset, size
	s.entries = append(s.entries, e)
	s.bytes += size
	return nil
}

// secureTail writes once more what the last run perhaps did not flush. A flush
// alone would not do: after one that failed, the system may call bytes clean that
// never reached the disk.
func (s *spool) secureTail() error {
	n := len(s.entries)
	if n == 0 || s.entries[n-1].Index < s.durable {
		return nil
	}
	first := 0
	for s.entries[first].Index < s.durable {
		first++
	}
	tail := s.entries[first:]
	g := &segment{first: tail[0].Index, end: tail[len(tail)-1].Index + 1}
	temp, err := os.CreateTemp(s.dir, "tmp-*")
	if err != nil {
		return fmt.Errorf("rewrite spool: %w", err)
	}
	g.file = temp
	moved := make([]spoolEntry, len(tail))
	for i, e := range tail {
		frame, err := e.frame()
		if err == nil {
			_, err = s.disk.write(temp, frame, g.size)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("rewrite spool: %w", err), temp.Close())
		}
		moved[i] = e
		moved[i].segment, moved[i].offset = g, g.size
		g.size += e.size
	}
	if err = errors.Join(s.disk.sync(temp), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), s.path(g.first))
	}
	if err == nil {
		g.file, err = os.OpenFile(s.path(g.first), os.O_RDWR, 0)
	}
	if err != nil {
		return fmt.Errorf("rewrite spool: %w", err)
	}
	copy(tail, moved)
	return s.replaceTail(g)
}

// replaceTail puts the segment in place of those that begin where it does or
// later.
func (s *spool) replaceTail(g *segment) error {
	keep := s.segments[:0:0]
	for _, old := range s.segments {
		if old.first < g.first {
			keep = append(keep, old)
			continue
		}
		old.close()
		if old.first == g.first {
			continue // renamed over
		}
		if err := os.Remove(old.file.Name()); err != nil {
			return errors.Join(fmt.Errorf("rewrite spool: %w", err), g.file.Close())
		}
	}
	s.segments = append(keep, g)
	if err := syncDir(s.dir); err != nil {
		return fmt.Errorf("rewrite spool: %w", err)
	}
	return s.flushed(g.end)
}
