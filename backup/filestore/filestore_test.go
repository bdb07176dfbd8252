package filestore

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

const many = 20_000

// manyFiles makes a filestore with files up to 3 KB, a few of more than a megabyte, contents that rows share, and rows
// without a file.
func manyFiles(t testing.TB) *sample {
	s := newSample(t)
	for i := range uint64(many) {
		switch {
		case i%100 == 50:
			s.row("", "", 0) // a URL
		case i%100 == 51:
			s.row("", "0123456789012345678901234567890123456789", 10) // in the database
		case i%20 == 19:
			a := s.rows[len(s.rows)-1]
			s.row(a.Store, a.Checksum, a.Size)
		case i%5000 == 7:
			s.add(bytesOf(i, 2<<20+int(i)))
		default:
			s.add(bytesOf(i, int(i*7919%3000)+1))
		}
	}
	return s
}

// One filestore through its life: a first backup, one with nothing new, one with some new and some gone, one with some
// back. All of them verify, and the last restores to what its rows name, byte for byte.
func TestGenerations(t *testing.T) {
	t.Parallel()
	s, to := manyFiles(t), &packs{}
	o := CopyOptions{PackBytes: 4 << 20}
	restored := func(b backup, rows []Attachment) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "restored")
		u, err := Restore(t.Context(), bytes.NewReader(b.index), to, dir)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		all := tree(t, s.dir)
		for _, a := range rows {
			if a.Store != "" {
				want[a.Store] = all[a.Store]
			}
		}
		if got := tree(t, dir); !maps.Equal(got, want) || u.Contents != int64(len(want)) {
			t.Errorf("restored %d files, %+v; not the %d that there were", len(got), u, len(want))
		}
		if _, err := os.Stat(dir + partialSuffix); err == nil {
			t.Error("a partial folder is left")
		}
		checked, err := Check(t.Context(), list(rows), dir)
		if err != nil || checked.Problems.Count() != 0 || checked.Contents != int64(len(want)) || checked.Rows != int64(len(rows)) {
			t.Errorf("checked %+v: %v", checked, err)
		}
	}
	verified := func(b backup) {
		t.Helper()
		u, err := Verify(t.Context(), t.TempDir(), bytes.NewReader(b.index), to)
		if err != nil || u.Contents != b.says.Contents.Contents || u.Packs != int64(len(b.says.Packs)) {
			t.Errorf("verified %+v of %+v: %v", u, b.says, err)
		}
	}

	first := s.run(to, nil, o)
	if n := first.plan.New.Contents; n != first.copied.Contents || n < many*9/10 || first.copied.Problems.Count() > 0 {
		t.Errorf("copied %+v of %+v", first.copied, first.plan)
	}
	if first.plan.Rows != many || first.plan.InDatabase != many/50 {
		t.Errorf("planned %+v", first.plan.Listing)
	}
	verified(first)

	written := to.written
	second := s.run(to, first.index, o)
	if second.plan.New.Contents != 0 || to.written != written || !bytes.Equal(second.index, first.index) {
		t.Errorf("with nothing new: planned %+v, wrote %d packs", second.plan.New, to.written-written)
	}

	gone := s.rows[1000:1040]
	s.rows = slices.Concat(s.rows[:1000], s.rows[1040:])
	for i := range uint64(100) {
		s.add(bytesOf(1e6+i, 500))
	}
	third := s.run(to, second.index, o)
	if third.plan.New.Contents != 100 || to.written != written+1 {
		t.Errorf("with 100 new: planned %+v, wrote %d packs", third.plan.New, to.written-written)
	}
	verified(third)

	s.rows = append(s.rows, gone...)
	fourth := s.run(to, third.index, o)
	if n := fourth.plan.New.Contents; n == 0 || n > 40 {
		t.Errorf("with 40 back: planned %+v", fourth.plan.New)
	}
	restored(fourth, s.rows)
	verified(first) // an old backup stays what it was
}

// What the package says of stock tools is so.
func TestStockTools(t *testing.T) {
	t.Parallel()
	s, to := newSample(t), &packs{}
	for i := range uint64(300) {
		s.add(bytesOf(i, int(i)*20+1))
	}
	s.row("ab/abababababababababababababababababababab", "", 5) // has no file
	b := s.run(to, nil, CopyOptions{PackBytes: 200 << 10})
	dir := t.TempDir()
	sh := func(stdin []byte, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("warning")) || bytes.Contains(out, []byte("tar:")) {
			t.Errorf("%s: %v: %.300s", name, err, out)
		}
	}
	for _, pack := range to.packs {
		sh(pack, "tar", "-x")
	}
	if len(to.packs) < 5 || !maps.Equal(tree(t, dir), tree(t, s.dir)) {
		t.Errorf("tar unpacks %d packs to something else", len(to.packs))
	}
	sh(b.index, "sh", "-c", `awk -F '\t' 'NF == 6 && $4 != "-" {print $2 "  " $1}' | sha1sum --strict --quiet -c`)
}
