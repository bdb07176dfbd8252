package sources

import (
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// maxDirs bounds the directories that one tree remembers. Beyond it, it starts over.
const maxDirs = 20_000

// dirs remembers the directories of a tree that have no link on the way, so that a path below one costs two
// look-ups in memory however deep it is.
type dirs struct {
	mu    sync.RWMutex
	found map[string][]node // by path, the entries
}

func (d *dirs) get(p string) ([]node, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	nodes, ok := d.found[p]
	return nodes, ok
}

func (d *dirs) put(p string, nodes []node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil || len(d.found) >= maxDirs {
		d.found = map[string][]node{}
	}
	d.found[strings.Clone(p)] = nodes
}

// Peek is [Tree.Lookup] for what is asked thousands of times: it allocates nothing. id is the Git object id of the
// file or directory at path, zero when the tree has no such path. known is false when only Lookup can tell: a link
// is on the way, the path is not clean, or something cannot be read.
func (t *Tree) Peek(path string) (id [20]byte, isDir, known bool) {
	n, _, known := t.peek(path)
	return n.id, n.isDir(), known
}

// peek gives the node at a path without links; found is false where there is none.
func (t *Tree) peek(p string) (n node, found, known bool) {
	switch {
	case p == "":
		return node{mode: filemode.Dir, id: t.root}, true, true
	case len(p) > maxPathBytes:
		return node{}, false, false
	}
	parent, name := splitLast(p)
	nodes, ok := t.entriesOf(parent)
	if !ok {
		return node{}, false, false
	}
	i, ok := findNode(nodes, name)
	switch {
	case !ok:
		// "" and "." are no names of entries, but ways to write another path.
		return node{}, false, name != "" && !badName(name)
	case nodes[i].isLink() || nodes[i].isSubmodule():
		return node{}, false, false
	}
	return nodes[i], true, true
}

// entriesOf lists the directory at p; false when there is none, or a link on the way to it.
func (t *Tree) entriesOf(p string) ([]node, bool) {
	if nodes, ok := t.dirs.get(p); ok {
		return nodes, true
	}
	id := t.root
	if p != "" {
		parent, name := splitLast(p)
		above, ok := t.entriesOf(parent)
		if !ok {
			return nil, false
		}
		i, ok := findNode(above, name)
		if !ok || !above[i].isDir() {
			return nil, false
		}
		id = above[i].id
	}
	return t.remember(p, id)
}

func (t *Tree) remember(p string, id plumbing.Hash) ([]node, bool) {
	nodes, err := t.list(p, id)
	if err != nil {
		return nil, false
	}
	t.dirs.put(p, nodes)
	return nodes, true
}

func findNode(nodes []node, name string) (int, bool) {
	return slices.BinarySearchFunc(nodes, name, func(n node, name string) int { return strings.Compare(n.name, name) })
}

func splitLast(p string) (parent, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}
