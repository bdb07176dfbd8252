package evidence

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
)

// A spool segment is a file of frames, named by the index of its first record.
// A frame is
//
//	4 bytes   length of the payload, big-endian
//	4 bytes   CRC-32C of index and payload
//	8 bytes   index of the record
//	payload   envelope, blobs and kept files, see [spooled.append]
//
// and the indexes of a segment follow each other. A segment ends where the next
// one begins, whatever it holds beyond.
const (
	frameHeader  = 16
	segmentBytes = 4 << 20   // a segment that has as much takes no further record
	maxFrame     = 256 << 20 // of one record with blobs and kept files
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn says that a frame is cut short or not what was written.
var errTorn = errors.New("its checksum does not match")

// spooled is a record that the remote does not have yet, with all that must
// reach the remote before or with it.
type spooled struct {
	Envelope []byte
	Blobs    []spooledBlob
	Keep     []spooledKeep
}

type spooledBlob struct {
	Ref, Digest string
	Data        []byte
}

type spooledKeep struct {
	Ref    string
	Commit []byte // the commit object
	Files  map[string][]byte
}

// append writes the payload of the record's frame: byte strings, each after its
// length, and numbers, all as uvarints.
func (s spooled) append(b []byte) []byte {
	b = appendBytes(b, s.Envelope)
	b = binary.AppendUvarint(b, uint64(len(s.Blobs)))
	for _, blob := range s.Blobs {
		b = appendBytes(appendBytes(appendBytes(b, blob.Ref), blob.Digest), blob.Data)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Keep)))
	for _, k := range s.Keep {
		b = appendBytes(appendBytes(b, k.Ref), k.Commit)
		b = binary.AppendUvarint(b, uint64(len(k.Files)))
		for _, name := range slices.Sorted(maps.Keys(k.Files)) {
			b = appendBytes(appendBytes(b, name), k.Files[name])
		}
	}
	return b
}

func appendBytes[T string | []byte](b []byte, data T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

// size is an upper bound of the frame's length, in bytes.
func (s spooled) size() int {
	const perString = 2 * binary.MaxVarintLen64
	n := frameHeader + len(s.Envelope) + 4*perString
	for _, blob := range s.Blobs {
		n += len(blob.Ref) + len(blob.Digest) + len(blob.Data) + 3*perString
	}
	for _, k := range s.Keep {
		n += len(k.Ref) + len(k.Commit) + 3*perString
		for name, data := range k.Files {
			n += len(name) + len(data) + 2*perString
		}
	}
	return n
}

// parseSpooled reads a payload. The parts alias data.
func parseSpooled(data []byte) (spooled, error) {
	p := payload{data: data}
	s := spooled{Envelope: p.bytes()}
	for range p.count() {
		s.Blobs = append(s.Blobs, spooledBlob{Ref: string(p.bytes()), Digest: string(p.bytes()), Data: p.bytes()})
	}
	for range p.count() {
		k := spooledKeep{Ref: string(p.bytes()), Commit: p.bytes(), Files: map[string][]byte{}}
		for range p.count() {
			name := string(p.bytes())
			k.Files[name] = p.bytes()
		}
		s.Keep = append(s.Keep, k)
	}
	if p.bad || len(p.data) > 0 {
		return spooled{}, errors.New("its parts do not add up")
	}
	return s, nil
}

// payload is what is left to parse of a frame.
type payload struct {
	data []byte
	bad  bool
}

// count reads a number of parts, of which each takes a byte at least.
func (p *payload) count() int {
	n, used := binary.Uvarint(p.data)
	if used <= 0 || n > uint64(len(p.data)-used) {
		p.bad, p.data = true, nil
		return 0
	}
	p.data = p.data[used:]
	return int(n)
}

func (p *payload) bytes() []byte {
	n := p.count()
	out := p.data[:n:n]
	p.data = p.data[n:]
	return out
}

// appendFrame writes one frame.
func appendFrame(b []byte, index uint64, s spooled) []byte {
	start := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b = s.append(b)
	frame := b[start:]
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameHeader))
	binary.BigEndian.PutUint64(frame[8:], index)
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(frame[8:], castagnoli))
	return b
}

// readFrame reads the frame of the record with the index; room is how many bytes
// there can be. It returns [errTorn] for anything else and [io.EOF] at the end.
func readFrame(r io.Reader, index uint64, room int64) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTorn
		}
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(header[:]))
	if length > min(room-frameHeader, maxFrame) {
		return nil, errTorn
	}
	frame := make([]byte, 8+length)
	copy(frame, header[8:])
	if _, err := io.ReadFull(r, frame[8:]); err != nil {
		return nil, err
	}
	sum := binary.BigEndian.Uint32(header[4:])
	if crc32.Checksum(frame, castagnoli) != sum || binary.BigEndian.Uint64(frame) != index {
		return nil, errTorn
	}
	return frame[8:], nil
}

// segment is one open file of the spool.
type segment struct {
	first uint64 // index of its first record
	end   uint64 // index after its last record
	file  *os.File
	size  int64 // of its frames, in bytes
	dirty bool  // something was written and not flushed
}

func (g *segment) close() { _ = g.file.Close() } // whatever counts was flushed

// scan passes the payload of every record up to but not including limit. It
// ends without error at a frame that was never written whole.
func (g *segment) scan(limit uint64, fn func(index uint64, payload []byte, offset, size int64) error) error {
	info, err := g.file.Stat()
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(g.file, 0, info.Size()), 64<<10)
	for g.end = g.first; g.end < limit; g.end++ {
		payload, err := readFrame(r, g.end, info.Size()-g.size)
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read spool: %w", err)
		}
		size := int64(frameHeader + len(payload))
		if err := fn(g.end, payload, g.size, size); err != nil {
			return err
		}
		g.size += size
	}
	return nil
}
