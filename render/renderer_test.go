package render

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const twoEnvironments = `
-- base/kustomization.yaml --
resources: [a.yaml]
-- base/a.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {k: v}
-- north/kustomization.yaml --
resources: [../base]
namespace: north-dev
configMapGenerator:
- {name: g, files: [alias.txt]}
-- north/alias.txt --
-> real.txt
-- north/real.txt --
text
-- south/kustomization.yaml --
resources: [../base]
namespace: south-dev
-- README --
nothing
`

// Every change that a render of north can see, and some that it cannot.
func TestInputsUnchanged(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, twoEnvironments)
	before := openTree(t, dir)
	res := mustRender(t, before, "north")
	want := []string{"base", "base/Kustomization", "base/a.yaml", "base/kustomization.yaml", "base/kustomization.yml",
		"north", "north/Kustomization", "north/alias.txt", "north/kustomization.yaml", "north/kustomization.yml", "north/real.txt"}
	var got []string
	for _, i := range res.Inputs {
		got = append(got, i.Path)
	}
	if !slices.Equal(got, want) {
		t.Errorf("inputs are %q, want %q", got, want)
	}
	changes := []struct {
		name      string
		change    func(path func(string) string) error
		unchanged bool
	}{
		{"nothing", func(func(string) string) error { return nil }, true},
		{"a neighbour", func(p func(string) string) error {
			return os.WriteFile(p("south/kustomization.yaml"), []byte("x"), 0o644)
		}, true},
		{"a new file beside", func(p func(string) string) error { return os.WriteFile(p("north/new.yaml"), []byte("x"), 0o644) }, true},
		{"a file of the base", func(p func(string) string) error { return os.WriteFile(p("base/a.yaml"), []byte("x"), 0o644) }, false},
		{"the kustomization", func(p func(string) string) error {
			return os.WriteFile(p("north/kustomization.yaml"), []byte("x"), 0o644)
		}, false},
		{"a second kustomization", func(p func(string) string) error {
			return os.WriteFile(p("base/kustomization.yml"), []byte("x"), 0o644)
		}, false},
		{"a directory where nothing was", func(p func(string) string) error { return mkdirWithFile(p("base/Kustomization")) }, false},
		{"the linked file", func(p func(string) string) error { return os.WriteFile(p("north/real.txt"), []byte("other"), 0o644) }, false},
		{"the link, to equal content", func(p func(string) string) error {
			return errors.Join(os.WriteFile(p("north/copy.txt"), []byte("text\n"), 0o644), os.Remove(p("north/alias.txt")), os.Symlink("copy.txt", p("north/alias.txt")))
		}, false},
		{"a file for the link", func(p func(string) string) error {
			return errors.Join(os.Remove(p("north/alias.txt")), os.WriteFile(p("north/alias.txt"), []byte("text\n"), 0o644))
		}, false},
		{"a link for the file", func(p func(string) string) error {
			return errors.Join(os.Rename(p("base/a.yaml"), p("base/b.yaml")), os.Symlink("b.yaml", p("base/a.yaml")))
		}, false},
		{"a link for the base", func(p func(string) string) error {
			return errors.Join(os.Rename(p("base"), p("base2")), os.Symlink("base2", p("base")))
		}, false},
		{"the base gone", func(p func(string) string) error { return os.RemoveAll(p("base")) }, false},
		{"a link out of the tree", func(p func(string) string) error {
			return errors.Join(os.Remove(p("base/a.yaml")), os.Symlink("/etc/passwd", p("base/a.yaml")))
		}, false},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, twoEnvironments)
			if err := c.change(func(s string) string { return filepath.Join(dir, s) }); err != nil {
				t.Fatal(err)
			}
			if got := res.Inputs.Unchanged(openTree(t, dir)); got != c.unchanged {
				t.Errorf("Unchanged = %v, want %v", got, c.unchanged)
			}
		})
	}
}

func mkdirWithFile(dir string) error {
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
}

// Whatever single file of the corpus changes: when the inputs say unchanged, the
// output is the same.
func TestInputsAreSoundOverCorpus(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(corpus)); err != nil {
		t.Fatal(err)
	}
	original := openTree(t, dir)
	dirs := []string{"names", "components", "plugins", "links", "replacements", "patches-old"}
	type rendered struct {
		res *Result
		out string
	}
	before := map[string]rendered{}
	for _, d := range dirs {
		res := mustRender(t, original, d)
		before[d] = rendered{res, yamlOf(t, res)}
	}
	files := 0
	for _, f := range filesBelow(t, dir) {
		files++
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer("odoo", "oodo", "a", "aa", "text", "other").Replace(string(data))
		if err := os.WriteFile(f, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		tree := openTree(t, dir)
		for _, d := range dirs {
			if !before[d].res.Inputs.Unchanged(tree) {
				continue
			}
			if got := yamlOf(t, mustRender(t, tree, d)); got != before[d].out {
				t.Errorf("%s renders differently after a change of %s, and its inputs do not show it", d, f)
			}
		}
		if err := os.WriteFile(f, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if files < 40 {
		t.Errorf("only %d files were changed", files)
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func yamlOf(t testing.TB, res *Result) string {
	t.Helper()
	y, err := res.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return string(y)
}

func TestCacheHits(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, twoEnvironments)
	r := newRenderer(t, Options{})
	render := func(env string) *Result {
		t.Helper()
		res, err := r.Render(testContext(t), openTree(t, dir), env)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	north, south := render("north"), render("south")
	if render("north") != north {
		t.Error("the same tree is rendered twice")
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("README", "other")
	if render("north") != north {
		t.Error("a file that is no input causes a render")
	}
	write("north/real.txt", "other")
	changed := render("north")
	if changed == north || yamlOf(t, changed) == yamlOf(t, north) {
		t.Error("a changed input does not cause a render")
	}
	if render("south") != south {
		t.Error("a neighbour's change causes a render")
	}
	write("north/real.txt", "text\n")
	if render("north") != north {
		t.Error("going back does not find the earlier result")
	}
}

func TestCacheIsBounded(t *testing.T) {
	tree := openTree(t, corpus)
	r := newRenderer(t, Options{CacheBytes: 40_000})
	for _, dir := range kustomizationDirs(t, corpus) {
		if strings.HasPrefix(dir, "component-") || strings.HasPrefix(dir, "openapi") || dir == "crds" {
			continue
		}
		if _, err := r.Render(testContext(t), tree, dir); err != nil {
			t.Fatal(err)
		}
		if r.cache.size > r.cache.max {
			t.Fatalf("the cache has %d bytes, its limit is %d", r.cache.size, r.cache.max)
		}
	}
	if n := r.cache.order.Len(); n == 0 || n > 12 {
		t.Errorf("the cache has %d results", n)
	}
	var sum int64
	for _, sets := range r.cache.dirs {
		for _, e := range sets {
			sum += e.size
		}
	}
	if sum != r.cache.size {
		t.Errorf("the cache counts %d bytes and holds %d", r.cache.size, sum)
	}
	for i := range 3 * maxSets {
		dir := t.TempDir()
		writeFiles(t, dir, fmt.Sprintf("-- env/kustomization.yaml --\nresources: [a.yaml]\nnamePrefix: p%d-\n-- env/a.yaml --\n%s", i, configMap))
		if _, err := r.Render(testContext(t), openTree(t, dir), "env"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.cache.dirs["env"]); n > maxSets {
		t.Errorf("%d results are kept for one directory", n)
	}
}

func TestConcurrentCallsShareOneBuild(t *testing.T) {
	tree := treeOf(t, twoEnvironments)
	r := newRenderer(t, Options{})
	results := make([]*Result, 16)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			res, err := r.Render(testContext(t), tree, "north")
			if err != nil {
				t.Error(err)
			}
			results[i] = res
		})
	}
	wg.Wait()
	for _, res := range results {
		if res != results[0] {
			t.Error("two calls got different results")
		}
	}
}

func TestContextEnds(t *testing.T) {
	tree := treeOf(t, twoEnvironments)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := newRenderer(t, Options{Concurrency: 1})
	if _, err := r.Render(ctx, tree, "north"); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	// A caller that waits for a slot leaves as soon as its context ends, and
	// what it started is given up.
	r.slots <- struct{}{}
	ctx, cancel = context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := r.Render(ctx, tree, "north")
		done <- err
	}()
	var given *flight
	waiting := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, given = range r.flights {
		}
		return given != nil
	}
	for deadline := time.Now().Add(10 * time.Second); !waiting(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the build does not start")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	select {
	case <-given.done:
	case <-time.After(20 * time.Second): // much longer than a build
		t.Error("a build that nobody waits for goes on")
	}
	r.Close()
	<-r.slots
	if len(r.flights) != 0 {
		t.Errorf("%d builds are left", len(r.flights))
	}
	// One caller's end is not another's.
	if _, err := r.Render(testContext(t), tree, "north"); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	chain := "-- d0/kustomization.yaml --\nresources: [../d1]\n"
	for i := 1; i < 12; i++ {
		chain += fmt.Sprintf("-- d%d/kustomization.yaml --\nresources: [../d%d]\n", i, i+1)
	}
	chain += "-- d12/kustomization.yaml --\nresources: [a.yaml]\n-- d12/a.yaml --\n" + configMap
	// Each level doubles the objects of the one below.
	var doubling strings.Builder
	for i := range 16 {
		for _, side := range []string{"l", "r"} {
			fmt.Fprintf(&doubling, "-- %s%d/kustomization.yaml --\nresources: [../l%d, ../r%d]\nnamePrefix: %s\n", side, i, i+1, i+1, side)
		}
	}
	doubling.WriteString("-- l16/kustomization.yaml --\nresources: [a.yaml]\nnamePrefix: l\n-- l16/a.yaml --\n" + configMap)
	doubling.WriteString("-- r16/kustomization.yaml --\nresources: [a.yaml]\nnamePrefix: r\n-- r16/a.yaml --\n" + configMap)
	for name, c := range map[string]struct {
		files, dir string
		limits     Limits
		want       string
	}{
		"depth":   {chain, "d0", Limits{Depth: 10}, "nested more than 10"},
		"reads":   {doubling.String(), "l0", Limits{Reads: 2000}, "more than 2000 files"},
		"input":   {twoEnvironments, "north", Limits{InputBytes: 100}, "more than 100 bytes"},
		"output":  {twoEnvironments, "north", Limits{OutputBytes: 100}, "more than 100 bytes"},
		"objects": {twoEnvironments, "north", Limits{Objects: 1}, "more than the limit of 1"},
	} {
		_, err := newRenderer(t, Options{Limits: c.limits}).Render(testContext(t), treeOf(t, c.files), c.dir)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	large := "-- env/kustomization.yaml --\nconfigMapGenerator: [{name: a, files: [f]}]\n-- env/f --\n" + strings.Repeat("x", 2<<20)
	_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, large), "env")
	if err == nil || !strings.Contains(err.Error(), "env/kustomization.yaml:1:40") || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error is %v", err)
	}
}

// The library panics here: it looks at the first byte of an empty file.
func TestPanicIsAnError(t *testing.T) {
	files := "-- env/kustomization.yaml --\nresources: [a.yaml]\ncrds: [empty.json]\n-- env/empty.json --\n-- env/a.yaml --\n" + configMap
	_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
	if err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("error is %v", err)
	}
}

// A schema that cannot be parsed makes the library panic while it holds its
// lock; builds after it work.
func TestBrokenSchemaLeavesNothingBehind(t *testing.T) {
	files := twoEnvironments + "-- bad/kustomization.yaml --\nresources: [../base]\nopenapi: {path: s.json}\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: y}}'}]\n-- bad/s.json --\n{\"definitions\": []}\n"
	tree := treeOf(t, files)
	r := newRenderer(t, Options{CacheBytes: 1})
	before, err := r.Render(testContext(t), tree, "north")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Render(testContext(t), tree, "bad"); err == nil {
		t.Error("a broken schema is no error")
	}
	after, err := r.Render(testContext(t), tree, "north")
	if err != nil || yamlOf(t, after) != yamlOf(t, before) {
		t.Errorf("the next build differs (%v)", err)
	}
}

func TestJudgedObjects(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"generateName":          {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {generateName: run-}\n", "env/x.yaml:5:1: an object has generateName"},
		"no name":               {"apiVersion: v1\nkind: ConfigMap\n", "env/x.yaml:1:1: an object has no name"},
		"twice in two versions": {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: apps/v1beta2\nkind: Deployment\nmetadata: {name: a}\n", "twice"},
	} {
		tree := treeOf(t, "-- env/kustomization.yaml --\nresources: [x.yaml]\n-- env/x.yaml --\n"+c.object)
		_, err := newRenderer(t, Options{}).Render(testContext(t), tree, "env")
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}
