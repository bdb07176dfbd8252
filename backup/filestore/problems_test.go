package filestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longAgo makes a file one that nobody is writing.
func (s *sample) longAgo(store string) {
	s.t.Helper()
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.path(store), then, then); err != nil {
		s.t.Fatal(err)
	}
}

// Every kind of row and file that cannot be in a backup is reported, by attachment, and stops nothing.
func TestWhatCannotBeCopiedIsReported(t *testing.T) {
	t.Parallel()
	s, to := newSample(t), &packs{}
	want := map[int64]Kind{}
	expect := func(a Attachment, kind Kind) { want[a.ID] = kind }
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, bytesOf(99, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	good := newSample(t)
	good.dir = s.dir
	for i := range uint64(50) {
		a := s.add(bytesOf(i, 1000))
		good.rows = append(good.rows, a)
	}

	a := s.add(bytesOf(100, 1000))
	expect(a, Missing)
	do(os.Remove(s.path(a.Store)))
	for i, damage := range []func([]byte) []byte{
		func(d []byte) []byte { return d[:len(d)/2] },
		func(d []byte) []byte { return append(d, 0) },
		func([]byte) []byte { return nil },
	} {
		for j, size := range []int{1000, 3 << 20} {
			data := bytesOf(uint64(200+10*i+j), size)
			a := s.add(data)
			s.write(a.Store, damage(data))
			s.longAgo(a.Store)
			expect(a, WrongSize)
		}
	}
	for i, size := range []int{1000, 3 << 20} {
		data := bytesOf(uint64(300+i), size)
		a := s.add(data)
		data[size/2] ^= 1
		s.write(a.Store, data)
		s.longAgo(a.Store)
		expect(a, WrongSum)
	}
	a = s.add(bytesOf(310, 1000)) // rows without a size and a checksum
	s.rows[len(s.rows)-1].Size, s.rows[len(s.rows)-1].Checksum = 0, ""
	s.write(a.Store, bytesOf(311, 1000))
	s.longAgo(a.Store)
	expect(a, WrongSum)

	a = s.add(bytesOf(99, 100)) // a link to the right content, outside
	do(os.Remove(s.path(a.Store)))
	do(os.Symlink(outside, s.path(a.Store)))
	expect(a, Unreadable)
	a = s.add(bytesOf(401, 100))
	do(os.Remove(s.path(a.Store)))
	do(os.Mkdir(s.path(a.Store), 0o755))
	expect(a, Unreadable)
	a = s.add(bytesOf(402, 100))
	do(os.Remove(s.path(a.Store)))
	do(syscall.Mkfifo(s.path(a.Store), 0o644))
	expect(a, Unreadable)
	a = s.row("zz/1111111111111111111111111111111111111111", "1111111111111111111111111111111111111111", 5)
	do(os.Symlink(t.TempDir(), s.path("zz"))) // a folder of the filestore that is elsewhere
	expect(a, Unreadable)

	for _, name := range []string{"../secret", "ab/../../secret", outside, "/etc/passwd", "ab//cd", "ab/", "ab/..", "./ab", "a\tb", "a\nb", `ab\cd`,
		"c:/ab", "ab/é", strings.Repeat("a", 256), strings.Repeat("../", 40000)} {
		expect(s.row(name, "1111111111111111111111111111111111111111", 5), Refused)
	}
	expect(s.row("ab/nosum", "", 5), Refused)
	expect(s.row("ab/upper", strings.Repeat("A", 40), 5), Refused)
	expect(s.row("s3://bucket/1111111111111111111111111111111111111111", "1111111111111111111111111111111111111111", 5), Elsewhere)

	inside := s.add(bytesOf(500, 777)) // a link inside the filestore
	do(os.Rename(s.path(inside.Store), s.path("kept")))
	do(os.Symlink("../kept", s.path(inside.Store)))
	noSize := s.add(bytesOf(501, 778))
	s.rows[len(s.rows)-1].Size, s.rows[len(s.rows)-1].Checksum = 0, ""
	good.rows = append(good.rows, inside, noSize)

	b := s.run(to, nil, CopyOptions{PackBytes: 10 << 10})
	all := b.plan.Problems
	all.Merge(b.copied.Problems)
	for id, kind := range want {
		if p, ok := problem(all, id); !ok || p.Kind != kind {
			t.Errorf("attachment %d (%.60q): the problem is %+v, not %s", id, s.rows[id-1].Store, p, kind)
		}
	}
	if all.Count() != int64(len(want)) {
		t.Errorf("%d problems, not %d: %v", all.Count(), len(want), all)
	}
	if b.copied.Contents != int64(len(good.rows)) {
		t.Errorf("copied %d contents, not %d", b.copied.Contents, len(good.rows))
	}
	dir := filepath.Join(t.TempDir(), "restored")
	u, err := Restore(t.Context(), bytes.NewReader(b.index), to, dir)
	if err != nil || u.Contents != int64(len(good.rows)) || u.Absent.Count() != b.copied.Problems.Count() || b.says.Absent != u.Absent.Count() {
		t.Errorf("restored %+v: %v", u, err)
	}
	if checked, err := Check(t.Context(), list(good.rows), dir); err != nil || checked.Problems.Count() > 0 {
		t.Errorf("checked %+v: %v", checked, err)
	}
	// The check of the source says the same, in a list and by a count.
	checked, err := Check(t.Context(), list(s.rows), s.dir)
	if err != nil || !maps.Equal(checked.Problems.Counts, all.Counts) {
		t.Errorf("checked %v, not %v: %v", checked.Problems, all, err)
	}
	// Next time nothing but the absent ones is tried again, and no pack is written for them.
	written := to.written
	again := s.run(to, b.index, CopyOptions{})
	if again.plan.New.Contents != u.Absent.Count() || to.written != written || !bytes.Equal(again.index, b.index) {
		t.Errorf("planned %+v and wrote %d packs", again.plan.New, to.written-written)
	}
}

func TestFileInTheMaking(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5000, 3 << 20} {
		s, to := newSample(t), &packs{}
		data := bytesOf(uint64(size), size)
		a := s.add(data)
		grown, pauses := size/2, 0
		s.write(a.Store, data[:grown])
		b := s.run(to, nil, CopyOptions{pause: func(context.Context) error {
			pauses++
			grown = min(grown+size/8, size)
			s.write(a.Store, data[:grown])
			return nil
		}})
		if b.copied.Contents != 1 || b.copied.Problems.Count() > 0 || pauses != 4 {
			t.Errorf("copied %+v after %d pauses", b.copied, pauses)
		}

		// One that nobody goes on with is given up at the second look.
		pauses = 0
		s.write(a.Store, data[:size/2])
		b = s.run(&packs{}, nil, CopyOptions{pause: func(context.Context) error { pauses++; return nil }})
		if p, ok := problem(b.copied.Problems, a.ID); !ok || p.Kind != WrongSize || pauses != 1 || b.copied.Packs != nil {
			t.Errorf("copied %+v after %d pauses", b.copied, pauses)
		}
	}
}

// A large file is read twice. If it is another one the second time, its pack begins anew.
func TestFileChangesWhileItIsCopied(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"other bytes": func(d []byte) []byte { d[len(d)-1] ^= 1; return d },
		"shorter":     func(d []byte) []byte { return d[:len(d)-1] },
	} {
		s, to := newSample(t), &packs{}
		var last Attachment
		for i := range uint64(3) {
			last = s.add(bytesOf(i, 2<<20))
			s.add(bytesOf(100+i, 2000))
		}
		stable := len(s.rows) - 1
		to.before = func(written int) error {
			if written == 0 {
				s.write(last.Store, damage(bytesOf(2, 2<<20)))
				s.longAgo(last.Store)
			}
			return nil
		}
		b := s.run(to, nil, CopyOptions{})
		if b.copied.Contents != int64(stable) || b.copied.Problems.Count() != 1 {
			t.Errorf("%s: copied %+v in %d tries", name, b.copied, to.written)
		}
		if u, err := Verify(t.Context(), t.TempDir(), bytes.NewReader(b.index), to); err != nil || u.Contents != int64(stable) {
			t.Errorf("%s: verified %+v: %v", name, u, err)
		}
	}
}

// A row may want another content of a file than the other rows do.
func TestRowsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	s, to := newSample(t), &packs{}
	a := s.add(bytesOf(1, 1000))
	liar := s.row(a.Store, strings.Repeat("1", 40), a.Size)
	s.row(a.Store, a.Checksum, a.Size)
	s.longAgo(a.Store)
	b := s.run(to, nil, CopyOptions{})
	if p, ok := problem(b.copied.Problems, liar.ID); !ok || p.Kind != WrongSum || b.copied.Contents != 1 {
		t.Errorf("copied %+v", b.copied)
	}
	for range 2 * maxVariants {
		a.ID++
		a.Size++
		s.rows = append(s.rows, a)
	}
	b = s.run(to, b.index, CopyOptions{})
	if n := b.plan.Problems.Counts[Refused]; n == 0 || b.plan.Kept.Contents != 1 {
		t.Errorf("planned %+v", b.plan)
	}
}

// A failing store, a failing list and an end from outside are errors, and leave nothing running.
func TestErrorsEndTheCopy(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for i := range uint64(200) {
		s.add(bytesOf(i, 1000))
	}
	full := errors.New("the store is full")
	plan := func() *Plan {
		p, err := NewPlan(t.Context(), t.TempDir(), list(s.rows), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := plan()
	defer p.Close()
	failing := &packs{before: func(written int) error {
		if written == 3 {
			return full
		}
		return nil
	}}
	if _, err := p.Copy(t.Context(), s.dir, failing, CopyOptions{PackBytes: 20 << 10}); !errors.Is(err, full) {
		t.Errorf("the error is %v", err)
	}
	if _, err := p.Write(t.Context(), io.Discard); err == nil {
		t.Error("wrote the stream of a copy that failed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopping := &packs{before: func(written int) error {
		if written == 2 {
			cancel()
		}
		return nil
	}}
	if _, err := p.Copy(ctx, s.dir, stopping, CopyOptions{PackBytes: 20 << 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, err := p.Copy(t.Context(), filepath.Join(s.dir, "none"), &packs{}, CopyOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	to := &packs{}
	if copied, err := p.Copy(t.Context(), s.dir, to, CopyOptions{}); err != nil || copied.Contents != 200 {
		t.Errorf("after the errors: copied %+v, %v", copied, err)
	}

	lost := errors.New("connection lost")
	if _, err := NewPlan(t.Context(), t.TempDir(), func(yield func(Attachment, error) bool) {
		if yield(s.rows[0], nil) {
			yield(Attachment{}, lost)
		}
	}, nil, nil); !errors.Is(err, lost) {
		t.Errorf("the error is %v", err)
	}
	if _, err := NewPlan(t.Context(), t.TempDir(), func(yield func(Attachment, error) bool) {
		_ = yield(Attachment{1, "b/b", strings.Repeat("1", 40), 1}, nil) && yield(Attachment{2, "a/a", strings.Repeat("1", 40), 1}, nil)
	}, nil, nil); !errors.Is(err, ErrOrder) {
		t.Errorf("the error is %v", err)
	}
	if _, err := Check(t.Context(), func(yield func(Attachment, error) bool) { yield(Attachment{}, lost) }, s.dir); !errors.Is(err, lost) {
		t.Errorf("the error is %v", err)
	}
}
