package evidence

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// encodePack writes a version 2 pack (gitformat-pack) of the objects given and
// no others. With thin, objects that have a base the receiver holds are sent as
// differences to it.
func encodePack(objects []object, thin bool) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteString("PACK")
	_ = binary.Write(&buf, binary.BigEndian, [2]uint32{2, uint32(len(objects))})
	zw, _ := zlib.NewWriterLevel(&buf, zlib.BestSpeed) // the level is valid
	for _, o := range objects {
		typ, data := o.typ, o.data
		if thin && o.base != nil {
			typ, data = plumbing.REFDeltaObject, appendDelta(o.base.data, o.data)
		}
		writeObjectHeader(&buf, typ, len(data))
		if typ == plumbing.REFDeltaObject {
			buf.Write(o.base.hash[:])
		}
		zw.Reset(&buf)
		if _, err := zw.Write(data); err != nil {
			return nil, fmt.Errorf("compress object: %w", err)
		}
		if err := zw.Close(); err != nil {
			return nil, fmt.Errorf("compress object: %w", err)
		}
	}
	sum := sha1.Sum(buf.Bytes())
	buf.Write(sum[:])
	return buf.Bytes(), nil
}

// writeObjectHeader writes type and inflated size: four bits of size, then
// seven a byte, low bits first.
func writeObjectHeader(buf *bytes.Buffer, typ plumbing.ObjectType, size int) {
	b := byte(typ)<<4 | byte(size&0x0f)
	for size >>= 4; size > 0; size >>= 7 {
		buf.WriteByte(b | 0x80)
		b = byte(size & 0x7f)
	}
	buf.WriteByte(b)
}

// appendDelta describes target as base's common beginning and new bytes, which
// is what a directory that only grows at its end needs.
func appendDelta(base, target []byte) []byte {
	same := 0
	for same < min(len(base), len(target)) && base[same] == target[same] {
		same++
	}
	out := binary.AppendUvarint(nil, uint64(len(base)))
	out = binary.AppendUvarint(out, uint64(len(target)))
	for from := 0; from < same; from += 0xffff { // copy: four offset bytes, two size bytes
		n := min(same-from, 0xffff)
		out = append(out, 0xbf, byte(from), byte(from>>8), byte(from>>16), byte(from>>24), byte(n), byte(n>>8))
	}
	for rest := target[same:]; len(rest) > 0; { // insert: at most 127 bytes each
		n := min(len(rest), 127)
		out = append(append(out, byte(n)), rest[:n]...)
		rest = rest[n:]
	}
	return out
}
