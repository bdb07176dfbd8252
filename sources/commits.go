package sources

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxCommitBytes is the largest commit object that CommitRaw gives.
const maxCommitBytes = 1 << 20

// CommitRaw gives the bytes of a commit object, without Git's object header. One above 1 MiB is a *[RefusedError]; the
// error is [ErrNoCommit] when it is not here. The caller owns the result.
func (r *Repository) CommitRaw(hash string) ([]byte, error) {
	if _, err := r.commit(hash); err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	raw, err := r.store.read(plumbing.NewHash(hash), plumbing.CommitObject, maxCommitBytes)
	var large *tooLargeError
	if errors.As(err, &large) {
		return nil, &RefusedError{"", "commit " + hash + " is too large: " + large.Error(), "write a shorter message"}
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	return raw, nil
}

// Parents gives a commit's parents in their order.
func (r *Repository) Parents(hash string) ([]string, error) {
	c, err := r.commit(hash)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	parents := make([]string, 0, len(c.parents))
	for _, p := range c.parents {
		parents = append(parents, p.String())
	}
	return parents, nil
}

// Reachable gives the commits that are reachable from one commit, through any parent, and not from another, like
// git rev-list from ^notFrom, but no date in a commit has a say; parents come before their children, and the order is
// always the same. notFrom "" is nothing. It fails when there are more than limit. The first call reads the whole
// history once.
func (r *Repository) Reachable(ctx context.Context, from, notFrom string, limit int) ([]string, error) {
	reachable, err := r.reachable(ctx, from, notFrom, limit)
	if err != nil {
		return nil, fmt.Errorf("find commits of %s that are not in %q: %w", from, notFrom, err)
	}
	slices.Reverse(reachable)
	return reachable, nil
}

func (r *Repository) reachable(ctx context.Context, from, notFrom string, limit int) ([]string, error) {
	queue, excluded := byDepth{}, map[plumbing.Hash]bool{} // excluded: by commit that is or was queued
	wanted := 0                                            // queued commits that are not excluded
	add := func(id plumbing.Hash, exclude bool) error {
		was, queued := excluded[id]
		switch {
		case !queued:
			depth, err := r.depths.of(ctx, r.store, id)
			if err != nil {
				return err
			}
			heap.Push(&queue, deep{id, depth})
			excluded[id] = exclude
			if !exclude {
				wanted++
			}
		case exclude && !was:
			excluded[id] = true
			wanted--
		}
		return nil
	}
	for i, hash := range []string{notFrom, from} {
		if hash == "" && i == 0 {
			continue
		}
		if _, err := r.commit(hash); err != nil {
			return nil, err
		}
		if err := add(plumbing.NewHash(hash), i == 0); err != nil {
			return nil, err
		}
	}
	var found []string
	for wanted > 0 { // a commit comes after all its descendants, so what is known of it then is final
		id := heap.Pop(&queue).(deep).id
		if !excluded[id] {
			wanted--
			if len(found) == limit {
				return nil, fmt.Errorf("%w: more than %d", ErrTooMany, limit)
			}
			found = append(found, id.String())
		}
		c, err := r.store.commit(id)
		if err != nil {
			return nil, err
		}
		for _, p := range c.parents {
			if err := add(p, excluded[id]); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// MergeBases gives the best common ancestors of two commits: those that no other common ancestor descends from, like
// git merge-base --all, sorted. Histories that have nothing in common have none. The first call reads the whole history
// once.
func (r *Repository) MergeBases(ctx context.Context, a, b string) ([]string, error) {
	bases, err := r.mergeBases(ctx, a, b)
	if err != nil {
		return nil, fmt.Errorf("find where %s and %s parted: %w", a, b, err)
	}
	slices.Sort(bases)
	return bases, nil
}

func (r *Repository) mergeBases(ctx context.Context, a, b string) ([]string, error) {
	const ofA, ofB, older = 1, 2, 4 // what a commit is an ancestor of; older: of a merge base
	queue, marks := byDepth{}, map[plumbing.Hash]int{}
	open := 0 // queued commits that are not older than a merge base
	mark := func(id plumbing.Hash, as int) error {
		before, queued := marks[id]
		if !queued {
			depth, err := r.depths.of(ctx, r.store, id)
			if err != nil {
				return err
			}
			heap.Push(&queue, deep{id, depth})
		}
		marks[id] = before | as
		switch now := marks[id]; {
		case !queued && now&older == 0:
			open++
		case queued && before&older == 0 && now&older != 0:
			open--
		}
		return nil
	}
	for hash, as := range map[string]int{a: ofA, b: ofB} {
		if a == b {
			as = ofA | ofB
		}
		if _, err := r.commit(hash); err != nil {
			return nil, err
		}
		if err := mark(plumbing.NewHash(hash), as); err != nil {
			return nil, err
		}
	}
	var bases []string
	for open > 0 { // a commit comes after all its descendants, so what is known of it then is final
		id := heap.Pop(&queue).(deep).id
		as := marks[id]
		if as&older == 0 {
			open--
			if as == ofA|ofB {
				bases = append(bases, id.String())
				as |= older
			}
		}
		c, err := r.store.commit(id)
		if err != nil {
			return nil, err
		}
		for _, p := range c.parents {
			if err := mark(p, as); err != nil {
				return nil, err
			}
		}
	}
	return bases, nil
}

// depths remembers of commits the length of the longest way to a first commit. It never changes.
type depths struct {
	mu    sync.Mutex
	known map[plumbing.Hash]int32
}

func (d *depths) of(ctx context.Context, s *store, id plumbing.Hash) (int32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[plumbing.Hash]int32{}
	}
	for todo := []plumbing.Hash{id}; len(todo) > 0; {
		at := todo[len(todo)-1]
		if _, ok := d.known[at]; ok {
			todo = todo[:len(todo)-1]
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		c, err := s.commit(at)
		if err != nil {
			return 0, err
		}
		depth, complete := int32(1), true
		for _, p := range c.parents {
			above, ok := d.known[p]
			if !ok {
				todo, complete = append(todo, p), false
			}
			depth = max(depth, above+1)
		}
		if complete {
			d.known[at] = depth
		}
	}
	return d.known[id], nil
}

type deep struct {
	id    plumbing.Hash
	depth int32
}

// byDepth is a heap whose first is the deepest.
type byDepth []deep

func (q byDepth) Len() int { return len(q) }
func (q byDepth) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[j].depth, q[i].depth), strings.Compare(string(q[i].id[:]), string(q[j].id[:]))) < 0
}
func (q byDepth) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *byDepth) Push(v any)   { *q = append(*q, v.(deep)) }
func (q *byDepth) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
