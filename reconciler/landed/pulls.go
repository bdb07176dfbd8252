package landed

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/purser-gitops/purser/sources/forge"
)

// reviews is the forge as far as a landed change is concerned.
type reviews interface {
	// PullRequestOf gives the merged pull request of a landed change; nil when there is none. An error is never "none".
	PullRequestOf(ctx context.Context, branch, commit string) (*forge.PullRequest, error)
}

// Pulls remembers what a forge said of landed changes, for as long as nobody says that it may have changed.
type Pulls struct {
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

// NewPulls asks a forge, and again when an answer is older than every.
func NewPulls(f reviews, every time.Duration, now func() time.Time) *Pulls {
	return &Pulls{forge: f, every: every, now: now, known: map[string]pullAnswer{}}
}

// Of gives the merged pull request of a landed change, nil when there is none. A forge that does not answer makes an
// earlier answer unknown again: an approval may have been taken back. So does an answer that is older than an earlier one.
func (p *Pulls) Of(ctx context.Context, branch, commit string) (*forge.PullRequest, error) {
	p.mu.Lock()
	answer, known := p.known[commit]
	failure := p.failure
	if !p.recent(p.since) {
		failure = nil
	}
	p.mu.Unlock()
	if known && p.recent(answer.at) {
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

// Every is how old an answer may become.
func (p *Pulls) Every() time.Duration { return p.every }

// recent reports whether something happened a moment ago. After a clock went back nothing did: asking once more is harmless.
func (p *Pulls) recent(at time.Time) bool {
	now := p.now()
	return !at.IsZero() && !now.Before(at) && now.Sub(at) < p.every
}

// failed keeps the forge from being asked by everybody while it does not answer: each who asks would wait for it. What it
// says of one landed change alone keeps nobody from asking about others.
func (p *Pulls) failed(err error) {
	if !errors.Is(err, forge.ErrUnreachable) || errors.Is(err, context.Canceled) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.since = err, p.now()
}

// Stale makes every answer be asked for again.
func (p *Pulls) Stale() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for commit, answer := range p.known {
		answer.at = time.Time{}
		p.known[commit] = answer
	}
}

// Heads are the refs of the pull requests that were asked about, which bring the commits that people reviewed.
func (p *Pulls) Heads() []string {
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
