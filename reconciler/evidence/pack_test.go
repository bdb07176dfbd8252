package evidence

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestPackIsGits(t *testing.T) {
	bare := newBare(t)
	rng := rand.New(rand.NewSource(1))
	long := make([]byte, 200_000)
	rng.Read(long)
	base := newObject(plumbing.BlobObject, long)
	var objects []object
	for _, data := range [][]byte{{}, []byte("x"), long[:15], long[:16], long[:5000], append(bytes.Clone(long), "grown"...), append(bytes.Clone(long[:70_000]), "changed"...), append([]byte("!"), long...)} {
		o := newObject(plumbing.BlobObject, data)
		o.base = &base
		objects = append(objects, o)
	}
	for _, thin := range []bool{false, true} {
		pack, err := encodePack(append(objects, base), thin)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := gitOutput(bare, pack, "index-pack", "--stdin", "--strict", "--fix-thin"); err != nil {
			t.Fatalf("thin %t: %v: %s", thin, err, out)
		}
		for _, o := range objects {
			if got := git(t, bare, "cat-file", "-s", o.hash.String()); got != fmt.Sprint(len(o.data)) {
				t.Errorf("thin %t: %s has %s bytes, want %d", thin, o.hash, got, len(o.data))
			}
		}
		git(t, bare, "fsck", "--full", "--strict")
	}
}

// The spine gives the same trees as Git does from the files themselves.
func TestSpineIsGitsTree(t *testing.T) {
	bare := newBare(t)
	var s spine
	var index strings.Builder
	for seq := range uint64(10_203) {
		o := newObject(plumbing.BlobObject, fmt.Appendf(nil, "%d\n", seq))
		s.add(o.hash, nil)
		fmt.Fprintf(&index, "100644 %s\t%s\n", o.hash, recordPath(seq))
		if n := seq + 1; n == 1 || n == 99 || n == 100 || n == 101 || n == 10_000 || n == 10_001 || n == 10_203 {
			git(t, bare, "read-tree", "--empty")
			if out, err := gitOutput(bare, []byte(index.String()), "update-index", "--index-info"); err != nil {
				t.Fatal(out)
			}
			want := git(t, bare, "write-tree", "--missing-ok", "--prefix=records/")
			if got := s.root(nil).String(); got != want {
				t.Errorf("%d records: %s, want %s", n, got, want)
			}
			if s.size() != n {
				t.Errorf("size %d, want %d", s.size(), n)
			}
			back, err := s.encode().decode()
			if err != nil || back.root(nil) != s.root(nil) {
				t.Errorf("%d records: spine does not survive encoding: %v", n, err)
			}
		}
	}
}
