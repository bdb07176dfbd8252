package backup

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
)

// between is a store at which something happens before an object is created, or instead.
type between struct {
	*store.S3
	create func(ctx context.Context, key string) error
}

func (b between) Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error) {
	if err := b.create(ctx, key); err != nil {
		return store.Object{}, err
	}
	return b.S3.Create(ctx, key, r, lock)
}

var errBroken = errors.New("something broke")

// breaks fails from the given number of objects on whose keys contain a text.
func breaks(s *shop, text string, from int) between {
	return between{s.s3, func(_ context.Context, key string) error {
		if strings.Contains(key, text) {
			if from--; from < 0 {
				return errBroken
			}
		}
		return nil
	}}
}

// What one backup that is broken off has stored, the next one need not store again.
func TestTakeAfterOneThatBrokeOff(t *testing.T) {
	t.Parallel()
	s := openShop(t, 200)
	s.options.PackBytes = 64 << 10
	for _, from := range []int{2, 1} { // the second one finds two packs and stores one
		if _, err := Take(t.Context(), breaks(s, "/filestore/", from), s.options); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
	l := s.listed(t)
	if len(l.Backups) != 0 || len(l.Halves) != 2 || len(l.Packs) != 3 {
		t.Fatalf("%d backups, %d halves, %d packs", len(l.Backups), len(l.Halves), len(l.Packs))
	}
	journals, err := filepath.Glob(filepath.Join(s.options.Scratch, "packs-of-prod-eu", "*"))
	if err != nil || len(journals) != 2 {
		t.Fatalf("%v, %v", journals, err)
	}
	// The end of a journal may be missing, and anything may be in it.
	if err := os.WriteFile(filepath.Join(filepath.Dir(journals[0]), "20200101T000000Z-prod-eu-aaaaaaaa"), []byte("junk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := s.take(t, nil)
	for _, p := range l.Packs {
		found := false
		for _, e := range taken.Manifest.Packs {
			found = found || e.Key == p.Key && e.Version == p.Version
		}
		if !found {
			t.Errorf("pack %s is not used again", p.Key)
		}
	}
	f := taken.Manifest.Filestore
	if f.New.Contents == 0 || f.New.Contents >= f.Index.Contents.Contents || f.Index.Absent != 0 {
		t.Errorf("%+v", f)
	}
	s.whole(t, s.listed(t))
	s.restore(t, taken)
	if left, err := os.ReadDir(filepath.Dir(journals[0])); err != nil || len(left) != 0 {
		t.Errorf("journals are left: %v, %v", left, err)
	}
}

// Packs are used again only if they are what this backup would write.
func TestTakeAnew(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	first := s.take(t, nil)
	all := first.Manifest.Filestore.New.Contents
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(o *TakeOptions)
		why    string
	}{
		"no identity":      {func(o *TakeOptions) { o.Identities = nil }, "no identity"},
		"another identity": {func(o *TakeOptions) { o.Identities = []age.Identity{other} }, "no identity opens"},
		"other recipients": {func(o *TakeOptions) { o.Recipients = o.Recipients[:1] }, "for other recipients"},
		"another store":    {func(o *TakeOptions) { o.Store = "secondary" }, "in store primary"},
		"another manifest": {func(o *TakeOptions) { o.Previous.Manifest.SHA256 = strings.Repeat("0", 64) }, "not what was written"},
		"another lock":     {func(o *TakeOptions) { o.Lock.Mode = store.Compliance }, ""},
		"next month": {func(o *TakeOptions) {
			o.Now = func() time.Time { return time.Now().AddDate(0, 1, 0) }
			o.Lock.Until = o.Lock.Until.AddDate(0, 2, 0)
		}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			mine := s.options
			mine.Previous = &Earlier{first.Manifest.ID, first.Ref}
			c.change(&mine)
			taken, err := Take(t.Context(), s.s3, mine)
			if err != nil {
				t.Fatal(err)
			}
			if n := taken.Manifest.Filestore.New.Contents; n != all || !strings.Contains(taken.Anew, c.why) || (c.why == "") != (taken.Anew == "") {
				t.Errorf("%d contents of %d were copied, because of %q", n, all, taken.Anew)
			}
		})
	}
}

// A reused pack is locked for as long as the backup that uses it.
func TestTakeExtendsLocks(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	first := s.take(t, nil)
	s.options.Lock.Until = s.options.Lock.Until.Add(time.Hour)
	second := s.take(t, &first)
	for _, e := range second.Manifest.Entries() {
		if e.LockedUntil.Before(s.options.Lock.Until) {
			t.Errorf("%s is locked until %s", e.Key, e.LockedUntil)
		}
		if info, err := s.s3.Stat(t.Context(), e.Object); err != nil || info.Lock.Until.Before(s.options.Lock.Until.Truncate(time.Second)) {
			t.Errorf("%s: %+v, %v", e.Key, info.Lock, err)
		}
	}
}

// Whatever fails, and whenever it ends: there is no backup, and the next one succeeds.
func TestTakeFails(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	var cancel context.CancelFunc
	tests := map[string]struct {
		store  archive
		change func(o *TakeOptions)
		want   error
	}{
		"database":         {store: breaks(s, "/database", 0), want: errBroken},
		"roles":            {store: breaks(s, "/roles", 0), want: errBroken},
		"configuration":    {store: breaks(s, "/configuration", 0), want: errBroken},
		"attachments":      {store: breaks(s, "/attachments", 0), want: errBroken},
		"pack":             {store: breaks(s, "/filestore/", 0), want: errBroken},
		"manifest":         {store: breaks(s, "/manifest.json", 0), want: errBroken},
		"deadline":         {change: func(o *TakeOptions) { o.Deadline = 20 * time.Millisecond }, want: ErrDeadline},
		"snapshot":         {change: func(o *TakeOptions) { o.Snapshot.MaxHold = time.Millisecond }, want: postgres.ErrHeld},
		"lock in the past": {change: func(o *TakeOptions) { o.Lock.Until = time.Now().Add(-time.Hour) }},
		"clock":            {change: func(o *TakeOptions) { o.Now = func() time.Time { return time.Now().Add(24 * time.Hour) } }},
		"filestore":        {change: func(o *TakeOptions) { o.Filestore = filepath.Join(o.Filestore, "none") }, want: os.ErrNotExist},
		"scratch":          {change: func(o *TakeOptions) { o.Scratch = filepath.Join(o.Scratch, "none") }, want: os.ErrNotExist},
		"no recipient":     {change: func(o *TakeOptions) { o.Recipients = nil }},
		"bad recipient":    {change: func(o *TakeOptions) { o.Recipients = []string{"age1nobody"} }},
		"no policy":        {change: func(o *TakeOptions) { o.Policy = "" }},
		"no commit":        {change: func(o *TakeOptions) { o.Configuration.Commit = "main" }},
		"no content type":  {change: func(o *TakeOptions) { o.SettingsType = "" }},
		"bad environment":  {change: func(o *TakeOptions) { o.Environment = "../prod-eu" }},
		"no database":      {change: func(o *TakeOptions) { o.Connection.Database = "none" }},
		"cancelled in the pack": {store: between{s.s3, func(ctx context.Context, key string) error {
			if strings.Contains(key, "/filestore/") {
				cancel()
			}
			return nil
		}}, want: context.Canceled},
		"cancelled in the dump": {store: between{s.s3, func(ctx context.Context, key string) error {
			if strings.Contains(key, "/database") {
				cancel()
			}
			return nil
		}}, want: context.Canceled},
	}
	for what, c := range tests {
		t.Run(what, func(t *testing.T) {
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			o := s.options
			o.Scratch = t.TempDir() // without what another one has stored
			if c.change != nil {
				c.change(&o)
			}
			var at archive = s.s3
			if c.store != nil {
				at = c.store
			}
			taken, err := Take(ctx, at, o)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || taken.Manifest != nil {
				t.Errorf("%+v, %v", taken, err)
			}
		})
	}
	if l := s.listed(t); len(l.Backups) != 0 {
		t.Errorf("listed: %+v", l.Backups)
	}
	s.take(t, nil)
}

// What the filestore lacks is said, and is no reason to make no backup.
func TestTakeWithoutSomeFiles(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	var lost string
	err := filepath.WalkDir(s.Filestore, func(name string, d os.DirEntry, err error) error {
		if err == nil && lost == "" && d.Type().IsRegular() && len(d.Name()) == 40 {
			lost = name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(lost)
	if err == nil {
		err = os.Remove(lost)
	}
	if err != nil {
		t.Fatal(err)
	}
	first := s.take(t, nil)
	f := first.Manifest.Filestore
	if first.Problems.Counts[filestore.Missing] != 1 || f.Problems[filestore.Missing] != 1 || f.Index.Absent != 1 {
		t.Errorf("%+v, %s", f, first.Problems)
	}
	if err := os.WriteFile(lost, content, 0o600); err != nil { // it is found again
		t.Fatal(err)
	}
	second := s.take(t, &first)
	if f := second.Manifest.Filestore; f.New.Contents != 1 || f.Index.Absent != 0 || second.Problems.Count() != 0 {
		t.Errorf("%+v, %s", f, second.Problems)
	}
}

// A clock that is set back while a backup is made costs nothing but a right time.
func TestTakeWhileTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	s := openShop(t, 10)
	asked := false
	s.options.Now = func() time.Time {
		now := time.Now()
		if asked {
			now = now.Round(0).Add(-time.Hour)
		}
		asked = true
		return now
	}
	taken := s.take(t, nil)
	if times := taken.Manifest.Times; times.Snapshot.Before(times.Began) || times.Finished.Before(times.Snapshot) {
		t.Errorf("%+v", times)
	}
}
