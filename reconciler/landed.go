package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"k8s.io/utils/lru"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
)

// Bounds on one landed change: the commits that it brings, and the paths that one of them alters.
const (
	broughtMax = 1000
	alteredMax = 10_000
)

// step is a landed change as the repository has it: it never changes.
type step struct {
	commit  string
	parents []string
	altered map[string]sources.PathEntry // what it left at each path where it differs from its first parent
	brought []brought                    // every commit that is not in the first parent's history, itself last
}

// paths lists where it differs from its first parent, sorted.
func (s *step) paths() []string { return slices.Sorted(maps.Keys(s.altered)) }

// steps remembers landed changes: reading one costs a look at every commit that it brought.
type steps struct{ cache *lru.Cache }

// stepsKept bounds the landed changes that are remembered.
const stepsKept = 4096

func (s steps) read(ctx context.Context, src *source, commit, head string) (*step, error) {
	key := [3]string{src.name, commit, head}
	if known, ok := s.cache.Get(key); ok {
		return known.(*step), nil
	}
	read, err := readStep(ctx, src.repo, commit, head)
	if err != nil {
		return nil, fmt.Errorf("read landed change %s: %w", commit, err)
	}
	s.cache.Add(key, read)
	return read, nil
}

// brought is a commit of a landed change.
type brought struct {
	id      string
	raw     []byte
	parents int
	altered []string // paths that differ from every parent: its own work
}

// readStep reads a landed change. head is the head of its pull request where the forge made a single commit of that, ""
// otherwise.
func readStep(ctx context.Context, repo *sources.Repository, commit, head string) (*step, error) {
	parents, err := repo.Parents(commit)
	if err != nil {
		return nil, err
	}
	s := &step{commit: commit, parents: parents}
	paths, err := repo.Changed(first(parents), commit, alteredMax)
	if err != nil {
		return nil, err
	}
	if s.altered, err = entriesAt(repo, commit, paths); err != nil {
		return nil, err
	}
	tips := parents[min(1, len(parents)):]
	if head != "" {
		tips = append(slices.Clone(tips), head)
	}
	known := map[string]bool{commit: true}
	for _, tip := range tips {
		ids, err := repo.Reachable(ctx, tip, first(parents), broughtMax)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if known[id] {
				continue
			}
			known[id] = true
			b, err := readBrought(repo, id)
			if err != nil {
				return nil, err
			}
			s.brought = append(s.brought, b)
		}
	}
	own, err := readBrought(repo, commit)
	if err != nil {
		return nil, err
	}
	s.brought = append(s.brought, own)
	return s, nil
}

// entriesAt gives what a commit has at some paths; the zero entry where there is nothing.
func entriesAt(repo *sources.Repository, commit string, paths []string) (map[string]sources.PathEntry, error) {
	entries := make(map[string]sources.PathEntry, len(paths))
	for _, p := range paths {
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

func readBrought(repo *sources.Repository, id string) (brought, error) {
	raw, err := repo.CommitRaw(id)
	if err != nil {
		return brought{}, err
	}
	parents, err := repo.Parents(id)
	if err != nil {
		return brought{}, err
	}
	b := brought{id: id, raw: raw, parents: len(parents)}
	differs := map[string]int{}
	for _, parent := range append(parents, make([]string, max(1-len(parents), 0))...) {
		altered, err := repo.Changed(parent, id, alteredMax)
		if err != nil {
			return brought{}, err
		}
		for _, p := range altered {
			differs[p]++
		}
	}
	for p, n := range differs {
		if n == max(len(parents), 1) {
			b.altered = append(b.altered, p)
		}
	}
	slices.Sort(b.altered)
	return b, nil
}

// reads are the paths that releases depend on; a directory stands for everything below it.
type reads map[string]bool

// readsOf collects what any of some releases reads.
func readsOf(releases ...*render.Release) reads {
	r := reads{}
	for _, release := range releases {
		if release == nil {
			continue
		}
		for _, p := range release.Inputs.Watched() {
			r[p] = true
		}
	}
	return r
}

func (r reads) has(file string) bool {
	for p := file; p != "."; p = path.Dir(p) {
		if r[p] {
			return true
		}
	}
	return r[""]
}

// landedChanges are the landed changes since the approved release that alter what the environment reads, and the paths
// that they alter of that. unknown says why they cannot be told.
func (a *Agent) landedChanges(ctx context.Context, l *law, env *declaration.Environment, state EnvironmentState, approved, release *render.Release) (list []policy.Landed, paths []string, unknown string, err error) {
	if state.Approved == nil {
		return nil, nil, "", nil
	}
	src := a.sources[env.Spec.Source.Repository]
	to, err := sources.ParseRevision(state.Proposed.Revision.Revision)
	if err != nil {
		return nil, nil, "", err
	}
	from, err := sources.ParseRevision(state.Approved.Revision.Revision)
	switch {
	case err != nil:
		return nil, nil, "", err
	case src == nil:
		return nil, nil, "", fmt.Errorf("source %q is not configured", env.Spec.Source.Repository)
	case state.Approved.Revision.Source != src.name:
		return nil, nil, fmt.Sprintf("the approved release came from source %q", state.Approved.Revision.Source), nil
	}
	return a.landedSince(ctx, l.Keyring, src, from, to, readsOf(approved, release), state.Offers)
}

// landedSince are the landed changes between two commits that alter some paths.
func (a *Agent) landedSince(ctx context.Context, keyring *identity.Keyring, src *source, from, to sources.Revision, read reads, offers Offers) (list []policy.Landed, paths []string, unknown string, err error) {
	commits, err := src.repo.Landed(from.Commit, to.Commit, landedMax)
	switch {
	case errors.Is(err, sources.ErrNotAncestor) || errors.Is(err, sources.ErrNoCommit):
		return nil, nil, "the approved commit is no ancestor: history was rewritten, or the branch is another", nil
	case errors.Is(err, sources.ErrTooMany):
		return nil, nil, err.Error(), nil
	case err != nil:
		return nil, nil, "", err
	}
	seen := map[string]SeenLanded{}
	for _, s := range offers.Landed {
		seen[s.Commit] = s
	}
	series := map[string][]*landing{}
	var landings []*landing
	for _, commit := range commits {
		one, err := a.landing(ctx, src, to.Branch, commit)
		if err != nil {
			return nil, nil, "", err
		}
		if one.read(read) {
			landings = append(landings, one)
			series[one.series()] = append(series[one.series()], one)
		}
	}
	for _, one := range landings {
		s, known := seen[one.step.commit]
		if !known {
			s.At, s.Offer = a.now(), len(offers.Releases) // never heard of: it is seen now, and no approval means it
		}
		list = append(list, one.facts(keyring, src.name, s.At, offers.releasesWith(s), series[one.series()]))
		paths = append(paths, one.paths...)
	}
	slices.Sort(paths)
	return list, slices.Compact(paths), "", nil
}

// landing is a landed change with its pull request, as far as one environment reads it.
type landing struct {
	step        *step
	pull        *pull // nil: there is none
	pullUnknown string
	paths       []string // what it alters of what the environment reads
}

// read narrows the landing down to what somebody reads; false when that is nothing.
func (l *landing) read(r reads) bool {
	for p := range l.step.altered {
		if r.has(p) {
			l.paths = append(l.paths, p)
		}
	}
	slices.Sort(l.paths)
	return len(l.paths) > 0
}

// series names the pull request, of which a rebase makes several landed changes.
func (l *landing) series() string {
	if l.pull == nil {
		return l.step.commit
	}
	return fmt.Sprintf("pull request %d", l.pull.Number)
}

// covered reports whether everything that the series leaves at the paths of this landing is what a head has there.
func (l *landing) covered(head map[string]sources.PathEntry, series []*landing) bool {
	for _, p := range l.paths {
		var left sources.PathEntry
		for _, other := range series {
			if entry, alters := other.step.altered[p]; alters {
				left = entry
			}
		}
		if entry, known := head[p]; !known || entry != left {
			return false
		}
	}
	return true
}

// facts says what the gates want to know of a landed change.
func (l *landing) facts(keyring *identity.Keyring, source string, seen time.Time, releases []string, series []*landing) policy.Landed {
	f := policy.Landed{Commit: l.step.commit, FirstSeen: seen, Releases: releases, PullUnknown: l.pullUnknown}
	worked := map[string]bool{} // paths that a commit of the branch altered
	for _, b := range l.step.brought[:len(l.step.brought)-1] {
		for _, p := range b.altered {
			worked[p] = true
		}
	}
	for i, b := range l.step.brought {
		landed := i == len(l.step.brought)-1
		signature := keyring.VerifyCommit(b.raw, seen)
		c := policy.Commit{ID: b.id}
		if signature.Counts() {
			c.Signer = signature.Person
		}
		switch {
		case !landed:
			c.Mechanical = b.merges()
		case b.parents > 1:
			c.Mechanical = b.merges() && only(l.step.altered, worked)
		case l.pull != nil && l.pull.remade:
			c.Mechanical = l.covered(l.pull.heads[l.pull.Head], series) && only(l.step.altered, worked)
		}
		if c.Signer == "" && !c.Mechanical {
			c.Problem = signature.String()
		}
		f.Commits = append(f.Commits, c)
		f.Parts = append(f.Parts, partsOf(keyring, b, c)...)
	}
	if l.pull != nil {
		f.Pull = l.pull.facts(keyring, source, l, series)
		f.Parts = append(f.Parts, l.pull.parts(keyring, source)...)
	}
	f.Parts = distinct(f.Parts)
	return f
}

// only reports whether every altered path is one of those.
func only(altered map[string]sources.PathEntry, paths map[string]bool) bool {
	for p := range altered {
		if !paths[p] {
			return false
		}
	}
	return true
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
	claimed, err := identity.PartiesOf(b.raw)
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
