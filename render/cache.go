package render

import (
	"container/list"
	"sync"

	"github.com/purser-gitops/purser/sources"
)

// maxSets is how many results with different inputs are kept for one directory:
// a few branches, and what a rollback returns to.
const maxSets = 8

// cache keeps results by directory and inputs, least recently used out first.
// The key also has the renderer's version, which is one for the process.
type cache struct {
	mu    sync.Mutex
	max   int64
	size  int64
	order *list.List // of *cached, most recent first
	dirs  map[string][]*cached
}

type cached struct {
	dir  string
	res  *Result
	tree string // a tree that is known to have these inputs
	size int64
	at   *list.Element
}

func newCache(maxBytes int64) *cache {
	return &cache{max: maxBytes, order: list.New(), dirs: map[string][]*cached{}}
}

// get gives the result for dir of t, or nil. It costs a comparison when t itself
// was rendered, else one look-up in t for each input of each kept result.
func (c *cache) get(t *sources.Tree, dir string) *Result {
	c.mu.Lock()
	sets := append([]*cached(nil), c.dirs[dir]...)
	id := t.ID()
	for _, e := range sets {
		if e.tree == id {
			c.order.MoveToFront(e.at)
			c.mu.Unlock()
			return e.res
		}
	}
	c.mu.Unlock()
	for _, e := range sets {
		if !e.res.Inputs.Unchanged(t) {
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		e.tree = id
		c.order.MoveToFront(e.at) // does nothing when it was dropped meanwhile
		return e.res
	}
	return nil
}

// put keeps a result, unless it alone is larger than the cache.
func (c *cache) put(t *sources.Tree, dir string, res *Result) {
	e := &cached{dir: dir, res: res, tree: t.ID(), size: res.memory()}
	if e.size > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.at = c.order.PushFront(e)
	c.dirs[dir] = append([]*cached{e}, c.dirs[dir]...)
	c.size += e.size
	if sets := c.dirs[dir]; len(sets) > maxSets {
		c.drop(sets[len(sets)-1])
	}
	for c.size > c.max {
		c.drop(c.order.Back().Value.(*cached))
	}
}

func (c *cache) drop(e *cached) {
	c.order.Remove(e.at)
	c.size -= e.size
	sets := c.dirs[e.dir]
	for i := range sets {
		if sets[i] == e {
			c.dirs[e.dir] = append(append([]*cached(nil), sets[:i]...), sets[i+1:]...)
			break
		}
	}
	if len(c.dirs[e.dir]) == 0 {
		delete(c.dirs, e.dir)
	}
}

// memory estimates what a result occupies, in bytes.
func (r *Result) memory() int64 {
	var n int64 = 256
	for _, o := range r.Objects {
		n += valueMemory(o.Object)
	}
	for _, i := range r.Inputs {
		n += int64(len(i.Path)+len(i.Hash)) + 32
	}
	return n
}

func valueMemory(v any) int64 {
	switch v := v.(type) {
	case map[string]any:
		var n int64 = 48
		for k, e := range v {
			n += int64(len(k)) + 40 + valueMemory(e)
		}
		return n
	case []any:
		var n int64 = 24
		for _, e := range v {
			n += 16 + valueMemory(e)
		}
		return n
	case string:
		return 16 + int64(len(v))
	}
	return 16
}
