package sources

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestCommitRawAndParents(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "1"})
	c.git("checkout", "-q", "-b", "topic")
	topic := c.commit(map[string]string{"g": "topic"})
	c.git("checkout", "-q", "main")
	two := c.commit(map[string]string{"f": "2"})
	c.git("merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
	merge := c.git("rev-parse", "HEAD")
	large := gitInput(t, c.dir, strings.Repeat("x", maxCommitBytes), "commit-tree", "-p", "HEAD", "HEAD^{tree}")
	c.push("main", large+":refs/heads/large")
	r := open(t, Options{URL: s.dir})
	mustSync(t, r, "main", "large")
	for _, id := range []string{one, two, topic, merge} {
		raw, err := r.CommitRaw(id)
		if want := git(t, c.dir, "cat-file", "commit", id); err != nil || string(bytes.TrimSpace(raw)) != want {
			t.Errorf("CommitRaw(%.7s) = %q, %v; want %q", id, raw, err, want)
		}
	}
	if got, err := r.Parents(merge); err != nil || !slices.Equal(got, []string{two, topic}) {
		t.Errorf("Parents = %v, %v", got, err)
	}
	if got, err := r.Parents(one); err != nil || len(got) != 0 {
		t.Errorf("Parents = %v, %v", got, err)
	}
	var refused *RefusedError
	if _, err := r.CommitRaw(large); !errors.As(err, &refused) {
		t.Errorf("CommitRaw of a large commit = %v", err)
	}
	tree := c.git("rev-parse", "HEAD^{tree}")
	for _, id := range []string{"", "main", strings.Repeat("0", 40), merge[:10]} {
		if _, err := r.CommitRaw(id); !errors.Is(err, ErrNoCommit) {
			t.Errorf("CommitRaw(%q) = %v", id, err)
		}
		if _, err := r.Parents(id); !errors.Is(err, ErrNoCommit) {
			t.Errorf("Parents(%q) = %v", id, err)
		}
	}
	if _, err := r.CommitRaw(tree); err == nil {
		t.Error("a tree is read as a commit")
	}
}

// TestReachable compares with git on random histories whose dates are random too.
func TestReachable(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	c.commit(map[string]string{"f": "1"})
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	var ids []string
	for i := range 60 {
		args := []string{"commit-tree", "-m", fmt.Sprint(i)}
		parents := map[string]bool{}
		for range min(len(ids), random.IntN(4)) {
			parents[ids[max(0, len(ids)-1-random.IntN(12))]] = true
		}
		for p := range parents {
			args = append(args, "-p", p)
		}
		at := fmt.Sprintf("%d +0000", 1_700_000_000+random.IntN(1_000_000))
		t.Setenv("GIT_COMMITTER_DATE", at)
		ids = append(ids, c.git(append(args, "HEAD^{tree}")...))
	}
	args := []string{}
	for i, id := range ids {
		args = append(args, fmt.Sprintf("%s:refs/heads/c%d", id, i))
	}
	c.push(args...)
	r := open(t, Options{URL: s.dir})
	branches := []string{}
	for i := range ids {
		branches = append(branches, fmt.Sprintf("c%d", i))
	}
	mustSync(t, r, branches...)
	for range 150 {
		from, not := ids[random.IntN(len(ids))], ids[random.IntN(len(ids))]
		got, err := r.Reachable(t.Context(), from, not, 100)
		if err != nil {
			t.Fatal(err)
		}
		// Git's own "rev-list from ^not" goes by dates and errs with such as these.
		excluded := strings.Fields(c.git("rev-list", not))
		want := slices.DeleteFunc(strings.Fields(c.git("rev-list", from)), func(id string) bool { return slices.Contains(excluded, id) })
		if sorted, want := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)); !slices.Equal(sorted, want) {
			t.Fatalf("seed %d: Reachable(%.7s, %.7s) = %v, git says %v", seed, from, not, sorted, want)
		}
		for i, id := range got {
			parents, err := r.Parents(id)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range parents {
				if slices.Index(got, p) >= i {
					t.Fatalf("seed %d: %.7s comes before its parent", seed, id)
				}
			}
		}
	}
	history := map[string][]string{} // each commit and what it descends from
	for _, id := range ids {
		history[id] = strings.Fields(c.git("rev-list", id))
	}
	for range 300 {
		a, b := ids[random.IntN(len(ids))], ids[random.IntN(len(ids))]
		common := slices.DeleteFunc(slices.Clone(history[a]), func(id string) bool { return !slices.Contains(history[b], id) })
		best := slices.DeleteFunc(slices.Clone(common), func(id string) bool {
			return slices.ContainsFunc(common, func(other string) bool { return other != id && slices.Contains(history[other], id) })
		})
		got, err := r.MergeBases(t.Context(), a, b)
		if slices.Sort(best); err != nil || !slices.Equal(got, best) {
			t.Fatalf("seed %d: MergeBases(%.7s, %.7s) = %v, %v; want %v", seed, a, b, got, err, best)
		}
	}
	all := c.git("rev-list", "--count", ids[59])
	got, err := r.Reachable(t.Context(), ids[59], "", 100)
	if err != nil || fmt.Sprint(len(got)) != all {
		t.Errorf("all of a history: %d, %v; git says %s", len(got), err, all)
	}
	if len(got) > 1 {
		if _, err := r.Reachable(t.Context(), ids[59], "", len(got)-1); err == nil {
			t.Error("more than the limit are given")
		}
	}
	if got, err := r.Reachable(t.Context(), ids[5], ids[5], 0); err != nil || len(got) != 0 {
		t.Errorf("nothing new = %v, %v", got, err)
	}
	for _, pair := range [][2]string{{"", ids[0]}, {ids[0], strings.Repeat("1", 40)}, {"c1", ""}} {
		if got, err := r.Reachable(t.Context(), pair[0], pair[1], 100); !errors.Is(err, ErrNoCommit) {
			t.Errorf("Reachable(%q, %q) = %v, %v", pair[0], pair[1], got, err)
		}
	}
}

// TestChanged compares with git on random trees, and looks up what changed.
func TestChanged(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	blobs := []string{}
	for i := range 3 {
		blobs = append(blobs, gitInput(t, c.dir, fmt.Sprint(i), "hash-object", "-w", "--stdin"))
	}
	names := []string{"a", "a/b", "a/b/c", "a.b", "a-b", "b", "b/x", "b/x/y", "c/d/e", "z"}
	commit := func(files map[string]string) string { // path to "mode,id"
		c.git("read-tree", "--empty")
		for _, name := range slices.Sorted(maps.Keys(files)) {
			c.git("update-index", "--add", "--cacheinfo", files[name]+","+name)
		}
		tree := c.git("write-tree")
		return c.git("commit-tree", "-m", "x", tree)
	}
	var commits []string
	for range 12 {
		files := map[string]string{}
		for _, name := range names {
			clash := false
			for other := range files {
				clash = clash || strings.HasPrefix(name, other+"/") || strings.HasPrefix(other, name+"/")
			}
			if clash || random.IntN(3) == 0 {
				continue
			}
			mode := []string{"100644", "100755", "120000", "160000"}[random.IntN(4)]
			files[name] = mode + "," + blobs[random.IntN(len(blobs))]
		}
		commits = append(commits, commit(files))
	}
	var push, branches []string
	for i, id := range commits {
		push = append(push, fmt.Sprintf("%s:refs/heads/c%d", id, i))
		branches = append(branches, fmt.Sprintf("c%d", i))
	}
	c.push(push...)
	r := open(t, Options{URL: s.dir})
	mustSync(t, r, branches...)
	entry := func(id, path string) string {
		e, ok, err := r.EntryAt(id, path)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ""
		}
		return fmt.Sprintf("%06o %s", e.Mode, e.Hash)
	}
	empty := gitInput(t, c.dir, "", "mktree")
	for _, from := range append(commits, "") {
		for _, to := range commits {
			got, err := r.Changed(from, to, 100)
			if err != nil {
				t.Fatal(err)
			}
			base := from
			if from == "" {
				base = empty
			}
			want := strings.Fields(c.git("diff-tree", "-r", "--no-renames", "--name-only", base, to))
			if slices.Sort(want); !slices.Equal(got, slices.Compact(want)) {
				t.Fatalf("seed %d: Changed(%.7s, %.7s) = %v, git says %v", seed, from, to, got, want)
			}
			for _, path := range got {
				if from != "" && entry(from, path) == entry(to, path) {
					t.Errorf("%s changed and is the same", path)
				}
			}
			if len(got) > 0 {
				if _, err := r.Changed(from, to, len(got)-1); err == nil {
					t.Error("more than the limit are given")
				}
			}
		}
	}
	for _, id := range commits {
		have := map[string]string{}
		for line := range strings.Lines(c.git("ls-tree", "-r", id) + "\n") {
			if f := strings.Fields(line); len(f) == 4 {
				have[f[3]] = f[0] + " " + f[2]
			}
		}
		for _, name := range append(names, "", ".", "a/", "/a", "a/../b", "nothing", "a/b/c/d/e") {
			if got := entry(id, name); got != have[name] {
				t.Errorf("seed %d: EntryAt(%.7s, %q) = %q, git says %q", seed, id, name, got, have[name])
			}
		}
	}
	if _, _, err := r.EntryAt(strings.Repeat("1", 40), "a"); !errors.Is(err, ErrNoCommit) {
		t.Errorf("EntryAt = %v", err)
	}
	if _, err := r.Changed(commits[0], "", 10); !errors.Is(err, ErrNoCommit) {
		t.Errorf("Changed = %v", err)
	}
}
