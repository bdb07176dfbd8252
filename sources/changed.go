package sources

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// PathEntry is what a tree has at a path that is no directory. Two are the same file exactly if they are equal.
type PathEntry struct {
	Mode uint32 // Git's: 0100644, 0100755, 0120000 for a link, 0160000 for a submodule
	Hash string // Git object id, hex
}

// EntryAt gives what a commit has at a path as [Repository.Changed] gives it. No link is followed: what is behind one is
// not there, and neither is a directory. Only an error says that it is not known.
func (r *Repository) EntryAt(commit, path string) (entry PathEntry, ok bool, err error) {
	c, err := r.commit(commit)
	if err != nil {
		return PathEntry{}, false, fmt.Errorf("look up %q in %s: %w", path, commit, err)
	}
	n := node{mode: filemode.Dir, id: c.tree}
	for name := range strings.SplitSeq(path, "/") {
		if !n.isDir() {
			return PathEntry{}, false, nil
		}
		nodes, err := r.store.tree(n.id)
		if err != nil {
			return PathEntry{}, false, fmt.Errorf("look up %q in %s: %w", path, commit, err)
		}
		i, found := findNode(nodes, name)
		if !found {
			return PathEntry{}, false, nil
		}
		n = nodes[i]
	}
	if n.isDir() {
		return PathEntry{}, false, nil
	}
	return PathEntry{Mode: uint32(n.mode), Hash: n.id.String()}, true, nil
}

// Changed gives the paths of files, links and submodules that differ between two commits in content, mode or presence,
// sorted. from "" is an empty tree. A moved file is two paths. It fails when there are more than limit. Directories that
// are equal are not read.
func (r *Repository) Changed(from, to string, limit int) ([]string, error) {
	d := treeDiff{src: r.store, limit: limit}
	var roots [2]node
	for i, commit := range []string{from, to} {
		if commit == "" && i == 0 {
			continue
		}
		c, err := r.commit(commit)
		if err != nil {
			return nil, fmt.Errorf("compare %q with %s: %w", from, to, err)
		}
		roots[i] = node{mode: filemode.Dir, id: c.tree}
	}
	if err := d.compare("", roots[0], roots[1], 0); err != nil {
		return nil, fmt.Errorf("compare %q with %s: %w", from, to, err)
	}
	slices.Sort(d.paths)
	return d.paths, nil
}

type treeDiff struct {
	src   objects
	limit int
	paths []string
}

// compare adds what differs between two nodes at a path; one may be the zero node: nothing is there.
func (d *treeDiff) compare(at string, a, b node, depth int) error {
	if a.mode == b.mode && a.id == b.id {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%q: directories are nested more than %d deep", at, maxDepth)
	}
	if isFile(a) || isFile(b) {
		if len(d.paths) == d.limit {
			return fmt.Errorf("%w: more than %d paths differ", ErrTooMany, d.limit)
		}
		d.paths = append(d.paths, at)
	}
	below := [2][]node{}
	for i, n := range []node{a, b} {
		if !n.isDir() {
			continue
		}
		var err error
		if below[i], err = d.src.tree(n.id); err != nil {
			return fmt.Errorf("read directory %q: %w", at, err)
		}
	}
	for x, y := below[0], below[1]; len(x)+len(y) > 0; {
		var l, r node
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].name < y[0].name:
			l, x = x[0], x[1:]
		case len(x) == 0 || y[0].name < x[0].name:
			r, y = y[0], y[1:]
		default:
			l, r, x, y = x[0], y[0], x[1:], y[1:]
		}
		if err := d.compare(join(at, max(l.name, r.name)), l, r, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func isFile(n node) bool { return n.id != plumbing.ZeroHash && !n.isDir() }
