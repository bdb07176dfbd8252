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
	"github.com/purser-gitops/purser/backup/store"
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
	if e.manifest, e.why, err = t.o.Previous.open(ctx, t.store, t.o.Environment); err != nil {
		return nil, err
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

// open reads the manifest of an earlier backup. There is none, and a reason for that, if it is not what was recorded.
func (b *Earlier) open(ctx context.Context, s opener, environment string) (m *Manifest, why string, err error) {
	if b == nil {
		return nil, "", nil
	}
	m, err = Open(ctx, s, environment, b.ID, b.Manifest)
	if damaged(err) {
		return nil, err.Error(), nil
	}
	return m, "", err
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
			_, err := unchanged(ctx, t.store, candidates[name].Object, t.o.Lock.Mode)
			if damaged(err) {
				t.o.Log.Warn("a pack of an earlier backup is not used again", "pack", name, "error", err)
				return nil
			}
			there[i] = err == nil
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

// unchanged looks at an object that is to be used again. It fails with [store.ErrMissing] or [store.ErrChanged] if that is not
// there as the record says, or not locked in that mode.
func unchanged(ctx context.Context, s archive, o store.Object, mode store.Mode) (store.Info, error) {
	info, err := s.Stat(ctx, o)
	if err == nil && info.Lock.Mode != mode {
		err = fmt.Errorf("look at object %s: %w: the mode of its lock is %q, and %q is wanted", o.Key, store.ErrChanged, info.Lock.Mode, mode)
	}
	return info, err
}

// outlast lets an object that is used again be locked for as long as what uses it.
func outlast(ctx context.Context, s archive, o store.Object, lock store.Lock) (store.Object, error) {
	if lock.Mode == store.Unlocked {
		_, err := s.Stat(ctx, o)
		return o, err
	}
	return s.Extend(ctx, o, lock.Until)
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
