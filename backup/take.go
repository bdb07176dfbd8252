package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
)

// defaultDeadline is that of a backup policy.
const defaultDeadline = 4 * time.Hour

// ErrDeadline says that a backup, or its replication, took longer than it may.
var ErrDeadline = errors.New("it took longer than it may")

// Content types of what a backup consists of.
const (
	databaseType    = "application/vnd.postgresql.custom-dump"
	rolesType       = "application/sql"
	attachmentsType = "text/tab-separated-values"
	packType        = "application/x-tar"
)

// archive is the store that a backup is written to, and that earlier ones are in.
type archive interface {
	creator
	opener
	extender
	// Stat fails with [store.ErrMissing] or [store.ErrChanged] if the version is not there as the record says.
	Stat(ctx context.Context, o store.Object) (store.Info, error)
	// Probe proves that objects with a lock can be written now.
	Probe(ctx context.Context) error
	// Now is the store's clock; it fails with [store.ErrSkew] if ours differs.
	Now(ctx context.Context) (time.Time, error)
}

// TakeOptions say what is backed up.
type TakeOptions struct {
	Environment   string
	Policy, Store string // their names
	Reason        string
	Configuration Configuration
	Settings      []byte // what was declared and deployed: the content of the stream of the configuration
	SettingsType  string // content type of Settings

	Connection postgres.Connection
	Programs   postgres.Tools
	Snapshot   postgres.Options // its Stall and MaxHold end a backup, too
	Filestore  string           // folder

	Recipients []string       // public keys of age: the estate's and that of the escrow
	Identities []age.Identity // open the streams of Previous; without one all attachments are copied
	Previous   *Earlier       // the newest backup, or the newest that was verified; nil: all attachments are copied
	Lock       store.Lock     // of all objects
	PackBytes  int64          // see [filestore.CopyOptions]

	// Scratch is a folder for what does not fit into memory, and for what the next backup has to know of one that was broken
	// off. It takes about 500 bytes per attachment.
	Scratch  string
	Deadline time.Duration     // of all; 0 means 4 hours
	Versions map[string]string // of programs besides PostgreSQL's, such as purser
	Progress func(Progress)    // called about every second, until Take returns; nil for none
	Log      *slog.Logger      // nil for none
	Now      func() time.Time

	every time.Duration // between two calls of Progress
}

// Earlier is a backup as the evidence log knows it.
type Earlier struct {
	ID       ID
	Manifest store.Object // as [Write] returned it
}

// Taken is a backup that was made.
type Taken struct {
	Manifest *Manifest
	Ref      store.Object // of the manifest: it belongs into the evidence log
	Segments []Segment    // in order
	Took     time.Duration
	Plain    int64 // bytes that were read from database and filestore
	Sealed   int64 // bytes that were written to the store
	// Anew says why earlier packs were not used; empty if they were, or if there are none.
	Anew     string
	Problems filestore.Problems // contents that the backup lacks
}

// A Segment is a part of a backup that took time.
type Segment struct {
	Name  string        `json:"name"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
}

// Names of segments.
const (
	SegmentPrepare     = "prepare"     // the store is asked whether it takes a backup, and for earlier packs
	SegmentGuard       = "guard"       // attachments are guarded, and a snapshot is taken
	SegmentDatabase    = "database"    // it is read
	SegmentAttachments = "attachments" // new contents are copied
	SegmentFinish      = "finish"      // locks of earlier packs are extended, the manifest is written
	SegmentCopy        = "copy"        // of a replication: objects are copied
)

// Take makes a backup. After an error there is none: what has been stored by then is a [Half]. Only if the store's answer to
// the manifest got lost can the whole backup be there nevertheless.
func Take(ctx context.Context, s archive, o TakeOptions) (Taken, error) {
	t := &taking{store: s, o: o.withDefaults(), packs: map[string]Entry{}}
	t.began = t.o.Now().UTC()
	t.id = NewID(o.Environment, t.began)
	taken, err := timely(ctx, t.o.Deadline, t.run)
	if err != nil {
		return Taken{}, fmt.Errorf("take backup %s: %w", t.id, err)
	}
	return taken, nil
}

func (o TakeOptions) withDefaults() TakeOptions {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Snapshot.Log == nil {
		o.Snapshot.Log = o.Log
	}
	return o
}

func (o TakeOptions) recipients() ([]age.Recipient, error) {
	if len(o.Recipients) == 0 {
		return nil, errors.New("nobody could open it: no recipient is given")
	}
	list, err := age.ParseRecipients(strings.NewReader(strings.Join(o.Recipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	return list, nil
}

// A taking is one run of [Take].
type taking struct {
	store      archive
	o          TakeOptions
	id         ID
	began      time.Time
	recipients []age.Recipient
	meter      meter
	segments   []Segment

	earlier *earlier
	journal *journal
	facts   postgres.Facts
	prints  []postgres.Fingerprint
	at      time.Time // of the snapshot, by our clock
	streams Streams
	plan    *filestore.Plan
	copied  filestore.Copied
	packs   map[string]Entry // that were written
}

// timely does something within a deadline. An error that comes of its end says so.
func timely[T any](ctx context.Context, deadline time.Duration, do func(context.Context) (T, error)) (T, error) {
	if deadline <= 0 {
		deadline = defaultDeadline
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("%w: %s", ErrDeadline, deadline))
	defer cancel()
	result, err := do(ctx)
	if end, _ := ctx.Deadline(); err != nil && time.Until(end) <= 0 {
		<-ctx.Done() // a connection may have seen it a moment earlier than the context says it
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return result, err
}

func (t *taking) run(ctx context.Context) (Taken, error) {
	stop := t.meter.report(t.o.Progress, t.o.every)
	defer stop()
	if err := t.segment(SegmentPrepare, func() error { return t.prepare(ctx) }); err != nil {
		return Taken{}, err
	}
	defer t.earlier.close()
	defer t.journal.close()
	if err := t.read(ctx); err != nil {
		return Taken{}, err
	}
	defer t.plan.Close()
	var taken Taken
	err := t.segment(SegmentFinish, func() (err error) {
		taken, err = t.finish(ctx)
		return err
	})
	if err != nil {
		return Taken{}, err
	}
	taken.Segments, taken.Took = t.segments, t.o.Now().Sub(t.began)
	if err := t.journal.done(); err != nil { // a reason to look at the folder, and not against the backup
		t.o.Log.Warn("journals of backups that were broken off are left", "backup", t.id, "error", err)
	}
	return taken, nil
}

func (t *taking) segment(name string, do func() error) error {
	return measure(name, &t.meter, t.o.Now, &t.segments, do)
}

// prepare finds out what can be found out before the database is concerned.
func (t *taking) prepare(ctx context.Context) (err error) {
	if err := t.id.check(t.o.Environment); err != nil {
		return err
	}
	if t.recipients, err = t.o.recipients(); err != nil {
		return err
	}
	if err := t.manifest().checkSaid(); err != nil { // now, and not when all is done
		return err
	}
	if t.o.SettingsType == "" {
		return errors.New("the configuration has no content type")
	}
	if err := ready(ctx, t.store, t.o.Lock); err != nil {
		return err
	}
	if t.journal, err = openJournal(t.o.Scratch, t.o.Environment, t.id, t.o.Recipients); err != nil {
		return err
	}
	if t.earlier, err = t.findEarlier(ctx); err != nil {
		t.journal.close()
		return err
	}
	return nil
}

// ready asks a store whether it takes objects with a lock now.
func ready(ctx context.Context, s archive, lock store.Lock) (err error) {
	if lock.Mode == store.Unlocked {
		_, err = s.Now(ctx)
		return err
	}
	return s.Probe(ctx)
}

// read reads database and filestore: all that has to be of one moment.
func (t *taking) read(ctx context.Context) (err error) {
	var s *postgres.Snapshot
	err = t.segment(SegmentGuard, func() (err error) {
		before := t.o.Now().UTC()
		if s, err = postgres.Begin(ctx, t.o.Connection, t.o.Programs, t.o.Snapshot); err != nil {
			return err
		}
		// By the server's clock, if that fits between two times of ours.
		if t.at = s.At.UTC(); t.at.Before(before) || t.at.After(t.o.Now()) {
			t.at = before
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer s.Close()
	defer func() {
		if err != nil && t.plan != nil {
			_ = t.plan.Close() // a file without a name
		}
	}()
	if err := t.segment(SegmentDatabase, func() error { return t.readDatabase(ctx, s) }); err != nil {
		return err
	}
	return t.segment(SegmentAttachments, func() error {
		if err := t.copyAttachments(ctx); err != nil {
			return err
		}
		return s.Release(ctx)
	})
}

// readDatabase reads all that is in the snapshot, and ends it.
func (t *taking) readDatabase(ctx context.Context, s *postgres.Snapshot) error {
	group, ctx := errgroup.WithContext(ctx)
	stream := func(name, contentType string, fill func(context.Context, io.Writer) error) (Entry, error) {
		return t.write(ctx, Key(t.o.Environment, t.id, name), contentType, t.o.Lock, func(w io.Writer) error { return fill(ctx, w) })
	}
	group.Go(func() (err error) {
		t.streams.Database, err = stream(DatabaseName, databaseType, s.Dump)
		return err
	})
	group.Go(func() (err error) { // small, and so one after the other: each stream takes memory
		if t.streams.Roles, err = stream(RolesName, rolesType, s.Roles); err != nil {
			return err
		}
		t.streams.Configuration, err = stream(ConfigurationName, t.o.SettingsType, func(_ context.Context, w io.Writer) error {
			_, err := w.Write(t.o.Settings)
			return err
		})
		return err
	})
	group.Go(func() (err error) {
		if t.facts, err = s.Facts(ctx); err != nil {
			return err
		}
		t.meter.expect(t.earlier.dumpBytes(t.facts.Bytes))
		t.plan, err = filestore.NewPlan(ctx, t.o.Scratch, attachments(s.Attachments(ctx)), t.earlier.streams(), t.earlier.usable)
		if err != nil {
			return err
		}
		t.meter.expect(t.plan.New.Bytes)
		t.prints, err = s.Fingerprints(ctx)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return s.End()
}

// attachments are the same to both packages.
func attachments(rows iter.Seq2[postgres.Attachment, error]) iter.Seq2[filestore.Attachment, error] {
	return func(yield func(filestore.Attachment, error) bool) {
		for a, err := range rows {
			if !yield(filestore.Attachment(a), err) {
				return
			}
		}
	}
}

func (t *taking) copyAttachments(ctx context.Context) (err error) {
	if t.plan.New.Contents == 0 {
		return nil
	}
	t.copied, err = t.plan.Copy(ctx, t.o.Filestore, packWriter{t}, filestore.CopyOptions{PackBytes: t.o.PackBytes, Stored: func(pack string, lines []byte, contents int64) error {
		return t.journal.add(t.packs[pack], pack, lines, contents)
	}})
	return err
}

// A packWriter gives packs their names: those of a backup say which it was.
type packWriter struct{ t *taking }

func (p packWriter) WritePack(ctx context.Context, fill func(io.Writer) error) (string, error) {
	t := p.t
	text := string(t.id)
	name := fmt.Sprintf("%s/%s-%s-%05d", Generation(t.began), text[:len(idTime)], text[len(text)-idRandom:], len(t.packs)+1)
	entry, err := t.write(ctx, PackKey(t.o.Environment, name), packType, t.o.Lock, fill)
	if err != nil {
		return "", err
	}
	t.packs[name] = entry
	return name, nil
}

// finish writes what says what the backup consists of.
func (t *taking) finish(ctx context.Context) (Taken, error) {
	var index filestore.Index
	var err error
	t.streams.Attachments, err = t.write(ctx, Key(t.o.Environment, t.id, AttachmentsName), attachmentsType, t.o.Lock, func(w io.Writer) (err error) {
		index, err = t.plan.Write(ctx, w)
		return err
	})
	if err != nil {
		return Taken{}, err
	}
	packs, err := t.entries(ctx, index.Packs)
	if err != nil {
		return Taken{}, err
	}
	problems := map[filestore.Kind]int64{}
	for _, p := range []filestore.Problems{t.plan.Problems, t.copied.Problems} {
		for kind, n := range p.Counts {
			problems[kind] += n
		}
	}
	m := t.manifest()
	m.Times.Began = t.began.Round(0) // as it is read again; in order, also if our clock was set back
	m.Times.Snapshot = later(t.at.Round(0), m.Times.Began)
	m.Times.Finished = later(t.o.Now().UTC().Round(0), m.Times.Snapshot)
	m.Streams, m.Packs, m.Postgres, m.Fingerprints = t.streams, packs, t.facts, t.prints
	m.Filestore = Filestore{Index: index, New: t.copied.Amount, Rows: t.plan.Rows, InDatabase: t.plan.InDatabase, Problems: problems}
	ref, err := Write(ctx, t.store, m, t.o.Lock)
	if err != nil {
		return Taken{}, err
	}
	taken := Taken{Manifest: m, Ref: ref, Anew: t.earlier.why, Problems: t.plan.Problems}
	taken.Problems.Merge(t.copied.Problems)
	taken.Plain, taken.Sealed = t.meter.totals()
	return taken, nil
}

// manifest is what is known of it from the beginning.
func (t *taking) manifest() *Manifest {
	return &Manifest{
		Format: Format, Environment: t.o.Environment, ID: t.id, Policy: t.o.Policy, Store: t.o.Store, Reason: t.o.Reason,
		Configuration: t.o.Configuration, Recipients: t.o.Recipients, Tools: t.o.Versions,
	}
}

// lockers is how many locks are extended at a time.
const lockers = 8

// entries are those of the packs of the backup. Those that are used again have to outlast it.
func (t *taking) entries(ctx context.Context, names []string) ([]Entry, error) {
	list := make([]Entry, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lockers)
	for i, name := range names {
		entry, written := t.packs[name]
		if list[i] = entry; written {
			continue
		}
		if list[i], written = t.earlier.packs[name]; !written {
			return nil, errors.Join(fmt.Errorf("nothing is known of pack %s", name), group.Wait())
		}
		group.Go(func() (err error) {
			list[i].Object, err = outlast(ctx, t.store, list[i].Object, t.o.Lock)
			return err
		})
	}
	return list, group.Wait()
}
