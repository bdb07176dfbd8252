package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/forge"
	"github.com/purser-gitops/purser/sources/identity"
)

// reviews is the forge as far as a landed change is concerned.
type reviews interface {
	// PullRequestOf gives the merged pull request of a landed change; nil when there is none. An error is never "none".
	PullRequestOf(ctx context.Context, branch, commit string) (*forge.PullRequest, error)
}

// pulls remembers what a forge said of landed changes, for as long as nobody says that it may have changed.
type pulls struct {
	forge reviews
	every time.Duration // how old an answer may become
	now   func() time.Time

	mu      sync.Mutex
	known   map[string]pullAnswer // by commit
	failure error                 // nobody answered, and for as long as an answer may be old nobody is asked again
	since   time.Time
}

// pullAnswer is the newest answer about a landed change that can be believed.
type pullAnswer struct {
	pull *forge.PullRequest // nil: there is none
	at   time.Time          // zero: something may have changed since
}

// pullsMax bounds the landed changes that answers are remembered of.
const pullsMax = 10_000

func newPulls(f reviews, every time.Duration, now func() time.Time) *pulls {
	return &pulls{forge: f, every: every, now: now, known: map[string]pullAnswer{}}
}

// of gives the merged pull request of a landed change, nil when there is none. A forge that does not answer makes an
// earlier answer unknown again: an approval may have been taken back. So does an answer that is older than an earlier one.
func (p *pulls) of(ctx context.Context, branch, commit string) (*forge.PullRequest, error) {
	p.mu.Lock()
	answer, known := p.known[commit]
	failure := p.failure
	if remaining(p.since, p.now(), p.every) == 0 {
		failure = nil
	}
	p.mu.Unlock()
	if known && remaining(answer.at, p.now(), p.every) > 0 {
		return answer.pull, nil
	}
	if failure != nil {
		return nil, failure
	}
	at := p.now()
	pull, err := p.forge.PullRequestOf(ctx, branch, commit)
	if err != nil {
		p.failed(err)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Others may have asked meanwhile: what they heard counts, too.
	if err := forge.Contradicts(p.known[commit].pull, pull); err != nil {
		return nil, err
	}
	if len(p.known) >= pullsMax {
		clear(p.known)
	}
	p.known[commit] = pullAnswer{pull: pull, at: at}
	return pull, nil
}

// failed keeps the forge from being asked by everybody while it does not answer: each who asks would wait for it. What it
// says of one landed change alone keeps nobody from asking about others.
func (p *pulls) failed(err error) {
	if !errors.Is(err, forge.ErrUnreachable) || errors.Is(err, context.Canceled) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.since = err, p.now()
}

// stale makes every answer be asked for again.
func (p *pulls) stale() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for commit, answer := range p.known {
		answer.at = time.Time{}
		p.known[commit] = answer
	}
}

// heads are the refs of the pull requests that were asked about, which bring the commits that people reviewed.
func (p *pulls) heads() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var refs []string
	for _, answer := range p.known {
		if answer.pull != nil && answer.pull.HeadRef != "" {
			refs = append(refs, answer.pull.HeadRef)
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}

// pull is a merged pull request with what was reviewed of it.
type pull struct {
	*forge.PullRequest
	remade bool             // the landed change is none of its commits: a squash, or part of a rebase
	heads  map[string]*side // reviewed head → what it has where the landed change altered something
}

// landing reads a landed change and the pull request that it came from; nil where it alters nothing that is read. The
// forge is asked about no others.
func (a *Agent) landing(ctx context.Context, src *source, branch, commit string, read reads) (*landing, error) {
	l := &landing{commit: commit}
	var err error
	if l.step, err = a.steps.read(ctx, src, commit, ""); tooLarge(err) {
		l.unreadable = err.Error()
		return l, nil
	}
	if err != nil || !l.read(read) {
		return nil, err
	}
	if src.pulls == nil {
		return l, nil
	}
	request, err := src.pulls.of(ctx, branch, commit)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		l.pullUnknown = err.Error()
	}
	if request == nil {
		return l, nil
	}
	if _, err := src.repo.Parents(request.Head); errors.Is(err, sources.ErrNoCommit) {
		src.poller.Trigger() // it is among the refs to bring from now on
		l.pullUnknown = fmt.Sprintf("the head of pull request %d was not fetched yet", request.Number)
		return l, nil
	} else if err != nil {
		return nil, err
	}
	remade := len(l.step.parents) == 1 && !(&pull{PullRequest: request}).has(commit)
	if remade {
		if l.step, err = a.steps.read(ctx, src, commit, request.Head); tooLarge(err) {
			l.unreadable = err.Error()
			return l, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if l.pull, err = l.step.reviewed(ctx, src.repo, request); err != nil {
		return nil, err
	}
	l.pull.remade = remade
	return l, nil
}

// reviewed reads what people reviewed of the paths that a landed change alters.
func (s *step) reviewed(ctx context.Context, repo *sources.Repository, request *forge.PullRequest) (*pull, error) {
	p := &pull{PullRequest: request, heads: map[string]*side{}}
	heads := []string{request.Head}
	for _, r := range request.Reviews {
		heads = append(heads, r.Head)
	}
	for _, head := range heads {
		if p.heads[head] != nil || head == "" {
			continue
		}
		reviewed, err := sideOf(ctx, repo, head, first(s.parents), s.paths())
		if errors.Is(err, sources.ErrNoCommit) {
			continue // nobody can tell what was reviewed: it covers nothing
		}
		if err != nil {
			return nil, err
		}
		p.heads[head] = reviewed
	}
	return p, nil
}

// tooLarge reports that a commit is too large to be judged: of that, trying again changes nothing.
func tooLarge(err error) bool {
	var refused *sources.RefusedError
	return errors.Is(err, sources.ErrTooMany) || errors.As(err, &refused)
}

// facts says who reviewed what, and who made it. stranger says that something landed that is not as in the pull request.
func (p *pull) facts(keyring *identity.Keyring, source string, l *landing, series []*landing, stranger bool) *policy.Pull {
	f := &policy.Pull{Number: p.Number, URL: p.URL, Head: p.Head, Digest: p.Digest, At: p.Asked, AuthorsKnown: true, PushersKnown: p.PushersKnown}
	for _, r := range forge.Approvals(p.PullRequest) {
		review := policy.Review{ID: r.ID, Account: r.User.Login, Approves: true, Head: r.Head, At: r.At, Covers: l.covered(p.heads[r.Head], series)}
		if person, known := keyring.PersonByAccount(source, r.User.Login, r.User.ID); known {
			review.Person = person.Name
		}
		f.Reviews = append(f.Reviews, review)
	}
	authors := append([]forge.User{p.Author}, p.Pushers...)
	for _, c := range p.Commits {
		authors = append(authors, c.Author)
	}
	if stranger {
		authors = append(authors, p.LandedBy)
	}
	for _, user := range authors {
		if _, known := keyring.PersonByAccount(source, user.Login, user.ID); !known {
			f.AuthorsKnown = false
		}
	}
	return f
}

// parts says who had a part in the pull request, as the forge tells.
func (p *pull) parts(keyring *identity.Keyring, source string, stranger bool) []policy.Part {
	var parts []policy.Part
	add := func(as string, user forge.User) {
		if person, known := keyring.PersonByAccount(source, user.Login, user.ID); known {
			parts = append(parts, policy.Part{Person: person.Name, As: as})
		} else if as == policy.PartPullAuthor || as == policy.PartMerger {
			parts = append(parts, policy.Part{As: as})
		}
	}
	add(policy.PartPullAuthor, p.Author)
	for _, user := range p.Pushers {
		add(policy.PartPusher, user)
	}
	if stranger {
		add(policy.PartMerger, p.LandedBy)
	}
	for _, c := range p.Commits {
		add(policy.PartAuthor, c.Author)
		add(policy.PartCommitter, c.Committer)
		for _, email := range c.Emails {
			for _, person := range keyring.PersonsByEmail(email) {
				parts = append(parts, policy.Part{Person: person.Name, As: policy.PartAuthor})
			}
		}
	}
	return parts
}

// has reports whether the forge lists a commit as one of the pull request's.
func (p *pull) has(commit string) bool {
	return slices.ContainsFunc(p.Commits, func(c forge.Commit) bool { return c.SHA == commit })
}
