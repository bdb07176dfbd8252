package sources

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestPeekAgreesWithLookup(t *testing.T) {
	tree := sampleTree(t)
	for _, path := range []string{
		"", ".", "./", "/", "base", "base/", "base/web.yaml", "./base//web.yaml", "base/../base/web.yaml", "nothing", "base/nothing", "base/web.yaml/x",
		"no/thing", "envs/dev/link/web.yaml", "envs/dev/file", "envs/dev/dangling", "self/self/base/web.yaml", "out", "out/x", "loop-a", "loop-b/x",
		"../x", ".git/config", "base/.GIT", "base/.GIT/x", "a\x00b", strings.Repeat("x/", 3000) + "x", strings.Repeat("x", 5000), "large", "pointer.bin", "envs/dev",
	} {
		for range 2 { // first from the objects, then from memory
			id, isDir, known := tree.Peek(path)
			e, err := tree.Lookup(path)
			switch {
			case !known:
				if path == "base/web.yaml" || path == "nothing" || path == "base/nothing" {
					t.Errorf("Peek(%.40q) does not know", path)
				}
			case id == [20]byte{}:
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Peek(%.40q) says that it is absent, Lookup %+v, %v", path, e, err)
				}
			case err != nil || e.Path != path || e.IsLink || e.IsDir != isDir || e.Hash != plumbing.Hash(id).String():
				t.Errorf("Peek(%.40q) = %x, %t; Lookup %+v, %v", path, id, isDir, e, err)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { tree.Peek("base/web.yaml"); tree.Peek("base/nothing") }); n > 0 {
		t.Errorf("Peek allocates %g times", n)
	}
}

// What a damaged store cannot give is never said to be absent.
func TestPeekDoesNotKnowWhatIsDamaged(t *testing.T) {
	tree := sampleTree(t)
	work := tree.src.(*workTree)
	for id := range work.trees {
		if id != tree.root {
			delete(work.trees, id)
		}
	}
	if _, _, known := tree.Peek("base/nothing"); known {
		t.Error("Peek knows what is in a directory that cannot be read")
	}
	if _, err := tree.Lookup("base/nothing"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Lookup = %v, want ErrDamaged", err)
	}
}
