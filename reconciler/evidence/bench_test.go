package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"path/filepath"
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
		if _, err := f.log.publish(b.Context()); err != nil {
			b.Fatal(err)
		}
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

// BenchmarkAppend measures durable records per second.
func BenchmarkAppend(b *testing.B) {
	f := newFixture(b)
	f.o.SpoolRecords = 1 << 30
	f.open()
	n := 0
	for b.Loop() {
		if _, err := f.log.Append(b.Context(), applyDraft(n)); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
