package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
)

// spoolBytes is what the scratch folder needs for each content while packs are read.
const spoolBytes = 2 * (3*40 + 60)

// readable is level 1: everything is read to its end, opened and parsed.
func (p *proof) readable(ctx context.Context) error {
	if err := p.room(p.o.Scratch, spoolBytes*p.m.Filestore.Index.Contents.Contents+1<<20); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		read func(context.Context) error
	}{{RolesName, p.readRoles}, {ConfigurationName, p.readConfiguration}, {SegmentDatabase, p.readDatabase}, {SegmentAttachments, p.readFilestore}} {
		if err := p.segment(ctx, part.name, part.read); err != nil {
			return err
		}
	}
	return nil
}

// rolesEnd is the last line but one of pg_dumpall.
const rolesEnd = "-- PostgreSQL database cluster dump complete"

// readRoles reads the roles, which have to be whole.
func (p *proof) readRoles(ctx context.Context) error {
	end := &marker{text: rolesEnd}
	whole, err := p.use(ctx, p.m.Streams.Roles, p.fromStore, func(r io.Reader) error {
		_, err := io.Copy(end, r)
		return err
	})
	if err == nil && whole {
		p.checkRoles(end)
	}
	return err
}

func (p *proof) checkRoles(end *marker) {
	if !end.seen {
		p.findings.add(L1, p.m.Streams.Roles.Key, remedyNew, "the roles do not end as pg_dumpall ends them")
	}
}

// A marker looks for a text in what is written to it.
type marker struct {
	text string
	seen bool
	last []byte // bytes before, in which the text may begin
}

func (m *marker) Write(p []byte) (int, error) {
	m.last = append(m.last, p...)
	m.seen = m.seen || bytes.Contains(m.last, []byte(m.text))
	m.last = append(m.last[:0], m.last[max(0, len(m.last)-len(m.text)):]...)
	return len(p), nil
}

// readConfiguration reads the configuration, which has to be of its own form.
func (p *proof) readConfiguration(ctx context.Context) error {
	e := p.m.Streams.Configuration
	_, err := p.use(ctx, e, p.fromStore, func(r io.Reader) error {
		if e.ContentType != "application/json" {
			return nil // read to its end by its hash
		}
		decoder := json.NewDecoder(r)
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
				p.findings.add(L1, e.Key, remedyNew, "it is no JSON: %v", err)
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	return err
}

// readDatabase reads the dump to its end, and compares the tables in it with the fingerprints.
func (p *proof) readDatabase(ctx context.Context) error {
	e := p.m.Streams.Database
	var rows map[string]int64
	whole, err := p.use(ctx, e, p.fromStore, func(r io.Reader) (err error) {
		rows, err = postgres.ReadArchive(ctx, p.o.Programs, p.m.Postgres.Major, r)
		return err
	})
	switch {
	case !whole:
		return err
	case errors.Is(err, postgres.ErrArchive):
		p.findings.add(L1, e.Key, remedyNew, "%v", err)
		return nil
	case err != nil:
		return err
	}
	for _, f := range p.m.Fingerprints {
		n, there := rows[f.Table]
		switch {
		case !there:
			p.findings.add(L1, e.Key, remedyNew, "the dump has no rows of table %s, which the database had", f.Table)
		case f.Sample == nil && n != f.Rows:
			p.findings.add(L1, e.Key, remedyNew, "the dump has %d rows of table %s, not %d", n, f.Table, f.Rows)
		case n < f.Rows:
			p.findings.add(L1, e.Key, remedyNew, "the dump has %d rows of table %s, not %d or more", n, f.Table, f.Rows)
		}
	}
	p.business(L1, e.Key, func(table string) int64 { return rows["public."+table] })
	return nil
}

// business looks for rows that only work makes.
func (p *proof) business(level Level, object string, rows func(table string) int64) {
	if p.o.Empty || slices.ContainsFunc(postgres.BusinessTables, func(table string) bool { return rows(table) > 0 }) {
		return
	}
	p.findings.add(level, object, "find out which database was backed up, and back up the right one; a database that is meant to be empty has to be declared so",
		"the database is empty: there are no rows in any of %s", strings.Join(postgres.BusinessTables, ", "))
}

// readFilestore reads all packs, and compares each content with its checksum.
func (p *proof) readFilestore(ctx context.Context) error {
	packs, read := p.packs(), false
	whole, err := p.use(ctx, p.m.Streams.Attachments, p.fromStore, func(r io.Reader) error {
		u, err := filestore.Verify(ctx, p.o.Scratch, r, packs)
		read = !errors.Is(err, filestore.ErrIndex)
		return p.unpacked(ctx, u, packs, err)
	})
	if err != nil || whole && read {
		return err
	}
	// Nobody knows what is in the packs, but they can be read.
	for _, e := range p.m.Packs {
		if _, err := p.use(ctx, e, p.fromStore, func(r io.Reader) error { return p.readArchive(e, r) }); err != nil {
			return err
		}
	}
	return nil
}

// readArchive reads a pack without knowing what should be in it.
func (p *proof) readArchive(e Entry, r io.Reader) error {
	in := tar.NewReader(r)
	for {
		_, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			p.findings.add(L1, e.Key, remedyNew, "it is no archive: %v", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// unpacked keeps what is found of attachments.
func (p *proof) unpacked(ctx context.Context, u filestore.Unpacked, packs *packs, err error) error {
	e := p.m.Streams.Attachments
	if packs.err != nil {
		return packs.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	incomplete := (*filestore.IncompleteError)(nil)
	switch {
	case errors.As(err, &incomplete):
		p.findings.add(L1, e.Key, remedyBad, "%v", incomplete)
	case errors.Is(err, filestore.ErrIndex):
		p.findings.add(L1, e.Key, remedyNew, "%v", err)
		return nil
	case err != nil:
		return err
	}
	p.absent(u.Absent)
	index := p.m.Filestore.Index
	if total := u.Contents + u.Problems.Count() + u.Absent.Count(); total != index.Contents.Contents || u.Absent.Count() != index.Absent || int(u.Packs) != len(p.m.Packs) {
		p.findings.add(L1, e.Key, remedyNew, "it names %d contents in %d packs and %d in none, and the manifest says %d in %d packs and %d in none",
			total, u.Packs, u.Absent.Count(), index.Contents.Contents, len(p.m.Packs), index.Absent)
	}
	return nil
}

// absent says of contents that the backup never had.
func (p *proof) absent(lost filestore.Problems) {
	if lost.Count() == 0 {
		return
	}
	tell := p.findings.note
	if lost.Count() > p.o.Absent {
		tell = p.findings.add
	}
	tell(L1, p.m.Streams.Attachments.Key, "find out why the filestore lacked these files, bring them back from an older backup or delete their attachments, and back up anew",
		"attachments have no content in the backup, because there was none when it was made: %s", lost)
}

// packs opens the packs of a backup.
type packs struct {
	p       *proof
	entries map[string]Entry

	mu  sync.Mutex
	err error // the first that is not about a pack
}

func (p *proof) packs() *packs {
	k := &packs{p: p, entries: map[string]Entry{}}
	for _, e := range p.m.Packs {
		k.entries[packName(p.Environment, e.Key)] = e
	}
	return k
}

// OpenPack opens a pack by the name that the stream of attachments gives it.
func (k *packs) OpenPack(ctx context.Context, name string) (io.ReadCloser, error) {
	e, ok := k.entries[name]
	if !ok {
		k.p.findings.add(L1, k.p.m.Streams.Attachments.Key, remedyNew, "attachments are in pack %.200q, which the manifest does not name", name)
		return nil, fmt.Errorf("%w: the manifest does not name the pack", ErrManifest)
	}
	s, err := k.p.open(ctx, e, k.p.fromStore)
	if err != nil {
		k.keep(err)
		return nil, err
	}
	return &packStream{s, k}, nil
}

func (k *packs) keep(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil && err != nil && !unfit(err) {
		k.err = err
	}
}

// A packStream is a stream whose errors are kept.
type packStream struct {
	*stream
	packs *packs
}

func (p *packStream) Close() error {
	// A pack whose archive is broken is read to its end as well: that says whose fault it is.
	p.packs.keep(p.finish())
	return p.stream.Close()
}
