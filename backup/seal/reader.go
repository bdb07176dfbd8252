package seal

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// A Reader opens a sealed stream. What it returns is unverified until it returns io.EOF, which says that all of the
// stream, plain and sealed, is what the Sealed says. It is for one goroutine.
type Reader struct {
	want   Sealed
	source *meteredReader
	unpack *zstd.Decoder // from source, decrypted
	plain  *meter
	err    error // the first
}

// NewReader begins to open a stream, for which one of the identities suffices. Errors are [ErrIdentity], [ErrCorrupt] or
// those of r. The caller closes the Reader.
func NewReader(r io.Reader, sealed Sealed, identities ...age.Identity) (*Reader, error) {
	s := &Reader{want: sealed, plain: newMeter()}
	// One byte more than there should be shows that something was appended.
	s.source = &meteredReader{meter: newMeter(), r: io.LimitReader(r, sealed.Bytes+1)}
	plain, err := age.Decrypt(s.source, identities...)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, fmt.Errorf("open sealed stream: %w", ErrIdentity)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	s.unpack, err = zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(windowSize), zstd.WithDecoderMaxMemory(windowSize))
	if err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

// Read returns plain bytes. After an error it returns that error.
func (s *Reader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.unpack.Read(p)
	s.plain.add(p[:n])
	switch {
	case s.plain.bytes > s.want.PlainBytes:
		s.err = s.differs("has more than %d plain bytes", s.want.PlainBytes)
	case err == io.EOF:
		if s.err = s.verify(); s.err == nil {
			s.err = io.EOF
		}
	case err != nil:
		s.err = s.fail(err)
	}
	return n, s.err
}

// verify compares the whole stream with what it should be.
func (s *Reader) verify() error {
	if _, err := io.Copy(io.Discard, s.source); err != nil { // what no decoder asked for
		return s.fail(err)
	}
	switch {
	case s.source.bytes != s.want.Bytes:
		return s.differs("has %d bytes or more, not %d", s.source.bytes, s.want.Bytes)
	case s.source.hex() != s.want.SHA256:
		return s.differs("has SHA-256 %s, not %s", s.source.hex(), s.want.SHA256)
	case s.plain.bytes != s.want.PlainBytes:
		return s.differs("has %d plain bytes, not %d", s.plain.bytes, s.want.PlainBytes)
	case s.plain.hex() != s.want.PlainSHA256:
		return s.differs("has plain bytes with SHA-256 %s, not %s", s.plain.hex(), s.want.PlainSHA256)
	}
	return nil
}

// Close gives back memory. It does not verify; only io.EOF says that all was well. It does not close the source.
func (s *Reader) Close() error {
	s.unpack.Close()
	if s.err == nil {
		s.err = errEnded
	}
	return nil
}

// fail returns the source's own error, if it had one: else the decoder's, which is about the bytes.
func (s *Reader) fail(err error) error {
	if s.source.err != nil {
		return fmt.Errorf("read sealed stream: %w", s.source.err)
	}
	if s.source.bytes > s.want.Bytes {
		return s.differs("has more than %d bytes", s.want.Bytes)
	}
	return fmt.Errorf("open sealed stream: %w: %.200s", ErrCorrupt, err)
}

func (s *Reader) differs(format string, args ...any) error {
	return fmt.Errorf("open sealed stream: %w: it "+format, append([]any{ErrCorrupt}, args...)...)
}
