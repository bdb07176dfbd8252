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
	// ErrNotAncestor says that the first parents of one commit do not lead to the other.
	ErrNotAncestor = errors.New("not an ancestor by first parents")
	// ErrTooMany says that there are more landed changes, commits or paths than were asked for.
	ErrTooMany = errors.New("too many")
)

// commit is what is used of a commit object, as it is cached.
type commit struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	when    time.Time // as the committer claims it
}

// Landed gives the landed changes between two commits: the object ids of the
// first-parent steps after from, up to and including to, oldest first. From ""
// means from the first commit. It fails when the first parents of to do not lead
// to from, and when there are more than limit steps.
func (r *Repository) Landed(from, to string, limit int) ([]string, error) {
	var landed []string
	for at := to; at != from; {
		c, err := r.commit(at)
		if err != nil {
			return nil, fmt.Errorf("walk from %s: %w", to, err)
		}
		if len(landed) == limit {
			return nil, fmt.Errorf("walk from %s to %s: %w: more than %d", to, from, ErrTooMany, limit)
		}
		landed = append(landed, at)
		if len(c.parents) == 0 {
			if from != "" {
				return nil, fmt.Errorf("walk from %s to %s: %w", to, from, ErrNotAncestor)
			}
			break
		}
		at = c.parents[0].String()
	}
	slices.Reverse(landed)
	return landed, nil
}

// ancestor reports whether to's history, through any parent, holds from. A commit
// is its own ancestor. It searches the newest commits first, where from usually is.
func (r *Repository) ancestor(ctx context.Context, from, to plumbing.Hash) (bool, error) {
	seen := map[plumbing.Hash]bool{to: true}
	queue := &byTime{}
	push := func(id plumbing.Hash) error {
		c, err := r.store.commit(id)
		if err == nil {
			heap.Push(queue, dated{id, c.when, c.parents})
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
func (r *Repository) commit(hash string) (*commit, error) {
	if !isHash(hash) {
		return nil, fmt.Errorf("%w: %q is not an object id", ErrNoCommit, hash)
	}
	id := plumbing.NewHash(hash)
	if v, ok := r.store.cache.get(id, 'c'); ok {
		return v.(*commit), nil
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

func (s *store) commit(id plumbing.Hash) (*commit, error) {
	if v, ok := s.cache.get(id, 'c'); ok {
		return v.(*commit), nil
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

func parseCommit(id plumbing.Hash, raw []byte) (*commit, error) {
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
	return &commit{tree: c.TreeHash, parents: c.ParentHashes, when: c.Committer.When}, nil
}
