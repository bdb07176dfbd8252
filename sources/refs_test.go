package sources

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const statements = "refs/purser/statements/"

// orphan makes a commit without parents that has the files and pushes it to ref.
func (c *clone) orphan(ref string, files map[string]string) string {
	c.t.Helper()
	tree := newClone(c.t, c.git("remote", "get-url", "origin"))
	id := tree.commit(files)
	tree.push(id + ":" + ref)
	return id
}

func mustSyncAll(t *testing.T, r *Repository, want Wanted) News {
	t.Helper()
	news, err := r.SyncAll(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return news
}

func wantRefs(t *testing.T, got []RefChange, want ...RefChange) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("changes = %+v\nwant %+v", got, want)
	}
}

func TestSyncAllBringsRefs(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	main := c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	pull := c.commit(map[string]string{"f": "pull\n"})
	c.push("HEAD:refs/pull/7/head", "HEAD:refs/pull/70/head")
	one := c.orphan(statements+"one", map[string]string{"statement.json": "one\n"})
	dir := filepath.Join(t.TempDir(), "copy.git")
	r := openAt(t, dir, Options{URL: s.url()})
	want := Wanted{Branches: []string{"main"}, Refs: []string{statements, "refs/pull/7/head", "refs/pull/8/head"}}

	s.takeRequests()
	news := mustSyncAll(t, r, want)
	if !slices.Equal(news.Heads, []HeadChange{{Branch: "main", To: main}}) {
		t.Errorf("heads = %+v", news.Heads)
	}
	wantRefs(t, news.Refs, RefChange{Ref: "refs/pull/7/head", To: pull}, RefChange{Ref: statements + "one", To: one})
	if got := readAt(t, r, one, "statement.json") + readAt(t, r, pull, "f"); got != "one\npull\n" {
		t.Errorf("files = %q", got)
	}
	s.takeRequests()
	for range 3 {
		if news := mustSyncAll(t, r, want); len(news.Heads)+len(news.Refs) > 0 {
			t.Errorf("news without news: %+v", news)
		}
	}
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "GET /info/refs", "GET /info/refs"}) {
		t.Errorf("three times without news made %v", got)
	}

	two := c.orphan(statements+"two", map[string]string{"statement.json": "two\n"})
	s.takeRequests()
	wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: statements + "two", To: two})
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "POST /git-upload-pack"}) {
		t.Errorf("a statement alone made %v", got)
	}
	// Heads alone leave refs as they are; a moved, a deleted and an unwanted ref.
	mustSync(t, r, "main")
	c.git("commit", "-q", "--amend", "-m", "Force pushed")
	amended := c.git("rev-parse", "HEAD")
	c.push("--force", "HEAD:refs/pull/7/head", ":"+statements+"one")
	wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: "refs/pull/7/head", From: pull, To: amended}, RefChange{Ref: statements + "one", From: one})
	want.Refs = []string{statements}
	if news := mustSyncAll(t, r, want); len(news.Refs) > 0 {
		t.Errorf("a ref that is no longer wanted is reported: %+v", news.Refs)
	}
	again := openAt(t, dir, Options{URL: s.url()})
	if got := again.Refs("refs/"); !slices.Equal(got, []string{statements + "two"}) {
		t.Errorf("refs after opening anew = %v", got)
	}
	if id, ok := again.Ref(statements + "two"); !ok || id != two {
		t.Errorf("Ref = %s, %v", id, ok)
	}
	if _, ok := again.Ref(statements + "one"); ok {
		t.Error("a deleted ref is known")
	}
	git(t, dir, "fsck", "--strict", "--connectivity-only")
}

func TestSyncAllOverSSHAndFile(t *testing.T) {
	server := newSSHServer(t)
	for name, o := range map[string]func(dir string) Options{
		"ssh":  func(dir string) Options { return Options{URL: server.url(dir), Auth: server.auth()} },
		"file": func(dir string) Options { return Options{URL: dir} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newGitServer(t)
			c := newClone(t, s.dir)
			c.commit(map[string]string{"f": "main\n"})
			c.push("main")
			one := c.orphan(statements+"one", map[string]string{"statement.json": "one\n"})
			r := open(t, o(s.dir))
			want := Wanted{Branches: []string{"main"}, Refs: []string{statements}}
			wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: statements + "one", To: one})
			if news := mustSyncAll(t, r, want); len(news.Heads)+len(news.Refs) > 0 {
				t.Errorf("news without news: %+v", news)
			}
			two := c.orphan(statements+"two", map[string]string{"statement.json": "two\n"})
			wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: statements + "two", To: two})
			if got := readAt(t, r, two, "statement.json"); got != "two\n" {
				t.Errorf("file = %q", got)
			}
		})
	}
}

// TestRefsSurviveCompaction brings one statement per Sync until packs are joined.
func TestRefsSurviveCompaction(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	dir := filepath.Join(t.TempDir(), "copy.git")
	r := openAt(t, dir, Options{URL: s.dir})
	want := Wanted{Branches: []string{"main"}, Refs: []string{statements}}
	mustSyncAll(t, r, want)
	ids := map[string]string{}
	for i := range maxPacks + 2 {
		name := fmt.Sprintf("%s%02d", statements, i)
		ids[name] = c.orphan(name, map[string]string{"statement.json": name})
		mustSyncAll(t, r, want)
	}
	packs, err := filepath.Glob(filepath.Join(packDir(dir), "*.pack"))
	if err != nil || len(packs) > 3 {
		t.Errorf("%d packs, %v", len(packs), err)
	}
	git(t, dir, "gc", "-q", "--prune=now") // an operator's own gc keeps what refs name
	again := openAt(t, dir, Options{URL: s.dir})
	for name, id := range ids {
		if got := readAt(t, again, id, "statement.json"); got != name {
			t.Errorf("%s = %q", name, got)
		}
	}
}

// TestBadRefsKeepNothingBack pushes what cannot be read beside what can.
func TestBadRefsKeepNothingBack(t *testing.T) {
	for _, remote := range []string{"http", "file"} {
		t.Run(remote, func(t *testing.T) {
			s := newGitServer(t)
			c := newClone(t, s.url())
			main := c.commit(map[string]string{"f": "main\n"})
			c.push("main")
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			o := Options{URL: s.url(), Limits: Limits{PackBytes: 100 << 10, TreeEntries: 5}, Now: func() time.Time { return now }}
			if remote == "file" {
				o.URL = s.dir
			}
			r := open(t, o)
			want := Wanted{Branches: []string{"main"}, Refs: []string{statements, "refs/pull/7/head"}}

			var good []RefChange
			for i := range 9 {
				ref := fmt.Sprintf("%sgood-%d", statements, i)
				good = append(good, RefChange{Ref: ref, To: c.orphan(ref, map[string]string{"statement.json": ref})})
			}
			bad := map[string]string{}
			many := map[string]string{}
			for i := range 6 {
				many[fmt.Sprint(i)] = "x"
			}
			bad[statements+"m-many"] = c.orphan(statements+"m-many", many)
			bad["refs/pull/7/head"] = c.orphan("refs/pull/7/head", map[string]string{"large": noise(200 << 10)})
			bad[statements+"a-blob"] = c.git("hash-object", "-w", "f")
			bad[statements+"z-tree"] = c.git("rev-parse", "HEAD^{tree}")
			c.push(bad[statements+"a-blob"]+":"+statements+"a-blob", bad[statements+"z-tree"]+":"+statements+"z-tree")

			news := mustSyncAll(t, r, want)
			if !slices.Equal(news.Heads, []HeadChange{{Branch: "main", To: main}}) {
				t.Errorf("heads = %+v", news.Heads)
			}
			var came []RefChange
			for _, change := range news.Refs {
				if change.Err == nil {
					came = append(came, change)
					continue
				}
				if bad[change.Ref] != change.To {
					t.Errorf("refused %+v", change)
				}
				delete(bad, change.Ref)
			}
			wantRefs(t, came, good...)
			if len(bad) > 0 {
				t.Errorf("not refused: %v", bad)
			}
			git(t, r.dir, "fsck", "--strict", "--connectivity-only")

			s.takeRequests()
			if news := mustSyncAll(t, r, want); len(news.Refs) > 0 {
				t.Errorf("told again: %+v", news.Refs)
			}
			if got := s.takeRequests(); remote == "http" && len(got) != 1 {
				t.Errorf("bad refs that stay make %v", got)
			}
			// One that moves is tried at once, the others after an hour.
			c.git("commit", "-q", "--amend", "-m", "Without the large file")
			c.push("--force", "HEAD:refs/pull/7/head")
			wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: "refs/pull/7/head", To: c.git("rev-parse", "HEAD")})
			now = now.Add(retryRefused)
			if news := mustSyncAll(t, r, want); len(news.Refs) != 3 {
				t.Errorf("after an hour: %+v", news.Refs)
			}
		})
	}
}

func TestRefsAreBounded(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	id := c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	r := open(t, Options{URL: s.url()})
	want := Wanted{Branches: []string{"main"}, Refs: []string{statements, "refs/pull/7/head"}}
	fill := func(from, to int) {
		var b strings.Builder
		b.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "%s %s%06d\n", id, statements, i)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "packed-refs"), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(100, 100+maxRefs)
	if news := mustSyncAll(t, r, want); len(news.Refs) != maxRefs {
		t.Fatalf("%d refs came", len(news.Refs))
	}
	fill(90, 100+maxRefs)
	c.push("HEAD:refs/pull/7/head")
	news := mustSyncAll(t, r, want)
	if len(news.Refs) != 2 || news.Refs[0] != (RefChange{Ref: "refs/pull/7/head", To: id}) || news.Refs[1].Ref != statements || news.Refs[1].Err == nil {
		t.Errorf("refs = %+v", news.Refs)
	}
	if got := len(r.Refs(statements)); got != maxRefs {
		t.Errorf("%d refs are kept", got)
	}
}

func TestWantedIsChecked(t *testing.T) {
	s := newGitServer(t)
	r := open(t, Options{URL: s.url()})
	for _, ref := range []string{"", "/", "refs/", "refs", "refs/heads/", "refs/heads/main", "heads/main", "statements/", "refs/purser/../x", "refs/purser/statements/ /", "refs//x", "HEAD"} {
		if _, err := r.SyncAll(t.Context(), Wanted{Refs: []string{ref}}); err == nil || !strings.Contains(err.Error(), "ref ") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// TestRefsFailAlone has a server that breaks off whatever comes after the heads.
func TestRefsFailAlone(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	main := c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	one := c.orphan(statements+"one", map[string]string{"statement.json": "one\n"})
	r := open(t, Options{URL: s.url()})
	want := Wanted{Branches: []string{"main", "absent"}, Refs: []string{statements}}
	packs := 0
	s.set(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				packs++
			}
			if packs > 1 {
				http.Error(w, "no", http.StatusBadGateway)
			}
			return packs > 1
		}
	})
	news, err := r.SyncAll(t.Context(), want)
	var missing *MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "bring refs") || answered(err) {
		t.Errorf("SyncAll = %v", err)
	}
	if !slices.Equal(news.Heads, []HeadChange{{Branch: "main", To: main}}) || len(news.Refs) > 0 {
		t.Errorf("news = %+v", news)
	}
	wantHead(t, r, "main", main)
	s.set(func() { s.before = nil })
	want.Branches = []string{"main"}
	wantRefs(t, mustSyncAll(t, r, want).Refs, RefChange{Ref: statements + "one", To: one})
}

// Strangers' refs that point at no commit say so, and take no exchange each: what is honest comes with the same poll.
func TestManyRefsToNoCommit(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	var refspecs []string
	for i := range 2 * maxExchanges {
		blob := filepath.Join(t.TempDir(), "junk")
		if err := os.WriteFile(blob, fmt.Append(nil, "junk ", i), 0o600); err != nil {
			t.Fatal(err)
		}
		refspecs = append(refspecs, fmt.Sprintf("%s:%sjunk-%d", c.git("hash-object", "-w", blob), statements, i))
	}
	c.git("tag", "-a", "-m", "tag", "annotated")
	c.push(append(refspecs, "refs/tags/annotated:"+statements+"tag")...)
	honest := c.orphan(statements+"z-honest", map[string]string{"statement.json": "one\n"})
	r := openAt(t, filepath.Join(t.TempDir(), "copy.git"), Options{URL: s.url()})
	news := mustSyncAll(t, r, Wanted{Branches: []string{"main"}, Refs: []string{statements}})
	kinds := map[string]int{}
	for _, change := range news.Refs {
		for _, kind := range []string{"a blob", "a tag"} {
			if change.Err != nil && strings.Contains(change.Err.Error(), change.Ref+" points at "+kind+", "+change.To+", and not at a commit") {
				kinds[kind]++
			}
		}
	}
	if kinds["a blob"] != 2*maxExchanges || kinds["a tag"] != 1 {
		t.Errorf("refused %v, and all changes are %v", kinds, news.Refs)
	}
	if got, _ := r.Ref(statements + "z-honest"); got != honest {
		t.Errorf("the honest ref is at %s", got)
	}
}
