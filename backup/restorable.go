package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
)

// Parts of what was restored, in findings.
const (
	inDatabase  = "database"
	inFilestore = "filestore"
)

// A restoration is a backup that is being restored into a scratch server and a folder of it.
type restoration struct {
	*proof
	server *postgres.Server
	folder string // of the filestore
	rows   bool   // the database is restored
	files  bool   // the filestore is restored
	lost   filestore.Problems
}

// scratchRoom is what a restore needs besides dump, database and filestore: the server's own databases and its log of writes.
const scratchRoom = 768 << 20

// start starts a scratch server, if there is room for all.
func (p *proof) start(ctx context.Context) (*restoration, error) {
	if err := p.room(p.o.Scratch, p.m.Streams.Database.PlainBytes+p.databaseRoom()+p.filestoreRoom()+scratchRoom); err != nil {
		return nil, err
	}
	server, err := postgres.Scratch(ctx, p.o.Scratch, p.o.Programs, p.m.Postgres.Major)
	if err != nil {
		return nil, err
	}
	return &restoration{proof: p, server: server, folder: filepath.Join(server.Folder(), "filestore")}, nil
}

// databaseRoom is for the database, without what updates and deletes have left in it, but with what a restore adds.
func (p *proof) databaseRoom() int64 { return p.m.Postgres.Bytes + p.m.Postgres.Bytes/5 }

func (p *proof) filestoreRoom() int64 {
	contents := p.m.Filestore.Index.Contents
	return contents.Bytes + contents.Contents*(4096+spoolBytes) // files fill whole blocks
}

// restorable is level 2: the backup is restored and compared with what the manifest says of the database.
func (p *proof) restorable(ctx context.Context) (err error) {
	if p.m.Filestore.Index.Contents.Contents < 0 || p.m.Postgres.Bytes < 0 {
		p.findings.add(L1, p.Manifest.Key, remedyNew, "the manifest has negative numbers")
		return nil
	}
	var r *restoration
	if err := p.segment(ctx, SegmentServer, func(ctx context.Context) (err error) { r, err = p.start(ctx); return err }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.server.Close()) }()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{ConfigurationName, r.readConfiguration}, {SegmentDatabase, r.database}, {SegmentAttachments, r.filestore}, {SegmentChecks, r.check}} {
		if err := p.segment(ctx, step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// database restores roles and database.
func (r *restoration) database(ctx context.Context) error {
	end := &marker{text: rolesEnd}
	there, err := r.into(ctx, r.m.Streams.Roles, r.fetched, func(in io.Reader) error { // psql runs commands of this machine
		return r.server.RestoreRoles(ctx, io.TeeReader(in, end))
	})
	if err != nil || !there {
		return err
	}
	r.checkRoles(end)
	r.rows, err = r.into(ctx, r.m.Streams.Database, r.fromStore, func(in io.Reader) error {
		return r.server.Restore(ctx, r.m.Postgres.Database, in, r.o.Jobs)
	})
	return err
}

// into restores an entry. That the server does not take it is a finding, unless it is for want of space or time.
func (r *restoration) into(ctx context.Context, e Entry, from source, restore func(io.Reader) error) (done bool, err error) {
	whole, err := r.use(ctx, e, from, restore)
	if err == nil || !whole {
		return whole, err
	}
	if ctx.Err() != nil || errors.Is(err, postgres.ErrTools) || outOfSpace(err) {
		return false, err
	}
	r.findings.add(L2, e.Key, "find out what the server does not take: until then, nobody can restore this backup", "%v", err)
	return false, nil
}

func outOfSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "No space left on device")
}

// filestore restores the contents of attachments.
func (r *restoration) filestore(ctx context.Context) error {
	packs := r.packs()
	_, err := r.use(ctx, r.m.Streams.Attachments, r.fromStore, func(in io.Reader) error {
		u, err := filestore.Restore(ctx, in, packs, r.folder)
		r.files, r.lost = err == nil, u.Absent
		return r.unpacked(ctx, u, packs, err)
	})
	return err
}

// check compares what was restored with what was backed up.
func (r *restoration) check(ctx context.Context) error {
	if !r.rows {
		return nil
	}
	db, err := postgres.Read(ctx, r.server.Connection(r.m.Postgres.Database.Name))
	if err != nil {
		return fmt.Errorf("check restored database: %w", err)
	}
	defer db.Close()
	return r.checkIn(ctx, db, true)
}

// checkIn compares a restored database with what the manifest says. Fingerprints are comparable within one major version.
func (r *restoration) checkIn(ctx context.Context, db *postgres.Reader, comparable bool) error {
	checks := []func(context.Context, *postgres.Reader) error{r.odoo, r.unsound, r.attachments}
	if comparable {
		checks = append([]func(context.Context, *postgres.Reader) error{r.fingerprints}, checks...)
	} else {
		r.findings.note(L2, inDatabase, "compare it in a server of the version that it comes from", "rows were not compared: the server is of another major version")
	}
	for _, check := range checks {
		err := check(ctx, db)
		if errors.Is(err, errNotOdoo) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("check restored database: %w", err)
		}
	}
	return nil
}

// errNotOdoo says that no more can be asked.
var errNotOdoo = errors.New("it is no database of Odoo's")

func (r *restoration) fingerprints(ctx context.Context, db *postgres.Reader) error {
	differences, err := db.Compare(ctx, r.m.Fingerprints)
	for _, d := range differences {
		r.findings.add(L2, inDatabase+" "+d.Table, remedyNew, "%s", d.What)
	}
	return err
}

// odoo compares what Odoo says about itself.
func (r *restoration) odoo(ctx context.Context, db *postgres.Reader) error {
	got, err := db.Odoo(ctx)
	if postgres.Missing(err) {
		r.findings.add(L2, inDatabase, remedyNew, "it is no database of Odoo's: %v", err)
		return errNotOdoo
	}
	if err != nil {
		return err
	}
	want := r.m.Postgres.Odoo
	if !slices.Equal(got.Modules, want.Modules) {
		r.findings.add(L2, inDatabase+" ir_module_module", remedyNew, "%d modules are installed, with base %q; %d were, with base %q, or their versions differ",
			len(got.Modules), got.Base, len(want.Modules), want.Base)
	}
	if len(got.Pending) > 0 {
		r.findings.add(L2, inDatabase+" ir_module_module", "back up when no module is being changed: Odoo would go on with it when it starts",
			"modules are about to change: %s", strings.Join(got.Pending[:min(len(got.Pending), 10)], ", "))
	}
	if !slices.EqualFunc(got.Last, want.Last, func(a, b postgres.Created) bool { return a.Table == b.Table && a.ID == b.ID && a.At.Equal(b.At) }) {
		r.findings.add(L2, inDatabase, remedyNew, "the newest rows of business are %v, and were %v", got.Last, want.Last)
	}
	last := map[string]int64{}
	newest := r.m.Times.Snapshot.Add(-r.o.RPO)
	busy := r.o.RPO == 0
	for _, c := range got.Last {
		last[c.Table] = c.ID
		busy = busy || c.At.After(newest)
		if c.At.Sub(r.m.Times.Snapshot) > maxSkew {
			r.findings.note(L2, inDatabase+" "+c.Table, "find out which clock was wrong", "its newest row is of %s, after the snapshot", c.At)
		}
	}
	r.business(L2, inDatabase, func(table string) int64 { return last[table] })
	if !busy {
		r.findings.note(L2, inDatabase, "make sure that the shop was closed then, and that this is the database that it works in",
			"no business was done for %s before the snapshot: the newest rows are %v", r.o.RPO, got.Last)
	}
	return nil
}

func (r *restoration) unsound(ctx context.Context, db *postgres.Reader) error {
	list, err := db.Unsound(ctx)
	for _, what := range list {
		if strings.HasPrefix(what, "index") {
			r.findings.add(L2, inDatabase, remedyNew, "%s", what)
		} else { // as it was
			r.findings.note(L2, inDatabase, "validate it where it comes from", "%s", what)
		}
	}
	return err
}

// attachments compares the rows with the files.
func (r *restoration) attachments(ctx context.Context, db *postgres.Reader) error {
	if !r.files {
		return nil
	}
	checked, err := filestore.Check(ctx, attachments(db.Attachments(ctx)), r.folder)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, p := range r.lost.First {
		known[p.Store] = true
	}
	for _, p := range checked.Problems.First {
		if p.Kind == filestore.Missing && (known[p.Store] || r.lost.Count() > int64(len(r.lost.First))) { // those beyond are counted
			continue
		}
		if p.Kind == filestore.Elsewhere || p.Kind == filestore.Refused { // no backup of the filestore has it
			r.findings.note(L2, inFilestore+" "+p.Store, "back it up where it is", "%s", p)
			continue
		}
		r.findings.add(L2, inFilestore+" "+p.Store, remedyNew, "%s", p)
	}
	if missing := checked.Problems.Counts[filestore.Missing]; missing > r.lost.Count() {
		r.findings.add(L2, inFilestore, remedyNew, "%d contents of attachments are missing, and the backup knows of %d", missing, r.lost.Count())
	}
	if f := r.m.Filestore; checked.Rows != f.Rows || checked.InDatabase != f.InDatabase {
		r.findings.add(L2, inDatabase+" ir_attachment", remedyNew, "it has %d rows, %d of them without a file, and had %d and %d",
			checked.Rows, checked.InDatabase, f.Rows, f.InDatabase)
	}
	return nil
}
