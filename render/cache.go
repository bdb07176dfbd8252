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
	order *list.List           // of *cached, most recent first
	dirs  map[string][]*cached // slices are replaced, not altered
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
	sets, res := c.of(t, dir)
	if res != nil {
		return res
	}
	for _, e := range sets {
		if e.res.Inputs.Unchanged(t) {
			return c.use(e, t.ID())
		}
	}
	return nil
}

// of gives what is kept for dir, and the result for the very tree. The slice is
// not altered later.
func (c *cache) of(t *sources.Tree, dir string) ([]*cached, *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sets := c.dirs[dir]
	for _, e := range sets {
		if e.tree == t.ID() {
			c.order.MoveToFront(e.at)
			return sets, e.res
		}
	}
	return sets, nil
}

func (c *cache) use(e *cached, tree string) *Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.tree = tree
	c.order.MoveToFront(e.at) // does nothing when it was dropped meanwhile
	return e.res
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

// memory is what a result occupies while the cache keeps it, in bytes. A test compares it with the heap.
func (r *Result) memory() int64 {
	const entry = 400 // of the cache, its list and its map
	n := int64(entry + r.Inputs.memory())
	for _, o := range r.Objects {
		n += 16 + valueMemory(o.Object)
	}
	for key, file := range r.secretFiles {
		n += 2*wordsOfText + textMemory(key) + textMemory(file)
	}
	return n
}

const wordsOfText = 16 // a string's pointer and length

// memory counts texts that inputs share each time, so that it is never too little.
func (in Inputs) memory() int64 {
	n := int64(len(in)) * 2 * wordsOfText
	for _, i := range in {
		n += textMemory(i.Path) + textMemory(i.Hash)
	}
	return n
}

// valueMemory follows the layout of Go's maps: groups of eight places for a key and a value, seven of them used at
// most once there are several.
func valueMemory(v any) int64 {
	switch v := v.(type) {
	case map[string]any:
		const head, group = 48, 8 + 8*(wordsOfText+16)
		n := int64(head)
		switch {
		case len(v) > 8:
			places := 16
			for places*7/8 < len(v) {
				places *= 2
			}
			n += 64 + int64(places/8)*group
		case len(v) > 0:
			n += allocated(group)
		}
		for k, e := range v {
			n += textMemory(k) + valueMemory(e)
		}
		return n
	case []any:
		n := 24 + int64(len(v))*16
		for _, e := range v {
			n += valueMemory(e)
		}
		return n
	case string:
		return wordsOfText + textMemory(v)
	case nil, bool:
		return 0
	}
	return 8
}

func textMemory(s string) int64 { return allocated(int64(len(s))) }

// allocated rounds up as Go does: to 8 bytes for small sizes, then to about an eighth.
func allocated(n int64) int64 {
	step := int64(8)
	for step*8 < n {
		step *= 2
	}
	return (n + step - 1) / step * step
}
