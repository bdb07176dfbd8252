package filestore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A sample is a filestore with the rows that go with it.
type sample struct {
	t    testing.TB
	dir  string
	rows []Attachment
	id   int64
}

func newSample(t testing.TB) *sample {
	return &sample{t: t, dir: t.TempDir()}
}

// bytesOf are some that nobody else has.
func bytesOf(seed uint64, size int) []byte {
	data := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i < size; i += 8 {
		var word [8]byte
		for j, v := 0, random.Uint64(); j < 8; j++ {
			word[j] = byte(v >> (8 * j))
		}
		copy(data[i:], word[:])
	}
	return data
}

// add writes a content as Odoo does, and adds its row.
func (s *sample) add(data []byte) Attachment {
	s.t.Helper()
	sum := sha1.Sum(data)
	name := hex.EncodeToString(sum[:])
	a := s.row(name[:2]+"/"+name, name, int64(len(data)))
	s.write(a.Store, data)
	return a
}

// row adds a row alone.
func (s *sample) row(store, checksum string, size int64) Attachment {
	s.id++
	a := Attachment{s.id, store, checksum, size}
	s.rows = append(s.rows, a)
	return a
}

func (s *sample) path(store string) string { return filepath.Join(s.dir, filepath.FromSlash(store)) }

func (s *sample) write(store string, data []byte) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(store)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(store), data, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// list yields rows as the database would.
func list(rows []Attachment) iter.Seq2[Attachment, error] {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Attachment) int { return cmp.Or(cmp.Compare(a.Store, b.Store), cmp.Compare(a.ID, b.ID)) })
	return func(yield func(Attachment, error) bool) {
		for _, a := range rows {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// packs are a store in memory.
type packs struct {
	mu      sync.Mutex
	packs   map[string][]byte
	written int
	before  func(written int) error // of WritePack
}

func (p *packs) WritePack(_ context.Context, fill func(io.Writer) error) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before != nil {
		if err := p.before(p.written); err != nil {
			return "", err
		}
	}
	p.written++
	var pack bytes.Buffer
	if err := fill(&pack); err != nil {
		return "", fmt.Errorf("store pack: %w", err)
	}
	name := fmt.Sprintf("%x-%d", sha256.Sum256(pack.Bytes()), p.written)
	if p.packs == nil {
		p.packs = map[string][]byte{}
	}
	p.packs[name] = pack.Bytes()
	return name, nil
}

func (p *packs) OpenPack(_ context.Context, name string) (io.ReadCloser, error) {
	pack, ok := p.packs[name]
	if !ok {
		return nil, fmt.Errorf("open pack: %w", fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(pack)), nil
}

func (p *packs) names() []string {
	var names []string
	for name := range p.packs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A backup is what one run made.
type backup struct {
	index  []byte
	plan   Plan
	copied Copied
	says   Index
}

// run makes a backup of rows after an earlier one.
func (s *sample) run(to *packs, previous []byte, o CopyOptions) backup {
	s.t.Helper()
	var earlier []io.Reader
	if previous != nil {
		earlier = []io.Reader{bytes.NewReader(previous)}
	}
	p, err := NewPlan(s.t.Context(), s.t.TempDir(), list(s.rows), earlier, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	b := backup{plan: *p}
	if b.copied, err = p.Copy(s.t.Context(), s.dir, to, o); err != nil {
		s.t.Fatal(err)
	}
	var index bytes.Buffer
	if b.says, err = p.Write(s.t.Context(), &index); err != nil {
		s.t.Fatal(err)
	}
	b.index = index.Bytes()
	return b
}

// tree returns the SHA-256 of every file below a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// problem finds the problem of an attachment.
func problem(p Problems, id int64) (Problem, bool) {
	i := slices.IndexFunc(p.First, func(p Problem) bool { return p.ID == id })
	if i < 0 {
		return Problem{}, false
	}
	return p.First[i], true
}

// lines splits a stream of attachments.
func lines(index []byte) []string {
	return strings.SplitAfter(strings.TrimSuffix(string(index), "\n"), "\n")
}
