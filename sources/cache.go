package sources

import (
	"container/list"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// cache keeps recently used values within a number of bytes.
type cache struct {
	mu    sync.Mutex
	limit int64
	bytes int64
	order *list.List // of *cached, most recently used first
	items map[cacheKey]*list.Element
}

type cacheKey struct {
	id   plumbing.Hash
	kind byte // b(lob content), t(ree nodes), c(ommit)
}

type cached struct {
	key   cacheKey
	value any
	bytes int64
}

// cacheOverhead is what an entry costs beside its value, in bytes, roughly.
const cacheOverhead = 200

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), items: map[cacheKey]*list.Element{}}
}

func (c *cache) get(id plumbing.Hash, kind byte) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[cacheKey{id, kind}]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

func (c *cache) put(id plumbing.Hash, kind byte, value any, bytes int64) {
	bytes += cacheOverhead
	key := cacheKey{id, kind}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok || bytes > c.limit/4 {
		return
	}
	c.items[key] = c.order.PushFront(&cached{key, value, bytes})
	c.bytes += bytes
	for c.bytes > c.limit {
		last := c.order.Remove(c.order.Back()).(*cached)
		delete(c.items, last.key)
		c.bytes -= last.bytes
	}
}

// clear forgets everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.items)
	c.bytes = 0
}
