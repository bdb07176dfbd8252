package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/seal"
)

// earlier is what earlier backups have stored already, and this one uses again.
type earlier struct {
	packs    map[string]Entry // that are there as they were written, by name
	files    []*os.File       // streams of attachments, without names
	manifest *Manifest        // of the earlier backup; nil for none
	why      string           // packs are not used again
	journals []journaled
}

// usable says whether a pack can be part of this backup.
func (e *earlier) usable(pack string) bool { _, ok := e.packs[pack]; return ok }

// streams are those of attachments.
func (e *earlier) streams() []io.Reader {
	var list []io.Reader
	for _, f := range e.files {
		list = append(list, f)
	}
	for _, j := range e.journals {
		list = append(list, filestore.Stream(io.NewSectionReader(j.lines, 0, j.bytes), j.contents))
	}
	return list
}

// dumpBytes guesses how long the dump of a database is that takes so many bytes on the disk.
func (e *earlier) dumpBytes(disk int64) int64 {
	if m := e.manifest; m != nil && m.Postgres.Bytes > 0 {
		return int64(float64(disk) * float64(m.Streams.Database.PlainBytes) / float64(m.Postgres.Bytes))
	}
	return disk * 2 / 3 // indexes are not dumped
}

// close gives back the space.
func (e *earlier) close() {
	for _, f := range e.files {
		_ = f.Close() // without a name
	}
	for _, j := range e.journals {
		_ = j.lines.Close()
	}
}

// findEarlier finds the packs that can be used again: of this generation, for the same recipients, and in the store as they
// were written. A backup that is damaged is no reason to make none; a store that does not answer is.
func (t *taking) findEarlier(ctx context.Context) (_ *earlier, err error) {
	e := &earlier{packs: map[string]Entry{}}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e.journals, err = t.journal.earlier(); err != nil {
		return nil, err
	}
	candidates := map[string]Entry{}
	for _, j := range e.journals {
		for name, entry := range j.packs {
			candidates[name] = entry
		}
	}
	if t.o.Previous != nil {
		if e.manifest, err = Open(ctx, t.store, t.o.Environment, t.o.Previous.ID, t.o.Previous.Manifest); err != nil {
			if !damaged(err) {
				return nil, err
			}
			e.manifest, e.why = nil, err.Error()
		}
	}
	if m := e.manifest; m != nil {
		if e.why = t.foreign(m); e.why == "" {
			for _, p := range m.Packs {
				candidates[packName(t.o.Environment, p.Key)] = p
			}
		}
	}
	if err := t.look(ctx, e, candidates); err != nil {
		return nil, err
	}
	if m := e.manifest; m != nil && e.why == "" {
		f, err := t.fetch(ctx, m.Streams.Attachments)
		switch {
		case damaged(err), errors.Is(err, seal.ErrCorrupt), errors.Is(err, seal.ErrIdentity):
			e.why = err.Error()
		case err != nil:
			return nil, err
		default:
			e.files = append(e.files, f)
		}
	}
	if e.why != "" {
		t.o.Log.Warn("attachments are copied anew", "backup", t.id, "why", e.why)
	}
	return e, nil
}

// foreign says why the packs of a backup cannot be used again, "" if they can.
func (t *taking) foreign(m *Manifest) string {
	switch {
	case !slices.Equal(m.Recipients, t.o.Recipients):
		return fmt.Sprintf("backup %s is for other recipients", m.ID)
	case m.Store != t.o.Store:
		return fmt.Sprintf("backup %s is in store %s", m.ID, m.Store)
	case len(t.o.Identities) == 0:
		return fmt.Sprintf("no identity opens backup %s", m.ID)
	}
	return ""
}

// look keeps those of the packs that are in the store as they were written.
func (t *taking) look(ctx context.Context, e *earlier, candidates map[string]Entry) error {
	generation := Generation(t.began) + "/"
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lockers)
	names := sortedKeys(candidates)
	there := make([]bool, len(names))
	for i, name := range names {
		if !strings.HasPrefix(name, generation) {
			continue
		}
		group.Go(func() error {
			info, err := t.store.Stat(ctx, candidates[name].Object)
			if damaged(err) {
				t.o.Log.Warn("a pack of an earlier backup is not used again", "pack", name, "error", err)
				return nil
			}
			there[i] = err == nil && info.Lock.Mode == t.o.Lock.Mode
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		if there[i] {
			e.packs[name] = candidates[name]
		}
	}
	return nil
}

// fetch opens a stream and writes it to a file without a name, to its verified end.
func (t *taking) fetch(ctx context.Context, entry Entry) (_ *os.File, err error) {
	f, err := namelessFile(t.o.Scratch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("read %s: %w", entry.Key, err), f.Close())
		}
	}()
	sealed, err := t.store.Open(ctx, entry.Object)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sealed.Close()) }()
	plain, err := seal.NewReader(sealed, entry.Sealed(), t.o.Identities...)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if _, err := io.Copy(f, plain); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// namelessFile is a file that goes away with the process.
func namelessFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "attachments-*")
	if err != nil {
		return nil, fmt.Errorf("create scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("create scratch file: %w", err), f.Close())
	}
	return f, nil
}
