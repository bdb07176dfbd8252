// Package seal makes the streams that a backup consists of, and reads them back.
//
// A sealed stream is one zstd frame with a checksum (RFC 8878) in one age file (https://age-encryption.org/v1), so that
//
//	age -d -i IDENTITY | zstd -d
//
// undoes it. A [Sealed] holds the SHA-256 and the length of both ends: the plain bytes that came from the source, and the
// sealed ones that went to the store. It is kept apart from the stream, and a stream is only as good as the Sealed that it
// is read with: whoever knows the recipients can make another valid stream, but not another one with the same hash.
package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
)

// windowSize of zstd, in bytes. It bounds what compressing and decompressing keep in memory; zstd -d takes up to 128 MiB.
const windowSize = 4 << 20

var (
	// ErrCorrupt says that a stream is not the one that was sealed.
	ErrCorrupt = errors.New("the sealed stream is not what was written")
	// ErrIdentity says that none of the identities opens a stream.
	ErrIdentity = errors.New("no identity opens the sealed stream")
)

// A Sealed says what a whole sealed stream is. Hashes are hexadecimal, lengths in bytes.
type Sealed struct {
	PlainSHA256 string `json:"plainSHA256"`
	PlainBytes  int64  `json:"plainBytes"`
	SHA256      string `json:"sha256"`
	Bytes       int64  `json:"bytes"`
}

// A meter counts and hashes what passes.
type meter struct {
	sum   hash.Hash
	bytes int64
}

func newMeter() *meter { return &meter{sum: sha256.New()} }

func (m *meter) add(p []byte) {
	m.sum.Write(p) // never fails
	m.bytes += int64(len(p))
}

func (m *meter) hex() string { return hex.EncodeToString(m.sum.Sum(nil)) }

// A meteredWriter counts what reached w.
type meteredWriter struct {
	*meter
	w io.Writer
}

func (m meteredWriter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.add(p[:n])
	return n, err
}

// A meteredReader counts what came from r, and keeps r's error apart from those of whoever decodes.
type meteredReader struct {
	*meter
	r   io.Reader
	err error // of r; never io.EOF
}

func (m *meteredReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.add(p[:n])
	if err != nil && err != io.EOF { // as io.Reader wants it, unwrapped
		m.err = err
	}
	return n, err
}
