package sources

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// merged merges branch theirs into main after fetching both.
func merged(t *testing.T, r *Repository, c *clone) *Merge {
	t.Helper()
	mustSync(t, r, "main", "theirs")
	m, err := r.Merge(t.Context(), c.git("rev-parse", "main"), c.git("rev-parse", "theirs"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestMergeIsGits compares random merges of whole files with what git merge-tree makes of them.
func TestMergeIsGits(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	r := open(t, Options{URL: s.url()})
	random := rand.New(rand.NewPCG(7, 8))
	names := []string{"a", "b", "dir/a", "dir/b", "dir/sub/c", "dir.d/e", "x/y/z"}
	clean, conflicting := 0, 0
	change := func(tag string) {
		for range 1 + random.IntN(3) {
			name := names[random.IntN(len(names))]
			file := filepath.Join(c.dir, name)
			if random.IntN(3) == 0 {
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, fmt.Appendf(nil, "%s %d\n", tag, random.IntN(4)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		c.git("add", "--all")
		c.git("commit", "--quiet", "--allow-empty", "--message", tag)
	}
	c.commit(map[string]string{"a": "1\n", "dir/a": "1\n", "dir/sub/c": "1\n", "x/y/z": "1\n"})
	for round := range 30 {
		c.git("checkout", "--quiet", "-B", "theirs", "main")
		change(fmt.Sprint("theirs ", round))
		if random.IntN(2) == 0 {
			change(fmt.Sprint("theirs again ", round))
		}
		c.git("checkout", "--quiet", "main")
		change(fmt.Sprint("ours ", round))
		c.git("push", "--quiet", "--force", "origin", "main", "theirs")
		m := merged(t, r, c)
		cmd := exec.CommandContext(t.Context(), "git", "-c", "merge.renames=false", "merge-tree", "--write-tree", "main", "theirs")
		cmd.Dir = c.dir
		out, err := cmd.Output()
		if parted, err := r.forkPoint(t.Context(), c.git("rev-parse", "main"), c.git("rev-parse", "theirs")); err != nil || parted != c.git("merge-base", "main", "theirs") {
			t.Fatalf("parted at %s, %v", parted, err)
		}
		if (err == nil) != (len(m.Conflicts) == 0) {
			t.Fatalf("round %d: git: %v; conflicts %v\n%s", round, err, m.Conflicts, out)
		}
		if err != nil {
			conflicting++
			continue
		}
		clean++
		want := strings.TrimSpace(string(out))
		if m.Tree.ID() != want {
			t.Fatalf("round %d: tree %s, want %s", round, m.Tree.ID(), want)
		}
		paths := strings.Fields(c.git("diff-tree", "-r", "--no-renames", "--name-only", "main", want))
		if !slices.Equal(paths, m.Paths) {
			t.Fatalf("round %d: paths %v, want %v", round, m.Paths, paths)
		}
		for _, name := range m.Paths {
			data, err := m.Tree.ReadFile(name)
			if err == nil && string(data) != c.git("show", "theirs:"+name)+"\n" {
				t.Errorf("%s is %q", name, data)
			}
		}
		c.git("merge", "--quiet", "--strategy-option", "no-renames", "theirs")
	}
	if clean < 5 || conflicting < 5 {
		t.Errorf("%d clean merges, %d conflicts: the test shows little", clean, conflicting)
	}
}

func TestMergeWithoutForkPoint(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	r := open(t, Options{URL: s.url()})
	first := c.commit(map[string]string{"a": "1"})
	c.git("checkout", "--quiet", "-b", "theirs")
	c.git("push", "--quiet", "origin", "main", "theirs")
	if m := merged(t, r, c); len(m.Paths) != 0 || len(m.Own) != 0 || m.Tree == nil {
		t.Errorf("a merge of what is there already: %+v", m)
	}
	c.git("checkout", "--quiet", "--orphan", "stranger")
	c.git("commit", "--quiet", "--message", "Another history")
	c.git("push", "--quiet", "--force", "origin", "stranger:theirs")
	mustSync(t, r, "main", "theirs")
	if _, err := r.Merge(t.Context(), first, c.git("rev-parse", "stranger"), 1000); !errors.Is(err, ErrNotAncestor) {
		t.Errorf("histories without a common commit: %v", err)
	}
	if _, err := r.Merge(t.Context(), first, strings.Repeat("0", 39)+"1", 1000); !errors.Is(err, ErrNoCommit) {
		t.Errorf("a commit that is not here: %v", err)
	}
	// Each was merged into the other.
	c.git("checkout", "--quiet", "-B", "theirs", "main")
	c.commit(map[string]string{"theirs": "1"})
	c.git("checkout", "--quiet", "main")
	c.commit(map[string]string{"ours": "1"})
	ours, theirs := c.git("rev-parse", "main"), c.git("rev-parse", "theirs")
	c.git("merge", "--quiet", "--no-edit", theirs)
	c.git("checkout", "--quiet", "theirs")
	c.git("merge", "--quiet", "--no-edit", ours)
	c.git("push", "--quiet", "--force", "origin", "main", "theirs")
	mustSync(t, r, "main", "theirs")
	if _, err := r.Merge(t.Context(), c.git("rev-parse", "main"), c.git("rev-parse", "theirs"), 1000); !errors.Is(err, ErrNotAncestor) {
		t.Errorf("histories that crossed: %v", err)
	}
}
