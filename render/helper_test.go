package render

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/purser-gitops/purser/sources"
)

// treeOf gives a tree of the files of a txtar archive; a file whose content is
// "-> target" is a link.
func treeOf(t testing.TB, archive string) *sources.Tree {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, archive)
	return openTree(t, dir)
}

func openTree(t testing.TB, dir string) *sources.Tree {
	t.Helper()
	tree, err := sources.WorkTree(dir, sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func writeFiles(t testing.TB, dir, archive string) {
	t.Helper()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		p := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(string(f.Data), "-> "); ok {
			if err := os.Symlink(strings.TrimSpace(target), p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func newRenderer(t testing.TB, o Options) *Renderer {
	t.Helper()
	r := New(o)
	t.Cleanup(r.Close)
	return r
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// mustRender renders without a cache hit from another test.
func mustRender(t testing.TB, tree *sources.Tree, dir string) *Result {
	t.Helper()
	res, err := newRenderer(t, Options{}).Render(testContext(t), tree, dir)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
