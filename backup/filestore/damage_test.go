package filestore

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// someFiles is a filestore in about ten packs.
func someFiles(t testing.TB) (*sample, *packs, backup) {
	s, to := newSample(t), &packs{}
	for i := range uint64(100) {
		s.add(bytesOf(i, 1000))
	}
	b := s.run(to, nil, CopyOptions{PackBytes: 16 << 10})
	if len(to.packs) < 8 {
		t.Fatalf("%d packs", len(to.packs))
	}
	return s, to, b
}

// copyOf a store, to damage.
func copyOf(p *packs) *packs {
	c := &packs{packs: map[string][]byte{}}
	for name, pack := range p.packs {
		c.packs[name] = bytes.Clone(pack)
	}
	return c
}

// held returns the attachments whose content a pack holds.
func held(t *testing.T, s *sample, b backup, pack string) []Attachment {
	t.Helper()
	var in []Attachment
	for _, line := range lines(b.index) {
		field := strings.Split(line, "\t")
		if len(field) == 6 && field[3] == pack {
			i := slices.IndexFunc(s.rows, func(a Attachment) bool { return a.Store == field[0] })
			in = append(in, s.rows[i])
		}
	}
	if len(in) == 0 {
		t.Fatalf("pack %s holds nothing", pack)
	}
	return in
}

// Whatever happens to a pack, its contents are named by attachment, nothing is restored in silence, and all others are.
func TestDamagedPacksAreNamed(t *testing.T) {
	t.Parallel()
	s, to, b := someFiles(t)
	names := to.names()
	one, other := names[2], names[5]
	gone := errors.New("read past the end of a reset connection")
	for what, damage := range map[string]func(*packs) packReader{
		"missing":   func(p *packs) packReader { delete(p.packs, one); return p },
		"empty":     func(p *packs) packReader { p.packs[one] = nil; return p },
		"swapped":   func(p *packs) packReader { p.packs[one] = p.packs[other]; return p },
		"no tar":    func(p *packs) packReader { p.packs[one] = bytesOf(1, 2000); return p },
		"truncated": func(p *packs) packReader { p.packs[one] = p.packs[one][:700]; return p },
		"unverified": func(p *packs) packReader {
			return failing{p, one, gone}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			from := damage(copyOf(to))
			lost := held(t, s, b, one)
			check := func(u Unpacked, err error) {
				t.Helper()
				incomplete := (*IncompleteError)(nil)
				if !errors.As(err, &incomplete) {
					t.Fatalf("the error is %v", err)
				}
				if what == "missing" && !errors.Is(err, fs.ErrNotExist) || what == "unverified" && !errors.Is(err, gone) {
					t.Errorf("the error is %v", err)
				}
				if what == "unverified" { // all contents were there, but who knows what else was
					return
				}
				if u.Contents+u.Problems.Count() != int64(len(s.rows)) || u.Problems.Count() != int64(len(lost)) {
					t.Errorf("%d good, problems %v; pack %s holds %d", u.Contents, u.Problems, one, len(lost))
				}
				for _, a := range lost {
					if p, ok := problem(u.Problems, a.ID); !ok || p.Kind != PackFailed || !strings.Contains(p.Detail, one) {
						t.Errorf("attachment %d: the problem is %v", a.ID, p)
					}
				}
				if text := err.Error(); !strings.Contains(text, "attachment ") || !strings.Contains(text, one) {
					t.Errorf("the error is %v", err)
				}
			}
			dir := filepath.Join(t.TempDir(), "restored")
			u, err := Restore(t.Context(), bytes.NewReader(b.index), from, dir)
			check(u, err)
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is there: %v", err)
			}
			partial := tree(t, dir+partialSuffix)
			if want := tree(t, s.dir); int64(len(partial)) != u.Contents {
				t.Errorf("%d files of %d are in the partial folder", len(partial), u.Contents)
			} else {
				for name, sum := range partial {
					if want[name] != sum {
						t.Errorf("%s has the wrong content", name)
					}
				}
			}
			check(Verify(t.Context(), t.TempDir(), bytes.NewReader(b.index), from))
		})
	}
}

// failing reports an error where a pack ends.
type failing struct {
	*packs
	name string
	err  error
}

func (f failing) OpenPack(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := f.packs.OpenPack(ctx, name)
	if err != nil || name != f.name {
		return r, err
	}
	return io.NopCloser(io.MultiReader(r, errReader{f.err})), nil
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// A flipped bit of a content, or of the name or length before it, is never restored, even without a seal around.
func TestFlippedBitsOfPacks(t *testing.T) {
	t.Parallel()
	s, to, b := someFiles(t)
	want := tree(t, s.dir)
	random := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		from := copyOf(to)
		name := from.names()[random.IntN(len(from.packs))]
		at := random.IntN(len(from.packs[name]) - 1024) // the end of an archive is padding
		from.packs[name][at] ^= 1 << random.IntN(8)
		dir := filepath.Join(t.TempDir(), "restored")
		_, err := Restore(t.Context(), bytes.NewReader(b.index), from, dir)
		got := tree(t, filepath.Dir(dir))
		for file, sum := range got {
			file = strings.TrimPrefix(strings.TrimPrefix(file, "restored"+partialSuffix+"/"), "restored/")
			if want[file] != sum {
				t.Errorf("byte %d: %s was restored with the wrong content", at, file)
			}
		}
		if len(got) != len(want) && err == nil {
			t.Errorf("byte %d: restored %d files of %d in silence", at, len(got), len(want))
		}
	}
}

// Archives that hold what no copy writes.
func TestHostilePacks(t *testing.T) {
	t.Parallel()
	s, to, b := someFiles(t)
	name := to.names()[0]
	lost := held(t, s, b, name)
	first, second := lost[0], lost[1]
	link := func(typeflag byte, file, target string) tar.Header {
		return tar.Header{Typeflag: typeflag, Name: file, Linkname: target}
	}
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	outside := t.TempDir()
	for what, headers := range map[string][]tar.Header{
		"a link instead of a file":      {link(tar.TypeSymlink, first.Store, outside)},
		"a hard link":                   {link(tar.TypeLink, first.Store, second.Store)},
		"a folder instead of a file":    {link(tar.TypeDir, first.Store, "")},
		"names that leave the folder":   {link(tar.TypeSymlink, "../x", outside), file("../../y", 0), file(outside+"/z", 0)},
		"a link where a folder will be": {link(tar.TypeSymlink, first.Store[:2], outside), file(first.Store, first.Size)},
	} {
		var pack bytes.Buffer
		w := tar.NewWriter(&pack)
		for _, header := range headers {
			if err := w.WriteHeader(&header); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, header.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		from := copyOf(to)
		from.packs[name] = pack.Bytes()
		parent := t.TempDir()
		u, err := Restore(t.Context(), bytes.NewReader(b.index), from, filepath.Join(parent, "restored"))
		if incomplete := (*IncompleteError)(nil); !errors.As(err, &incomplete) || u.Problems.Count() != int64(len(lost)) {
			t.Errorf("%s: %v", what, err)
		}
		if inside, there := tree(t, parent), tree(t, outside); int64(len(inside)) != u.Contents || len(there) != 0 {
			t.Errorf("%s: restored %d files, and %d outside", what, len(inside), len(there))
		}
	}
}

// A stream of attachments that is not whole and in order is refused before anything is done.
func TestDamagedIndexIsRefused(t *testing.T) {
	t.Parallel()
	s, to, b := someFiles(t)
	damaged := map[string]string{"empty": "", "another format": "purser-attachments 2\n" + string(b.index)}
	for size := 1; size < len(b.index); size += 293 {
		damaged[fmt.Sprintf("cut to %d bytes", size)] = string(b.index[:size])
	}
	line := lines(b.index)
	with := func(change func([]string) []string) string { return strings.Join(change(slices.Clone(line)), "") }
	damaged["a line less"] = with(func(l []string) []string { return slices.Delete(l, 7, 8) })
	damaged["a line twice"] = with(func(l []string) []string { return slices.Insert(l, 7, l[7]) })
	damaged["lines swapped"] = with(func(l []string) []string { l[7], l[8] = l[8], l[7]; return l })
	damaged["something after the end"] = string(b.index) + "x"
	damaged["two streams"] = string(b.index) + string(b.index)
	damaged["a long line"] = with(func(l []string) []string { l[7] = strings.Repeat("a", 100<<10) + "\n"; return l })
	field := func(n int, value string) string {
		return with(func(l []string) []string {
			f := strings.Split(strings.TrimSuffix(l[7], "\n"), "\t")
			f[n] = value
			l[7] = strings.Join(f, "\t") + "\n"
			return l
		})
	}
	damaged["a name outside"] = field(0, "../../etc/passwd")
	damaged["no SHA-1"] = field(1, "x")
	damaged["no length"] = field(2, "")
	damaged["no pack"] = field(3, "")
	damaged["a pack with a space"] = field(3, "a b")
	damaged["a field more"] = field(5, "1\t2")
	for what, index := range damaged {
		dir := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), strings.NewReader(index), to, dir); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: restore says %v", what, err)
		} else if what == "a name outside" && !strings.Contains(err.Error(), `line 8 names "../../etc/passwd", which is no path inside the filestore: nothing is restored there`) {
			t.Errorf("%s: restore says only %v", what, err)
		}
		if _, err := os.Stat(dir + partialSuffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a partial folder is left: %v", what, err)
		}
		if _, err := NewPlan(t.Context(), t.TempDir(), list(s.rows), []io.Reader{strings.NewReader(index)}, nil); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: the plan says %v", what, err)
		}
	}
	// The error at the end of an unverified stream is one of ours.
	bad := errors.New("not what was written")
	if _, err := NewPlan(t.Context(), t.TempDir(), list(s.rows), []io.Reader{io.MultiReader(bytes.NewReader(b.index), errReader{bad})}, nil); !errors.Is(err, bad) {
		t.Errorf("the plan says %v", err)
	}
	if _, err := Verify(t.Context(), t.TempDir(), io.MultiReader(bytes.NewReader(b.index), errReader{bad}), to); !errors.Is(err, bad) {
		t.Errorf("verify says %v", err)
	}
}

// Contents of a pack that is known to be lost are copied again.
func TestLostPackIsCopiedAgain(t *testing.T) {
	t.Parallel()
	s, to, b := someFiles(t)
	lost := to.names()[3]
	n := len(held(t, s, b, lost))
	p, err := NewPlan(t.Context(), t.TempDir(), list(s.rows), []io.Reader{bytes.NewReader(b.index)}, func(pack string) bool { return pack != lost })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.New.Contents != int64(n) || p.Kept.Contents != int64(len(s.rows)-n) {
		t.Errorf("planned %+v and kept %+v", p.New, p.Kept)
	}
	delete(to.packs, lost)
	if _, err := p.Copy(t.Context(), s.dir, to, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	says, err := p.Write(t.Context(), &index)
	if err != nil || slices.Contains(says.Packs, lost) {
		t.Errorf("the stream refers to %v: %v", says.Packs, err)
	}
	if u, err := Verify(t.Context(), t.TempDir(), &index, to); err != nil || u.Contents != int64(len(s.rows)) {
		t.Errorf("verified %+v: %v", u, err)
	}
}

// Restore touches nothing that is there.
func TestRestoreOverwritesNothing(t *testing.T) {
	t.Parallel()
	_, to, b := someFiles(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(b.index), to, dir); !errors.Is(err, ErrOccupied) {
		t.Errorf("the error is %v", err)
	}
	empty := t.TempDir()
	if err := os.Mkdir(empty+partialSuffix, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(b.index), to, empty); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the error is %v", err)
	}
	if err := os.Remove(empty + partialSuffix); err != nil {
		t.Fatal(err)
	}
	if u, err := Restore(t.Context(), bytes.NewReader(b.index), to, empty); err != nil || u.Contents != 100 {
		t.Errorf("restored %+v to an empty folder: %v", u, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(ctx, bytes.NewReader(b.index), to, stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(stopped + partialSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a partial folder is left: %v", err)
	}
}
