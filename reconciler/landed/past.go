package landed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
)

// since are the landed changes that alter what is read. differing is what of that is not as approved.
func (r *Repository) since(ctx context.Context, keyring *identity.Keyring, s Span, read, differing Reads) (Past, error) {
	whole := func(why string) (p Past, err error) {
		p.LandedUnknown = why
		p.Parts, p.PartsUnknown, err = r.partsSince(ctx, keyring, s, differing)
		return p, err
	}
	commits, err := r.List(s.To.Branch, s.From.Commit, s.To.Commit, read, nil)
	switch {
	case errors.Is(err, sources.ErrNotAncestor) || errors.Is(err, sources.ErrNoCommit):
		return whole("the approved commit is no ancestor: history was rewritten, or the branch is another")
	case errors.Is(err, sources.ErrTooMany):
		return whole(err.Error())
	case err != nil:
		return Past{}, err
	}
	var landings []*landing
	for _, commit := range commits {
		one, err := r.landing(ctx, s.To.Branch, commit, read)
		if err != nil {
			return Past{}, err
		}
		if one != nil {
			landings = append(landings, one)
		}
	}
	undone, landings, err := withoutUndone(r.Git, s.From.Commit, landings, read)
	if err != nil {
		return Past{}, err
	}
	series := map[string][]*landing{}
	for _, one := range landings {
		if one.unreadable != "" {
			return whole(one.unreadable)
		}
		series[one.series()] = append(series[one.series()], one)
	}
	var p Past
	seen := map[string]Seen{}
	for _, l := range s.Offers.Landed {
		seen[l.Commit] = l
	}
	for _, one := range landings {
		first, known := seen[one.commit]
		if !known {
			first.At, first.Offer = r.Now(), len(s.Offers.Releases) // never heard of: it is seen now, and no approval means it
		}
		f := one.facts(keyring, r.Source, first.At, s.Offers.ReleasesWith(first), series[one.series()])
		f.Rewritten = s.Offers.Rewritten
		for _, before := range undone { // what was undone comes back with those who made it
			if before.unreadable == "" && one.brings(before) {
				f.Parts = append(f.Parts, before.facts(keyring, r.Source, first.At, nil, nil).Parts...)
			}
		}
		f.Parts = distinct(f.Parts)
		p.Landed, p.Paths = append(p.Landed, f), append(p.Paths, one.paths...)
	}
	slices.Sort(p.Paths)
	p.Paths = slices.Compact(p.Paths)
	return p, nil
}

// asAWhole gives up telling it change by change.
func (p *Past) asAWhole(why string) {
	p.LandedUnknown = why
	for i := range p.Landed {
		p.Parts = distinct(append(p.Parts, p.Landed[i].Parts...))
		p.PartsUnknown = cmp.Or(p.PartsUnknown, first(p.Landed[i].Unsigned()))
	}
	p.Landed = nil
}

// withoutUndone leaves out landed changes that were undone by later ones, together with these: after them all is as it was
// before, wherever it is read.
func withoutUndone(git *sources.Repository, from string, landings []*landing, read Reads) (undone, left []*landing, err error) {
	differing := map[string]sources.PathEntry{} // from what was at the commit that they follow; nil: not known
	states := []string{""}                      // before the first of those left, and after each
	for _, l := range landings {
		if l.unreadable != "" || differing == nil {
			if differing, err = differingAt(git, from, l.commit, read); err != nil {
				return nil, nil, err
			}
		} else if err := l.apply(git, from, differing); err != nil {
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
func (l *landing) apply(git *sources.Repository, from string, differing map[string]sources.PathEntry) error {
	original, err := entriesAt(git, from, l.paths)
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
func differingAt(git *sources.Repository, from, commit string, read Reads) (map[string]sources.PathEntry, error) {
	paths, err := git.Changed(from, commit, AlteredMax)
	if errors.Is(err, sources.ErrTooMany) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return entriesAt(git, commit, slices.DeleteFunc(paths, func(p string) bool { return !read.Has(p) }))
}

// contentOf writes down what is where; "" when that is nothing.
func contentOf(differing map[string]sources.PathEntry) string {
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(differing)) {
		fmt.Fprintf(&b, "%q %o %s\n", p, differing[p].Mode, differing[p].Hash)
	}
	return b.String()
}
