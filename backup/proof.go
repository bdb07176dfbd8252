package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// A proof looks at one backup, and keeps what it finds.
type proof struct {
	Stored
	o        ProofOptions
	m        *Manifest // nil until it is known
	findings *findings
	segments *[]Segment
	objects  atomic.Int64
	opened   atomic.Bool // an identity opens one of the entries
	meter    meter       // of sealed bytes
}

func newProof(b Stored, o ProofOptions, f *Findings, segments *[]Segment) *proof {
	return &proof{Stored: b, o: o, findings: &findings{Findings: f}, segments: segments}
}

// segment measures a part of what is done.
func (p *proof) segment(ctx context.Context, name string, do func(context.Context) error) error {
	return measure(name, &p.meter, p.o.Now, p.segments, func() error { return do(ctx) })
}

// Remedies for what is found of objects.
const (
	remedyGone = "take this backup from another store or restore another one, back up anew, and find out who removed it"
	remedyBad  = "take this backup from another store or restore another one, back up anew, and find out what changed it"
	remedyHide = "the recorded version can still be restored: find out who covers it, and let the expirer remove what does"
	remedyLock = "extend the lock if the backup is still needed, and find out why that was not done"
	remedyKeys = "give the identity of one of these, such as the one in escrow"
	// Of a copy alone: others have manifests of their own.
	remedyRecord = "what is recorded is not the manifest of this backup: compare the record, and restore another backup until that is explained"

	remedyNew = "the backup is worthless as it is: find out what it was made of, and back up anew"
)

// A stream is an entry while it is read. Its end, or its Close, says whether it is what was written.
type stream struct {
	p     *proof
	entry Entry
	in    io.ReadCloser
	plain *seal.Reader
	ended bool
	err   error // the first, never io.EOF
}

// A source gives the sealed bytes of an entry.
type source func(ctx context.Context, o store.Object) (io.ReadCloser, error)

// fromStore gives them as they come: only their end says whether they are what was written.
func (p *proof) fromStore(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	in, err := p.Store.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return counted{in, &p.meter}, nil
}

// fetched gives them when all of them are on the disk and are what was written: whoever holds the store and knows the
// recipients can make another stream that opens, of which nothing may be executed.
func (p *proof) fetched(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	in, err := p.fromStore(ctx, o)
	if err != nil {
		return nil, err
	}
	file, err := namelessFile(p.o.Scratch)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	_, err = io.Copy(file, in)
	if err = errors.Join(err, in.Close()); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// open begins to read an entry. An error that is about the entry is a finding as well.
func (p *proof) open(ctx context.Context, e Entry, from source) (*stream, error) {
	s := &stream{p: p, entry: e}
	var err error
	if s.in, err = from(ctx, e.Object); err == nil {
		if s.plain, err = seal.NewReader(s.in, e.Sealed(), p.Identities...); errors.Is(err, seal.ErrIdentity) {
			err = p.unopened(e, s.in)
		}
		if err != nil {
			err = errors.Join(err, s.in.Close())
		}
	}
	if err != nil {
		p.bad(e, err)
		return nil, err
	}
	p.opened.Store(true)
	return s, nil
}

// errForeign says that an entry is sealed to others than the rest of its backup.
var errForeign = errors.New("none of the identities at hand opens it, and one of them opens other objects of the backup")

// unopened says why no identity opens an entry, of which it reads the rest: a header that was changed looks like one for others.
// If the bytes are what was written, and nothing was opened before, the identities are the wrong ones.
func (p *proof) unopened(e Entry, rest io.Reader) error {
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return err
	}
	if p.opened.Load() {
		return errForeign
	}
	return fmt.Errorf("%w %s, which is sealed to %s: %s", seal.ErrIdentity, e.Key, recipients(p.m), remedyKeys)
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	meter *meter
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.meter.passed(n)
	return n, err
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.plain.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil && s.err == nil:
		s.err = err
		s.p.bad(s.entry, err)
	}
	return n, err
}

// finish reads what nobody wanted, since only the end says whether all was what was written.
func (s *stream) finish() error {
	if s.err == nil && !s.ended {
		_, _ = io.Copy(io.Discard, s)
	}
	return s.err
}

// Close ends the reading, wherever it is.
func (s *stream) Close() error { return errors.Join(s.plain.Close(), s.in.Close()) }

// bad keeps a finding about an entry, if the error is one.
func (p *proof) bad(e Entry, err error) {
	switch {
	case errors.Is(err, errForeign):
		p.findings.add(L1, e.Key, remedyNew, "%v; its recipients are said to be %s", err, recipients(p.m))
	case errors.Is(err, store.ErrMissing):
		p.findings.add(L1, e.Key, remedyGone, "%v", err)
	case unfit(err):
		p.findings.add(L1, e.Key, remedyBad, "%v", err)
	}
}

// recipients names them by their beginning: some have 2000 characters.
func recipients(m *Manifest) string {
	const enough = 24
	var names []string
	for _, r := range m.Recipients {
		if len(r) > enough {
			r = r[:enough] + "…"
		}
		names = append(names, r)
	}
	return strings.Join(names, ", ")
}

// use reads an entry and gives it to a function that reads it, not always to its end. An error is either about the way there
// or not about the entry's bytes; what is wrong with these is a finding, and whole false.
func (p *proof) use(ctx context.Context, e Entry, from source, with func(io.Reader) error) (whole bool, err error) {
	s, err := p.open(ctx, e, from)
	if err != nil {
		if unfit(err) {
			return false, nil
		}
		return false, err
	}
	err = with(s)
	if streamErr := s.finish(); streamErr != nil {
		err = streamErr
		if unfit(err) {
			err = nil
		}
		return false, errors.Join(err, s.Close())
	}
	return true, errors.Join(err, s.Close())
}

// freeBytes are those that are left for us on the file system of a folder.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// ErrNoRoom says that there is not enough free space.
var ErrNoRoom = errors.New("there is not enough free space")

// room makes sure that a folder has so many bytes left.
func (p *proof) room(dir string, need int64) error {
	free, err := p.o.free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%w: %s has %s, and %s are needed", ErrNoRoom, dir, size(free), size(need))
	}
	return nil
}

// size is a number of bytes for people.
func size(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value := float64(bytes)
	for value >= 1024 && len(units) > 1 {
		value, units = value/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}
