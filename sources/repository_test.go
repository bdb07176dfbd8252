package sources

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSyncSeesPushes(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	one := c.commit(map[string]string{"envs/dev/app.yaml": "one\n"})
	c.push("main")
	r := open(t, Options{URL: s.url()})
	s.takeRequests()
	if got, want := mustSync(t, r, "main"), (HeadChange{Branch: "main", To: one}); !slices.Equal(got, []HeadChange{want}) {
		t.Fatalf("first Sync = %+v", got)
	}
	wantHead(t, r, "main", one)
	if got := readAt(t, r, one, "envs/dev/app.yaml"); got != "one\n" {
		t.Errorf("file = %q", got)
	}
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "POST /git-upload-pack"}) {
		t.Errorf("first Sync made %v", got)
	}
	for range 3 {
		if got := mustSync(t, r, "main"); len(got) != 0 {
			t.Errorf("Sync without news = %+v", got)
		}
	}
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "GET /info/refs", "GET /info/refs"}) {
		t.Errorf("three Syncs without news made %v", got)
	}
	two := c.commit(map[string]string{"envs/dev/app.yaml": "two\n"})
	c.push("main", "HEAD:refs/heads/qa")
	s.takeRequests()
	got := mustSync(t, r, "main", "qa")
	want := []HeadChange{{Branch: "main", From: one, To: two}, {Branch: "qa", To: two}}
	if !slices.Equal(got, want) {
		t.Errorf("Sync = %+v, want %+v", got, want)
	}
	if got := s.takeRequests(); len(got) != 2 {
		t.Errorf("Sync of two branches made %v", got)
	}
	if readAt(t, r, one, "envs/dev/app.yaml") != "one\n" || readAt(t, r, two, "envs/dev/app.yaml") != "two\n" {
		t.Error("a tree is not readable")
	}
	git(t, r.dir, "fsck", "--strict", "--connectivity-only")
}

func TestSyncFetchesOnlyWantedBranches(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	c.commit(map[string]string{"a": "a"})
	c.push("main")
	r := open(t, Options{URL: s.url()})
	mustSync(t, r, "main")
	s.takeRequests()
	other := c.commit(map[string]string{"x": "x"})
	c.push("HEAD:refs/heads/other")
	s.takeRequests()
	if got := mustSync(t, r, "main"); len(got) != 0 {
		t.Errorf("Sync = %+v", got)
	}
	if got := s.takeRequests(); len(got) != 1 {
		t.Errorf("requests = %v", got)
	}
	if _, err := r.Tree(other); !errors.Is(err, ErrNoCommit) {
		t.Errorf("Tree of an unwanted branch = %v", err)
	}
	// A branch that points at a commit we have needs no fetch.
	c.push("main~1:refs/heads/old")
	s.takeRequests()
	mustSync(t, r, "main", "old")
	if got := s.takeRequests(); len(got) != 1 {
		t.Errorf("requests for a known commit = %v", got)
	}
}

func TestForcePushKeepsTheOldHead(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	base := c.commit(map[string]string{"f": "base\n"})
	old := c.commit(map[string]string{"f": "old\n"})
	c.push("main")
	dir := filepath.Join(t.TempDir(), "copy.git")
	r := openAt(t, dir, Options{URL: s.url()})
	mustSync(t, r, "main")
	c.git("reset", "-q", "--hard", base)
	forced := c.commit(map[string]string{"f": "new\n"})
	c.push("--force", "main")
	git(t, s.dir, "-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now")
	got := mustSync(t, r, "main")
	if want := []HeadChange{{Branch: "main", From: old, To: forced, Forced: true}}; !slices.Equal(got, want) {
		t.Fatalf("Sync = %+v, want %+v", got, want)
	}
	git(t, dir, "gc", "-q", "--prune=now") // an operator's own gc keeps what refs name
	again := openAt(t, dir, Options{URL: s.url()})
	wantHead(t, again, "main", forced)
	if readAt(t, again, old, "f") != "old\n" || readAt(t, again, forced, "f") != "new\n" {
		t.Error("a tree is not readable")
	}
	// Going back is forced too, and needs no fetch.
	c.push("--force", old+":main")
	s.takeRequests()
	got = mustSync(t, again, "main")
	if want := []HeadChange{{Branch: "main", From: forced, To: old, Forced: true}}; !slices.Equal(got, want) {
		t.Errorf("Sync = %+v, want %+v", got, want)
	}
	if n := len(s.takeRequests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestDeletedBranchKeepsItsHead(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main", "main:qa", "main:spare")
	git(t, s.dir, "symbolic-ref", "HEAD", "refs/heads/spare")
	r := open(t, Options{URL: s.url()})
	mustSync(t, r, "main", "qa")
	two := c.commit(map[string]string{"f": "two\n"})
	c.push("main", ":qa")
	changes, err := r.Sync(t.Context(), []string{"main", "qa"})
	var missing *MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Branches, []string{"qa"}) {
		t.Errorf("Sync = %v, want qa missing", err)
	}
	if want := []HeadChange{{Branch: "main", From: one, To: two}}; !slices.Equal(changes, want) {
		t.Errorf("changes = %+v", changes)
	}
	wantHead(t, r, "qa", one)
	wantHead(t, r, "main", two)
	c.push(":main", ":spare")
	if _, err := r.Sync(t.Context(), []string{"main"}); !errors.As(err, &missing) {
		t.Errorf("Sync of an empty remote = %v", err)
	}
	wantHead(t, r, "main", two)
}

func TestHeadsSurviveReopening(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	dir := filepath.Join(t.TempDir(), "copy.git")
	mustSync(t, openAt(t, dir, Options{URL: s.url()}), "main")
	for _, name := range []string{"packed-refs.lock", "packed-refs.new", "refs/heads/main.lock", "objects/pack/tmp_pack_1", "objects/pack/tmp_idx_1",
		"objects/pack/pack-1111111111111111111111111111111111111111.pack", "objects/pack/pack-2222222222222222222222222222222222222222.idx"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left behind"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := openAt(t, dir, Options{URL: s.url()})
	wantHead(t, r, "main", one)
	left, err := filepath.Glob(filepath.Join(dir, "objects/pack/*"))
	if err != nil || len(left) != 2 {
		t.Errorf("pack directory holds %v, %v", left, err)
	}
	two := c.commit(map[string]string{"f": "two\n"})
	c.push("main")
	mustSync(t, r, "main")
	wantHead(t, r, "main", two)
}

func TestFileSource(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n", "deep/er/g": strings.Repeat("line\n", 1000)})
	c.push("main")
	r := open(t, Options{URL: "file://" + s.dir})
	if _, err := r.Sync(t.Context(), []string{"main"}); err != nil {
		t.Fatal(err)
	}
	two := c.commit(map[string]string{"f": "two\n"})
	c.push("main")
	git(t, s.dir, "gc", "-q")
	got := mustSync(t, r, "main")
	if want := []HeadChange{{Branch: "main", From: one, To: two}}; !slices.Equal(got, want) {
		t.Errorf("Sync = %+v", got)
	}
	// A clone with a work tree serves too, and a force push to lost history.
	rc := open(t, Options{URL: c.dir})
	mustSync(t, rc, "main")
	c.git("commit", "-q", "--amend", "-m", "Rewrite")
	c.git("reflog", "expire", "--expire=now", "--all")
	c.git("gc", "-q", "--prune=now")
	if got := mustSync(t, rc, "main"); len(got) != 1 || !got[0].Forced {
		t.Errorf("Sync after a rewrite = %+v", got)
	}
	gone := open(t, Options{URL: t.TempDir()})
	if _, err := gone.Sync(t.Context(), []string{"main"}); !errors.Is(err, ErrNoRepository) {
		t.Errorf("Sync of a directory that is no repository = %v", err)
	}
}

// TestManyPushesStayFast pushes often enough for small packs to be joined.
func TestManyPushesStayFast(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	r := open(t, Options{URL: s.url()})
	var commits []string
	for i := range 2*maxPacks + 10 {
		commits = append(commits, c.commit(map[string]string{fmt.Sprintf("f%d", i%7): fmt.Sprintf("%d\n", i)}))
		c.push("main")
		mustSync(t, r, "main")
	}
	packs, err := filepath.Glob(filepath.Join(r.dir, "objects/pack/*.pack"))
	if err != nil || len(packs) > maxPacks+1 {
		t.Errorf("%d packs, %v", len(packs), err)
	}
	for i, commit := range commits {
		if got, want := readAt(t, r, commit, fmt.Sprintf("f%d", i%7)), fmt.Sprintf("%d\n", i); got != want {
			t.Errorf("commit %d: %q", i, got)
		}
	}
	git(t, r.dir, "fsck", "--strict")
	again := openAt(t, r.dir, Options{URL: s.url()})
	wantHead(t, again, "main", commits[len(commits)-1])
}

// TestTreesAreReadWhileSyncing lets readers and pushes run into each other.
func TestTreesAreReadWhileSyncing(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("envs/e%d/app.yaml", i)] = fmt.Sprintf("app: %d\n", i)
	}
	first := c.commit(files)
	c.push("main")
	r := open(t, Options{URL: s.url(), Limits: Limits{CacheBytes: 8 << 10}}) // small: most reads miss
	mustSync(t, r, "main")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readAll(r, first, 50); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 20 {
		c.commit(map[string]string{"envs/e1/extra": fmt.Sprint(i)})
		c.push("main")
		mustSync(t, r, "main")
	}
	close(stop)
	readers.Wait()
}

func readAll(r *Repository, commit string, n int) error {
	tree, err := r.Tree(commit)
	if err != nil {
		return err
	}
	entries, err := tree.ReadDir("envs")
	if err != nil || len(entries) != n {
		return fmt.Errorf("ReadDir gives %d entries: %w", len(entries), err)
	}
	for i := range n {
		data, err := tree.ReadFile(fmt.Sprintf("envs/e%d/app.yaml", i))
		if err != nil || string(data) != fmt.Sprintf("app: %d\n", i) {
			return fmt.Errorf("file %d is %q: %w", i, data, err)
		}
	}
	return nil
}

func TestTreeOfACommitRefuses(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	write(t, c.dir, map[string]string{"link": "-> ../../etc/passwd", "in": "-> dir/f", "dir/f": "f\n", "lfs": lfsPointer,
		"large": strings.Repeat("0123456789abcdef", 1<<19+1)})
	c.git("add", "-A")
	c.git("update-index", "--add", "--cacheinfo", "160000,1111111111111111111111111111111111111111,vendored/module")
	c.git("commit", "-q", "-m", "Mix")
	head := c.git("rev-parse", "HEAD")
	c.push("main")
	r := open(t, Options{URL: s.url()})
	mustSync(t, r, "main")
	tree, err := r.Tree(head)
	if err != nil {
		t.Fatal(err)
	}
	if tree.ID() != c.git("rev-parse", "HEAD^{tree}") {
		t.Error("the tree has another id")
	}
	for path, reason := range map[string]string{"link": "leads out", "lfs": "Git LFS", "large": "too large", "vendored/module": "submodule", "vendored/module/x": "submodule"} {
		if _, err := tree.ReadFile(path); !isRefused(err) || !strings.Contains(err.Error(), reason) {
			t.Errorf("ReadFile(%s) = %v, want a refusal that says %q", path, err, reason)
		}
	}
	if got := readAt(t, r, head, "in"); got != "f\n" {
		t.Errorf("link inside = %q", got)
	}
	if _, err := tree.ReadDir("vendored"); err != nil {
		t.Errorf("ReadDir = %v", err)
	}
	work, err := WorkTree(c.dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"dir", "dir/f", "in", "large"} {
		a, aerr := tree.Lookup(p)
		b, berr := work.Lookup(p)
		if a != b || aerr != nil || berr != nil {
			t.Errorf("Lookup(%s): commit %+v, %v; directory %+v, %v", p, a, aerr, b, berr)
		}
	}
}

func TestLimitsOfAFetch(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	for name, tc := range map[string]struct {
		limits Limits
		files  map[string]string
	}{
		"pack":    {Limits{PackBytes: 4 << 10}, map[string]string{"random": noise(64 << 10)}},
		"objects": {Limits{PackObjects: 5}, map[string]string{"a/1": "1", "b/2": "2", "c/3": "3"}},
		"bomb":    {Limits{ObjectBytes: 1 << 20}, map[string]string{"zeros": strings.Repeat("\x00", 8<<20)}},
		"entries": {Limits{TreeEntries: 3}, map[string]string{"a/1": "1", "b/2": "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			git(t, s.dir, "update-ref", "refs/heads/main", one)
			c.git("reset", "-q", "--hard", one)
			r := open(t, Options{URL: s.url(), Limits: tc.limits})
			mustSync(t, r, "main")
			c.commit(tc.files)
			c.push("main")
			_, err := r.Sync(t.Context(), []string{"main"})
			var h *HintError
			if name == "entries" && !isRefused(err) || name != "entries" && !errors.Is(err, ErrTooLarge) {
				t.Errorf("Sync = %v", err)
			} else if name != "entries" && name != "objects" && !errors.As(err, &h) {
				t.Errorf("no hint: %v", err)
			}
			wantHead(t, r, "main", one)
			if left, _ := filepath.Glob(filepath.Join(r.dir, "objects/pack/tmp_*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if readAt(t, r, one, "f") != "one\n" {
				t.Error("the last good tree is not readable")
			}
		})
	}
}

// noise gives n bytes that do not compress.
func noise(n int) string {
	b := make([]byte, 0, n)
	x := uint64(88172645463325252)
	for len(b) < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = append(b, byte(x))
	}
	return string(b)
}

func TestImpossibleNames(t *testing.T) {
	s := newGitServer(t)
	r := open(t, Options{URL: s.url()})
	for _, hash := range []string{"", "main", "1111111111111111111111111111111111111111", strings.Repeat("x", 40)} {
		if _, err := r.Tree(hash); !errors.Is(err, ErrNoCommit) {
			t.Errorf("Tree(%q) = %v", hash, err)
		}
	}
	for _, b := range []string{"", "a..b", "a b", "x.lock", "../../packed-refs"} {
		if _, err := r.Sync(t.Context(), []string{b}); err == nil || errors.As(err, new(*MissingError)) {
			t.Errorf("Sync of branch %q = %v", b, err)
		}
	}
	if n := len(s.takeRequests()); n != 0 {
		t.Errorf("%d requests for impossible branches", n)
	}
}
