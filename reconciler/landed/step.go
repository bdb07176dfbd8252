package landed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/utils/lru"

	"github.com/purser-gitops/purser/sources"
)

// Bounds on one landed change: the commits that it brings, the paths that one of them alters, and the parents of a merge
// that is compared with what they parted from; of one with more, all is its own work.
const (
	BroughtMax = 1000
	AlteredMax = 10_000
	ParentsMax = 16
)

// step is a landed change as the repository has it: it never changes.
type step struct {
	commit  string
	parents []string
	altered map[string]sources.PathEntry // what it left at each path where it differs from its first parent
	before  map[string]sources.PathEntry // what its first parent has there
	brought []brought                    // every commit that is not in the first parent's history, itself last
}

// paths lists where it differs from its first parent, sorted.
func (s *step) paths() []string { return slices.Sorted(maps.Keys(s.altered)) }

// Cache remembers landed changes: reading one costs a look at every commit that it brought.
type Cache struct{ lru *lru.Cache }

// NewCache makes a cache for any number of repositories.
func NewCache() Cache { return Cache{lru.New(cached)} }

// cached bounds the landed changes that are remembered.
const cached = 4096

func (r *Repository) step(ctx context.Context, commit, head string) (*step, error) {
	key := [3]string{r.Source, commit, head}
	if known, ok := r.Cache.lru.Get(key); ok {
		return known.(*step), nil
	}
	read, err := readStep(ctx, r.Git, commit, head)
	if err != nil {
		return nil, fmt.Errorf("read landed change %s: %w", commit, err)
	}
	r.Cache.lru.Add(key, read)
	return read, nil
}

// readStep reads a landed change. head is the head of its pull request where the forge made a single commit of that, ""
// otherwise.
func readStep(ctx context.Context, repo *sources.Repository, commit, head string) (*step, error) {
	parents, err := repo.Parents(commit)
	if err != nil {
		return nil, err
	}
	s := &step{commit: commit, parents: parents}
	paths, err := repo.Changed(first(parents), commit, AlteredMax)
	if err != nil {
		return nil, err
	}
	if s.altered, err = entriesAt(repo, commit, paths); err != nil {
		return nil, err
	}
	if s.before, err = entriesAt(repo, first(parents), paths); err != nil {
		return nil, err
	}
	tips := parents[min(1, len(parents)):]
	if head != "" {
		tips = append(slices.Clone(tips), head)
	}
	known := map[string]bool{commit: true}
	for _, tip := range tips {
		ids, err := repo.Reachable(ctx, tip, first(parents), BroughtMax)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if known[id] {
				continue
			}
			known[id] = true
			b, err := readBrought(ctx, repo, id)
			if err != nil {
				return nil, err
			}
			s.brought = append(s.brought, b)
		}
	}
	own, err := readBrought(ctx, repo, commit)
	if err != nil {
		return nil, err
	}
	s.brought = append(s.brought, own)
	return s, nil
}

// tooLarge reports that a commit is too large to be judged: of that, trying again changes nothing.
func tooLarge(err error) bool {
	var refused *sources.RefusedError
	return errors.Is(err, sources.ErrTooMany) || errors.As(err, &refused)
}

// entriesAt gives what a commit has at some paths; the zero entry where there is nothing, as everywhere in no commit, "".
func entriesAt(repo *sources.Repository, commit string, paths []string) (map[string]sources.PathEntry, error) {
	entries := make(map[string]sources.PathEntry, len(paths))
	for _, p := range paths {
		if commit == "" {
			entries[p] = sources.PathEntry{}
			continue
		}
		entry, _, err := repo.EntryAt(commit, p)
		if err != nil {
			return nil, err
		}
		entries[p] = entry
	}
	return entries, nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
