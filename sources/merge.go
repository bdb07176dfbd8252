package sources

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// maxConflicts bounds the paths that a conflict names.
const maxConflicts = 100

// A Merge is what merging one commit into another would leave, as far as whole files tell. Nothing is written anywhere.
type Merge struct {
	Tree  *Tree    // what the merge leaves; nil when there are Conflicts
	Paths []string // where Tree differs from the commit that is merged into, sorted; each has what the merged commit has
	Own   []string // where the merged commit differs from where the two parted, sorted
	// Conflicts are the paths that both have changed since, each in its own way, sorted and bounded. Git might join the two
	// line by line; this does not.
	Conflicts []string
}

// Merge tries to merge theirs into ours: file by file, the one that changed since they parted. It fails with [ErrNoCommit],
// with [ErrNotAncestor] when nothing tells where they parted, and when more than limit paths differ.
func (r *Repository) Merge(ctx context.Context, ours, theirs string, limit int) (*Merge, error) {
	m, err := r.merge(ctx, ours, theirs, limit)
	if err != nil {
		return nil, fmt.Errorf("merge %s into %s: %w", theirs, ours, err)
	}
	return m, nil
}

func (r *Repository) merge(ctx context.Context, ours, theirs string, limit int) (*Merge, error) {
	base, err := r.forkPoint(ctx, ours, theirs)
	if err != nil {
		return nil, err
	}
	var roots [3]node
	for i, commit := range []string{base, ours, theirs} {
		c, err := r.commit(commit)
		if err != nil {
			return nil, err
		}
		roots[i] = node{mode: filemode.Dir, id: c.tree}
	}
	m := &Merge{}
	own := treeDiff{src: r.store, limit: limit}
	if err := own.compare("", roots[0], roots[2], 0); err != nil {
		return nil, err
	}
	j := joiner{overlay: &overlay{objects: r.store, trees: map[plumbing.Hash][]node{}}}
	joined, err := j.join("", roots[0], roots[1], roots[2], 0)
	if err != nil {
		return nil, err
	}
	m.Own, m.Conflicts = own.paths, j.conflicts
	slices.Sort(m.Own)
	slices.Sort(m.Conflicts)
	if len(m.Conflicts) > 0 {
		return m, nil
	}
	if joined.id.IsZero() { // nothing is left
		joined = node{mode: filemode.Dir, id: j.overlay.add(nil)}
	}
	altered := treeDiff{src: j.overlay, limit: limit}
	if err := altered.compare("", roots[1], joined, 0); err != nil {
		return nil, err
	}
	m.Paths = altered.paths
	slices.Sort(m.Paths)
	m.Tree = newTree(joined.id, j.overlay, r.o.Limits)
	return m, nil
}

// forkPoint is the newest commit that both have in their histories.
func (r *Repository) forkPoint(ctx context.Context, ours, theirs string) (string, error) {
	points, err := r.mergeBases(ctx, ours, theirs)
	switch {
	case err != nil:
		return "", err
	case len(points) == 0:
		return "", fmt.Errorf("%w: they have no commit in common", ErrNotAncestor)
	case len(points) > 1:
		return "", fmt.Errorf("%w: they parted at %d commits at once, each was merged into the other", ErrNotAncestor, len(points))
	}
	return points[0], nil
}

// joiner merges trees.
type joiner struct {
	overlay   *overlay
	conflicts []string
}

// join gives what a merge leaves at a path; the zero node where that is nothing. A conflict leaves what ours has.
func (j *joiner) join(at string, base, ours, theirs node, depth int) (node, error) {
	same := func(a, b node) bool { return a.mode == b.mode && a.id == b.id }
	switch {
	case same(ours, theirs), same(base, theirs):
		return ours, nil
	case same(base, ours):
		return theirs, nil
	case !ours.isDir() || !theirs.isDir():
		if len(j.conflicts) < maxConflicts {
			j.conflicts = append(j.conflicts, at)
		}
		return ours, nil
	case depth > maxDepth:
		return node{}, fmt.Errorf("%q: directories are nested more than %d deep", at, maxDepth)
	}
	var below [3]map[string]node
	names := map[string]bool{}
	for i, n := range []node{base, ours, theirs} {
		below[i] = map[string]node{}
		if !n.isDir() {
			continue
		}
		nodes, err := j.overlay.objects.tree(n.id)
		if err != nil {
			return node{}, fmt.Errorf("read directory %q: %w", at, err)
		}
		for _, child := range nodes {
			below[i][child.name], names[child.name] = child, true
		}
	}
	var nodes []node
	for name := range names {
		child, err := j.join(join(at, name), below[0][name], below[1][name], below[2][name], depth+1)
		if err != nil {
			return node{}, err
		}
		if !child.id.IsZero() {
			child.name = name
			nodes = append(nodes, child)
		}
	}
	if len(nodes) == 0 {
		return node{}, nil
	}
	return node{name: ours.name, mode: filemode.Dir, id: j.overlay.add(nodes)}, nil
}

// overlay has trees that no repository holds, beside the objects of one.
type overlay struct {
	objects
	trees map[plumbing.Hash][]node
}

// add keeps a tree under the name that Git would give it.
func (o *overlay) add(nodes []node) plumbing.Hash {
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(gitName(a), gitName(b)) })
	var raw bytes.Buffer
	for _, n := range nodes {
		mode := strings.TrimLeft(n.mode.String(), "0") // as Git writes it
		raw.WriteString(mode + " " + n.name + "\x00")
		raw.Write(n.id[:])
	}
	id := plumbing.ComputeHash(plumbing.TreeObject, raw.Bytes())
	slices.SortFunc(nodes, byName)
	o.trees[id] = nodes
	return id
}

// gitName is what Git sorts the entries of a tree by.
func gitName(n node) string {
	if n.isDir() {
		return n.name + "/"
	}
	return n.name
}

func (o *overlay) tree(id plumbing.Hash) ([]node, error) {
	if nodes, ok := o.trees[id]; ok {
		return nodes, nil
	}
	return o.objects.tree(id)
}
