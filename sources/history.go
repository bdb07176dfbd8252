package sources

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

var (
	// ErrNoCommit says that the local copy has no such commit.
	ErrNoCommit = errors.New("no such commit")
	// ErrNotAncestor says that one commit is not reached from another by first
	// parents.
	ErrNotAncestor = errors.New("not an ancestor by first parents")
	// ErrTooMany says that more changes landed than were asked for.
	ErrTooMany = errors.New("too many landed changes")
)

// commitObject is a parsed commit, as it is cached.
type commitObject struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	full    Commit
}

// Commit gives a commit, or [ErrNoCommit].
func (r *Repository) Commit(hash string) (Commit, error) {
	c, err := r.commit(hash)
	if err != nil {
		return Commit{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	full := c.full
	full.Parents = slices.Clone(full.Parents)
	return full, nil
}

// Landed gives the landed changes between two commits: the first-parent steps
// after from, up to and including to, oldest first. From "" means from the
// first commit. The error is [ErrNotAncestor] when the first parents of to do
// not lead to from, and [ErrTooMany] when there are more than limit steps.
func (r *Repository) Landed(from, to string, limit int) ([]Commit, error) {
	var landed []Commit
	for at := to; at != from; {
		c, err := r.commit(at)
		if err != nil {
			return nil, fmt.Errorf("walk from %s: %w", to, err)
		}
		if len(landed) == limit {
			return nil, fmt.Errorf("walk from %s to %s: %w: more than %d", to, from, ErrTooMany, limit)
		}
		landed = append(landed, c.full)
		if len(c.parents) == 0 {
			if from != "" {
				return nil, fmt.Errorf("walk from %s to %s: %w", to, from, ErrNotAncestor)
			}
			break
		}
		at = c.parents[0].String()
	}
	slices.Reverse(landed)
	for i := range landed {
		landed[i].Parents = slices.Clone(landed[i].Parents)
	}
	return landed, nil
}

// IsAncestor reports whether to's history, through any parent, holds from. A
// commit is its own ancestor.
func (r *Repository) IsAncestor(ctx context.Context, from, to string) (bool, error) {
	for _, c := range []string{from, to} {
		if _, err := r.commit(c); err != nil {
			return false, fmt.Errorf("look for %s in the history of %s: %w", from, to, err)
		}
	}
	return r.ancestor(ctx, plumbing.NewHash(from), plumbing.NewHash(to))
}

// ancestor searches the newest commits first, where from usually is.
func (r *Repository) ancestor(ctx context.Context, from, to plumbing.Hash) (bool, error) {
	seen := map[plumbing.Hash]bool{to: true}
	queue := &byTime{}
	push := func(id plumbing.Hash) error {
		c, err := r.store.commit(id)
		if err == nil {
			heap.Push(queue, dated{id, c.full.Committer.When, c.parents})
		}
		return err
	}
	if err := push(to); err != nil {
		return false, err
	}
	for queue.Len() > 0 {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		d := heap.Pop(queue).(dated)
		if d.id == from {
			return true, nil
		}
		for _, p := range d.parents {
			if seen[p] {
				continue
			}
			seen[p] = true
			if err := push(p); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

type dated struct {
	id      plumbing.Hash
	when    time.Time
	parents []plumbing.Hash
}

type byTime []dated

func (q byTime) Len() int           { return len(q) }
func (q byTime) Less(i, j int) bool { return q[i].when.After(q[j].when) }
func (q byTime) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *byTime) Push(v any)        { *q = append(*q, v.(dated)) }
func (q *byTime) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// commit tells a commit that is not here from one that is damaged.
func (r *Repository) commit(hash string) (*commitObject, error) {
	if !isHash(hash) {
		return nil, fmt.Errorf("%w: %q is not an object id", ErrNoCommit, hash)
	}
	id := plumbing.NewHash(hash)
	if v, ok := r.store.cache.get(id, 'c'); ok {
		return v.(*commitObject), nil
	}
	here, err := r.store.has(id)
	if err != nil {
		return nil, err
	}
	if !here {
		return nil, ErrNoCommit
	}
	return r.store.commit(id)
}

func (s *store) commit(id plumbing.Hash) (*commitObject, error) {
	if v, ok := s.cache.get(id, 'c'); ok {
		return v.(*commitObject), nil
	}
	raw, err := s.read(id, plumbing.CommitObject, s.limits.ObjectBytes)
	if err != nil {
		return nil, err
	}
	c, err := parseCommit(id, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: commit %s: %v", ErrDamaged, id, err)
	}
	s.cache.put(id, 'c', c, int64(2*len(raw)))
	return c, nil
}

func parseCommit(id plumbing.Hash, raw []byte) (*commitObject, error) {
	mem := &plumbing.MemoryObject{}
	mem.SetType(plumbing.CommitObject)
	if _, err := mem.Write(raw); err != nil {
		return nil, err
	}
	var c object.Commit
	if err := c.Decode(mem); err != nil {
		return nil, err
	}
	if c.TreeHash.IsZero() {
		return nil, errors.New("it names no tree")
	}
	full := Commit{
		Hash: id.String(), Tree: c.TreeHash.String(), Message: c.Message,
		Author:    Signature{c.Author.Name, c.Author.Email, c.Author.When},
		Committer: Signature{c.Committer.Name, c.Committer.Email, c.Committer.When},
	}
	for _, p := range c.ParentHashes {
		full.Parents = append(full.Parents, p.String())
	}
	return &commitObject{tree: c.TreeHash, parents: c.ParentHashes, full: full}, nil
}
