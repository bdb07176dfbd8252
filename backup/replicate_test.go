package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
)

// ways are from one kind of store to another one.
var ways = map[string]struct{ from, to func(testing.TB) backend }{
	"from s3 to directory": {openBucket, openDirectory},
	"from directory to s3": {openDirectory, openBucket},
	"from s3 to s3":        {openBucket, openBucket},
}

// bothWays runs a test on stores to copy from and to.
func bothWays(t *testing.T, run func(t *testing.T, from, to backend)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, way.from(t), way.to(t))
		})
	}
}

// replicaOptions are those of a store whose name is far.
func replicaOptions() ReplicateOptions { return ReplicateOptions{Store: "far", Lock: hourLock()} }

// storedIn is a backup that nobody has keys of.
func storedIn(s examiner, m *Manifest, ref store.Object) Stored {
	return Stored{Store: s, Environment: m.Environment, ID: m.ID, Manifest: ref}
}

// isReplica checks what a replication returns, and every object of the replica.
func isReplica(t testing.TB, made Replicated, source *Manifest, to storetest.Store, o ReplicateOptions) {
	t.Helper()
	m, err := Open(bound(t), to, source.Environment, source.ID, made.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, m), encoded(t, made.Manifest)) {
		t.Error("the manifest in the store is not the one that was returned")
	}
	want, sum := *source, int64(0)
	want.Store, want.Packs = o.Store, slices.Clone(source.Packs)
	for i, e := range m.Entries() {
		was := source.Entries()[i]
		if e.Key != was.Key || e.SHA256 != was.SHA256 || e.Size != was.Size || e.PlainSHA256 != was.PlainSHA256 {
			t.Errorf("%+v was copied as %+v", was, e)
		}
		if o.Lock.Mode != store.Unlocked && e.LockedUntil.Before(o.Lock.Until) || o.Lock.Mode == store.Unlocked && !e.LockedUntil.IsZero() {
			t.Errorf("%s is locked until %s, and not until %s", e.Key, e.LockedUntil, o.Lock.Until)
		}
		info, err := to.Stat(bound(t), e.Object)
		if err != nil || info.Lock.Mode != o.Lock.Mode {
			t.Errorf("%s: %+v, %v", e.Key, info, err)
		}
		content, err := storetest.Read(bound(t), to, e.Object)
		if err != nil || int64(len(content)) != e.Size {
			t.Errorf("%s: %d bytes, %v", e.Key, len(content), err)
		}
		sum += e.Size
	}
	for _, s := range want.named() {
		for _, ours := range m.named() {
			if ours.name == s.name {
				*s.entry = *ours.entry
			}
		}
	}
	copy(want.Packs, m.Packs)
	if !bytes.Equal(encoded(t, &want), encoded(t, m)) {
		t.Errorf("the replica says something else than the backup:\n%s\n%s", encoded(t, &want), encoded(t, m))
	}
	if made.Bytes+made.Reused != sum {
		t.Errorf("%d bytes were copied and %d used again, of %d", made.Bytes, made.Reused, sum)
	}
	if made.Ref.LockedUntil.Before(o.Lock.Until) {
		t.Errorf("the manifest is locked until %s", made.Ref.LockedUntil)
	}
}

// A replica of what Take makes passes every level, and it alone suffices to restore. So does a replica of a replica.
func TestReplicate(t *testing.T) {
	t.Parallel()
	s := &stand{shop: openShop(t, 60)}
	first := s.take(t, nil)
	stop := s.sell(t)
	second := s.take(t, &first)
	stop()
	near, far, other := openDirectory(t), openBucket(t), openBucket(t)
	o := replicaOptions()
	o.Store = "near"
	var told []Progress
	o.Progress, o.every = func(p Progress) { told = append(told, p) }, time.Millisecond
	replicas := map[string]Replicated{}
	replicate := func(what string, from Stored, m *Manifest, to backend, o ReplicateOptions) Replicated {
		t.Helper()
		made, err := Replicate(bound(t), from, to, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		isReplica(t, made, m, to, o)
		replicas[what] = made
		return made
	}
	made := replicate("s3 to directory", storedIn(s.s3, first.Manifest, first.Ref), first.Manifest, near, o)
	if made.Reused != 0 || len(told) == 0 || told[len(told)-1].Total != made.Bytes {
		t.Errorf("%d bytes were used again, progress %+v", made.Reused, told)
	}
	var names []string
	for _, segment := range made.Segments {
		names = append(names, segment.Name)
	}
	if !slices.Equal(names, []string{SegmentPrepare, SegmentObjects, SegmentCopy, SegmentFinish}) || made.Took <= 0 {
		t.Errorf("%v, %s", names, made.Took)
	}
	o.Progress, o.Previous, o.Lock.Until = nil, &Earlier{first.Manifest.ID, made.Ref}, o.Lock.Until.Add(time.Hour)
	again := replicate("s3 to directory, the second one", storedIn(s.s3, second.Manifest, second.Ref), second.Manifest, near, o)
	kept := 0
	for _, p := range again.Manifest.Packs {
		for _, was := range made.Manifest.Packs {
			if p.Key == was.Key && p.Version == was.Version {
				kept++
			}
		}
	}
	if again.Reused == 0 || kept != len(made.Manifest.Packs) {
		t.Errorf("%d packs are used again of %d, %d bytes", kept, len(made.Manifest.Packs), again.Reused)
	}
	o.Store, o.Previous = "far", nil
	replicate("directory to s3", storedIn(near, second.Manifest, again.Ref), second.Manifest, far, o)
	o.Store = "other"
	replicate("s3 to s3", storedIn(s.s3, second.Manifest, second.Ref), second.Manifest, other, o)

	proof := proofOptions(t)
	for what, in := range map[string]backend{"s3 to directory, the second one": near, "directory to s3": far, "s3 to s3": other} {
		b := storedIn(in, second.Manifest, replicas[what].Ref)
		b.Identities = []age.Identity{s.escrow}
		levels := []Level{L0, L1}
		if what == "directory to s3" {
			levels = append(levels, L2)
		}
		for _, level := range levels {
			v, err := Verify(bound(t), b, level, proof)
			if err != nil || !v.Passed() || v.Reached != level || len(v.Notes) > 0 {
				t.Errorf("%s: %s: %+v, %v", what, level, v, err)
			}
		}
		l, err := List(bound(t), in, s.options.Environment)
		if err != nil || len(l.Halves) > 0 || len(l.Strange) > 0 {
			t.Errorf("%s: %+v, %v", what, l, err)
		}
		for f, err := range l.Read(bound(t), in) {
			if err != nil || f.Problem != nil {
				t.Errorf("%s: %+v, %v", what, f, err)
			}
		}
	}
	// Nothing is left where the backup was made.
	for _, e := range second.Manifest.Entries() {
		if err := os.Remove(s.file(e.Key)); err != nil {
			t.Fatal(err)
		}
	}
	b := storedIn(near, second.Manifest, again.Ref)
	b.Identities = []age.Identity{s.escrow}
	at := s.target(t)
	if r, err := Restore(bound(t), b, at, RestoreOptions{ProofOptions: proof}); err != nil || r.Err() != nil {
		t.Errorf("%+v, %v", r, err)
	}
	s.sound(t, at)
}

// stopping is a store in which creating objects fails after some.
type stopping struct {
	storetest.Store
	after atomic.Int64
}

func (b *stopping) Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error) {
	if b.after.Add(-1) < 0 {
		return store.Object{}, errBroken
	}
	return b.Store.Create(ctx, key, r, lock)
}

// wholeReplicas checks what is listed after a replication that ended with an error or nil: nothing, or a whole backup.
func wholeReplicas(t testing.TB, s storetest.Store, environment string) Listing {
	t.Helper()
	l, err := List(bound(t), s, environment)
	if err != nil {
		t.Fatal(err)
	}
	for f, err := range l.Read(bound(t), s) {
		if err != nil || f.Problem != nil {
			t.Fatalf("%s: %v, %v", f.ID, err, f.Problem)
		}
		for _, e := range f.Manifest.Entries() {
			if _, err := s.Stat(bound(t), e.Object); err != nil {
				t.Error(err)
			}
			if _, err := storetest.Read(bound(t), s, e.Object); err != nil {
				t.Error(err)
			}
		}
	}
	return l
}

// What a replication that was broken off has copied, the next one takes as it is.
func TestReplicateGoesOn(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		start := time.Now().UTC()
		for after := range 7 { // four streams, two packs, the manifest
			environment := fmt.Sprintf("qa-%d", after)
			m, ref := finish(t, from, environment, start, hourLock(), "2026-10/p1", "2026-11/p2")
			o := replicaOptions()
			b := storedIn(from, m, ref)
			stops := &stopping{Store: to}
			stops.after.Store(int64(after))
			if made, err := Replicate(bound(t), b, stops, o); !errors.Is(err, errBroken) || made.Manifest != nil {
				t.Fatalf("%+v, %v", made, err)
			}
			l := wholeReplicas(t, to, environment)
			if len(l.Backups) != 0 || len(l.Halves) > 1 {
				t.Errorf("listed after %d objects: %+v", after, l)
			}
			copied := map[string]string{}
			for _, o := range l.Packs {
				copied[o.Key] = o.Version
			}
			for _, h := range l.Halves {
				for _, o := range h.Objects {
					copied[o.Key] = o.Version
				}
			}
			if len(copied) > after || after == 6 && len(copied) != 6 {
				t.Errorf("%d objects were copied, not %d", len(copied), after)
			}
			o.Lock.Until = o.Lock.Until.Add(time.Minute) // it is later by now
			made, err := Replicate(bound(t), b, to, o)
			if err != nil {
				t.Fatal(err)
			}
			isReplica(t, made, m, to, o)
			if len(copied) > 0 && made.Reused == 0 { // one that was being written may have appeared since
				t.Errorf("%d bytes were used again after %d objects", made.Reused, len(copied))
			}
			for _, e := range made.Manifest.Entries() {
				if was, there := copied[e.Key]; there && was != e.Version {
					t.Errorf("%s was copied twice", e.Key)
				}
			}
			// Whoever does not know that it is there finds it.
			o.Lock.Until = o.Lock.Until.Add(time.Minute)
			found, err := Replicate(bound(t), b, to, o)
			if err != nil || found.Bytes != 0 || found.Ref.Version != made.Ref.Version || found.Ref.SHA256 != made.Ref.SHA256 || found.Ref.LockedUntil.Before(o.Lock.Until) {
				t.Errorf("%+v, %v", found, err)
			}
			v, err := Verify(bound(t), storedIn(to, m, found.Ref), L0, ProofOptions{})
			if err != nil || !v.Passed() {
				t.Errorf("%+v, %v", v, err)
			}
			if l := wholeReplicas(t, to, environment); len(l.Backups) != 1 || len(l.Halves) != 0 || len(l.Packs) != 2 {
				t.Errorf("listed: %+v", l)
			}
		}
	})
}

// Packs of an earlier replica are used again, known or not, and outlast the replica that uses them.
func TestReplicateUsesPacksAgain(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		start := time.Now().UTC()
		first, firstRef := finish(t, from, "prod-eu", start, hourLock(), "2026-10/p1", "2026-11/p2")
		o := replicaOptions()
		before, err := Replicate(bound(t), storedIn(from, first, firstRef), to, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Lock.Until = o.Lock.Until.Add(time.Hour)
		damagedRef := before.Ref
		damagedRef.SHA256 = strings.Repeat("0", 64)
		previous := map[string]*Earlier{"unknown": nil, "known": {first.ID, before.Ref}, "damaged": {first.ID, damagedRef}, "gone": {first.ID, store.Object{Key: before.Ref.Key, Version: strings.Repeat("0", 26), Size: 1, SHA256: damagedRef.SHA256}}}
		for i, what := range slices.Sorted(maps.Keys(previous)) {
			m := put(t, from, "prod-eu", start.Add(time.Duration(i+1)*time.Second), hourLock())
			m.Packs, m.Filestore.Index.Packs = first.Packs, first.Filestore.Index.Packs
			ref, err := Write(bound(t), from, m, hourLock())
			if err != nil {
				t.Fatal(err)
			}
			o.Previous = previous[what]
			made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			isReplica(t, made, m, to, o)
			if want := first.Packs[0].Size + first.Packs[1].Size; made.Reused != want {
				t.Errorf("%s: %d bytes were used again, not %d", what, made.Reused, want)
			}
		}
		// Locks that were extended are no finding of the replica that has shorter ones.
		if v, err := Verify(bound(t), storedIn(to, first, before.Ref), L0, ProofOptions{}); err != nil || !v.Passed() {
			t.Errorf("%+v, %v", v, err)
		}
	})
}
