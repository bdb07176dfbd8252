package sources

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLocalTree(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"envs/dev/app.yaml": "one\n"})
	c.git("tag", "-a", "-m", "First", "v1")
	two := c.commit(map[string]string{"envs/dev/app.yaml": "two\n"})
	c.push("main", "v1")
	linked, shared := filepath.Join(t.TempDir(), "linked"), filepath.Join(t.TempDir(), "shared")
	c.git("worktree", "add", "-q", "-b", "topic", linked, one)
	git(t, t.TempDir(), "clone", "-q", "--shared", s.dir, shared)
	inside := filepath.Join(c.dir, "inside.git") // a bare repository in a work tree
	git(t, t.TempDir(), "clone", "-q", "--bare", s.dir, inside)
	git(t, inside, "gc", "-q")
	for _, dir := range []string{c.dir, filepath.Join(c.dir, "envs/dev"), s.dir, linked, shared, inside} {
		for ref, want := range map[string]Revision{
			"main": {"main", two}, "main~1": {"main~1", one}, "v1": {"v1", one}, one: {one, one}, two[:10]: {two[:10], two},
		} {
			if dir == shared && len(ref) == 10 {
				continue // go-git does not look for shortened ids there
			}
			tree, rev, err := LocalTree(dir, ref, Limits{})
			if err != nil || rev != want {
				t.Errorf("LocalTree(%s, %s) = %v, %v; want %v", dir, ref, rev, err, want)
				continue
			}
			content := map[string]string{one: "one\n", two: "two\n"}[rev.Commit]
			if got, err := tree.ReadFile("envs/dev/app.yaml"); string(got) != content || err != nil {
				t.Errorf("LocalTree(%s, %s): file = %q, %v", dir, ref, got, err)
			}
		}
	}
	for dir, want := range map[string]Revision{c.dir: {"main", two}, linked: {"topic", one}} {
		if _, rev, err := LocalTree(dir, "HEAD", Limits{}); err != nil || rev != want {
			t.Errorf("LocalTree(%s, HEAD) = %v, %v; want %v", dir, rev, err, want)
		}
	}
	var h *HintError
	if _, _, err := LocalTree(c.dir, "no-such-branch", Limits{}); !errors.As(err, &h) {
		t.Errorf("LocalTree of an unknown ref = %v", err)
	}
	if _, _, err := LocalTree(os.TempDir(), "main", Limits{}); !errors.Is(err, ErrNoRepository) {
		t.Errorf("LocalTree outside of a repository = %v", err)
	}
}
