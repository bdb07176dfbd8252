package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
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
	before  map[string]sources.PathEntry // what its first parent has there
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
	if s.before, err = entriesAt(repo, first(parents), paths); err != nil {
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

// reads are the paths that releases depend on; a directory stands for everything below it.
type reads struct {
	paths map[string]bool
	above map[string]bool // the directories on the way there: a link or a submodule in their place leads elsewhere
}

func newReads(paths ...string) reads {
	r := reads{map[string]bool{}, map[string]bool{}}
	for _, p := range paths {
		r.paths[p] = true
		for p = path.Dir(p); p != "." && !r.above[p]; p = path.Dir(p) {
			r.above[p] = true
		}
	}
	return r
}

// readsOf collects what any of some releases reads.
func readsOf(releases ...*render.Release) reads {
	var paths []string
	for _, release := range releases {
		if release != nil {
			paths = append(paths, release.Inputs.Watched()...)
		}
	}
	return newReads(paths...)
}

func (r reads) has(file string) bool {
	if r.above[file] {
		return true
	}
	for p := file; p != "."; p = path.Dir(p) {
		if r.paths[p] {
			return true
		}
	}
	return r.paths[""]
}

// past is what landed between the approved release and the proposed one, as far as somebody reads it.
type past struct {
	policy.History
	paths []string // what of it alters what is read, sorted
}

// landedChanges are the landed changes since the approved release that alter what the environment reads.
func (a *Agent) landedChanges(ctx context.Context, l *law, env *declaration.Environment, state EnvironmentState, approved, release *render.Release) (past, error) {
	if state.Approved == nil {
		return past{}, nil
	}
	src := a.sources[env.Spec.Source.Repository]
	to, err := sources.ParseRevision(state.Proposed.Revision.Revision)
	if err != nil {
		return past{}, err
	}
	from, err := sources.ParseRevision(state.Approved.Revision.Revision)
	switch {
	case err != nil:
		return past{}, err
	case src == nil:
		return past{}, fmt.Errorf("source %q is not configured", env.Spec.Source.Repository)
	case state.Approved.Revision.Source != src.name:
		unknown := fmt.Sprintf("the approved release came from source %q", state.Approved.Revision.Source)
		return past{History: policy.History{LandedUnknown: unknown, PartsUnknown: unknown}}, nil
	}
	return a.landedSince(ctx, l.Keyring, src, from, to, changing{
		read: readsOf(approved, release), differs: differs(approved.Inputs, release.Inputs), offers: state.Offers,
		unexplained: func(altered reads) (string, error) {
			return unexplained(src.repo, from.Commit, approved.Inputs, release.Inputs, altered)
		},
	})
}

// changing is what is approved and changes.
type changing struct {
	read    reads
	differs reads // of that what is not as approved
	offers  Offers
	// unexplained says of something that is read now that no landed change brought it; "" when they brought everything. Nil
	// where all of it was read before.
	unexplained func(altered reads) (string, error)
}

// differs are the paths whose change can have made the difference; everything where links lead there.
func differs(approved, next render.Inputs) reads {
	paths := next.Differing(approved)
	if slices.ContainsFunc(slices.Concat(approved, next), render.Input.OverLinks) {
		paths = []string{""}
	}
	return newReads(paths...)
}

// landedSince are the landed changes between two commits that alter what is read.
func (a *Agent) landedSince(ctx context.Context, keyring *identity.Keyring, src *source, from, to sources.Revision, c changing) (past, error) {
	whole := func(why string) (p past, err error) {
		p.LandedUnknown = why
		p.Parts, p.PartsUnknown, err = partsSince(ctx, keyring, src, from.Commit, to.Commit, c.differs, a.now())
		return p, err
	}
	commits, err := src.lineage(to.Branch).landed(from.Commit, to.Commit, c.read, nil)
	switch {
	case errors.Is(err, sources.ErrNotAncestor) || errors.Is(err, sources.ErrNoCommit):
		return whole("the approved commit is no ancestor: history was rewritten, or the branch is another")
	case errors.Is(err, sources.ErrTooMany):
		return whole(err.Error())
	case err != nil:
		return past{}, err
	}
	var landings []*landing
	for _, commit := range commits {
		one, err := a.landing(ctx, src, to.Branch, commit, c.read)
		if err != nil {
			return past{}, err
		}
		if one != nil {
			landings = append(landings, one)
		}
	}
	undone, landings, err := withoutUndone(src.repo, from.Commit, landings, c.read)
	if err != nil {
		return past{}, err
	}
	series := map[string][]*landing{}
	for _, one := range landings {
		if one.unreadable != "" {
			return whole(one.unreadable)
		}
		series[one.series()] = append(series[one.series()], one)
	}
	var p past
	seen := map[string]SeenLanded{}
	for _, s := range c.offers.Landed {
		seen[s.Commit] = s
	}
	for _, one := range landings {
		s, known := seen[one.commit]
		if !known {
			s.At, s.Offer = a.now(), len(c.offers.Releases) // never heard of: it is seen now, and no approval means it
		}
		f := one.facts(keyring, src.name, s.At, c.offers.releasesWith(s), series[one.series()])
		for _, before := range undone { // what was undone comes back with those who made it
			if before.unreadable == "" && one.brings(before) {
				f.Parts = append(f.Parts, before.facts(keyring, src.name, s.At, nil, nil).Parts...)
			}
		}
		f.Parts = distinct(f.Parts)
		p.Landed, p.paths = append(p.Landed, f), append(p.paths, one.paths...)
	}
	slices.Sort(p.paths)
	p.paths = slices.Compact(p.paths)
	if c.unexplained == nil {
		return p, nil
	}
	why, err := c.unexplained(newReads(p.paths...))
	p.asAWhole(why)
	return p, err
}

// asAWhole gives up telling it change by change, if there is a reason for that.
func (p *past) asAWhole(why string) {
	if why == "" {
		return
	}
	p.LandedUnknown = why
	for i := range p.Landed {
		p.Parts = distinct(append(p.Parts, p.Landed[i].Parts...))
		p.PartsUnknown = cmp.Or(p.PartsUnknown, first(p.Landed[i].Unsigned()))
	}
	p.Landed = nil
}

// withoutUndone leaves out landed changes that were undone by later ones, together with these: after them all is as it was
// before, wherever it is read.
func withoutUndone(repo *sources.Repository, from string, landings []*landing, read reads) (undone, left []*landing, err error) {
	differing := map[string]sources.PathEntry{} // from what was at the commit that they follow; nil: not known
	states := []string{""}                      // before the first of those left, and after each
	for _, l := range landings {
		if l.unreadable != "" || differing == nil {
			if differing, err = differingAt(repo, from, l.commit, read); err != nil {
				return nil, nil, err
			}
		} else if err := l.apply(repo, from, differing); err != nil {
			return nil, nil, err
		}
		left = append(left, l)
		state := l.commit // like no other
		if differing != nil {
			state = contentOf(differing)
		}
		if before := slices.Index(states, state); before >= 0 {
			undone, left, states = append(undone, left[before:]...), left[:before:before], states[:before+1]
		} else {
			states = append(states, state)
		}
	}
	return undone, left, nil
}

// apply notes where a landed change leaves something else than a commit has.
func (l *landing) apply(repo *sources.Repository, from string, differing map[string]sources.PathEntry) error {
	original, err := entriesAt(repo, from, l.paths)
	if err != nil {
		return err
	}
	for _, p := range l.paths {
		if left := l.step.altered[p]; left == original[p] {
			delete(differing, p)
		} else {
			differing[p] = left
		}
	}
	return nil
}

// differingAt gives what a commit has otherwise than another, wherever it is read; nil when that is too much.
func differingAt(repo *sources.Repository, from, commit string, read reads) (map[string]sources.PathEntry, error) {
	paths, err := repo.Changed(from, commit, alteredMax)
	if errors.Is(err, sources.ErrTooMany) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return entriesAt(repo, commit, slices.DeleteFunc(paths, func(p string) bool { return !read.has(p) }))
}

// contentOf writes down what is where; "" when that is nothing.
func contentOf(differing map[string]sources.PathEntry) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(differing)) {
		fmt.Fprintf(&b, "%q %o %s\n", p, differing[p].Mode, differing[p].Hash)
	}
	return b.String()
}

// unexplained names an input that differs from those of the approved release although no landed change since altered it:
// what was there before, and nobody judged because the environment did not read it.
func unexplained(repo *sources.Repository, base string, approved, next render.Inputs, altered reads) (string, error) {
	before := approved.Answers()
	for _, path := range next.Differing(approved) {
		_, wasRead := before[path]
		there := false
		if !wasRead {
			var err error
			if _, there, err = repo.EntryAt(base, path); err != nil {
				return "", err
			}
		}
		if there || !altered.has(path) && !altered.above[path] {
			return fmt.Sprintf("it reads %s, which landed before and was judged by nobody for this environment", path), nil
		}
	}
	return "", nil
}

// landing is a landed change with its pull request, as far as one environment reads it.
type landing struct {
	commit      string
	unreadable  string // why nobody can tell what it changes; "" when step says it
	step        *step
	pull        *pull // nil: there is none
	pullUnknown string
	paths       []string // what it alters of what the environment reads
}

// read narrows the landing down to what somebody reads; false when that is nothing.
func (l *landing) read(r reads) bool {
	if l.unreadable != "" {
		return true
	}
	l.paths = nil
	for p := range l.step.altered {
		if r.has(p) {
			l.paths = append(l.paths, p)
		}
	}
	slices.Sort(l.paths)
	return len(l.paths) > 0
}

// brings reports whether a landing leaves something that an earlier one had left, and that was undone since.
func (l *landing) brings(earlier *landing) bool {
	return slices.ContainsFunc(l.paths, func(p string) bool {
		left, alters := earlier.step.altered[p]
		return alters && left == l.step.altered[p]
	})
}

// series names the pull request, of which a rebase makes several landed changes.
func (l *landing) series() string {
	if l.pull == nil {
		return l.commit
	}
	return fmt.Sprintf("pull request %d", l.pull.Number)
}

// ends gives what is at a path before a series and after it.
func ends(series []*landing, path string) (before, left sources.PathEntry) {
	altered := false
	for _, l := range series {
		if entry, alters := l.step.altered[path]; alters {
			if left = entry; !altered {
				before, altered = l.step.before[path], true
			}
		}
	}
	return before, left
}

// covered reports whether the head showed everything that the series leaves at the paths of this landing: it has the same
// there, and that is a change to what it parted from.
func (l *landing) covered(head *side, series []*landing) bool {
	return head != nil && !slices.ContainsFunc(l.paths, func(p string) bool {
		before, left := ends(series, p)
		entry, known := head.has[p]
		return !known || entry != left || left != before && !head.changed(p)
	})
}

// joined reports whether the series leaves of a head what a merge of whole files would.
func (l *landing) joined(head *side, series []*landing) bool {
	return l.covered(head, series) && !slices.ContainsFunc(l.paths, func(p string) bool {
		before, left := ends(series, p)
		return before != left && slices.ContainsFunc(head.forks, func(fork map[string]sources.PathEntry) bool { return fork[p] != before })
	})
}

// facts says what the gates want to know of a landed change.
func (l *landing) facts(keyring *identity.Keyring, source string, seen time.Time, releases []string, series []*landing) policy.Landed {
	f := policy.Landed{Commit: l.step.commit, FirstSeen: seen, Releases: releases, PullUnknown: l.pullUnknown}
	stranger := false           // a commit that is not as in the pull request, and nobody signed it
	worked := map[string]bool{} // paths that a commit of the branch altered
	for _, b := range l.step.brought[:len(l.step.brought)-1] {
		for _, p := range b.altered {
			worked[p] = true
		}
	}
	for i, b := range l.step.brought {
		landed := i == len(l.step.brought)-1
		signature := keyring.VerifyCommit(b.commit, seen)
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
			c.Mechanical = l.joined(l.pull.heads[l.pull.Head], series) && only(l.step.altered, worked)
		}
		if c.Signer == "" && !c.Mechanical {
			c.Problem = signature.String()
			stranger = stranger || l.pull != nil && !l.pull.has(b.id)
		}
		f.Commits = append(f.Commits, c)
		f.Parts = append(f.Parts, partsOf(keyring, b, c)...)
	}
	if l.pull != nil {
		f.Pull = l.pull.facts(keyring, source, l, series, stranger)
		f.Parts = append(f.Parts, l.pull.parts(keyring, source, stranger)...)
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
