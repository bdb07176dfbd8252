package evidence

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDamagedDirectoryIsRefused(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"state": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "state.json")) },
		"spool": func(t *testing.T, dir string) { flip(t, glob(t, filepath.Join(dir, "spool", "*.seg"))) },
		"cut spool": func(t *testing.T, dir string) {
			path := glob(t, filepath.Join(dir, "spool", "*.seg"))
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()-1)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"no spool": func(t *testing.T, dir string) { remove(t, glob(t, filepath.Join(dir, "spool", "*.seg"))) },
		"mark":     func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "spool", "durable")) },
		"no mark":  func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "spool", "durable")) },
		"no IDs":   func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "records/audit/2026/ids")) },
		"no records": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "records/audit/2026/00000.jsonl"))
		},
		"lost state": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "state.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run()
			f.wait(f.add(2).Index)
			f.stop()
			f.add(1)
			f.close()
			damage(t, f.o.Dir)
			l, err := Open(t.Context(), f.o)
			if err == nil {
				_ = l.Close(t.Context())
			}
			wantStalled(t, err)
		})
	}
}

// The remote has the records, but this machine cannot note it: nothing is sent
// twice, and the note is made when the disk allows.
func TestLocalCopyCannotBeWritten(t *testing.T) {
	f := newFixture(t)
	f.open()
	r := f.add(3)
	blocker := filepath.Join(f.o.Dir, "records")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.run()
	f.failing("archive")
	if s := f.log.Status(); s.Published != 3 || s.Spooled != 3 {
		t.Errorf("status %+v", s)
	}
	remove(t, blocker)
	f.wait(r.Index)
	if got := f.records(); len(got) != 3 {
		t.Errorf("%d records", len(got))
	}
	f.close()
	f.verified(3)
	if n := git(t, f.bare, "rev-list", "--count", "audit/2026"); n != "1" {
		t.Errorf("%s commits", n)
	}
}

func glob(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	return found[0]
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHalfWrittenFilesAreDiscarded(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(1)
	f.close()
	for _, name := range []string{"spool/tmp-123", "spool/1.seg", "tmp-fetch-1/x", "keep/tmp-1"} {
		path := filepath.Join(f.o.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(`{"index":1`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.verified(2)
	for _, pattern := range []string{"tmp-*", "*/tmp-*", "spool/*.seg"} {
		if left, _ := filepath.Glob(filepath.Join(f.o.Dir, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
