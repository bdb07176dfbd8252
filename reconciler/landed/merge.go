package landed

import (
	"context"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/forge"
	"github.com/purser-gitops/purser/sources/identity"
)

// Merge is an open pull request as the landed change that its merge would be.
type Merge struct {
	source  string
	git     *sources.Repository
	base    string
	landing *landing
}

// ReadMerge reads the commits of a pull request, which a merge into the base would bring. It fails with
// [sources.ErrTooMany] where there are too many.
func ReadMerge(ctx context.Context, source string, git *sources.Repository, m *sources.Merge, base string, pr *forge.PullRequest) (*Merge, error) {
	s := &step{commit: pr.Head, parents: []string{base}}
	var err error
	if s.altered, err = entriesAt(git, pr.Head, m.Paths); err != nil {
		return nil, err
	}
	if s.before, err = entriesAt(git, base, m.Paths); err != nil {
		return nil, err
	}
	ids, err := git.Reachable(ctx, pr.Head, base, BroughtMax)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		b, err := readBrought(ctx, git, id)
		if err != nil {
			return nil, err
		}
		s.brought = append(s.brought, b)
	}
	s.brought = append(s.brought, brought{commit: identity.ReadCommit(nil), parents: 2}) // the merge itself: it adds nothing of its own
	l := &landing{commit: pr.Head, step: s}
	l.pull, err = s.reviewed(ctx, git, pr)
	return &Merge{source: source, git: git, base: base, landing: l}, err
}

// Files is what it alters of some paths; to is what would be proposed with it, after what was offered before.
func (m *Merge) Files(keyring *identity.Keyring, read Reads, to string, before Offers, now time.Time) Past {
	one := *m.landing
	if !one.read(read) {
		return Past{}
	}
	f := one.facts(keyring, m.source, now, []string{to}, []*landing{&one})
	f.Rewritten = before.Rewritten
	if last := &f.Commits[len(f.Commits)-1]; last.Mechanical {
		f.Commits = f.Commits[:len(f.Commits)-1]
	} else {
		last.ID, last.Problem = "the merge", "it takes back what no commit of the pull request takes back"
	}
	return Past{History: policy.History{Landed: []policy.Landed{f}}, Paths: one.paths}
}

// Release is what it alters of what an approved release reads, nil where there is none, or the one that it would make.
func (m *Merge) Release(keyring *identity.Keyring, approved, release *render.Release, before Offers, now time.Time) (Past, error) {
	p := m.Files(keyring, ReadsOf(approved, release), release.Digest, before, now)
	if approved == nil {
		return p, nil
	}
	return p, p.explain(m.git, m.base, approved, release)
}
