package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
)

// rewrite changes the bytes of an object behind its store's back, in place: attributes stay.
func (b backend) rewrite(t testing.TB, key string, change func([]byte) []byte) {
	t.Helper()
	file := b.file(key)
	content, err := os.ReadFile(file)
	if err == nil {
		err = os.Chmod(file, 0o600)
	}
	if err == nil {
		err = os.WriteFile(file, change(bytes.Clone(content)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Of what is not what was recorded there is no replica, whichever object it is; and none of the wrong bytes.
func TestReplicateDamaged(t *testing.T) {
	t.Parallel()
	harms := map[string]func(t testing.TB, b backend, o store.Object){
		"bit flip": func(t testing.TB, b backend, o store.Object) {
			b.rewrite(t, o.Key, func(c []byte) []byte { c[len(c)/2] ^= 1; return c })
		},
		"truncation": func(t testing.TB, b backend, o store.Object) {
			b.rewrite(t, o.Key, func(c []byte) []byte { return c[:len(c)/2] })
		},
		"more bytes": func(t testing.TB, b backend, o store.Object) {
			b.rewrite(t, o.Key, func(c []byte) []byte { return append(c, 'x') })
		},
		"missing": func(t testing.TB, b backend, o store.Object) {
			if err := os.Remove(b.file(o.Key)); err != nil {
				t.Fatal(err)
			}
		},
		"swapped version": func(t testing.TB, b backend, o store.Object) { b.swap(t, o.Key, []byte("another content")) },
		"hidden":          func(t testing.TB, b backend, o store.Object) { b.hide(t, o) },
	}
	bothWays(t, func(t *testing.T, from, to backend) {
		n := 0
		for what, harm := range harms {
			for object := range 6 { // the manifest, four streams, a pack
				n++
				m, ref := finish(t, from, "prod-eu", time.Now().UTC().Add(time.Duration(n)*time.Second), hourLock(), "2026-11/"+strings.Repeat("p", n))
				harmed := ref
				if object > 0 {
					harmed = m.Entries()[object-1].Object
				}
				harm(t, from, harmed)
				o := replicaOptions()
				made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
				if from.kept && (what == "swapped version" || what == "hidden") { // what was recorded is still there
					if err != nil {
						t.Errorf("%s of %s: %v", what, harmed.Key, err)
						continue
					}
					isReplica(t, made, m, to, o)
					continue
				}
				if !errors.Is(err, ErrSource) || errors.Is(err, ErrOther) || made.Manifest != nil {
					t.Errorf("%s of %s: %+v, %v", what, harmed.Key, made, err)
				}
				l, err := List(bound(t), to, "prod-eu")
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range l.Backups {
					if b.ID == m.ID {
						t.Errorf("%s of %s: it is listed", what, harmed.Key)
					}
				}
				for _, h := range l.Halves {
					for _, o := range h.Objects {
						if h.ID == m.ID && o.Key == harmed.Key {
							t.Errorf("%s of %s was copied", what, harmed.Key)
						}
					}
				}
			}
		}
	})
}

// What others have put under a key of the backup is no part of a replica, unless it is the same.
func TestReplicateToWhereSomethingIs(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		content func(was []byte) []byte
		mode    store.Mode
		locked  time.Duration
		fine    bool
	}{
		"the same":                     {func(b []byte) []byte { return b }, store.Governance, 2 * time.Hour, true},
		"the same with a short lock":   {func(b []byte) []byte { return b }, store.Governance, 10 * time.Minute, true},
		"the same without a lock":      {func(b []byte) []byte { return b }, store.Unlocked, 0, false},
		"the same in another mode":     {func(b []byte) []byte { return b }, store.Compliance, time.Minute, false},
		"other content of that length": {func(b []byte) []byte { return append([]byte{b[0] ^ 1}, b[1:]...) }, store.Governance, 2 * time.Hour, false},
		"less":                         {func(b []byte) []byte { return b[1:] }, store.Governance, 2 * time.Hour, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, from, to backend) {
				for object := range 7 { // four streams, two packs, the manifest
					m, ref := finish(t, from, "prod-eu", time.Now().UTC().Add(time.Duration(object)*time.Second), hourLock(), "2026-10/a"+string(rune('a'+object)), "2026-11/b"+string(rune('a'+object)))
					there := ref
					if object < 6 {
						there = m.Entries()[object].Object
					}
					content, err := storetest.Read(bound(t), from, there)
					if err != nil {
						t.Fatal(err)
					}
					var lock store.Lock
					if c.mode != store.Unlocked {
						lock = store.Lock{Mode: c.mode, Until: time.Now().Add(c.locked)}
					}
					made, err := to.Create(bound(t), there.Key, bytes.NewReader(c.content(content)), lock)
					if err != nil {
						t.Fatal(err)
					}
					o := replicaOptions()
					replicated, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
					if c.fine && object < 6 { // the manifest of the replica is another one
						if err != nil {
							t.Fatal(err)
						}
						isReplica(t, replicated, m, to, o)
						if got := replicated.Manifest.Entries()[object].Version; got != made.Version || replicated.Reused != there.Size {
							t.Errorf("version %s is used, and not %s; %d bytes", got, made.Version, replicated.Reused)
						}
						continue
					}
					var hint *postgres.HintError
					if !errors.Is(err, ErrOther) || !errors.As(err, &hint) || errors.Is(err, ErrSource) {
						t.Errorf("%s: %+v, %v", there.Key, replicated, err)
					}
					if current, err := storetest.Read(bound(t), to, made); err != nil || !bytes.Equal(current, c.content(content)) {
						t.Errorf("%s was changed: %v", there.Key, err)
					}
				}
			})
		})
	}
}

// A pack of an earlier replica that was replaced, hidden or lost is not taken for what it was.
func TestReplicateAfterPacksWereReplaced(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		for i, what := range []string{"replaced", "hidden", "lost"} {
			environment := "qa-" + what
			first, firstRef := finish(t, from, environment, time.Now().UTC().Add(time.Duration(i)*time.Second), hourLock(), "2026-10/p1", "2026-11/p2")
			o := replicaOptions()
			before, err := Replicate(bound(t), storedIn(from, first, firstRef), to, o)
			if err != nil {
				t.Fatal(err)
			}
			m := put(t, from, environment, time.Now().UTC().Add(time.Minute), hourLock())
			m.Packs, m.Filestore.Index.Packs = first.Packs, first.Filestore.Index.Packs
			ref, err := Write(bound(t), from, m, hourLock())
			if err != nil {
				t.Fatal(err)
			}
			o.Previous = &Earlier{first.ID, before.Ref}
			pack := before.Manifest.Packs[1].Object
			switch what {
			case "replaced":
				to.swap(t, pack.Key, []byte("something else"))
			case "hidden":
				to.hide(t, pack)
			case "lost":
				if err := os.Remove(to.file(pack.Key)); err != nil {
					t.Fatal(err)
				}
			}
			made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
			// Where there is nothing under the key any more, the pack is copied anew; a folder has a record of what is lost, and
			// a bucket the version that is hidden.
			if what == "hidden" && !to.kept || what == "lost" && to.kept {
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				isReplica(t, made, m, to, o)
				if made.Reused != first.Packs[0].Size {
					t.Errorf("%s: %d bytes were used again", what, made.Reused)
				}
				continue
			}
			if !errors.Is(err, ErrOther) {
				t.Errorf("%s: %+v, %v", what, made, err)
			}
			if l, err := List(bound(t), to, environment); err != nil || len(l.Backups) != 1 || l.Backups[0].ID != first.ID {
				t.Errorf("%s: listed: %+v, %v", what, l, err)
			}
		}
	})
}

// Of an object of several parts S3 knows no SHA-256: what is there already is read, unless it was cut like the original.
func TestReplicateOfSeveralParts(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		content := storetest.Content(17<<20, 1)
		change := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
		for i, same := range []bool{true, false} {
			m := put(t, from, "prod-eu", time.Now().UTC().Add(time.Duration(i)*time.Second), hourLock())
			e := &m.Streams.Database
			key := PackKey("prod-eu", "2026-11/large"+string(rune('0'+i)))
			made, err := from.Create(bound(t), key, bytes.NewReader(content), hourLock())
			if err != nil {
				t.Fatal(err)
			}
			m.Packs = []Entry{{Object: made, PlainSHA256: e.PlainSHA256, PlainBytes: 1, ContentType: packType}}
			m.Filestore.Index.Packs = []string{packName("prod-eu", key)}
			ref, err := Write(bound(t), from, m, hourLock())
			if err != nil {
				t.Fatal(err)
			}
			there := content
			if !same {
				there = change(content)
			}
			if _, err := to.Create(bound(t), key, bytes.NewReader(there), hourLock()); err != nil {
				t.Fatal(err)
			}
			o := replicaOptions()
			replicated, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
			if !same {
				if !errors.Is(err, ErrOther) {
					t.Errorf("%+v, %v", replicated, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			isReplica(t, replicated, m, to, o)
			if replicated.Reused != int64(len(content)) {
				t.Errorf("%d bytes were used again", replicated.Reused)
			}
		}
	})
}

// meanwhile is a store in which something happens before an object is created.
type meanwhile struct {
	storetest.Store
	before func(ctx context.Context, key string, lock store.Lock)
}

func (m meanwhile) Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error) {
	m.before(ctx, key, lock)
	return m.Store.Create(ctx, key, r, lock)
}

// Whatever fails, and whenever it ends: there is no replica, and the next attempt succeeds.
func TestReplicateFails(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		m, ref := finish(t, from, "prod-eu", time.Now().UTC(), hourLock(), "2026-11/p1")
		for what, c := range map[string]struct {
			change func(b *Stored, o *ReplicateOptions)
			store  func(cancel func()) replicaStore
			want   error
		}{
			"its own store":       {change: func(_ *Stored, o *ReplicateOptions) { o.Store = m.Store }},
			"no store":            {change: func(_ *Stored, o *ReplicateOptions) { o.Store = "" }},
			"lock in the past":    {change: func(_ *Stored, o *ReplicateOptions) { o.Lock.Until = time.Now().Add(-time.Hour) }},
			"another environment": {change: func(b *Stored, _ *ReplicateOptions) { b.Environment = "prod-us" }},
			"no ID":               {change: func(b *Stored, _ *ReplicateOptions) { b.ID = "../prod-eu" }},
			"another manifest":    {change: func(b *Stored, _ *ReplicateOptions) { b.Manifest.SHA256 = strings.Repeat("0", 64) }, want: ErrSource},
			"no manifest":         {change: func(b *Stored, _ *ReplicateOptions) { b.Manifest = store.Object{} }, want: ErrSource},
			"deadline":            {change: func(_ *Stored, o *ReplicateOptions) { o.Deadline = time.Nanosecond }, want: ErrDeadline},
			"deadline while an object is copied": {change: func(_ *Stored, o *ReplicateOptions) { o.Deadline = 2 * time.Second }, store: func(func()) replicaStore {
				return meanwhile{to, func(ctx context.Context, _ string, _ store.Lock) { <-ctx.Done() }}
			}, want: ErrDeadline},
			"cancelled": {store: func(cancel func()) replicaStore {
				return meanwhile{to, func(context.Context, string, store.Lock) { cancel() }}
			}, want: context.Canceled},
			"a store that lies": {store: func(func()) replicaStore { return lyingStore{to} }, want: store.ErrChanged},
		} {
			ctx, cancel := context.WithCancel(bound(t))
			b, o := storedIn(from, m, ref), replicaOptions()
			if c.change != nil {
				c.change(&b, &o)
			}
			var at replicaStore = to
			if c.store != nil {
				at = c.store(cancel)
			}
			made, err := Replicate(ctx, b, at, o)
			cancel()
			if err == nil || c.want != nil && !errors.Is(err, c.want) || made.Manifest != nil || !strings.HasPrefix(err.Error(), "replicate backup ") {
				t.Errorf("%s: %+v, %v", what, made, err)
			}
			if l := wholeReplicas(t, to, "prod-eu"); len(l.Backups) != 0 {
				t.Errorf("%s: listed: %+v", what, l)
			}
		}
		o := replicaOptions()
		made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
		if err != nil {
			t.Fatal(err)
		}
		isReplica(t, made, m, to, o)
	})
}

// lyingStore says of what it creates that it is something else.
type lyingStore struct{ storetest.Store }

func (l lyingStore) Create(ctx context.Context, key string, r io.Reader, _ store.Lock) (store.Object, error) {
	o, err := l.Store.Create(ctx, "elsewhere/"+key, r, store.Lock{})
	o.Key, o.SHA256 = key, strings.Repeat("0", 64)
	return o, err
}

// Two replications of one backup at a time come to the same replica.
func TestReplicateTwiceAtATime(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		for environment, name := range map[string]string{"qa": DatabaseName, "uat": manifestName} {
			m, ref := finish(t, from, environment, time.Now().UTC(), hourLock(), "2026-11/p1")
			o := replicaOptions()
			var other Replicated
			at := meanwhile{to, func(_ context.Context, key string, _ store.Lock) {
				if key == Key(environment, m.ID, name) {
					var err error
					if other, err = Replicate(bound(t), storedIn(from, m, ref), to, o); err != nil {
						t.Error(err)
					}
				}
			}}
			made, err := Replicate(bound(t), storedIn(from, m, ref), at, o)
			if err != nil || made.Ref.Version != other.Ref.Version || made.Ref.SHA256 != other.Ref.SHA256 {
				t.Errorf("%+v and %+v, %v", made, other, err)
			}
			if v, err := Verify(bound(t), storedIn(to, m, made.Ref), L0, ProofOptions{}); err != nil || !v.Passed() {
				t.Errorf("%+v, %v", v, err)
			}
		}
	})
}

// A replica can be without locks, and one of a backup without locks with them.
func TestReplicateWithAndWithoutLocks(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, from, to backend) {
		for i, locks := range [][2]store.Lock{{hourLock(), {}}, {{}, hourLock()}, {{}, {}}} {
			environment := "qa-" + string(rune('a'+i))
			m, ref := finish(t, from, environment, time.Now().UTC(), locks[0], "2026-11/p1")
			o := replicaOptions()
			o.Lock = locks[1]
			for range 2 { // the second one finds what is there
				made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
				if err != nil {
					t.Fatal(err)
				}
				isReplica(t, made, m, to, o)
			}
		}
	})
}

// What is copied is never opened: it need not even be something that can be.
func TestReplicateOpensNothing(t *testing.T) {
	t.Parallel()
	from, to := openDirectory(t), openDirectory(t)
	m, ref := finish(t, from, "prod-eu", time.Now().UTC(), hourLock(), "2026-11/p1") // texts, neither compressed nor encrypted
	o := replicaOptions()
	made, err := Replicate(bound(t), storedIn(from, m, ref), to, o)
	if err != nil {
		t.Fatal(err)
	}
	isReplica(t, made, m, to, o)
	for _, e := range m.Entries() {
		was, err := os.ReadFile(from.file(e.Key))
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(to.file(e.Key)); err != nil || !bytes.Equal(was, is) {
			t.Errorf("%s: %q instead of %q, %v", filepath.Base(e.Key), is, was, err)
		}
	}
}
