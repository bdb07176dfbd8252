package sources

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packOf makes a pack with the git command; objects are named one a line.
func packOf(t testing.TB, repo, objects string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("git", append([]string{"pack-objects", "-q", "--stdout"}, args...)...)
	cmd.Dir = repo
	cmd.Stdin = strings.NewReader(objects)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git pack-objects: %v", err)
	}
	return out
}

// samplePack holds commits, trees and deltas of similar files.
func samplePack(t *testing.T) []byte {
	t.Helper()
	c := newClone(t, "/nowhere")
	for i := range 6 {
		c.commit(map[string]string{"big": strings.Repeat("line\n", 300) + noise(600) + fmt.Sprint(i), "d/small": fmt.Sprint(i)})
	}
	return packOf(t, c.dir, "HEAD\n", "--revs", "--delta-base-offset")
}

func receive(t testing.TB, pack []byte) (dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	if err := initBare(dir); err != nil {
		t.Fatal(err)
	}
	_, err = receivePack(context.Background(), dir, bytes.NewReader(pack), Limits{ObjectBytes: 1 << 20}.withDefaults())
	return dir, err
}

// reseal gives a pack the checksum of its content.
func reseal(pack []byte) []byte {
	sum := sha1.Sum(pack[:len(pack)-sha1.Size])
	return append(pack[:len(pack)-sha1.Size:len(pack)-sha1.Size], sum[:]...)
}

// TestHostilePacks alters a pack behind its checksum, thousands of ways. Each is
// refused or indexed by what it really holds; none leaves anything half done.
func TestHostilePacks(t *testing.T) {
	pack := samplePack(t)
	if dir, err := receive(t, pack); err != nil {
		t.Fatal(err)
	} else {
		git(t, dir, "fsck", "--strict")
	}
	dir := t.TempDir()
	if err := initBare(dir); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	kept := 0
	for i := range 3000 {
		bad := bytes.Clone(pack)
		for range 1 + rnd.IntN(3) {
			bad[4+rnd.IntN(len(bad)-4-sha1.Size)] = byte(rnd.Uint32())
		}
		if i%10 == 0 { // cut it short
			bad = bad[:32+rnd.IntN(len(bad)-32)]
		}
		if _, err := receivePack(t.Context(), dir, bytes.NewReader(reseal(bad)), Limits{ObjectBytes: 1 << 20}.withDefaults()); err == nil {
			kept++
		}
		if left := partialPacks(dir); len(left) > 0 {
			t.Fatalf("alteration %d left %v", i, left)
		}
	}
	packs, err := filepath.Glob(filepath.Join(packDir(dir), "*"))
	if err != nil || len(packs) > 2*kept {
		t.Errorf("%d packs were taken, %d files are there, %v", kept, len(packs), err)
	}
}

func FuzzReceivePack(f *testing.F) {
	f.Add([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x30\x78\x9c\x03\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		dir, err := receive(t, reseal(append(bytes.Clone(body), make([]byte, sha1.Size)...)))
		if left := partialPacks(dir); len(left) > 0 {
			t.Errorf("left %v after %v", left, err)
		}
	})
}

func TestDeltaBomb(t *testing.T) {
	c := newClone(t, "/nowhere")
	c.commit(map[string]string{"f": noise(1<<20 - 100)})
	c.commit(map[string]string{"f": noise(1<<20-100) + noise(2000)}) // a small delta to a large file
	_, err := receive(t, packOf(t, c.dir, "HEAD\n", "--revs"))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("receivePack = %v", err)
	}
}

// TestIncompletePack meets a server that leaves out a file of the new commit.
func TestIncompletePack(t *testing.T) {
	s, r, good, next := failing(t, Options{})
	for _, left := range []string{":f", "^{tree}", ""} {
		t.Run("without "+left, func(t *testing.T) {
			missing := git(t, s.dir, "rev-parse", next+left)
			var keep []string
			for _, line := range strings.Split(git(t, s.dir, "rev-list", "--objects", next, "^"+good), "\n") {
				if id, _, _ := strings.Cut(line, " "); id != missing {
					keep = append(keep, id)
				}
			}
			pack := packOf(t, s.dir, strings.Join(keep, "\n")+"\n")
			s.set(func() {
				s.before = s.tamper(func(req *http.Request) bool { return req.Method == http.MethodPost }, func(w http.ResponseWriter, _ []byte) {
					_, _ = fmt.Fprint(w, "0008NAK\n")
					for ; len(pack) > 0; pack = pack[min(60_000, len(pack)):] {
						_, _ = fmt.Fprintf(w, "%04x\x01%s", 5+min(60_000, len(pack)), pack[:min(60_000, len(pack))])
					}
					_, _ = fmt.Fprint(w, "0000")
				})
			})
			_, err := r.Sync(t.Context(), []string{"main"})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "missing") {
				t.Errorf("Sync = %v", err)
			}
			wantUnmoved(t, r, good)
			if packs, _ := filepath.Glob(filepath.Join(packDir(r.dir), "*.pack")); len(packs) != 1 {
				t.Errorf("the incomplete pack was kept: %v", packs)
			}
		})
	}
	s.set(func() { s.before = nil })
	mustSync(t, r, "main")
	wantHead(t, r, "main", next)
}
