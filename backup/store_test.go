package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/sources/declaration"
)

// A backend is an empty store and what can be done to it behind its back.
type backend struct {
	storetest.Store
	expirer storetest.Store
	swap    func(t testing.TB, key string, content []byte) // put other content under the key of an object
	hide    func(t testing.TB, o store.Object)             // delete it without naming its version
	kept    bool                                           // swapped and hidden versions can still be read
	file    func(key string) string                        // where the current content of an object is
	options store.S3Options                                // of a bucket
}

// onStores runs a test on each kind of store.
func onStores(t *testing.T, run func(t *testing.T, b backend)) {
	for name, open := range map[string]func(testing.TB) backend{"directory": openDirectory, "s3": openBucket} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, open(t))
		})
	}
}

func openDirectory(t testing.TB) backend {
	t.Helper()
	folder := t.TempDir()
	open := func() *store.Directory {
		d, err := store.OpenDirectory(folder, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	must := func(t testing.TB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return backend{Store: open(), expirer: open(), file: func(key string) string { return filepath.Join(folder, key) },
		swap: func(t testing.TB, key string, content []byte) {
			must(t, os.Remove(filepath.Join(folder, key)))
			must(t, os.WriteFile(filepath.Join(folder, key), content, 0o600))
		},
		hide: func(t testing.TB, o store.Object) {
			must(t, os.Remove(filepath.Join(folder, ".objects", o.Key+".json")))
		},
	}
}

func openBucket(t testing.TB) backend {
	t.Helper()
	l := labtest.Shared(t, lab.S3)
	bucket := labtest.Bucket(t, l)
	options := store.S3Options{Endpoint: l.S3URL, Region: lab.S3Region, Bucket: bucket, Prefix: "estate/", CA: l.CAFile,
		Credentials: l.S3CredentialsFile(lab.S3Writer), Backoff: 200 * time.Millisecond}
	open := func(user string) *store.S3 {
		o := options
		o.Credentials = l.S3CredentialsFile(user)
		s, err := store.NewS3(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	client, closeIdle, err := lab.S3Client(l, lab.S3Writer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIdle)
	expirer, closeExpirer, err := lab.S3Client(l, lab.S3Expirer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeExpirer)
	return backend{Store: open(lab.S3Writer), expirer: open(lab.S3Expirer), kept: true, options: options,
		file: func(key string) string { return filepath.Join(l.Dir, "s3", "buckets", bucket, "estate", key) },
		swap: func(t testing.TB, key string, content []byte) {
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("estate/" + key), Body: bytes.NewReader(content)}); err != nil {
				t.Fatal(err)
			}
		},
		hide: func(t testing.TB, o store.Object) {
			if _, err := expirer.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("estate/" + o.Key)}); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func bound(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// put stores the objects of a backup that began at a time, all but its manifest.
func put(t testing.TB, b backend, environment string, start time.Time, lock store.Lock, packs ...string) *Manifest {
	t.Helper()
	m := sample(t, environment)
	m.ID = NewID(environment, start)
	m.Times = Times{Began: start, Snapshot: start, Finished: start.Add(time.Millisecond)}
	m.Packs, m.Filestore.Index.Packs = nil, packs
	create := func(key string) Entry {
		o, err := b.Create(bound(t), key, strings.NewReader("content of "+key), lock)
		if err != nil {
			t.Fatal(err)
		}
		return Entry{Object: o, PlainSHA256: o.SHA256, PlainBytes: o.Size, ContentType: "text/plain"}
	}
	for _, s := range m.named() {
		*s.entry = create(Key(environment, m.ID, s.name))
	}
	for _, p := range packs {
		m.Packs = append(m.Packs, create(PackKey(environment, p)))
	}
	return m
}

// finish stores a whole backup.
func finish(t testing.TB, b backend, environment string, start time.Time, lock store.Lock, packs ...string) (*Manifest, store.Object) {
	t.Helper()
	m := put(t, b, environment, start, lock, packs...)
	ref, err := Write(bound(t), b, m, lock)
	if err != nil {
		t.Fatal(err)
	}
	return m, ref
}

// hourLock is a lock that the bucket of the lab takes.
func hourLock() store.Lock {
	return store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)}
}

func TestWriteListOpen(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, b backend) {
		ctx := bound(t)
		start := time.Now().UTC()
		m, ref := finish(t, b, "prod-eu", start, hourLock(), "2026-10/p1", "2026-11/p2")
		later, _ := finish(t, b, "prod-eu", start.Add(time.Second), hourLock())
		finish(t, b, "prod", start, hourLock(), "2026-11/p2") // whose name begins that of the other
		half := put(t, b, "prod-eu", start.Add(2*time.Second), hourLock())
		if _, err := b.Create(ctx, "prod-eu/backups/notes.txt", strings.NewReader("x"), store.Lock{}); err != nil {
			t.Fatal(err)
		}
		got, err := Open(ctx, b, "prod-eu", m.ID, ref)
		if err != nil || !bytes.Equal(encoded(t, got), encoded(t, m)) {
			t.Fatalf("got %+v, %v", got, err)
		}
		if _, err := Write(ctx, b, m, hourLock()); !errors.Is(err, store.ErrExists) {
			t.Errorf("written twice: %v", err)
		}
		l, err := List(ctx, b, "prod-eu")
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Backups) != 2 || l.Backups[0].ID != m.ID || l.Backups[1].ID != later.ID || len(l.Backups[0].Objects) != 4 || l.Backups[0].Ref.Version != ref.Version {
			t.Errorf("backups: %+v", l.Backups)
		}
		if len(l.Halves) != 1 || l.Halves[0].ID != half.ID || len(l.Packs) != 2 || len(l.Strange) != 1 {
			t.Errorf("halves %+v, packs %+v, strange %+v", l.Halves, l.Packs, l.Strange)
		}
		for f, err := range l.Read(ctx, b) {
			if err != nil || f.Problem != nil || f.Manifest == nil || f.Manifest.ID != f.ID {
				t.Errorf("%+v, %v", f, err)
			}
		}
		if l, err := List(ctx, b, "staging"); err != nil || len(l.Backups)+len(l.Halves)+len(l.Packs)+len(l.Strange) != 0 {
			t.Errorf("an environment without backups: %+v, %v", l, err)
		}
		if _, err := List(ctx, b, "prod-eu/backups"); err == nil {
			t.Error("lists what is no environment")
		}
	})
}

// What is not as it was written is never taken for a backup, whoever wrote it.
func TestDamage(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, b backend) {
		ctx := bound(t)
		start := time.Now().UTC()
		n := 0
		fresh := func() (*Manifest, store.Object) {
			n++
			return finish(t, b, "prod-eu", start.Add(time.Duration(n)*time.Second), hourLock())
		}
		// problem is what is said of a backup in a list.
		problem := func(id ID) (Found, bool) {
			l, err := List(ctx, b, "prod-eu")
			if err != nil {
				t.Fatal(err)
			}
			for f, err := range l.Read(ctx, b) {
				if err != nil {
					t.Fatal(err)
				}
				if f.ID == id {
					return f, true
				}
			}
			return Found{}, false
		}
		readable := func(what string, id ID, ref store.Object) {
			t.Helper()
			_, err := Open(ctx, b, "prod-eu", id, ref)
			if b.kept && err != nil {
				t.Errorf("%s: the recorded version cannot be read: %v", what, err)
			}
			if !b.kept && !damaged(err) {
				t.Errorf("%s: %v", what, err)
			}
		}

		other, otherRef := fresh()
		for what, content := range map[string]func(m *Manifest) []byte{
			"bit flip":       func(m *Manifest) []byte { d := encoded(t, m); d[len(d)/2] ^= 4; return d },
			"truncation":     func(m *Manifest) []byte { d := encoded(t, m); return d[:len(d)/2] },
			"other backup's": func(*Manifest) []byte { return encoded(t, other) },
			"other environment's": func(m *Manifest) []byte {
				return bytes.ReplaceAll(encoded(t, m), []byte("prod-eu"), []byte("prod-us"))
			},
			"objects of another backup": func(m *Manifest) []byte {
				forged := *m
				forged.Streams = other.Streams
				return encoded(t, &forged)
			},
			"empty": func(*Manifest) []byte { return nil },
		} {
			m, ref := fresh()
			b.swap(t, ref.Key, content(m))
			if f, there := problem(m.ID); !there || f.Problem == nil || f.Manifest != nil {
				t.Errorf("%s: listed as %+v", what, f)
			}
			readable(what, m.ID, ref)
			if _, err := b.Stat(ctx, ref); b.kept && !errors.Is(err, store.ErrChanged) { // a folder shows it to who reads the content
				t.Errorf("%s: level 0 finds %v", what, err)
			}
		}

		inv, err := Survey(ctx, b, "prod-eu", nil)
		if err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for _, c := range inv.Backups {
			if c.Problem != "" {
				unknown++
			}
		}
		if unknown != 6 {
			t.Errorf("it is unknown what %d backups consist of", unknown)
		}

		m, ref := fresh()
		b.hide(t, ref)
		if f, there := problem(m.ID); there {
			t.Errorf("hidden manifest: listed as %+v", f)
		}
		readable("hidden manifest", m.ID, ref)

		m, _ = fresh()
		b.hide(t, m.Streams.Roles.Object)
		if f, there := problem(m.ID); !there || f.Manifest == nil || !errors.Is(f.Problem, store.ErrMissing) {
			t.Errorf("hidden stream: %+v", f)
		}
		if b.kept {
			m, _ = fresh()
			b.swap(t, m.Streams.Database.Key, []byte("other"))
			if f, there := problem(m.ID); !there || f.Manifest == nil || !errors.Is(f.Problem, store.ErrChanged) {
				t.Errorf("newer version of a stream: %+v", f)
			}
		}

		m, ref = fresh()
		for what, wrong := range map[string]store.Object{
			"another backup's record": otherRef,
			"another version":         {Key: ref.Key, Version: "00000000000000000000000000", Size: ref.Size, SHA256: ref.SHA256},
			"another sum":             {Key: ref.Key, Version: ref.Version, Size: ref.Size, SHA256: strings.Repeat("0", 64)},
			"no sum":                  {Key: ref.Key, Version: ref.Version, Size: ref.Size},
			"another size":            {Key: ref.Key, Version: ref.Version, Size: ref.Size - 1, SHA256: ref.SHA256},
		} {
			if _, err := Open(ctx, b, "prod-eu", m.ID, wrong); !damaged(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := Open(ctx, b, "prod", m.ID, ref); err == nil {
			t.Error("opened as another environment's")
		}
	})
}

// The whole way: backups, their survey, a plan, and its execution by who may and who may not.
func TestRetentionOnStores(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, b backend) {
		ctx := bound(t)
		now := time.Now().UTC().Truncate(time.Second)
		old, oldRef := finish(t, b, "prod-eu", now.AddDate(0, -3, 0), store.Lock{}, "2026-01/p1")
		locked, lockedRef := finish(t, b, "prod-eu", now.AddDate(0, -2, 0), hourLock(), "2026-01/p2")
		_, newestRef := finish(t, b, "prod-eu", now, hourLock(), "2026-11/p3")
		newest, err := Open(ctx, b, "prod-eu", listedID(t, b, 2), newestRef)
		if err != nil {
			t.Fatal(err)
		}
		k := Keep{Zone: time.UTC, Retention: declaration.Retention{Minimum: 2 * time.Hour, Daily: 1, Lock: declaration.LockGovernance, LockDays: 30}}
		records := []Record{{ID: old.ID, Manifest: oldRef, Verified: now}, {ID: locked.ID, Manifest: lockedRef, Verified: now}, {ID: newest.ID, Manifest: newestRef, Verified: now}}

		inv, err := Survey(ctx, b, "prod-eu", records)
		if err != nil {
			t.Fatal(err)
		}
		p := k.Decide(inv, together(now))
		if len(p.Blocked) > 0 || len(p.Decisions) != 3 || p.Decisions[0].Keep || !p.Decisions[1].Keep || !p.Decisions[2].Keep {
			t.Fatalf("plan:\n%s", text(p))
		}
		extended, err := ExtendLocks(ctx, b, p)
		if err != nil || len(extended) != 6 {
			t.Errorf("extended %d locks, %v", len(extended), err)
		}
		if b.kept {
			if deleted, err := Expire(ctx, b, p, now); !errors.Is(err, store.ErrDenied) || len(deleted) > 0 {
				t.Errorf("who makes backups deletes %v, %v", deleted, err)
			}
		}
		if _, err := Expire(ctx, b.expirer, p, now.Add(2*time.Hour)); !errors.Is(err, ErrStale) {
			t.Errorf("an old plan: %v", err)
		}
		deleted, err := Expire(ctx, b.expirer, p, now)
		if err != nil || len(deleted) != 6 || deleted[0].Key != oldRef.Key {
			t.Errorf("deleted %v, %v", deleted, err)
		}
		// A plan that wants to delete what is locked leaves the backup whole, and all packs.
		wrong := RetentionPlan{At: now, Expire: []Expiry{{ID: locked.ID, Objects: []store.Object{lockedRef, locked.Streams.Database.Object}}, {Objects: []store.Object{locked.Packs[0].Object}}}}
		if deleted, err := Expire(ctx, b.expirer, wrong, now); !errors.Is(err, store.ErrLocked) || len(deleted) > 0 {
			t.Errorf("deleted %v, %v", deleted, err)
		}
		inv, err = Survey(ctx, b, "prod-eu", records[1:])
		if err != nil || len(inv.Backups) != 2 || len(inv.Packs) != 2 || len(inv.Halves) != 0 {
			t.Fatalf("left: %+v, %v", inv, err)
		}
		// Whoever hides a manifest lets nothing go that would not go with it in sight.
		b.hide(t, lockedRef)
		inv, err = Survey(ctx, b, "prod-eu", records[1:])
		if err != nil {
			t.Fatal(err)
		}
		if p := k.Decide(inv, together(now)); len(p.Expire) > 0 || !p.Decisions[0].Keep || len(inv.Halves) > 0 {
			t.Errorf("with a hidden manifest:\n%s", text(p))
		}
	})
}

// A manifest that cannot be read holds nothing up but what may be its backup's, and is let go when a good one would be.
func TestRetentionGoesOn(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, b backend) {
		ctx := bound(t)
		now := time.Now().UTC().Truncate(time.Second)
		month := time.Date(now.Year(), now.Month(), 5, 0, 0, 0, 0, time.UTC).AddDate(0, -2, 0)
		lost, lostRef := finish(t, b, "prod-eu", month, store.Lock{}, "2026-01/p1")
		second, secondRef := finish(t, b, "prod-eu", month.Add(time.Hour), store.Lock{}, "2026-01/p2")
		newest, newestRef := finish(t, b, "prod-eu", now, store.Lock{}, "2026-01/p3")
		k := Keep{Zone: time.UTC, Retention: declaration.Retention{Minimum: time.Hour, Daily: 1, Monthly: 12, Lock: declaration.LockNone}}
		records := []Record{{ID: lost.ID, Manifest: lostRef, Verified: now, Failed: true}, {ID: second.ID, Manifest: secondRef, Verified: now}, {ID: newest.ID, Manifest: newestRef, Verified: now}}
		decide := func(records []Record) RetentionPlan {
			t.Helper()
			inv, err := Survey(ctx, b, "prod-eu", records)
			if err != nil {
				t.Fatal(err)
			}
			return k.Decide(inv, together(now))
		}
		b.swap(t, lostRef.Key, []byte("no manifest"))
		p := decide(records)
		if len(p.Expire) > 0 || !p.Decisions[0].Keep || !p.Decisions[1].Keep { // the second is the first good one of its month
			t.Fatalf("with a manifest that is another:\n%s", text(p))
		}
		k.Monthly = 0
		records[0].Holds = []string{"18.0.15"}
		p = decide(records)
		deleted, err := Expire(ctx, b.expirer, p, now)
		gone := map[string]bool{}
		for _, o := range deleted {
			gone[o.Key] = true
		}
		// In a bucket the recorded manifest is still there, so that it is known to what it refers.
		if err != nil || !p.Decisions[0].Keep || len(p.Held) != 1 || !gone[secondRef.Key] || gone[lost.Packs[0].Key] || gone[second.Packs[0].Key] != b.kept {
			t.Errorf("deleted %v, %v:\n%s", deleted, err, text(p))
		}
		records = []Record{{ID: lost.ID, Manifest: lostRef}, records[2]}
		p = decide(records)
		if _, err := Expire(ctx, b.expirer, p, now); err != nil || len(p.Held) > 0 || len(p.Expire) != 2 || p.Expire[0].Objects[0].Version != lostRef.Version {
			t.Errorf("%v:\n%s", err, text(p))
		}
		inv, err := Survey(ctx, b, "prod-eu", records[1:])
		if err != nil || len(inv.Backups) != 1 || inv.Backups[0].Problem != "" || len(inv.Packs) != 1 || len(inv.Halves)+len(inv.Strange) > 0 {
			t.Errorf("left: %+v, %v", inv, err)
		}
	})
}

func listedID(t testing.TB, b backend, n int) ID {
	t.Helper()
	l, err := List(bound(t), b, "prod-eu")
	if err != nil || len(l.Backups) <= n {
		t.Fatalf("%+v, %v", l, err)
	}
	return l.Backups[n].ID
}

// A list that breaks off is no list, and a manifest that cannot be fetched is not a damaged one.
func TestFaultsAreErrors(t *testing.T) {
	t.Parallel()
	d, err := store.OpenDirectory(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	start := time.Now().UTC()
	m, ref := finish(t, backend{Store: d}, "prod-eu", start, store.Lock{}, "2026-11/p1")
	reset := errors.New("connection reset by peer")
	for n := range 6 {
		if l, err := List(t.Context(), &faulty{Directory: d, after: n, err: reset}, "prod-eu"); !errors.Is(err, reset) || len(l.Backups)+len(l.Packs)+len(l.Halves) > 0 {
			t.Errorf("after %d objects: %+v, %v", n, l, err)
		}
	}
	l, err := List(t.Context(), d, "prod-eu")
	if err != nil {
		t.Fatal(err)
	}
	for f, err := range l.Read(t.Context(), &faulty{Directory: d, err: reset}) {
		if !errors.Is(err, reset) {
			t.Errorf("got %+v, %v", f, err)
		}
	}
	if _, err := Survey(t.Context(), &faulty{Directory: d, after: 100, err: reset}, "prod-eu", []Record{{ID: m.ID, Manifest: ref}}); !errors.Is(err, reset) {
		t.Errorf("survey: %v", err)
	}
	// A store that writes something else is noticed.
	if _, err := Write(t.Context(), lying{d}, m2(t, d, start), store.Lock{}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a store that writes something else: %v", err)
	}
}

func m2(t testing.TB, d *store.Directory, start time.Time) *Manifest {
	return put(t, backend{Store: d}, "prod-eu", start.Add(time.Second), store.Lock{})
}

// faulty breaks off lists after some objects, and cannot open any.
type faulty struct {
	*store.Directory
	after int
	err   error
}

func (f *faulty) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for o, err := range f.Directory.List(ctx, prefix) {
			if f.after == 0 {
				break
			}
			if f.after--; !yield(o, err) {
				return
			}
		}
		if f.after == 0 {
			yield(store.Object{}, f.err)
		}
	}
}

func (f *faulty) Open(context.Context, store.Object) (io.ReadCloser, error) { return nil, f.err }

// lying stores something else.
type lying struct{ *store.Directory }

func (l lying) Create(ctx context.Context, key string, _ io.Reader, lock store.Lock) (store.Object, error) {
	return l.Directory.Create(ctx, key, strings.NewReader("something else"), lock)
}
