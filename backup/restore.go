package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/backup/postgres"
)

// ErrOccupied says that there is something where a backup is to be restored, and that its replacement is not confirmed.
var ErrOccupied = errors.New("there is something at the target")

// A Target is where a backup is restored to: a database of a given server, and a folder for the filestore. Neither needs to
// exist. They are named as Odoo will use them.
type Target struct {
	Database  postgres.Place
	Filestore string
}

// Confirmation is what has to be typed to let a backup take the place of what is at the target.
func (t Target) Confirmation(id ID) string {
	return fmt.Sprintf("replace %s and %s by %s", t.Database.Connection, t.Filestore, id)
}

// RestoreOptions say how a backup is restored.
type RestoreOptions struct {
	ProofOptions              // of Scratch, the dump's size and some 400 bytes for each content
	Confirmation string       // see [Target.Confirmation]; only needed if there is something at the target
	Tell         func(string) // what is removed of restores that were killed, before it is; nil tells nobody
}

// A Restored says what was restored, and where what was there before is now.
type Restored struct {
	Environment string        `json:"environment"`
	ID          ID            `json:"id"`
	Snapshot    time.Time     `json:"snapshot"`
	Segments    []Segment     `json:"segments"`
	Took        time.Duration `json:"took"`
	Findings
	// AsideDatabase and AsideFilestore are names of what was at the target; empty if nothing was.
	AsideDatabase  string `json:"asideDatabase,omitempty"`
	AsideFilestore string `json:"asideFilestore,omitempty"`
	// Removed are databases that restores into this target had left which were killed.
	Removed []string `json:"removed,omitempty"`
}

// A restore is one run of [Restore].
type restore struct {
	*restoration
	t      Target
	o      RestoreOptions
	r      *Restored
	suffix string // of names beside the target
	major  int    // of the target's server
	empty  bool   // there is nothing at the target
	exists bool   // there is a database
}

// Restore restores a backup. It never writes into what is at the target: database and filestore are restored beside it, then
// checked, and only then renamed to the target's names. What was there is renamed before and kept: nothing is removed but what
// a failed restore has made itself. Unless the target is empty, the confirmation that is bound to it and to the backup is
// needed. A backup with a finding of any level but for locks, delete markers and newer versions is not restored: the error is
// [ErrUnfit], and the findings are in the result. Nor is one while the clocks differ, or that none of the identities opens: the
// error is [store.ErrSkew] or [seal.ErrIdentity], and there is no finding. If another copy may be restored where this one was
// not, the error is [ErrCopy] as well.
//
// Database and folder are renamed one after the other, since nothing renames both at once. Whoever uses both has to be stopped
// meanwhile; as long as somebody is connected to the database, the error is [postgres.ErrBusy] and nothing has changed.
func Restore(ctx context.Context, b Stored, t Target, o RestoreOptions) (*Restored, error) {
	o.ProofOptions = o.ProofOptions.withDefaults()
	began := o.Now()
	r := &restore{t: t, o: o, r: &Restored{Environment: b.Environment, ID: b.ID}, suffix: strings.ToLower(rand.Text()[:8])}
	r.t.Filestore = filepath.Clean(t.Filestore)
	from := &asked{examiner: b.Store}
	b.Store = from
	p := newProof(b, o.ProofOptions, &r.r.Findings, &r.r.Segments)
	r.restoration = &restoration{proof: p, folder: r.t.Filestore + ".purser-" + r.suffix}
	stop := p.meter.report(o.Progress, o.every)
	defer stop()
	err := r.run(ctx)
	r.r.Took = o.Now().Sub(began)
	if err != nil {
		return r.r, fmt.Errorf("restore backup %s: %w", b.ID, r.blame(ctx, from, err))
	}
	return r.r, nil
}

// fatal is the first finding that keeps a backup from being restored: the recorded versions can be read in spite of the others.
func (f Findings) fatal() error {
	for _, found := range f.Findings {
		if found.Remedy != remedyHide && found.Remedy != remedyLock {
			return fmt.Errorf("%w: %s", ErrUnfit, found)
		}
	}
	return nil
}

func (r *restore) run(ctx context.Context) (err error) {
	if err := r.segment(ctx, SegmentChoose, r.prepare); err != nil {
		return err
	}
	hold, err := r.t.Database.Hold(ctx, r.beside())
	if err != nil {
		return err
	}
	defer hold.Close()
	ctx = hold.Watch(ctx)
	database := postgres.Database{}
	defer func() {
		if lost := context.Cause(ctx); err != nil && errors.Is(lost, postgres.ErrHold) {
			err = fmt.Errorf("%w: %w", lost, err)
		}
		if err != nil { // what was made goes; what was there has not been touched
			err = errors.Join(err, os.RemoveAll(r.folder), os.RemoveAll(r.folder+".partial"))
			if r.rows {
				err = errors.Join(err, r.t.Database.Drop(context.WithoutCancel(ctx), database.Name))
			}
		}
	}()
	database = r.m.Postgres.Database
	database.Name = r.beside()
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{RolesName, r.readRoles},
		{ConfigurationName, r.readConfiguration},
		{SegmentDatabase, func(ctx context.Context) error { return r.fill(ctx, database) }},
		{SegmentAttachments, r.filestore},
		{SegmentChecks, func(ctx context.Context) error { return r.compare(ctx, database.Name) }},
		{SegmentSwap, func(ctx context.Context) error { return r.swap(ctx, database.Name) }},
	} {
		if err := r.segment(ctx, s.name, s.do); err != nil {
			return err
		}
		if err := r.r.fatal(); err != nil && s.name != SegmentSwap {
			return err
		}
	}
	return nil
}

// SegmentSwap is the part of a restore in which what was restored gets its names.
const SegmentSwap = "swap"

// maxDatabase bounds the name of a database, in bytes: NAMEDATALEN less one.
const maxDatabase = 63

// beside is the name of a database beside the target.
func (r *restore) beside() string { return r.name("purser") }

func (r *restore) name(mark string) string {
	ending := "-" + mark + "-" + r.suffix
	name := r.t.Database.Database
	return strings.ToValidUTF8(name[:min(len(name), maxDatabase-len(ending))], "") + ending
}

// prepare looks at backup and target before anything is made.
func (r *restore) prepare(ctx context.Context) error {
	if !filepath.IsAbs(r.t.Filestore) || r.t.Filestore == "/" {
		return fmt.Errorf("the target's filestore %q is not the path of a folder", r.t.Filestore)
	}
	if err := r.occupied(ctx); err != nil {
		return err
	}
	if err := r.present(ctx); err != nil {
		return err
	}
	if err := r.r.fatal(); err != nil {
		return err
	}
	if err := r.removeLeftovers(ctx); err != nil {
		return err
	}
	if err := r.occupied(ctx); err != nil { // by a restore that came to its end meanwhile
		return err
	}
	r.r.Snapshot = r.m.Times.Snapshot
	if err := r.room(r.o.Scratch, r.m.Streams.Database.PlainBytes+spoolBytes*r.m.Filestore.Index.Contents.Contents+100<<20); err != nil {
		return err
	}
	return r.room(filepath.Dir(r.folder), r.filestoreRoom()) // of the database's server nobody can ask for its space
}

// occupied refuses a target that is not empty, unless it is confirmed, and one that somebody uses.
func (r *restore) occupied(ctx context.Context) error {
	state, err := r.look(ctx)
	if err != nil {
		return err
	}
	r.major, r.exists = state.Major, state.Exists
	entries, err := targetFolder(r.t.Filestore)
	if err != nil {
		return err
	}
	r.empty = state.Objects == 0 && len(entries) == 0
	if err := r.halfSwapped(state.Mark); err != nil {
		return err
	}
	if want := r.t.Confirmation(r.ID); !r.empty && r.o.Confirmation != want {
		return &postgres.HintError{Err: fmt.Errorf("%w: the database has %d objects, the folder %d entries", ErrOccupied, state.Objects, len(entries)),
			Hint: fmt.Sprintf("to keep that under another name and put the backup in its place, confirm with %q", want)}
	}
	if state.Sessions > 0 {
		return &postgres.HintError{Err: fmt.Errorf("%w: %d sessions", postgres.ErrBusy, state.Sessions), Hint: "stop Odoo, and whoever else uses the database"}
	}
	return nil
}

// Sessions that just ended are the server's for a moment longer.
const (
	sessionPatience = 2 * time.Second
	sessionRetry    = 50 * time.Millisecond
)

// look waits a moment for sessions to end.
func (r *restore) look(ctx context.Context) (postgres.State, error) {
	for deadline := time.Now().Add(sessionPatience); ; {
		state, err := r.t.Database.Look(ctx)
		if err != nil || state.Sessions == 0 || time.Now().After(deadline) {
			return state, err
		}
		retry := time.NewTimer(sessionRetry)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return state, context.Cause(ctx)
		}
	}
}

// targetFolder is what is in the folder of a target; nothing if there is none. A folder is put in its place in the end, for
// which a link or a file is no place.
func targetFolder(path string) ([]fs.DirEntry, error) {
	refuse := func(what, remedy string) ([]fs.DirEntry, error) {
		return nil, &postgres.HintError{Err: fmt.Errorf("the target's filestore %s %s", path, what), Hint: remedy}
	}
	if parent := filepath.Dir(path); !isFolder(parent) {
		return refuse("has no folder to lie in", "create the folder "+parent+", or name another one")
	}
	there, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look at filestore: %w", err)
	case there.Mode().Type() == fs.ModeSymlink:
		to, err := filepath.EvalSymlinks(path)
		if err != nil {
			return refuse("is a symbolic link that leads nowhere", "remove the link, or name another folder")
		}
		return refuse("is a symbolic link, and the restored folder takes the place of a folder only", "name the folder that it leads to, "+to)
	case !there.IsDir():
		return refuse("is no folder", "move it away, or name another folder")
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("look at filestore: %w", err)
	}
	return entries, nil
}

func isFolder(path string) bool {
	there, err := os.Stat(path)
	return err == nil && there.IsDir()
}

// fill restores the database beside the target, once the whole stream is what was written.
func (r *restore) fill(ctx context.Context, d postgres.Database) (err error) {
	r.rows, err = r.into(ctx, r.m.Streams.Database, r.fromStore, func(in io.Reader) error {
		return r.t.Database.Restore(ctx, r.o.Programs, d, r.mark(), in, r.o.Scratch, r.o.Jobs)
	})
	return err
}

// compare checks what was restored.
func (r *restore) compare(ctx context.Context, database string) error {
	db, err := r.t.Database.Read(ctx, database)
	if err != nil {
		return fmt.Errorf("check restored database: %w", err)
	}
	defer db.Close()
	return r.checkIn(ctx, db, r.major == r.m.Postgres.Major)
}

// swap gives what was restored the names of the target.
func (r *restore) swap(ctx context.Context, database string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx) // both renames or none
	if r.exists {
		r.r.AsideDatabase = r.name("before")
	}
	if err := r.t.Database.Swap(ctx, database, r.r.AsideDatabase); err != nil {
		r.r.AsideDatabase = ""
		return err
	}
	err := r.swapFolder()
	if err == nil {
		r.rows = false               // it is not beside the target any more
		_ = r.t.Database.Unmark(ctx) // says nothing under this name and with this folder
		return nil
	}
	back := r.t.Database
	if r.r.AsideDatabase == "" {
		return errors.Join(err, r.rename(ctx, back, database))
	}
	if undo := r.rename(ctx, back, database); undo != nil {
		return errors.Join(err, undo)
	}
	aside := r.r.AsideDatabase
	r.r.AsideDatabase = ""
	return errors.Join(err, r.t.Database.Swap(ctx, aside, ""))
}

// rename renames the database at the target.
func (r *restore) rename(ctx context.Context, at postgres.Place, to string) error {
	from := at.Database
	at.Database = to
	return at.Swap(ctx, from, "")
}

// swapFolder renames the folders. An empty one is replaced.
func (r *restore) swapFolder() error {
	err := unix.Rename(r.folder, r.t.Filestore)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		aside := r.t.Filestore + ".before-" + r.suffix
		if err = unix.Rename(r.t.Filestore, aside); err == nil {
			if err = unix.Rename(r.folder, r.t.Filestore); err != nil {
				return errors.Join(fmt.Errorf("rename filestore: %w", err), unix.Rename(aside, r.t.Filestore))
			}
			r.r.AsideFilestore = aside
		}
	}
	if err != nil {
		return fmt.Errorf("rename filestore: %w", err)
	}
	return nil
}
