package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/store"
)

// copiers is how many objects are copied at a time. Each takes the memory of an upload.
const copiers = 2

// ErrSource says that what was to be copied is not what was recorded.
var ErrSource = errors.New("the backup is not what was recorded, where it is copied from")

// replicaStore is the store that a backup is copied to.
type replicaStore interface {
	archive
	lister
}

// ReplicateOptions say what a replica is like.
type ReplicateOptions struct {
	Store    string           // name of the store that is copied to
	Lock     store.Lock       // of all objects there
	Previous *Earlier         // the newest replica in that store; nil: none is known
	Deadline time.Duration    // of all; 0 means 4 hours
	Progress func(Progress)   // called about every second, of sealed bytes, until Replicate returns; nil for none
	Now      func() time.Time // nil means time.Now

	every time.Duration // between two calls of Progress
}

// Replicated is a replica that was made.
type Replicated struct {
	Manifest *Manifest    // as it is in the store of the replica
	Ref      store.Object // of the manifest: it belongs into the evidence log
	Segments []Segment    // in order
	Took     time.Duration
	Bytes    int64 // sealed, that were copied
	Reused   int64 // sealed, that were there already
}

// Replicate copies a backup into another store, under the same keys. It opens nothing and needs no keys: each object is read
// by its recorded version and written as it is, and its writing does not end well unless its size and SHA-256 are those of
// the manifest. What is there already, of earlier replicas or of a replication that was broken off, is used if it has these,
// and if its lock is as strict; the lock is extended. The manifest of the replica differs from the backup's in the name of
// the store and in versions, locks and parts of objects, and is written last.
//
// After an error there is no replica: what has been copied by then is a [Half], which the next attempt completes. It fails
// with [ErrSource] if an object cannot be read as it was recorded, and with [ErrOther] if there is something else under a
// key. A replica that is there already, such as one of which the store's answer got lost, is found.
//
// Nothing may expire in the other store meanwhile: the half of an old backup looks like one that was broken off.
func Replicate(ctx context.Context, from Stored, to replicaStore, o ReplicateOptions) (Replicated, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &replication{from: from, to: to, o: o}
	made, err := timely(ctx, o.Deadline, r.run)
	if err != nil {
		return Replicated{}, fmt.Errorf("replicate backup %.100s to store %s: %w", from.ID, o.Store, err)
	}
	return made, nil
}

// A replication is one run of [Replicate].
type replication struct {
	from     Stored
	to       replicaStore
	o        ReplicateOptions
	meter    meter // of sealed bytes
	segments []Segment

	m      *Manifest // of the replica: with the objects of the backup until they are in the other store
	ref    store.Object
	copies []*store.Object         // those of m
	known  map[string]store.Object // of the earlier replica, by key
	there  map[string]store.Object // that the store lists, by key
	reused int64
}

func (r *replication) run(ctx context.Context) (Replicated, error) {
	stop := r.meter.report(r.o.Progress, r.o.every)
	defer stop()
	began := r.o.Now()
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{SegmentPrepare, r.prepare}, {SegmentObjects, r.look}, {SegmentCopy, r.copy}, {SegmentFinish, r.finish},
	} {
		if err := measure(s.name, &r.meter, r.o.Now, &r.segments, func() error { return s.do(ctx) }); err != nil {
			return Replicated{}, err
		}
	}
	copied, _ := r.meter.totals()
	return Replicated{
		Manifest: r.m, Ref: r.ref, Segments: r.segments, Took: r.o.Now().Sub(began), Bytes: copied, Reused: r.reused,
	}, nil
}

// prepare reads what is to be copied, and what is known of the store that it is copied to.
func (r *replication) prepare(ctx context.Context) error {
	m, err := Open(ctx, r.from.Store, r.from.Environment, r.from.ID, r.from.Manifest)
	if damaged(err) {
		return fmt.Errorf("%w: %w", ErrSource, err)
	}
	if err != nil {
		return err
	}
	if m.Store == r.o.Store {
		return fmt.Errorf("that is the store which backup %s is in", m.ID)
	}
	m.Store, r.m = r.o.Store, m
	if err := m.checkSaid(); err != nil {
		return err
	}
	for _, s := range m.named() {
		r.copies = append(r.copies, &s.entry.Object)
	}
	for i := range m.Packs {
		r.copies = append(r.copies, &m.Packs[i].Object)
	}
	if err := ready(ctx, r.to, r.o.Lock); err != nil {
		return err
	}
	previous, _, err := r.o.Previous.open(ctx, r.to, r.from.Environment) // what it does not say is found out
	if err != nil {
		return err
	}
	r.known = map[string]store.Object{}
	if previous != nil {
		for _, e := range previous.Entries() {
			r.known[e.Key] = e.Object
		}
	}
	return r.list(ctx)
}

// list lists what the store has under the keys of the backup.
func (r *replication) list(ctx context.Context) error {
	prefixes := []string{Key(r.m.Environment, r.m.ID, "")}
	wanted := map[string]bool{}
	for _, o := range r.copies {
		wanted[o.Key] = true
	}
	for _, p := range r.m.Packs { // sorted
		generation := p.Key[:strings.LastIndexByte(p.Key, '/')+1]
		if prefixes[len(prefixes)-1] != generation {
			prefixes = append(prefixes, generation)
		}
	}
	r.there = map[string]store.Object{}
	for _, prefix := range prefixes {
		for o, err := range r.to.List(ctx, prefix) {
			if err != nil {
				return err
			}
			if wanted[o.Key] {
				r.there[o.Key] = o
			}
		}
	}
	return nil
}

// look finds what need not be copied.
func (r *replication) look(ctx context.Context) error {
	found := make([]bool, len(r.copies))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lockers)
	for i, o := range r.copies {
		group.Go(func() (err error) {
			var there store.Object
			if there, found[i], err = r.find(ctx, *o); found[i] {
				*o = there
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var missing []*store.Object
	for i, o := range r.copies {
		if found[i] {
			r.reused += o.Size
			continue
		}
		missing = append(missing, o)
		r.meter.expect(o.Size)
	}
	r.copies = missing
	return nil
}

// copy copies the rest.
func (r *replication) copy(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiers)
	for _, o := range r.copies {
		group.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			*o, err = r.copyOne(ctx, *o)
			return err
		})
	}
	return group.Wait()
}

// copyOne copies an object of the backup. The store gets to the end of what it writes only if that is what was recorded.
func (r *replication) copyOne(ctx context.Context, want store.Object) (store.Object, error) {
	in, err := r.from.Store.Open(ctx, want)
	if damaged(err) {
		return store.Object{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	if err != nil {
		return store.Object{}, err
	}
	defer in.Close()
	source := &original{Reader: counted{in, &r.meter}}
	made, err := r.to.Create(ctx, want.Key, source, r.o.Lock)
	switch {
	case errors.Is(err, store.ErrExists): // since it was looked for, or it was hidden then
		there, err := r.current(ctx, want.Key)
		if err != nil {
			return store.Object{}, err
		}
		return r.adopt(ctx, there, want)
	case damaged(source.err):
		return store.Object{}, fmt.Errorf("%w: %w", ErrSource, err)
	case err != nil:
		return store.Object{}, err
	case made.SHA256 != want.SHA256 || made.Size != want.Size:
		return store.Object{}, fmt.Errorf("copy object %s: %w: the store has written something else", want.Key, store.ErrChanged)
	}
	return made, nil
}

// An original keeps the error by which reading ended.
type original struct {
	io.Reader
	err error
}

func (o *original) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if err != nil {
		o.err = err
	}
	return n, err
}

// finish writes the manifest, if it is not there.
func (r *replication) finish(ctx context.Context) (err error) {
	if r.ref, err = Write(ctx, r.to, r.m, r.o.Lock); errors.Is(err, store.ErrExists) {
		return r.finished(ctx)
	}
	return err
}

// finished takes the manifest that is there, if it says the same.
func (r *replication) finished(ctx context.Context) error {
	key := ManifestKey(r.m.Environment, r.m.ID)
	there, err := r.current(ctx, key)
	if err != nil {
		return err
	}
	m, err := open(ctx, r.to, r.m.Environment, r.m.ID, there, false)
	if err == nil {
		err = r.same(m)
	}
	if damaged(err) {
		return other(err)
	}
	if err != nil {
		return err
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	r.m = m
	r.ref, err = r.adopt(ctx, there, store.Object{Key: key, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	return err
}

// same refuses another manifest than that of the replica, but for locks that end earlier than they do by now.
func (r *replication) same(m *Manifest) error {
	theirs, ours := *m, *r.m
	theirs.Packs, ours.Packs = slices.Clone(m.Packs), slices.Clone(r.m.Packs)
	for _, of := range []*Manifest{&theirs, &ours} {
		for _, s := range of.named() {
			s.entry.LockedUntil = time.Time{}
		}
		for i := range of.Packs {
			of.Packs[i].LockedUntil = time.Time{}
		}
	}
	a, err := theirs.encode()
	if err != nil {
		return err
	}
	b, err := ours.encode()
	if err != nil {
		return err
	}
	if string(a) != string(b) {
		return fmt.Errorf("%w: it is not that of a replica of this backup", ErrManifest)
	}
	entries := r.m.Entries()
	for i, e := range m.Entries() {
		if now := entries[i]; r.o.Lock.Mode != store.Unlocked && e.LockedUntil.After(now.LockedUntil) {
			return fmt.Errorf("%w: object %s: its lock ends %s instead of %s", store.ErrChanged, e.Key, now.LockedUntil, e.LockedUntil)
		}
	}
	return nil
}
