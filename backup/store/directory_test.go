package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
)

const testPart = 5 << 20

func openDirectory(t testing.TB, folder string) *store.Directory {
	t.Helper()
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

func TestDirectory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) storetest.Backend {
		folder := t.TempDir()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		record := func(key string) string { return filepath.Join(folder, ".objects", key+".json") }
		return storetest.Backend{
			Writer: openDirectory(t, folder), Expirer: openDirectory(t, folder), Part: testPart,
			Overwrite: func(t testing.TB, key, content string) {
				must(os.Remove(filepath.Join(folder, key)))
				must(os.WriteFile(filepath.Join(folder, key), []byte(content), 0o600))
			},
			Hide: func(t testing.TB, o store.Object) { must(os.Remove(record(o.Key))) },
			Shorten: func(t testing.TB, o store.Object, until time.Time) {
				data, err := os.ReadFile(record(o.Key))
				must(err)
				format := func(t time.Time) []byte { return []byte(t.UTC().Format(time.RFC3339)) }
				changed := bytes.ReplaceAll(data, format(o.LockedUntil), format(until))
				if bytes.Equal(changed, data) {
					t.Fatalf("no lock in %s", data)
				}
				must(os.Remove(record(o.Key)))
				must(os.WriteFile(record(o.Key), changed, 0o600))
			},
			Begin: func(t testing.TB, key string) {
				must(os.WriteFile(filepath.Join(folder, ".partial", strings.ReplaceAll(key, "/", "+")+"+X"), []byte("x"), 0o600))
			},
		}
	})
}

// What somebody does to the folder is noticed.
func TestDirectoryTampered(t *testing.T) {
	t.Parallel()
	content := storetest.Content(1000, 1)
	for name, test := range map[string]struct {
		harm func(folder string) error
		want []error // of Stat (nil: it cannot see it) and of reading
	}{
		"bit flip": {func(folder string) error {
			flipped := bytes.Clone(content)
			flipped[500] ^= 1
			return rewrite(filepath.Join(folder, "a/b"), flipped)
		}, []error{nil, store.ErrChanged}},
		"truncated": {func(folder string) error {
			return rewrite(filepath.Join(folder, "a/b"), content[:500])
		}, []error{store.ErrChanged, store.ErrChanged}},
		"content gone": {func(folder string) error { return os.Remove(filepath.Join(folder, "a/b")) },
			[]error{store.ErrMissing, store.ErrMissing}},
		"record garbled": {func(folder string) error {
			return rewrite(filepath.Join(folder, ".objects/a/b.json"), []byte(`{"version":`))
		}, []error{store.ErrChanged, store.ErrChanged}},
		"record empty": {func(folder string) error {
			return rewrite(filepath.Join(folder, ".objects/a/b.json"), []byte(`{}`))
		}, []error{store.ErrChanged, store.ErrChanged}},
		"link elsewhere": {func(folder string) error {
			outside := filepath.Join(filepath.Dir(folder), "outside")
			return errors.Join(os.WriteFile(outside, content, 0o600), os.Remove(filepath.Join(folder, "a/b")),
				os.Symlink(outside, filepath.Join(folder, "a/b")))
		}, []error{store.ErrChanged, errAny}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "store")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			d := openDirectory(t, folder)
			o, err := d.Create(t.Context(), "a/b", bytes.NewReader(content), store.Lock{})
			if err != nil {
				t.Fatal(err)
			}
			if err := test.harm(folder); err != nil {
				t.Fatal(err)
			}
			_, statErr := d.Stat(t.Context(), o)
			_, readErr := storetest.Read(t.Context(), d, o)
			for i, got := range []error{statErr, readErr} {
				if want := test.want[i]; want == errAny && got == nil || want != errAny && !errors.Is(got, want) {
					t.Errorf("stat or read (%d): %v, want %v", i, got, want)
				}
			}
			if _, err := d.Create(t.Context(), "a/b", bytes.NewReader(content), store.Lock{}); !errors.Is(err, store.ErrExists) {
				t.Errorf("created again: %v", err)
			}
		})
	}
}

var errAny = errors.New("any error")

func rewrite(name string, content []byte) error {
	return errors.Join(os.Remove(name), os.WriteFile(name, content, 0o400))
}

// What a crash left between the content and its record is no object, is in nobody's way, and is removed.
func TestDirectoryStrays(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	d := openDirectory(t, folder)
	if _, err := d.Create(t.Context(), "a/whole", strings.NewReader("whole"), store.Lock{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/stray", "a/other"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("a crash left it"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if keys := storetest.Keys(t, d, ""); !slices.Equal(keys, []string{"a/whole"}) {
		t.Errorf("listed: %q", keys)
	}
	o, err := d.Create(t.Context(), "a/stray", strings.NewReader("new"), store.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := storetest.Read(t.Context(), d, o); string(got) != "new" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if n, err := d.Abandoned(t.Context(), "", -time.Hour); n != 1 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if keys := storetest.Keys(t, d, ""); !slices.Equal(keys, []string{"a/stray", "a/whole"}) {
		t.Errorf("listed: %q", keys)
	}
}
