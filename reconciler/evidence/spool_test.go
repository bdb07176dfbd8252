package evidence

import (
	"context"
	"errors"

	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// A write that fails records nothing; what it left behind does not count, and the
// next record goes in its place.
func TestFailedWriteRecordsNothing(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(2)
	whole := f.log.spool.disk.write
	f.log.spool.disk.write = func(file *os.File, data []byte, at int64) (int, error) {
		n, _ := whole(file, data[:len(data)/2], at)
		return n, syscall.ENOSPC
	}
	if _, err := f.log.Add(applyDraft(50)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
	if _, err := f.log.record(t.Context(), applyDraft(50)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
	f.log.spool.disk.write = whole
	if r := f.add(1); r.Index != 2 {
		t.Errorf("after the disk had room: %+v", r)
	}
	f.close()
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.verified(4)
}

// After a flush that failed nothing is believed: what it was to make durable is
// not acknowledged, nothing is added, and the next start writes it again.
func TestFailedFlushBreaksTheLog(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(2)
	var flushes atomic.Int32
	f.log.spool.disk.sync = func(*os.File) error { flushes.Add(1); return syscall.EIO }
	r, err := f.log.Add(applyDraft(2))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.log.Durable(t.Context(), r.Index); !errors.Is(err, syscall.EIO) {
			t.Errorf("a record in doubt was acknowledged: %v", err)
		}
	}
	if n := flushes.Load(); n != 1 {
		t.Errorf("a failed flush was tried %d times", n)
	}
	if _, err := f.log.record(t.Context(), applyDraft(3)); !errors.Is(err, syscall.EIO) {
		t.Errorf("recorded after a record in doubt: %v", err)
	}
	if err := f.log.Durable(t.Context(), 1); err != nil {
		t.Errorf("what was durable before: %v", err)
	}
	f.run()
	f.wait(1) // what is durable is published
	if err := f.log.Published(t.Context(), r.Index); !errors.Is(err, syscall.EIO) {
		t.Errorf("published in doubt: %v", err)
	}
	if s := f.log.Status(); s.Published != 2 || s.Spooled != 1 || !errors.Is(s.Err, syscall.EIO) {
		t.Errorf("status %+v", s)
	}
	f.stop()
	if err := f.log.Close(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("close: %v", err)
	}
	f.log = nil
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.verified(4)
}

// One flush serves all who wait for it.
func TestFlushIsShared(t *testing.T) {
	f := newFixture(t)
	f.open()
	const writers = 64
	var flushes atomic.Int32
	begun := make(chan struct{})
	var once sync.Once
	release := make(chan struct{})
	f.log.spool.disk.sync = func(file *os.File) error {
		flushes.Add(1)
		once.Do(func() { close(begun); <-release })
		return file.Sync()
	}
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := f.log.record(t.Context(), applyDraft(0)); err != nil {
			t.Error(err)
		}
	})
	<-begun // the first flush hangs: the others gather
	for i := range writers - 1 {
		all.Go(func() {
			if _, err := f.log.record(t.Context(), applyDraft(i+1)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all are added", func() bool { return f.log.Status().Records == writers })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.log.Durable(ctx, writers-1); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	close(release)
	all.Wait()
	if n := flushes.Load(); n != 2 {
		t.Errorf("%d flushes for %d records, want 2", n, writers)
	}
	if err := f.log.Durable(t.Context(), writers); err == nil {
		t.Error("a record that does not exist is durable")
	}
}

// Nothing is published before it is durable.
func TestPublishedIsDurable(t *testing.T) {
	f := newFixture(t)
	f.open()
	begun, release := make(chan struct{}), make(chan struct{})
	f.log.spool.disk.sync = func(file *os.File) error {
		close(begun)
		<-release
		return file.Sync()
	}
	f.run()
	r, err := f.log.Add(applyDraft(0)) // nobody waits for it but the publisher
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	if refs := git(t, f.bare, "for-each-ref"); refs != "" || f.log.Status().Published != 0 {
		t.Errorf("published before it is durable: %s", refs)
	}
	close(release)
	f.wait(r.Index)
}

// tornSpool leaves the spool as a crash could: its only segment torn, and the mark
// where it was after as many records.
func tornSpool(t *testing.T, dir string, marked uint64, tear func([]byte) []byte) {
	t.Helper()
	path := glob(t, filepath.Join(dir, "spool", "*.seg"))
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, tear(data), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "spool", "durable"), encodeMark(marked), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A tail that was never acknowledged is dropped, wherever it is torn; one byte of
// an acknowledged record is not.
func TestTornTail(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(3)
	sizes := []int64{0}
	for _, e := range f.log.spool.entries {
		sizes = append(sizes, e.offset+e.size)
	}
	f.close()
	pristine := glob(t, filepath.Join(f.o.Dir, "spool", "*.seg"))
	whole, err := os.ReadFile(pristine)
	if err != nil {
		t.Fatal(err)
	}
	flips := func(at int64) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 0x10; return b }
	}
	cuts := func(at int64) func([]byte) []byte { return func(b []byte) []byte { return b[:at] } }
	zeros := func(at int64) func([]byte) []byte {
		return func(b []byte) []byte { clear(b[at:]); return b }
	}
	for name, c := range map[string]struct {
		marked uint64
		tear   func([]byte) []byte
		left   int // -1: damaged
	}{
		"nothing torn":                     {3, cuts(sizes[3]), 3},
		"mark lags":                        {1, cuts(sizes[3]), 3},
		"no flush at all":                  {0, cuts(sizes[3]), 3},
		"cut in the last":                  {2, cuts(sizes[3] - 1), 2},
		"cut in its header":                {2, cuts(sizes[2] + 5), 2},
		"cut at a frame":                   {2, cuts(sizes[2]), 2},
		"empty file":                       {0, cuts(0), 0},
		"zeros":                            {1, zeros(sizes[1]), 1},
		"garbage behind":                   {3, func(b []byte) []byte { return append(b, "purser"...) }, 3},
		"flip in the last":                 {2, flips(sizes[3] - 9), 2},
		"flip behind the mark, more after": {1, flips(sizes[1] + 40), 1},
		"flip in a length":                 {1, flips(sizes[1]), 1},
		"acknowledged, cut":                {3, cuts(sizes[3] - 1), -1},
		"acknowledged, flip at its end":    {3, flips(sizes[3] - 1), -1},
		"acknowledged, flip in a length":   {3, flips(sizes[1] + 1), -1},
		"acknowledged, flip in an index":   {3, flips(sizes[1] + 15), -1},
		"acknowledged, flip in the middle": {2, flips(sizes[1] - 50), -1},
		"acknowledged, zeros":              {2, zeros(sizes[1]), -1},
		"acknowledged, empty":              {1, cuts(0), -1},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(pristine, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			tornSpool(t, f.o.Dir, c.marked, c.tear)
			l, err := Open(t.Context(), f.o)
			if c.left < 0 {
				if err == nil {
					_ = l.Close(t.Context())
				}
				wantStalled(t, err, "spool", "damaged")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := l.Status().Records; n != uint64(c.left) {
				t.Errorf("%d records are left, want %d", n, c.left)
			}
			if r, err := l.record(t.Context(), applyDraft(c.left)); err != nil || r.Index != uint64(c.left) {
				t.Errorf("append: %+v, %v", r, err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			l, err = Open(t.Context(), f.o)
			if err != nil {
				t.Fatal(err)
			}
			if n := l.Status().Records; n != uint64(c.left)+1 {
				t.Errorf("%d records after another start, want %d", n, c.left+1)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for _, path := range globAll(t, filepath.Join(f.o.Dir, "spool", "*.seg")) {
				remove(t, path)
			}
		})
	}
}

func globAll(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The spool goes on over many segments, across restarts and crashes in between,
// and keeps no segment whose records are published.
func TestManySegments(t *testing.T) {
	f := newFixture(t)
	big := func(n int) Draft {
		d := applyDraft(n)
		d.Blobs = []Blob{{Name: "b", Data: make([]byte, segmentBytes/3)}}
		d.Blobs[0].Data[0] = byte(n)
		return d
	}
	n := 0
	for range 3 {
		f.open()
		for range 5 {
			if _, err := f.log.Add(big(n)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		f.close()
	}
	if got := len(globAll(t, filepath.Join(f.o.Dir, "spool", "*.seg"))); got < 5 {
		t.Errorf("%d segments", got)
	}
	f.run()
	if got := f.records(); len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
	f.wait(uint64(n) - 1)
	if left := globAll(t, filepath.Join(f.o.Dir, "spool", "*.seg")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	f.close()
	f.verified(n)
}

// An unfinished rewrite of the tail at the start is done again at the next.
func TestCrashWhileSecuringTheTail(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(6)
	frames := make([][]byte, 6)
	for i, e := range f.log.spool.entries {
		var err error
		if frames[i], err = e.frame(); err != nil {
			t.Fatal(err)
		}
	}
	f.close()
	dir := filepath.Join(f.o.Dir, "spool")
	write := func(first uint64, from, to int) {
		var data []byte
		for _, frame := range frames[from:to] {
			data = append(data, frame...)
		}
		s := spool{dir: dir}
		if err := os.WriteFile(s.path(first), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 0, 4) // the first segment, of which two records were acknowledged,
	write(2, 2, 6) // what was written again,
	write(4, 4, 6) // and the segment it was to replace
	if err := os.WriteFile(filepath.Join(dir, "durable"), encodeMark(2), 0o600); err != nil {
		t.Fatal(err)
	}
	f.run()
	if s := f.log.Status(); s.Records != 6 {
		t.Errorf("%d records", s.Records)
	}
	f.wait(f.add(1).Index)
	f.close()
	f.verified(7)
}

// A segment that could not be removed when its records were published does no
// harm, whatever came after it.
func TestSegmentLeftBehind(t *testing.T) {
	f := newFixture(t)
	f.open()
	f.add(2)
	path := glob(t, filepath.Join(f.o.Dir, "spool", "*.seg"))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	left := func() {
		t.Helper()
		f.close()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.run()
	f.wait(1)
	left()
	f.run()
	f.wait(f.add(3).Index)
	left()
	f.open()
	f.add(2)
	left()
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.verified(8)
	if left := globAll(t, filepath.Join(f.o.Dir, "spool", "*.seg")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// FuzzParseSpooled: no bytes make a payload that reads otherwise than it writes.
func FuzzParseSpooled(f *testing.F) {
	item := spooled{Envelope: []byte("{}\n"), Blobs: []spooledBlob{{"r", "d", []byte("x")}}, Keep: []spooledKeep{{"k", []byte("c"), map[string][]byte{"a": nil, "b": {1}}}}}
	f.Add(item.append(nil))
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSpooled(data)
		if err != nil {
			return
		}
		again, err := parseSpooled(s.append(nil))
		if err != nil || len(again.Blobs) != len(s.Blobs) || len(again.Keep) != len(s.Keep) {
			t.Errorf("%+v is read as %+v, %v", s, again, err)
		}
		if len(s.append(nil))+frameHeader > s.size() {
			t.Errorf("%d bytes, at most %d", len(s.append(nil)), s.size())
		}
	})
}
