package sources

import (
	"context"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// verifier checks that everything a new head needs is in the object store: its
// history of commits and, below its root, every directory, file and link.
type verifier struct {
	ctx     context.Context
	store   *store
	sizes   map[plumbing.Hash]int64 // complete directories: entries below them
	reached map[plumbing.Hash]bool  // commits whose history is complete
}

// newVerifier knows what is behind all refs to be complete.
func (r *Repository) newVerifier(ctx context.Context) *verifier {
	if len(r.sizes) > maxSizes {
		clear(r.sizes)
	}
	v := &verifier{ctx: ctx, store: r.store, sizes: r.sizes, reached: map[plumbing.Hash]bool{}}
	for _, id := range r.heads() {
		v.reached[id] = true
	}
	return v
}

func (v *verifier) verify(head plumbing.Hash) error {
	if err := v.history(head); err != nil {
		return err
	}
	c, err := v.store.commit(head)
	if err != nil {
		return err
	}
	n, err := v.directory("", c.tree, 0)
	if err != nil {
		return err
	}
	if limit := v.store.limits.TreeEntries; n > limit {
		return tooManyEntries(limit)
	}
	return nil
}

// history follows all parents down to commits that were reached before. What it fails for, it has not reached.
func (v *verifier) history(head plumbing.Hash) (err error) {
	var marked []plumbing.Hash
	defer func() {
		if err == nil {
			return
		}
		for _, id := range marked {
			delete(v.reached, id)
		}
	}()
	todo := []plumbing.Hash{head}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if v.reached[id] {
			continue
		}
		if err := v.ctx.Err(); err != nil {
			return err
		}
		c, err := v.store.commit(id)
		if err != nil {
			return err
		}
		v.reached[id] = true
		marked = append(marked, id)
		todo = append(todo, c.parents...)
	}
	return nil
}

// directory counts the entries below a directory. Objects are never deleted, so
// a complete directory stays complete and a push costs what it changed.
func (v *verifier) directory(at string, id plumbing.Hash, depth int) (int64, error) {
	if n, ok := v.sizes[id]; ok {
		return n, nil
	}
	if depth > maxDepth {
		return 0, &RefusedError{at, fmt.Sprintf("directories are nested more than %d deep", maxDepth), "use fewer levels"}
	}
	if err := v.ctx.Err(); err != nil {
		return 0, err
	}
	nodes, err := v.store.tree(id)
	if err != nil {
		return 0, err
	}
	n := int64(len(nodes))
	for _, child := range nodes {
		switch {
		case child.isDir():
			below, err := v.directory(join(at, child.name), child.id, depth+1)
			if err != nil {
				return 0, err
			}
			n += below
		case child.isSubmodule():
		default:
			if err := v.present(join(at, child.name), child.id); err != nil {
				return 0, err
			}
		}
		if n > v.store.limits.TreeEntries {
			return 0, tooManyEntries(v.store.limits.TreeEntries)
		}
	}
	v.sizes[id] = n
	return n, nil
}

func (v *verifier) present(at string, id plumbing.Hash) error {
	ok, err := v.store.has(id)
	if err == nil && !ok {
		err = fmt.Errorf("%w: file %q (blob %s) is missing", ErrDamaged, at, id)
	}
	return err
}

func tooManyEntries(limit int64) error {
	return &RefusedError{"", fmt.Sprintf("the commit has more than %d files and directories", limit),
		"keep fewer files in one repository, or raise the limit in the agent's configuration"}
}
