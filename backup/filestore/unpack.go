package filestore

import (
	"archive/tar"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// maxWanted bounds the contents that are looked for at a time, and with them memory: some 50 MiB.
const maxWanted = 200_000

// A packReader opens packs.
type packReader interface {
	// OpenPack returns what WritePack stored under the name. The reader's io.EOF says that it is whole and unchanged.
	OpenPack(ctx context.Context, name string) (io.ReadCloser, error)
}

// Unpacked says what packs were found to hold.
type Unpacked struct {
	Amount            // contents that are what they should be
	Packs    int64    `json:"packs"`
	Absent   Problems `json:"absent"`   // contents that the backup never had
	Problems Problems `json:"problems"` // contents that packs should hold and do not
}

// An IncompleteError says which contents packs do not give back. It wraps the errors of the packs.
type IncompleteError struct {
	Problems Problems
	packs    []error
}

func (e *IncompleteError) Error() string {
	text := "contents of attachments are lost: " + e.Problems.String()
	if e.Problems.Count() == 0 {
		text = "packs of attachments are damaged"
	}
	if len(e.packs) > 0 {
		text += "; the first pack: " + e.packs[0].Error()
	}
	return text
}

func (e *IncompleteError) Unwrap() []error { return e.packs }

// Verify reads all packs that a stream of attachments refers to, and compares every content with its checksum. Its error
// is an [IncompleteError] if something is lost. The folder scratch takes about 150 bytes per content.
func Verify(ctx context.Context, scratch string, index io.Reader, packs packReader) (Unpacked, error) {
	u := &unpacker{packs: packs, keep: func(content, io.Reader) error { return nil }}
	if err := u.run(ctx, scratch, index); err != nil {
		return u.done, fmt.Errorf("verify attachments: %w", err)
	}
	return u.done, nil
}

// An unpacker reads packs. For each content it calls keep with a reader that ends where the content does; keep need not
// read, and its errors end everything but for an errOccupied. A content is good only if bad is not called for it after keep.
type unpacker struct {
	packs  packReader
	keep   func(content, io.Reader) error
	bad    func(content) error // nil if keep keeps nothing
	done   Unpacked
	failed []error
}

// errOccupied says that another content has the name.
var errOccupied = errors.New("another content has that name")

// maxFailed bounds the errors of packs that are kept.
const maxFailed = 100

func (u *unpacker) run(ctx context.Context, scratch string, index io.Reader) error {
	file, counts, err := u.read(ctx, scratch, index)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	defer file.Close()
	names := slices.Sorted(maps.Keys(counts))
	for len(names) > 0 {
		some, total := 0, int64(0)
		for some < len(names) && (some == 0 || total+counts[names[some]] <= maxWanted) {
			total += counts[names[some]]
			some++
		}
		if err := u.unpackSome(ctx, file, names[:some]); err != nil {
			return err
		}
		names = names[some:]
	}
	if u.done.Problems.Count() > 0 || len(u.failed) > 0 {
		return &IncompleteError{u.done.Problems, u.failed}
	}
	return nil
}

// read keeps the whole stream, so that nothing is done on the word of a damaged one, and counts the contents of each pack.
func (u *unpacker) read(ctx context.Context, scratch string, index io.Reader) (spool, map[string]int64, error) {
	file, err := newSpool(scratch)
	if err != nil {
		return file, nil, err
	}
	in, err := newIndexReader(index)
	if err != nil {
		return file, nil, err
	}
	counts := map[string]int64{}
	out := newIndexWriter(file)
	for {
		if in.contents&1023 == 0 && ctx.Err() != nil {
			return file, nil, ctx.Err()
		}
		c, err := in.next()
		if err == io.EOF {
			return file, counts, out.finish()
		}
		if err == nil {
			err = out.write(c)
		}
		if err != nil {
			return file, nil, err
		}
		if c.pack == "" {
			u.done.Absent.add(c.problem(NotCopied, "the backup was made without it"))
		} else {
			counts[c.pack]++
		}
	}
}

func (u *unpacker) unpackSome(ctx context.Context, file spool, names []string) error {
	wanted := map[string]map[string]content{}
	for _, name := range names {
		wanted[name] = map[string]content{}
	}
	for c, err := range file.contents(ctx) {
		if err != nil {
			return err
		}
		if in, ok := wanted[c.pack]; ok {
			if _, twice := in[c.store]; twice { // a pack has a name once
				u.lose(c, "pack %s holds another content of that name", c.pack)
				continue
			}
			in[c.store] = c
		}
	}
	for _, name := range names {
		err := u.unpack(ctx, name, wanted[name])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fatal := (*keepError)(nil); errors.As(err, &fatal) {
			return fatal.error
		}
		u.done.Packs++
		if err != nil && len(u.failed) < maxFailed {
			u.failed = append(u.failed, fmt.Errorf("pack %s: %w", name, err))
		}
		reason := "it is not in the pack"
		if err != nil {
			reason = err.Error()
		}
		for _, store := range slices.Sorted(maps.Keys(wanted[name])) {
			u.lose(wanted[name][store], "pack %s: %.200s", name, reason)
		}
	}
	return nil
}

func (u *unpacker) lose(c content, format string, args ...any) {
	u.done.Problems.add(c.problem(PackFailed, format, args...))
}

// A keepError is one of where contents are kept, so not of the pack.
type keepError struct{ error }

// unpack reads a pack to its end, and deletes from wanted what it has decided about.
func (u *unpacker) unpack(ctx context.Context, name string, wanted map[string]content) (err error) {
	pack, err := u.packs.OpenPack(ctx, name)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := pack.Close(); err == nil {
			err = closeErr
		}
	}()
	in := tar.NewReader(pack)
	for {
		header, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		c, ok := wanted[header.Name]
		if !ok { // a content that only another backup needs
			continue
		}
		switch {
		case header.Typeflag != tar.TypeReg:
			u.lose(c, "pack %s holds something else than a file", name)
		case c.size >= 0 && header.Size != c.size:
			u.lose(c, "pack %s holds %d bytes, not %d", name, header.Size, c.size)
		default:
			if err := u.one(c, in, name); err != nil {
				return err
			}
		}
		delete(wanted, header.Name)
	}
	_, err = io.Copy(io.Discard, pack) // only the end says that it is what was written
	return err
}

// one keeps a content, if it has its checksum.
func (u *unpacker) one(c content, r io.Reader, pack string) error {
	sum := &summed{r: r, sum: sha1.New()}
	err := u.keep(c, sum)
	if err == nil && sum.err == nil {
		_, err = io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{sum}, make([]byte, copyBuffer))
	}
	switch got := hex.EncodeToString(sum.sum.Sum(nil)); {
	case errors.Is(err, errOccupied):
		u.lose(c, "pack %s: %v", pack, err)
		return nil
	case sum.err != nil:
		return errors.Join(sum.err, u.drop(c))
	case err != nil:
		return &keepError{err}
	case got != c.sha1:
		u.lose(c, "pack %s holds a content with SHA-1 %s, not %s", pack, got, c.sha1)
		return u.drop(c)
	}
	u.done.Contents++
	u.done.Bytes += sum.bytes
	return nil
}

// drop takes back what was kept of a content.
func (u *unpacker) drop(c content) error {
	if u.bad == nil {
		return nil
	}
	if err := u.bad(c); err != nil {
		return &keepError{err}
	}
	return nil
}
