package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sample returns bytes of which about half compress.
func sample(size int) []byte {
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, size)
	_, _ = random.Read(data) // never fails
	for at := 0; at+1000 < size; at += 2000 {
		copy(data[at:at+1000], bytes.Repeat([]byte("0123456789"), 100))
	}
	return data
}

func sealed(t testing.TB, plain []byte, recipients ...age.Recipient) ([]byte, Sealed) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s
}

// open returns what a Reader gives and its error, nil for io.EOF.
func open(stream io.Reader, s Sealed, identities ...age.Identity) ([]byte, error) {
	r, err := NewReader(stream, s, identities...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	estate, escrow := identity(t), identity(t)
	for _, size := range []int{0, 1, 1 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 9<<20 + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			plain := sample(size)
			stream, s := sealed(t, plain, estate.Recipient(), escrow.Recipient())
			if s.PlainBytes != int64(size) || s.Bytes != int64(len(stream)) {
				t.Errorf("sealed is %+v for %d bytes in %d", s, size, len(stream))
			}
			for _, key := range []age.Identity{estate, escrow} {
				got, err := open(bytes.NewReader(stream), s, key)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("opened %d bytes of %d: %v", len(got), size, err)
				}
			}
			if size > 1<<20 { // it would take long
				return
			}
			got, err := open(iotest.OneByteReader(bytes.NewReader(stream)), s, estate)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("opened %d bytes of %d, one at a time: %v", len(got), size, err)
			}
		})
	}
}

// corrupt says whether a damaged stream is refused as such.
func corrupt(t *testing.T, what string, stream []byte, s Sealed, key age.Identity) {
	t.Helper()
	_, err := open(bytes.NewReader(stream), s, key)
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrIdentity) {
		t.Errorf("%s: the error is %v", what, err)
	}
}

func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	key := identity(t)
	small, smallSealed := sealed(t, sample(3000), key.Recipient())
	large, largeSealed := sealed(t, sample(700<<10), key.Recipient())
	random := rand.New(rand.NewPCG(1, 2))

	t.Run("bit flip", func(t *testing.T) {
		t.Parallel()
		for at := range small {
			damaged := bytes.Clone(small)
			damaged[at] ^= 1 << (at % 8)
			corrupt(t, fmt.Sprintf("bit %d of byte %d", at%8, at), damaged, smallSealed, key)
		}
		for range 60 {
			at := random.IntN(len(large))
			damaged := bytes.Clone(large)
			damaged[at] ^= 1 << random.IntN(8)
			corrupt(t, fmt.Sprintf("byte %d of the large stream", at), damaged, largeSealed, key)
		}
	})
	t.Run("truncation", func(t *testing.T) {
		t.Parallel()
		for size := range small {
			corrupt(t, fmt.Sprintf("%d bytes", size), small[:size], smallSealed, key)
		}
		const chunk = 64<<10 + 16 // of age
		payload := len(large) % chunk
		for size := payload % chunk; size < len(large); size += chunk {
			for _, near := range []int{size - 1, size, size + 1} {
				if near >= 0 {
					corrupt(t, fmt.Sprintf("%d bytes of the large stream", near), large[:near], largeSealed, key)
				}
			}
		}
		corrupt(t, "half of the large stream", large[:len(large)/2], largeSealed, key)
	})
	t.Run("appended", func(t *testing.T) {
		t.Parallel()
		frame := zstdFrame(t, sample(10))
		for what, more := range map[string][]byte{"a byte": {0}, "itself": small, "a frame": frame, "much": make([]byte, 1<<20)} {
			corrupt(t, what, append(bytes.Clone(small), more...), smallSealed, key)
		}
	})
	t.Run("swapped", func(t *testing.T) {
		t.Parallel()
		other, otherSealed := sealed(t, sample(3000), key.Recipient()) // the same plain bytes
		corrupt(t, "another sealing of the same", other, smallSealed, key)
		corrupt(t, "another stream", large, smallSealed, key)
		mixed := otherSealed
		mixed.PlainSHA256 = largeSealed.PlainSHA256
		corrupt(t, "another plain hash", other, mixed, key)
		mixed = otherSealed
		mixed.PlainBytes--
		corrupt(t, "another length", other, mixed, key)
		mixed.PlainBytes += 2
		corrupt(t, "another length", other, mixed, key)
	})
}

// Streams that are whole to age and zstd, and yet not what was sealed.
func TestValidStreamsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	key := identity(t)
	one, two := sample(70<<10), sample(5000)
	frames := append(zstdFrame(t, one), zstdFrame(t, two)...)
	whole := encrypted(t, frames, key)
	m, p := newMeter(), newMeter()
	m.add(whole)
	p.add(append(bytes.Clone(one), two...))
	want := Sealed{p.hex(), p.bytes, m.hex(), m.bytes}
	if got, err := open(bytes.NewReader(whole), want, key); err != nil || len(got) != len(one)+len(two) {
		t.Fatalf("opened %d bytes: %v", len(got), err)
	}
	first := zstdFrame(t, one)
	for what, stream := range map[string][]byte{
		"cut at the end of a frame": encrypted(t, first, key),
		"cut inside a frame":        encrypted(t, frames[:len(first)-1], key),
		"cut inside a frame header": encrypted(t, frames[:len(first)+3], key),
		"empty":                     encrypted(t, nil, key),
		"a frame too many":          encrypted(t, append(bytes.Clone(frames), first...), key),
		"frames in another order":   encrypted(t, append(zstdFrame(t, two), first...), key),
		"a skippable frame more":    encrypted(t, append(bytes.Clone(frames), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0), key),
	} {
		corrupt(t, what, stream, want, key)
	}
}

func zstdFrame(t *testing.T, plain []byte, options ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(plain, nil)
}

func encrypted(t *testing.T, data []byte, key *age.X25519Identity) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, key.Recipient())
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	stream, s := sealed(t, sample(100), identity(t).Recipient())
	if _, err := open(bytes.NewReader(stream), s, identity(t)); !errors.Is(err, ErrIdentity) {
		t.Errorf("the error is %v", err)
	}
	if _, err := open(bytes.NewReader(stream), s); err == nil {
		t.Error("opened without an identity")
	}
	if _, err := NewWriter(io.Discard); err == nil {
		t.Error("sealed for nobody")
	}
}

// What the store says is not taken for damage.
func TestErrorsOfTheSourceStay(t *testing.T) {
	t.Parallel()
	key := identity(t)
	stream, s := sealed(t, sample(300<<10), key.Recipient())
	reset := errors.New("connection reset")
	for _, at := range []int{0, 100, 1000, len(stream) / 2, len(stream)} {
		_, err := open(io.MultiReader(bytes.NewReader(stream[:at]), iotest.ErrReader(reset)), s, key)
		if !errors.Is(err, reset) || errors.Is(err, ErrCorrupt) {
			t.Errorf("after %d bytes: the error is %v", at, err)
		}
	}
}

// failAfter fails after some bytes.
type failAfter struct {
	left int
	err  error
}

func (f *failAfter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestErrorsOfTheDestinationStay(t *testing.T) {
	t.Parallel()
	key, full := identity(t), errors.New("disk full")
	if _, err := NewWriter(&failAfter{10, full}, key.Recipient()); !errors.Is(err, full) {
		t.Errorf("the error is %v", err)
	}
	for _, left := range []int{300, 1000, 200 << 10, 1 << 20} {
		w, err := NewWriter(&failAfter{left, full}, key.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(sample(4 << 20)) // Close says it again
		if s, err := w.Close(); !errors.Is(err, full) || s != (Sealed{}) {
			t.Errorf("after %d bytes: %+v, %v", left, s, err)
		}
		if _, err := w.Write([]byte{1}); err == nil {
			t.Error("wrote after the end")
		}
	}
}

// A source that fails leaves no stream that anybody could take for whole.
func TestAbort(t *testing.T) {
	t.Parallel()
	key := identity(t)
	var out bytes.Buffer
	w, err := NewWriter(&out, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(sample(5 << 20)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	if s, err := w.Close(); err == nil || s != (Sealed{}) {
		t.Errorf("closed an aborted stream: %+v, %v", s, err)
	}
	r, err := age.Decrypt(&out, key)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		t.Error("age takes the rest for whole")
	}
}

// A Reader that was read to its end, or closed, says so again.
func TestEndStays(t *testing.T) {
	t.Parallel()
	key := identity(t)
	stream, s := sealed(t, sample(10), key.Recipient())
	r, err := NewReader(bytes.NewReader(stream), s, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d: %v", n, err)
		}
	}
	early, err := NewReader(bytes.NewReader(stream), s, key)
	if err != nil {
		t.Fatal(err)
	}
	_ = early.Close()
	if _, err := early.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("closed before its end, it says %v", err)
	}
}

// What could fill memory is refused: a window larger than ours, and more plain bytes than there should be.
func TestBombsAreRefused(t *testing.T) {
	t.Parallel()
	key := identity(t)
	var frame bytes.Buffer
	w, err := zstd.NewWriter(&frame, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, 200<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stream := encrypted(t, frame.Bytes(), key)
	m := newMeter()
	m.add(stream)
	corrupt(t, "a large window", stream, Sealed{"", 200 << 20, m.hex(), m.bytes}, key)

	bomb, s := sealed(t, make([]byte, 50<<20), key.Recipient())
	s.PlainBytes = 1 << 20
	r, err := NewReader(bytes.NewReader(bomb), s, key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrCorrupt) || n > 3<<20 {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// repeated is a source without an end that compresses well, but not to nothing.
type repeated struct {
	block []byte
	n     int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.n:])
	r.n = (r.n + n + 1) % len(r.block)
	return n, nil
}

// peak is the most memory in bytes that the process had in use while something ran.
type peak struct{ most uint64 }

func (p *peak) Write(data []byte) (int, error) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(samples)
	p.most = max(p.most, samples[0].Value.Uint64()+samples[1].Value.Uint64())
	return len(data), nil
}

// It is not parallel: it measures the process.
func TestMemoryIsBounded(t *testing.T) {
	const size, bound = 96 << 20, 64 << 20
	key := identity(t)
	path := filepath.Join(t.TempDir(), "sealed")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var p peak
	w, err := NewWriter(file, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<20)
	if _, err := io.CopyBuffer(io.MultiWriter(w, &p), io.LimitReader(&repeated{block: sample(8 << 20)}, size), buffer); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	sealing := p.most
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	p = peak{}
	r, err := NewReader(file, s, key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyBuffer(&p, struct{ io.Reader }{r}, buffer); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB in %d MiB: %d MiB to seal, %d MiB to open", size>>20, s.Bytes>>20, sealing>>20, p.most>>20)
	if s.PlainBytes != size || sealing > bound || p.most > bound {
		t.Errorf("sealed %+v with %d bytes of memory, opened with %d; the bound is %d", s, sealing, p.most, bound)
	}
}

func BenchmarkSeal(b *testing.B) {
	key := identity(b)
	for name, plain := range map[string][]byte{"half": sample(64 << 20), "random": randomBytes(64 << 20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				w, err := NewWriter(io.Discard, key.Recipient())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(w, bytes.NewReader(plain)); err != nil {
					b.Fatal(err)
				}
				if _, err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func randomBytes(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data) // never fails
	return data
}
