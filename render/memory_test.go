package render

import (
	"context"
	"os"
	"runtime"
	"testing"
)

// heap gives the bytes that are still used.
func heap() int64 {
	runtime.GC()
	runtime.GC() // caches of the standard library survive the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCacheCountsItsBytes(t *testing.T) {
	const n = 200
	tree := openTree(t, writeLargeEstate(t, n))
	render := func(r *Renderer) {
		for i := range n {
			if _, err := r.Render(testContext(t), tree, overlay(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	render(newRenderer(t, Options{CacheBytes: 1})) // what the tree and the libraries keep
	r := newRenderer(t, Options{})
	before := heap()
	render(r)
	grown := heap() - before
	t.Logf("an environment takes %d bytes, counted as %d", grown/n, r.cache.size/n)
	if counted := r.cache.size; counted < grown || counted > 2*grown {
		t.Errorf("the cache counts %d bytes, the heap grew by %d", counted, grown)
	}
	half := newRenderer(t, Options{CacheBytes: r.cache.size / 2})
	render(half)
	if half.cache.size > half.cache.max || len(half.cache.dirs) < n/3 || len(half.cache.dirs) > n/2+1 {
		t.Errorf("a cache for half of them keeps %d of %d in %d of %d bytes", len(half.cache.dirs), n, half.cache.size, half.cache.max)
	}
	runtime.KeepAlive(r)
}

func TestRendersLeaveNothingBehind(t *testing.T) {
	const n = 50
	repo, commits := synced(t, t.TempDir(), n, 0)
	tree := treeAt(t, repo, commits[0])
	r := newRenderer(t, Options{CacheBytes: 1})
	ctx := testContext(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	round := func() {
		for i := range n {
			if _, err := r.Render(ctx, tree, overlay(i)); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Render(ended, tree, overlay(i)); err == nil {
				t.Fatal("a render without time gave a result")
			}
			if _, err := r.Render(ctx, tree, "overlays/nowhere"); err == nil {
				t.Fatal("what is not there was rendered")
			}
		}
		r.Close()
	}
	round()
	used, routines, files := heap(), runtime.NumGoroutine(), openFiles(t)
	for range 4 {
		round()
	}
	grown := heap() - used
	t.Logf("%d renders left %d bytes", 4*n, grown)
	if grown > 64<<10 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if now := runtime.NumGoroutine(); now > routines {
		t.Errorf("%d goroutines, then %d", routines, now)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, then %d", files, now)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
