package filestore

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
)

// rowsOf yields n rows in order, without files. Every tenth shares its content with the one before.
func rowsOf(n int, each func()) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		for i := range n {
			each()
			name := fmt.Sprintf("%08x%032x", uint64(i-i%10/9)<<32/uint64(n), i-i%10/9)
			if !yield(Attachment{int64(i), name[:2] + "/" + name, name, int64(i%1000) + 1}, nil) {
				return
			}
		}
	}
}

// discard stores packs by counting their bytes.
type discard struct {
	bytes int64
	each  func()
	n     int
}

func (d *discard) WritePack(_ context.Context, fill func(io.Writer) error) (string, error) {
	d.n++
	return fmt.Sprint(d.n), fill(d)
}

func (d *discard) Write(p []byte) (int, error) {
	d.each()
	d.bytes += int64(len(p))
	return len(p), nil
}

// indexOf is the stream of rows that are all in one pack, in a file.
func indexOf(t testing.TB, n int) spool {
	t.Helper()
	file, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	out := newIndexWriter(file)
	var listing Listing
	for c, err := range listing.contents(t.Context(), rowsOf(n, func() {})) {
		if err != nil {
			t.Fatal(err)
		}
		c.pack = "60c1f28ea22f4d10cc08e0ad4ff8d61a9afeea35a4a4a3d25d3ce5a5e0c6a0d1"
		if err := out.write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.finish(); err != nil {
		t.Fatal(err)
	}
	return file
}

func (s spool) whole() io.Reader { return io.NewSectionReader(s, 0, 1<<62) }

// Memory does not grow with the filestore, nor with a file. It is not parallel: it measures the process.
func TestMemoryIsBounded(t *testing.T) {
	const rows, large, bound = 400_000, 256 << 20, 64 << 20
	index := indexOf(t, rows)
	var most uint64
	calls := 0
	measure := func() {
		if calls++; calls%500 != 0 {
			return
		}
		samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		metrics.Read(samples)
		most = max(most, samples[0].Value.Uint64()+samples[1].Value.Uint64())
	}
	runtime.GC() // what other tests left
	p, err := NewPlan(t.Context(), t.TempDir(), rowsOf(rows, measure), []io.Reader{index.whole()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	says, err := p.Write(t.Context(), &discard{each: func() { calls += 499; measure() }})
	if err != nil || says.Contents.Contents != p.Kept.Contents || p.New.Contents != 0 {
		t.Errorf("wrote %+v after %+v: %v", says, p.Listing, err)
	}
	t.Logf("plan of %d rows: %d MiB", rows, most>>20)
	if most == 0 || most > bound {
		t.Errorf("a plan of %d rows needs %d bytes of memory", rows, most)
	}

	s := newSample(t)
	sum := sha1.New()
	zeros := make([]byte, 1<<20)
	for range large >> 20 {
		sum.Write(zeros)
	}
	name := hex.EncodeToString(sum.Sum(nil))
	s.write("aa/"+name, nil)
	s.row("aa/"+name, name, large)
	if err := os.Truncate(s.path("aa/"+name), large); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(300) {
		s.add(bytesOf(i, 100<<10))
	}
	most = 0
	second, err := NewPlan(t.Context(), t.TempDir(), list(s.rows), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	to := &discard{each: measure}
	if copied, err := second.Copy(t.Context(), s.dir, to, CopyOptions{}); err != nil || copied.Contents != 301 || to.bytes < large {
		t.Errorf("copied %+v: %v", copied, err)
	}
	t.Logf("copy of a file of %d MiB: %d MiB", large>>20, most>>20)
	if most == 0 || most > bound {
		t.Errorf("a copy of a file of %d bytes needs %d bytes of memory", large, most)
	}
}

// A plan of 100,000 attachments with nothing new, and the stream that comes of it: the bar is a second.
func BenchmarkNothingNew(b *testing.B) {
	const rows = 100_000
	index := indexOf(b, rows)
	for b.Loop() {
		p, err := NewPlan(b.Context(), b.TempDir(), rowsOf(rows, func() {}), []io.Reader{index.whole()}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Copy(b.Context(), b.TempDir(), &discard{}, CopyOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := p.Write(b.Context(), io.Discard); err != nil || p.New.Contents != 0 {
			b.Fatal(p.New, err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Files of 50 KB, from the cache of the system, without a seal.
func BenchmarkCopy(b *testing.B) {
	s := newSample(b)
	for i := range uint64(2000) {
		s.add(bytesOf(i, 50_000))
	}
	b.SetBytes(2000 * 50_000)
	for b.Loop() {
		p, err := NewPlan(b.Context(), b.TempDir(), list(s.rows), nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Copy(b.Context(), s.dir, &discard{each: func() {}}, CopyOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// The same files out of memory, each written, and all of them to the disk at the end.
func BenchmarkRestore(b *testing.B) {
	s, to := newSample(b), &packs{}
	for i := range uint64(2000) {
		s.add(bytesOf(i, 50_000))
	}
	p, err := NewPlan(b.Context(), b.TempDir(), list(s.rows), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Copy(b.Context(), s.dir, to, CopyOptions{}); err != nil {
		b.Fatal(err)
	}
	var index bytes.Buffer
	if _, err := p.Write(b.Context(), &index); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2000 * 50_000)
	n, dir := 0, b.TempDir()
	for b.Loop() {
		n++
		if _, err := Restore(b.Context(), bytes.NewReader(index.Bytes()), to, filepath.Join(dir, fmt.Sprint(n))); err != nil {
			b.Fatal(err)
		}
	}
}
