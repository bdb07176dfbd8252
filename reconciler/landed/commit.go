package landed

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
)

// brought is a commit of a landed change.
type brought struct {
	id      string
	commit  *identity.Commit
	parents int
	altered []string // its own work, sorted: see [ownWork]
}

func readBrought(ctx context.Context, repo *sources.Repository, id string) (brought, error) {
	raw, err := repo.CommitRaw(id)
	if err != nil {
		return brought{}, err
	}
	parents, err := repo.Parents(id)
	if err != nil {
		return brought{}, err
	}
	b := brought{id: id, commit: identity.ReadCommit(raw), parents: len(parents)}
	if len(parents) < 2 {
		b.altered, err = repo.Changed(first(parents), id, AlteredMax)
	} else {
		b.altered, err = ownWork(ctx, repo, id, parents)
	}
	return b, err
}

// ownWork lists the paths that a merge leaves otherwise than a merge of whole files would, sorted: what it has there is no
// parent's, or it drops what another parent changed since they parted.
func ownWork(ctx context.Context, repo *sources.Repository, id string, parents []string) ([]string, error) {
	differing := map[string]bool{}
	for _, parent := range parents {
		altered, err := repo.Changed(parent, id, AlteredMax)
		if err != nil {
			return nil, err
		}
		for _, p := range altered {
			differing[p] = true
		}
	}
	paths := slices.Sorted(maps.Keys(differing))
	if len(parents) > ParentsMax || len(paths) == 0 {
		return paths, nil
	}
	left, err := entriesAt(repo, id, paths)
	if err != nil {
		return nil, err
	}
	sides := make([]side, len(parents))
	for i, parent := range parents {
		if sides[i].has, err = entriesAt(repo, parent, paths); err != nil {
			return nil, err
		}
		for _, other := range parents {
			if other == parent {
				continue
			}
			forks, err := forksOf(ctx, repo, parent, other, paths)
			if err != nil {
				return nil, err
			}
			sides[i].forks = append(sides[i].forks, forks...)
		}
	}
	return slices.DeleteFunc(paths, func(p string) bool { return joins(sides, p, left[p]) }), nil
}

// side is one parent of a merge, or the head that people reviewed: what it has at some paths, and what the commits had there
// at which it parted from the others.
type side struct {
	has   map[string]sources.PathEntry
	forks []map[string]sources.PathEntry
}

func sideOf(ctx context.Context, repo *sources.Repository, commit, other string, paths []string) (*side, error) {
	has, err := entriesAt(repo, commit, paths)
	if err != nil {
		return nil, err
	}
	forks, err := forksOf(ctx, repo, commit, other, paths)
	return &side{has, forks}, err
}

// changed reports whether the side changed a path since it parted from the others.
func (s side) changed(path string) bool {
	return slices.ContainsFunc(s.forks, func(fork map[string]sources.PathEntry) bool { return fork[path] != s.has[path] })
}

// forksOf gives what two commits had at some paths where they parted; nothing was there where they have nothing in common.
func forksOf(ctx context.Context, repo *sources.Repository, a, b string, paths []string) ([]map[string]sources.PathEntry, error) {
	bases := []string{""}
	if a != "" && b != "" {
		common, err := repo.MergeBases(ctx, a, b)
		if err != nil {
			return nil, err
		}
		if len(common) > 0 {
			bases = common
		}
	}
	var forks []map[string]sources.PathEntry
	for _, base := range bases {
		entries, err := entriesAt(repo, base, paths)
		if err != nil {
			return nil, err
		}
		forks = append(forks, entries)
	}
	return forks, nil
}

// joins reports whether a merge leaves at a path what one side has, and no other side changed it to something else.
func joins(sides []side, path string, left sources.PathEntry) bool {
	found := false
	for _, s := range sides {
		if s.has[path] == left {
			found = true
		} else if s.changed(path) {
			return false
		}
	}
	return found
}

// merges reports whether a commit joins histories and adds nothing of its own.
func (b brought) merges() bool { return b.parents > 1 && len(b.altered) == 0 }

// partsOf says who had a part in a commit: whoever signed it, and whoever it names by an address. A merge that adds
// nothing of its own makes nobody an author.
func partsOf(keyring *identity.Keyring, b brought, c policy.Commit) []policy.Part {
	if c.Mechanical && b.parents > 1 {
		return nil
	}
	var parts []policy.Part
	if c.Signer != "" {
		parts = append(parts, policy.Part{Person: c.Signer, As: policy.PartSigner})
	}
	claimed, err := b.commit.Parties()
	if err != nil {
		return append(parts, policy.Part{As: policy.PartAuthor}) // somebody
	}
	add := func(as string, emails ...string) {
		for _, email := range emails {
			people := keyring.PersonsByEmail(email)
			for _, p := range people {
				parts = append(parts, policy.Part{Person: p.Name, As: as})
			}
			if len(people) == 0 && c.Signer == "" {
				parts = append(parts, policy.Part{As: as})
			}
		}
	}
	add(policy.PartAuthor, claimed.Author)
	if !c.Mechanical { // else the committer is the forge, or who pressed its button
		add(policy.PartCommitter, claimed.Committer)
	}
	add(policy.PartCoAuthor, claimed.CoAuthors...)
	return parts
}

// distinct drops what is said twice.
func distinct(parts []policy.Part) []policy.Part {
	seen := map[policy.Part]bool{}
	return slices.DeleteFunc(parts, func(p policy.Part) bool {
		before := seen[p]
		seen[p] = true
		return before
	})
}

// partsSince says who had a part in the commits of a span that altered some paths; unknown says why somebody may be missing. It is for histories in which no landed changes can be told apart.
func (r *Repository) partsSince(ctx context.Context, keyring *identity.Keyring, s Span, of Reads) (parts []policy.Part, unknown string, err error) {
	now := r.Now()
	ids, err := r.Git.Reachable(ctx, s.To.Commit, s.From.Commit, BroughtMax)
	if err != nil {
		return nil, err.Error(), ctx.Err()
	}
	for _, id := range ids {
		b, err := readBrought(ctx, r.Git, id)
		if err != nil {
			unknown = err.Error()
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
			continue
		}
		if !slices.ContainsFunc(b.altered, of.Has) {
			continue
		}
		signature := keyring.VerifyCommit(b.commit, now)
		c := policy.Commit{ID: id, Signer: signature.Person}
		if !signature.Counts() {
			unknown = fmt.Sprintf("commit %.12s: %s", id, signature)
		}
		parts = append(parts, partsOf(keyring, b, c)...)
	}
	return distinct(parts), unknown, nil
}
