// Package landed tells what landed on a branch, as far as somebody reads it: which landed changes there are between what is
// approved and what is proposed, which commits each of them brought, who had a part in them, whose signatures count, and
// what people reviewed of them.
//
// A landed change is a first-parent step of a branch. Where there are none that can be told apart, as after a rewritten
// history, it is told as a whole who had a part in anything that is new. What it cannot find out is unknown, never empty;
// nothing here decides anything: [policy] does.
package landed

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
)

// Repository tells what landed on the branches of a repository.
type Repository struct {
	Options

	mu       sync.Mutex
	lineages map[string]*lineage // by branch
}

// Options of a repository.
type Options struct {
	Source string // its name, by which people's accounts are known
	Git    *sources.Repository
	Pulls  *Pulls // nil: there is no forge
	Cache  Cache
	// Fetch asks for a fetch: the head of a pull request that [Pulls.Heads] names is missing.
	Fetch func()
	Now   func() time.Time
}

// New prepares a repository. Nothing is read yet.
func New(o Options) *Repository { return &Repository{Options: o, lineages: map[string]*lineage{}} }

// Span is what landed after one commit up to another.
type Span struct {
	From   sources.Revision // of what is approved
	To     sources.Revision // of what is proposed
	Offers Offers           // proposed since From was approved
}

// Past is what landed, as far as somebody reads it.
type Past struct {
	policy.History
	Paths []string // what of it alters what is read, sorted
}

// Unknown is a past of which nothing can be told.
func Unknown(why string) Past {
	return Past{History: policy.History{LandedUnknown: why, PartsUnknown: why}}
}

// List names the landed changes after one commit up to another that alter what is read, and those of some others that are
// among them, oldest first. It fails with [sources.ErrNotAncestor] where the one is no ancestor of the other, and with
// [sources.ErrTooMany].
func (r *Repository) List(branch, from, to string, read Reads, others []string) ([]string, error) {
	return r.lineage(branch).landed(from, to, read, others)
}

// Release is what landed between an approved release and a proposed one.
func (r *Repository) Release(ctx context.Context, keyring *identity.Keyring, s Span, approved, release *render.Release) (Past, error) {
	p, err := r.since(ctx, keyring, s, ReadsOf(approved, release), differs(approved.Inputs, release.Inputs))
	if err != nil || p.LandedUnknown != "" {
		return p, err
	}
	return p, p.explain(r.Git, s.From.Commit, approved, release)
}

// Files is what landed that alters some paths.
func (r *Repository) Files(ctx context.Context, keyring *identity.Keyring, s Span, read Reads) (Past, error) {
	return r.since(ctx, keyring, s, read, read)
}

// explain gives up telling change by change what landed where that does not explain an input that differs from those of the
// approved release: what was there before, and nobody judged because the environment did not read it.
func (p *Past) explain(git *sources.Repository, base string, approved, release *render.Release) error {
	altered, before := NewReads(p.Paths...), approved.Inputs.Answers()
	for _, path := range release.Inputs.Differing(approved.Inputs) {
		_, wasRead := before[path]
		there := false
		if !wasRead {
			var err error
			if _, there, err = git.EntryAt(base, path); err != nil {
				return err
			}
		}
		if there || !altered.Has(path) && !altered.above[path] {
			p.asAWhole(fmt.Sprintf("it reads %s, which landed before and was judged by nobody for this environment", path))
			p.PartsUnknown = cmp.Or(p.PartsUnknown, path)
			return nil
		}
	}
	return nil
}
