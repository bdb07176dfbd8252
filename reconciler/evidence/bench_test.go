package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var benchRecords = flag.Int("bench.records", 2_000, "records in the log that BenchmarkVerify verifies")

// BenchmarkVerify reports records per second beside the floor: the hashing and
// the signature of each record alone.
func BenchmarkVerify(b *testing.B) {
	f := newFixture(b)
	f.o.SpoolRecords = *benchRecords
	f.open()
	for range *benchRecords / maxBatchRecords {
		f.add(maxBatchRecords)
		f.publish()
	}
	f.close()
	dir := filepath.Join(b.TempDir(), "clone.git")
	git(b, ".", "clone", "-q", "--mirror", "file://"+f.bare, dir)
	var data []byte
	b.ResetTimer()
	var took time.Duration
	for b.Loop() {
		start := time.Now()
		r, err := Verify(b.Context(), dir, f.o.Trusted, VerifyOptions{OnRecord: func(_ Record, envelope []byte) error {
			data = envelope
			return nil
		}})
		if err != nil || r.ExitCode() != ExitComplete {
			b.Fatal(err, r.Problems)
		}
		took = time.Since(start)
	}
	b.StopTimer()
	b.ReportMetric(float64(*benchRecords)/took.Seconds(), "records/s")
	b.ReportMetric(took.Seconds()/floor(b, data, f.key).Seconds(), "x-floor")
}

// floor is the time that hashing and one signature per record take at least.
func floor(b *testing.B, data []byte, key *Key) time.Duration {
	e, err := parseEnvelope(data)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	const sample = 2_000
	for range sample {
		sha256.Sum256(data)
		if !ed25519.Verify(key.public.raw, pae(e.PayloadType, e.Payload), e.Signatures[0].Sig) {
			b.Fatal("signature")
		}
	}
	return time.Since(start) / sample * time.Duration(*benchRecords)
}

// BenchmarkAdd measures signed records per second, on one core: what a caller
// does under its own lock.
func BenchmarkAdd(b *testing.B) {
	f := newFixture(b)
	f.o.SpoolRecords, f.o.SpoolBytes = 1<<30, 1<<40
	f.open()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := f.log.Add(applyDraft(n)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkDurable measures durable records per second, by goroutines that each
// wait for theirs.
func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			f := newFixture(b)
			f.o.SpoolRecords, f.o.SpoolBytes = 1<<30, 1<<40
			f.open()
			var flushes, n atomic.Int64
			f.log.spool.disk.sync = func(file *os.File) error { flushes.Add(1); return file.Sync() }
			b.SetParallelism((writers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			if writers == 1 {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			}
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := f.log.record(b.Context(), applyDraft(int(n.Add(1)))); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(n.Load())/float64(flushes.Load()), "records/flush")
		})
	}
}

// BenchmarkFlush is the floor of BenchmarkDurable: one write and one flush.
func BenchmarkFlush(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "x"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	data := make([]byte, 1200)
	for b.Loop() {
		if _, err := file.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublish measures the time from Add until the record was seen on a
// remote that Git's own HTTP backend serves.
func BenchmarkPublish(b *testing.B) {
	for _, kept := range []int{0, 1_000} {
		b.Run(fmt.Sprintf("%d refs", kept), func(b *testing.B) {
			f := newFixture(b)
			s := serve(b, filepath.Dir(f.bare))
			f.o.Remote.URL = s.URL + "/audit.git"
			f.run()
			for i := range kept {
				d := applyDraft(i)
				d.Keep = []Keep{{Ref: fmt.Sprintf("%se%d/live", keepPrefix, i), Files: map[string][]byte{"i": fmt.Append(nil, i)}}}
				if _, err := f.log.Add(d); err != nil {
					b.Fatal(err)
				}
			}
			f.wait(f.add(1).Index)
			s.requests.Store(0)
			n := 0
			for b.Loop() {
				if err := f.log.Published(b.Context(), f.add(1).Index); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(s.requests.Load())/float64(n), "requests")
		})
	}
}

// BenchmarkReplay measures records per second and what a published log keeps in
// memory.
func BenchmarkReplay(b *testing.B) {
	f := newFixture(b)
	f.o.SpoolRecords = 1 << 30
	f.open()
	f.log.spool.disk.sync = func(*os.File) error { return nil }
	f.add(*benchRecords)
	f.publish()
	f.close()
	open := time.Now()
	f.open()
	opened := time.Since(open)
	n := 0
	for b.Loop() {
		n = 0
		if err := f.log.Replay(func(Record) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(opened.Seconds()*1e3, "open-ms")
}

// BenchmarkPublished measures records per second that four writers bring to a
// remote which Git's own HTTP backend serves, each waiting for durability alone.
func BenchmarkPublished(b *testing.B) {
	f := newFixture(b)
	s := serve(b, filepath.Dir(f.bare))
	f.o.Remote.URL = s.URL + "/audit.git"
	f.run()
	var n atomic.Int64
	most := 0
	for b.Loop() {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 250 {
					if _, err := f.log.record(b.Context(), applyDraft(int(n.Add(1)))); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		most = max(most, f.log.Status().Spooled)
		if err := f.log.Published(b.Context(), uint64(n.Load())-1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(most), "spooled-at-most")
}

// BenchmarkMemory measures what the log keeps in memory: per spooled record, and
// in all after everything was published.
func BenchmarkMemory(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	f := newFixture(b)
	f.o.SpoolRecords = 1 << 30
	var spooled, published float64
	for b.Loop() {
		f.open()
		f.log.spool.disk.sync = func(*os.File) error { return nil }
		before := heap()
		f.add(*benchRecords)
		spooled = (heap() - before) / float64(*benchRecords)
		f.publish()
		published = heap() - before
		f.close()
	}
	b.ReportMetric(spooled, "B/spooled-record")
	b.ReportMetric(published, "B-published")
}
