// Package storetest says what every store of backups does: a suite that runs on each of them.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/store"
)

// A Store is what [store.S3] and [store.Directory] are.
type Store interface {
	Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error)
	Open(ctx context.Context, o store.Object) (io.ReadCloser, error)
	Stat(ctx context.Context, o store.Object) (store.Info, error)
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
	Extend(ctx context.Context, o store.Object, until time.Time) (store.Object, error)
	Delete(ctx context.Context, o store.Object) error
	Probe(ctx context.Context) error
	Now(ctx context.Context) (time.Time, error)
	Abandoned(ctx context.Context, prefix string, age time.Duration) (int, error)
}

// A Backend is an empty store and what can be done to it behind its back.
type Backend struct {
	Writer  Store // as backups use it
	Expirer Store // of who deletes
	Part    int   // size of a part, in bytes

	Overwrite func(t testing.TB, key, content string)             // write other content under the key of an object
	Hide      func(t testing.TB, o store.Object)                  // delete an object without naming its version
	Shorten   func(t testing.TB, o store.Object, until time.Time) // let a lock end earlier, with all powers there are
	Begin     func(t testing.TB, key string)                      // begin an upload and never end it
}

// Patience bounds what a test waits for.
const Patience = 3 * time.Minute

// Run runs the suite; each test opens a backend of its own.
func Run(t *testing.T, open func(t testing.TB) Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b Backend)
	}{
		{"Contents", contents},
		{"Exists", exists},
		{"Race", race},
		{"BrokenStream", brokenStream},
		{"Cancelled", cancelled},
		{"BadArguments", badArguments},
		{"List", list},
		{"Locks", locks},
		{"LockEnds", lockEnds},
		{"OtherRecord", otherRecord},
		{"Overwritten", overwritten},
		{"Hidden", hidden},
		{"Shortened", shortened},
		{"ProbeLeavesNothing", probeLeavesNothing},
		{"Abandoned", abandoned},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

// Content is some content of a size, another one for each seed.
func Content(size int, seed byte) []byte {
	data, sum := make([]byte, size), sha256.Sum256([]byte{seed})
	for i := 0; i < size; i += len(sum) {
		copy(data[i:], sum[:])
		sum[i/len(sum)%len(sum)]++
	}
	return data
}

// Record is what a record of the version says if it has the content.
func Record(o store.Object, content []byte) store.Object {
	sum := sha256.Sum256(content)
	o.Size, o.SHA256 = int64(len(content)), hex.EncodeToString(sum[:])
	return o
}

// Read opens and reads an object.
func Read(ctx context.Context, s Store, o store.Object) ([]byte, error) {
	r, err := s.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Keys lists the keys under a prefix.
func Keys(t testing.TB, s Store, prefix string) []string {
	t.Helper()
	var keys []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func create(t testing.TB, s Store, key string, content []byte, lock store.Lock) store.Object {
	t.Helper()
	o, err := s.Create(t.Context(), key, bytes.NewReader(content), lock)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func wantContent(t testing.TB, s Store, o store.Object, want []byte) {
	t.Helper()
	got, err := Read(t.Context(), s, o)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %s: %d bytes, %v; want %d bytes", o.Key, len(got), err, len(want))
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func governance(d time.Duration) store.Lock {
	return store.Lock{Mode: store.Governance, Until: time.Now().Add(d)}
}

// What was written is there: in a list, with its lock, and with the same bytes.
func contents(t *testing.T, b Backend) {
	for i, size := range []int{0, 1, 70_000, b.Part - 1, b.Part, b.Part + 1, 2*b.Part + 100_000} {
		key, content := fmt.Sprintf("north/backups/%d/database", i), Content(size, byte(i))
		lock := governance(time.Hour)
		if i%2 == 1 {
			lock.Mode = store.Compliance
		}
		o := create(t, b.Writer, key, content, lock)
		if want := Record(o, content); o != want || o.Key != key || o.Version == "" || o.LockedUntil.Before(lock.Until) ||
			o.LockedUntil.After(lock.Until.Add(time.Second)) {
			t.Errorf("%d bytes: the record is %+v", size, o)
		}
		wantContent(t, b.Writer, o, content)
		info, err := b.Writer.Stat(t.Context(), o)
		if err != nil || info.Size != o.Size || info.Lock != (store.Lock{Mode: lock.Mode, Until: o.LockedUntil}) || info.DeleteMarker || info.Newer != "" {
			t.Errorf("%d bytes: %+v, %v", size, info, err)
		}
	}
	seen := 0
	for o, err := range b.Writer.List(t.Context(), "north/") {
		if err != nil || o.Version == "" || o.Key != fmt.Sprintf("north/backups/%d/database", seen) {
			t.Errorf("entry %d: %+v, %v", seen, o, err)
		}
		seen++
		if o.Size <= 70_000 { // one part: the store knows a sum of it
			wantContent(t, b.Writer, store.Object{Key: o.Key, Version: o.Version, Size: o.Size}, Content(int(o.Size), byte(seen-1)))
		}
	}
	if seen != 7 {
		t.Errorf("%d objects are listed", seen)
	}
}

func exists(t *testing.T, b Backend) {
	for _, size := range []int{10, b.Part + 10} {
		key, content := fmt.Sprintf("south/%d", size), Content(size, 1)
		o := create(t, b.Writer, key, content, store.Lock{})
		for _, other := range []int{10, b.Part + 10} {
			_, err := b.Writer.Create(t.Context(), key, bytes.NewReader(Content(other, 2)), store.Lock{})
			wantError(t, "create it again", err, store.ErrExists)
		}
		wantContent(t, b.Writer, o, content)
		if _, err := b.Writer.Stat(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// One of many writers creates an object, the others learn that it exists.
func race(t *testing.T, b Backend) {
	for _, size := range []int{1000, b.Part + 1000} {
		key, writers := fmt.Sprintf("race/%d", size), 4
		won := make([]store.Object, writers)
		var g errgroup.Group
		for i := range writers {
			g.Go(func() error {
				o, err := b.Writer.Create(t.Context(), key, bytes.NewReader(Content(size+i, byte(i))), store.Lock{})
				if won[i] = o; errors.Is(err, store.ErrExists) {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		winners := 0
		for i, o := range won {
			if o.Key != "" {
				winners++
				wantContent(t, b.Writer, o, Content(size+i, byte(i)))
			}
		}
		if winners != 1 {
			t.Errorf("%d writers have created %s", winners, key)
		}
	}
	if n, err := b.Writer.Abandoned(t.Context(), "race/", 0); n != 0 || err != nil {
		t.Errorf("the losers left %d uploads, %v", n, err)
	}
}

// A stream that breaks leaves nothing, and its key free.
func brokenStream(t *testing.T, b Backend) {
	broken := errors.New("the dump has failed")
	for _, size := range []int{0, 1000, b.Part, b.Part + 1000, 2*b.Part + 1000} {
		key := fmt.Sprintf("broken/%d", size)
		_, err := b.Writer.Create(t.Context(), key, io.MultiReader(bytes.NewReader(Content(size, 1)), iotest.ErrReader(broken)), governance(time.Hour))
		wantError(t, fmt.Sprintf("break after %d bytes", size), err, broken)
	}
	if keys := Keys(t, b.Writer, ""); keys != nil {
		t.Errorf("broken streams left %q", keys)
	}
	if n, err := b.Writer.Abandoned(t.Context(), "", 0); n != 0 || err != nil {
		t.Errorf("broken streams left %d uploads, %v", n, err)
	}
	wantContent(t, b.Writer, create(t, b.Writer, "broken/1000", Content(1000, 1), store.Lock{}), Content(1000, 1))
}

func cancelled(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := io.MultiReader(bytes.NewReader(Content(b.Part+5, 1)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}))
	_, err := b.Writer.Create(ctx, "cancelled", r, store.Lock{})
	wantError(t, "cancel", err, context.Canceled)
	if keys := Keys(t, b.Writer, ""); keys != nil {
		t.Errorf("a cancelled writer left %q", keys)
	}
	if n, err := b.Writer.Abandoned(t.Context(), "", 0); n != 0 || err != nil {
		t.Errorf("a cancelled writer left %d uploads, %v", n, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func badArguments(t *testing.T, b Backend) {
	for _, key := range []string{"", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", ".objects/a", "a b", "a\x00", "ä", "a+b", "a\\b",
		strings.Repeat("a/", 400) + "a"} {
		if _, err := b.Writer.Create(t.Context(), key, strings.NewReader("x"), store.Lock{}); err == nil {
			t.Errorf("created %q", key)
		}
		if _, err := b.Writer.Open(t.Context(), store.Object{Key: key, Version: "x"}); err == nil {
			t.Errorf("opened %q", key)
		}
	}
	for _, lock := range []store.Lock{
		{Mode: store.Governance}, {Mode: store.Compliance, Until: time.Now().Add(-time.Hour)},
		{Until: time.Now().Add(time.Hour)}, {Mode: "strict", Until: time.Now().Add(time.Hour)},
	} {
		if _, err := b.Writer.Create(t.Context(), "key", strings.NewReader("x"), lock); err == nil {
			t.Errorf("created with lock %+v", lock)
		}
	}
	o := create(t, b.Writer, "object", []byte("x"), store.Lock{})
	o.Version = ""
	if err := b.Expirer.Delete(t.Context(), o); err == nil {
		t.Error("deleted without a version, which would hide the object")
	}
	if keys := Keys(t, b.Writer, ""); !slices.Equal(keys, []string{"object"}) {
		t.Errorf("there is %q", keys)
	}
}

func list(t *testing.T, b Backend) {
	var want []string
	for i := range 23 {
		want = append(want, fmt.Sprintf("a/b-%02d/manifest.json", i), fmt.Sprintf("a/c/%02d", i))
	}
	want = append(want, "a-b/x", "ab", "b/a/x")
	slices.Sort(want)
	var g errgroup.Group
	g.SetLimit(4)
	for _, key := range want {
		g.Go(func() error {
			_, err := b.Writer.Create(t.Context(), key, strings.NewReader(key), store.Lock{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "a/", "a", "a/b-1", "a/c/", "a/c/05", "b/a/", "none/", "none"} {
		expect := slices.DeleteFunc(slices.Clone(want), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		if got := Keys(t, b.Writer, prefix); !slices.Equal(got, expect) {
			t.Errorf("prefix %q: %q", prefix, got)
		}
	}
	for range b.Writer.List(t.Context(), "") { // who has seen enough stops
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := false
	for _, err := range b.Writer.List(ctx, "") {
		failed = failed || err != nil
	}
	if !failed {
		t.Error("a list that was cancelled is complete")
	}
}

func locks(t *testing.T, b Backend) {
	for _, mode := range []store.Mode{store.Governance, store.Compliance} {
		until := time.Now().Add(time.Hour)
		o := create(t, b.Writer, "locked/"+string(mode), []byte("x"), store.Lock{Mode: mode, Until: until})
		wantError(t, "delete a locked object", b.Expirer.Delete(t.Context(), o), store.ErrLocked)
		later, err := b.Writer.Extend(t.Context(), o, until.Add(time.Hour))
		if err != nil || !later.LockedUntil.Equal(o.LockedUntil.Add(time.Hour)) {
			t.Errorf("extended: %+v, %v", later, err)
		}
		same, err := b.Writer.Extend(t.Context(), o, until.Add(-time.Minute))
		if err != nil || same != later {
			t.Errorf("a lock that ends later anyway: %+v, %v", same, err)
		}
		for _, record := range []store.Object{o, later} { // the older record asks for less
			if info, err := b.Writer.Stat(t.Context(), record); err != nil || info.Lock != (store.Lock{Mode: mode, Until: later.LockedUntil}) {
				t.Errorf("%+v, %v", info, err)
			}
		}
		wantError(t, "delete a locked object", b.Expirer.Delete(t.Context(), later), store.ErrLocked)
	}
	free := create(t, b.Writer, "free", []byte("x"), store.Lock{})
	if _, err := b.Writer.Extend(t.Context(), free, time.Now().Add(time.Hour)); err == nil {
		t.Error("a lock was extended that there is not")
	}
	for range 2 { // what is deleted can be deleted
		if err := b.Expirer.Delete(t.Context(), free); err != nil {
			t.Error(err)
		}
	}
	_, err := b.Writer.Stat(t.Context(), free)
	wantError(t, "look at what was deleted", err, store.ErrMissing)
	_, err = b.Writer.Open(t.Context(), free)
	wantError(t, "open what was deleted", err, store.ErrMissing)
	_, err = b.Writer.Extend(t.Context(), free, time.Now().Add(time.Hour))
	wantError(t, "extend what was deleted", err, store.ErrMissing)
	if keys := Keys(t, b.Writer, "free"); keys != nil {
		t.Errorf("what was deleted is listed: %q", keys)
	}
}

func lockEnds(t *testing.T, b Backend) {
	o := create(t, b.Writer, "short", []byte("x"), governance(2*time.Second))
	deadline := time.Now().Add(Patience)
	for {
		err := b.Expirer.Delete(t.Context(), o)
		if err == nil {
			if time.Now().Before(o.LockedUntil.Add(-time.Second)) {
				t.Errorf("deleted before %s", o.LockedUntil)
			}
			return
		}
		if !errors.Is(err, store.ErrLocked) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A record of something else is noticed.
func otherRecord(t *testing.T, b Backend) {
	for _, size := range []int{1000, b.Part + 1000} {
		o := create(t, b.Writer, fmt.Sprintf("record/%d", size), Content(size, 1), governance(time.Hour))
		other := create(t, b.Writer, fmt.Sprintf("record/other-%d", size), Content(size, 2), governance(time.Hour))
		for what, change := range map[string]func(*store.Object){
			"sha256": func(o *store.Object) { o.SHA256, o.Parts = other.SHA256, other.Parts },
			"longer": func(o *store.Object) { o.Size++ },
			"short":  func(o *store.Object) { o.Size-- },
		} {
			wrong := o
			change(&wrong)
			_, err := Read(t.Context(), b.Writer, wrong)
			wantError(t, "read: "+what, err, store.ErrChanged)
			_, err = b.Writer.Stat(t.Context(), wrong)
			wantError(t, "stat: "+what, err, store.ErrChanged)
		}
		locked := o
		locked.LockedUntil = o.LockedUntil.Add(time.Hour)
		_, err := b.Writer.Stat(t.Context(), locked)
		wantError(t, "stat: lock", err, store.ErrChanged)
		for what, change := range map[string]func(*store.Object){
			"version": func(o *store.Object) { o.Version = other.Version },
			"key":     func(o *store.Object) { o.Key = other.Key },
			"nothing": func(o *store.Object) { o.Key = "record/none" },
		} {
			wrong := o
			change(&wrong)
			_, err := Read(t.Context(), b.Writer, wrong)
			wantError(t, "read: "+what, err, store.ErrMissing)
			_, err = b.Writer.Stat(t.Context(), wrong)
			wantError(t, "stat: "+what, err, store.ErrMissing)
		}
		r, err := b.Writer.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil { // before its end
			t.Error(err)
		}
	}
}

// unharmed checks that an object gives its content or an error.
func unharmed(t *testing.T, b Backend, o store.Object, content []byte) {
	t.Helper()
	got, err := Read(t.Context(), b.Writer, o)
	if err == nil && !bytes.Equal(got, content) {
		t.Errorf("other content of %d bytes came without an error", len(got))
	}
	if err != nil && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrMissing) {
		t.Error(err)
	}
}

func overwritten(t *testing.T, b Backend) {
	for _, size := range []int{1000, b.Part + 1000} {
		content := Content(size, 1)
		o := create(t, b.Writer, fmt.Sprintf("over/%d", size), content, governance(time.Hour))
		b.Overwrite(t, o.Key, "something else")
		info, err := b.Writer.Stat(t.Context(), o)
		wantError(t, fmt.Sprintf("look at what was overwritten: %+v", info), err, store.ErrChanged)
		unharmed(t, b, o, content)
		_, err = b.Writer.Create(t.Context(), o.Key, bytes.NewReader(content), store.Lock{})
		wantError(t, "create what was overwritten", err, store.ErrExists)
	}
}

func hidden(t *testing.T, b Backend) {
	content := Content(1000, 1)
	o := create(t, b.Writer, "hidden", content, governance(time.Hour))
	b.Hide(t, o)
	info, err := b.Writer.Stat(t.Context(), o)
	if !errors.Is(err, store.ErrMissing) && !(errors.Is(err, store.ErrChanged) && info.DeleteMarker) {
		t.Errorf("look at what is hidden: %+v, %v", info, err)
	}
	unharmed(t, b, o, content)
	if keys := Keys(t, b.Writer, ""); keys != nil {
		t.Errorf("hidden objects are listed: %q", keys)
	}
}

func shortened(t *testing.T, b Backend) {
	o := create(t, b.Writer, "shortened", Content(1000, 1), governance(time.Hour))
	b.Shorten(t, o, o.LockedUntil.Add(-time.Minute))
	info, err := b.Writer.Stat(t.Context(), o)
	wantError(t, fmt.Sprintf("look at a shortened lock: %+v", info), err, store.ErrChanged)
}

func probeLeavesNothing(t *testing.T, b Backend) {
	for range 3 {
		if err := b.Writer.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if keys := Keys(t, b.Writer, ""); keys != nil {
		t.Errorf("a probe left %q", keys)
	}
	if n, err := b.Writer.Abandoned(t.Context(), "", 0); n != 0 || err != nil {
		t.Errorf("a probe left %d uploads, %v", n, err)
	}
}

func abandoned(t *testing.T, b Backend) {
	keys := []string{"half/1/database", "half/1/roles", "half/2/database", "whole"}
	for _, key := range keys {
		b.Begin(t, key)
	}
	create(t, b.Writer, "half/1/manifest.json", []byte("{}"), store.Lock{})
	if got := Keys(t, b.Writer, ""); !slices.Equal(got, []string{"half/1/manifest.json"}) {
		t.Errorf("half uploads are listed: %q", got)
	}
	for _, step := range []struct {
		prefix string
		age    time.Duration
		want   int
	}{{"", time.Hour, 0}, {"other/", 0, 0}, {"half/1/", 0, 2}, {"half/1/", 0, 0}, {"", 0, 2}, {"", 0, 0}} {
		deadline := time.Now().Add(Patience) // by whole seconds nothing is old at once
		for {
			n, err := b.Writer.Abandoned(t.Context(), step.prefix, step.age)
			if err == nil && n == step.want {
				break
			}
			if step.want -= n; err != nil || step.want < 0 || time.Now().After(deadline) {
				t.Fatalf("prefix %q, age %s: removed %d, %v; want %d more", step.prefix, step.age, n, err, step.want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if got := Keys(t, b.Writer, ""); !slices.Equal(got, []string{"half/1/manifest.json"}) {
		t.Errorf("there is %q", got)
	}
	create(t, b.Writer, keys[0], []byte("x"), store.Lock{})
}
