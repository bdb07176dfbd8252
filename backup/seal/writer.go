package seal

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// errEnded is the error of a stream that was closed or aborted.
var errEnded = errors.New("the sealed stream has ended")

// A Writer seals what is written to it. It is for one goroutine; it ends with Close or Abort.
type Writer struct {
	plain  *meter
	sealed *meter
	crypt  io.WriteCloser // to sealed
	pack   *zstd.Encoder  // to crypt
	err    error          // the first; errEnded at the end
}

// NewWriter returns a Writer that writes the sealed stream to w, as it comes. Each of the recipients alone can open it.
// Compression is on two cores.
func NewWriter(w io.Writer, recipients ...age.Recipient) (*Writer, error) {
	s := &Writer{plain: newMeter(), sealed: newMeter()}
	var err error
	if s.crypt, err = age.Encrypt(meteredWriter{s.sealed, w}, recipients...); err != nil {
		return nil, fmt.Errorf("begin sealed stream: %w", err)
	}
	s.pack, err = zstd.NewWriter(s.crypt, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(windowSize), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("begin sealed stream: %w", err)
	}
	return s, nil
}

// Write seals p. An error of the underlying writer may show only in a later call.
func (s *Writer) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.pack.Write(p)
	s.plain.add(p[:n])
	if err != nil {
		s.err = fmt.Errorf("write sealed stream: %w", err)
	}
	return n, s.err
}

// Close ends the stream. Only what Close has returned a Sealed for is a sealed stream. A source that failed must end in
// [Writer.Abort] instead: what Close ends looks whole.
func (s *Writer) Close() (Sealed, error) {
	if s.err != nil {
		err := s.err
		s.Abort()
		return Sealed{}, err
	}
	err := s.pack.Close()
	if err == nil {
		err = s.crypt.Close() // writes the mark of the end
	}
	if err != nil {
		s.Abort()
		return Sealed{}, fmt.Errorf("end sealed stream: %w", err)
	}
	s.err = errEnded
	return Sealed{s.plain.hex(), s.plain.bytes, s.sealed.hex(), s.sealed.bytes}, nil
}

// Abort ends the work, not the stream: what has been written cannot be opened as a whole. After Close it does nothing.
func (s *Writer) Abort() {
	if !errors.Is(s.err, errEnded) {
		s.pack.Reset(nil) // waits for the goroutines
		s.err = errEnded
	}
}
