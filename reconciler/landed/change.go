package landed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
)

// landing is a landed change with its pull request, as far as one environment reads it.
type landing struct {
	commit      string
	unreadable  string // why nobody can tell what it changes; "" when step says it
	step        *step
	pull        *pull // nil: there is none
	pullUnknown string
	paths       []string // what it alters of what the environment reads
}

// landing reads a landed change and the pull request that it came from; nil where it alters nothing that is read. The
// forge is asked about no others.
func (r *Repository) landing(ctx context.Context, branch, commit string, read Reads) (*landing, error) {
	l := &landing{commit: commit}
	var err error
	if l.step, err = r.step(ctx, commit, ""); tooLarge(err) {
		l.unreadable = err.Error()
		return l, nil
	}
	if err != nil || !l.read(read) {
		return nil, err
	}
	if r.Pulls == nil {
		return l, nil
	}
	request, err := r.Pulls.Of(ctx, branch, commit)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		l.pullUnknown = err.Error()
	}
	if request == nil {
		return l, nil
	}
	if _, err := r.Git.Parents(request.Head); errors.Is(err, sources.ErrNoCommit) {
		r.Fetch() // it is among the refs to bring from now on
		l.pullUnknown = fmt.Sprintf("the head of pull request %d was not fetched yet", request.Number)
		return l, nil
	} else if err != nil {
		return nil, err
	}
	remade := len(l.step.parents) == 1 && !(&pull{PullRequest: request}).has(commit)
	if remade {
		if l.step, err = r.step(ctx, commit, request.Head); tooLarge(err) {
			l.unreadable = err.Error()
			return l, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if l.pull, err = l.step.reviewed(ctx, r.Git, request); err != nil {
		return nil, err
	}
	l.pull.remade = remade
	return l, nil
}

// read narrows the landing down to what somebody reads; false when that is nothing.
func (l *landing) read(r Reads) bool {
	if l.unreadable != "" {
		return true
	}
	l.paths = nil
	for p := range l.step.altered {
		if r.Has(p) {
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
			c.At, _ = b.commit.Committed() // zero: no rollback rests on it
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
