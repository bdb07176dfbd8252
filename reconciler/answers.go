package reconciler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
)

// answerer is the forge as far as open pull requests are concerned.
type answerer interface {
	Open(ctx context.Context) ([]forge.OpenPullRequest, error)
	Describe(ctx context.Context, open forge.OpenPullRequest) (*forge.PullRequest, error)
	SetStatus(ctx context.Context, commit string, s forge.Status) error
	Comment(ctx context.Context, number int64, marker, body string) error
}

// answers tells a forge what the gates say of its open pull requests, and what became of those that landed. It has a
// goroutine and a copy of the repository of its own: whatever the forge or a fork does, releases do not notice.
type answers struct {
	agent    *Agent
	source   string
	forge    answerer
	pullOf   func(ctx context.Context, branch, commit string) (*forge.PullRequest, error)
	repo     *sources.Repository // pull requests are fetched into it and nowhere else
	renderer *render.Renderer
	every    time.Duration // between two looks at the list of open pull requests
	logger   *slog.Logger
	signals  chan struct{}
	started  time.Time

	mu      sync.Mutex
	noticed bool // the list of open pull requests may be another now

	// What follows belongs to run.
	pulls     map[int64]*openPull
	following []followed
	offers    map[string]offered // taken up, by environment
	resumed   map[string]bool    // environments that were looked at since the start
	box       *outbox
	listedAt  time.Time
	failures  int       // in a row, of the forge as a whole
	silence   time.Time // the forge is left alone until then
	stuck     int       // fetches in a row that failed
	fetchAt   time.Time // when the next one is tried, after a failure
}

// openPull is an open pull request and what is known of it.
type openPull struct {
	forge.OpenPullRequest
	preview   *preview
	described *forge.PullRequest
	digest    string    // of what of that is judged
	of        time.Time // when the forge had last changed what is described
	at        time.Time // when it was described
	asked     int       // how often since it last changed
	fetches   int       // in a row that did not bring its head
	failures  int       // in a row
	silence   time.Time // it is left alone until then, after a failure
}

// Bounds on what is previewed.
const (
	mostPulls      = 200 // open pull requests of one source, the newest
	describeTwice  = 2   // asked again once, since what happens within one second looks alike
	describePusher = 5   // asked so often while it is not known who pushed
	describeAfter  = 10  // intervals after which it is described anew in any case
	answerGap      = time.Second
	unseenFor      = time.Minute // how long the environments may take, after the start, to be looked at
	previewBytes   = 8 << 20     // memory for rendered pull requests
	previewRender  = 10 * time.Second
)

func newAnswers(a *Agent, c declaration.AgentSource, client *forge.Client, known *landed.Pulls, logger *slog.Logger) (*answers, error) {
	limits := sources.Limits(a.config.Limits)
	limits.CacheBytes /= 4
	repo, err := sources.Open(filepath.Join(a.config.DataDir, "pulls", c.Name), sources.Options{
		URL: c.URL, Auth: sources.Auth(c.Auth), Timeout: c.Timeout, Limits: limits, Now: a.now, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	return &answers{
		agent: a, source: c.Name, forge: client, pullOf: known.Of, repo: repo, every: c.Interval, logger: logger,
		renderer: render.New(render.Options{
			Concurrency: 1, CacheBytes: previewBytes, Limits: render.Limits{Time: previewRender}, Logger: logger,
		}),
		signals: make(chan struct{}, 1), started: a.now(), noticed: true,
		pulls: map[int64]*openPull{}, offers: map[string]offered{}, resumed: map[string]bool{},
		box: newOutbox(client, "purser "+c.Name+" of "+a.config.Writer),
	}, nil
}

// close releases what newAnswers opened. run has ended.
func (n *answers) close() error {
	n.renderer.Close()
	return n.repo.Close()
}

// signal has it look at the facts again.
func (n *answers) signal() {
	select {
	case n.signals <- struct{}{}:
	default: // it is going to
	}
}

// notice has it look at the list of open pull requests, too.
func (n *answers) notice() {
	n.mu.Lock()
	n.noticed = true
	n.mu.Unlock()
	n.signal()
}

// run answers until the context ends.
func (n *answers) run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := n.look(ctx)
		gap := time.NewTimer(answerGap)
		select {
		case <-gap.C:
		case <-ctx.Done():
			gap.Stop()
			return ctx.Err()
		}
		timer := time.NewTimer(max(wait-answerGap, 0))
		select {
		case <-timer.C:
		case <-n.signals:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// look brings all answers up to date and says when to look again, if nothing tells before.
func (n *answers) look(ctx context.Context) time.Duration {
	l := n.agent.inForce()
	if l == nil {
		return n.every
	}
	n.follow()
	now := n.agent.now()
	if left := until(n.silence, now); left > 0 {
		return left
	}
	n.resume(ctx, l)
	next, err := n.previews(ctx, l)
	if err == nil {
		said := n.told()
		for _, p := range n.pulls {
			n.say(said, p)
		}
		var retry time.Duration
		if retry, err = n.send(ctx, said); retry > 0 {
			next = min(next, retry)
		}
		n.settle(said)
	}
	if ctx.Err() != nil {
		return n.every
	}
	if err != nil {
		return n.pause(err)
	}
	n.failures = 0
	return next
}

// pause leaves the forge alone for a while after a failure.
func (n *answers) pause(err error) time.Duration {
	n.failures++
	wait := n.backOff(n.failures)
	var limited *forge.RateLimitError
	if errors.As(err, &limited) {
		wait = limited.RetryAfter
	}
	n.silence = n.agent.now().Add(wait)
	n.logger.Warn("pull requests are not answered now; releases go on", "error", err, "again", wait)
	return wait
}

// backOff is how long to wait after failures in a row.
func (n *answers) backOff(failures int) time.Duration {
	return min(max(n.every, retryFirst)<<min(failures-1, 10), max(n.every, longestSilence))
}

// longestSilence is how long the forge is left alone at most, unless it says so itself or is asked less often anyway.
const longestSilence = 5 * time.Minute

// until is how long something is to be left alone. A clock that went back does not make it longer than anything here may
// last.
func until(at, now time.Time) time.Duration {
	if left := at.Sub(now); left <= 2*time.Hour {
		return max(left, 0)
	}
	return 0
}

// failed counts what the forge did not do.
func (n *answers) failed(operation string, err error) error {
	if err != nil && !errors.Is(err, context.Canceled) {
		n.agent.metrics.forgeErrors.WithLabelValues(n.source, operation).Inc()
	}
	return err
}

// previews brings the previews of all open pull requests up to date.
func (n *answers) previews(ctx context.Context, l *law) (next time.Duration, err error) {
	now := n.agent.now()
	n.mu.Lock()
	noticed := n.noticed
	n.noticed = false
	n.mu.Unlock()
	if noticed || remaining(n.listedAt, now, n.every) == 0 {
		if err := n.list(ctx, now); err != nil {
			n.mu.Lock()
			n.noticed = true
			n.mu.Unlock()
			return 0, err
		}
	}
	n.fetch(ctx)
	next = max(remaining(n.listedAt, n.agent.now(), n.every), answerGap)
	failed := 0 // in a row
	for _, p := range n.pulls {
		again := until(p.silence, n.agent.now())
		if again == 0 {
			again, err = n.preview(ctx, l, p)
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err == nil {
				p.failures, failed = 0, 0
			} else {
				p.failures++
				failed++
				again = n.backOff(p.failures)
				p.silence = n.agent.now().Add(again)
				n.logger.Warn("pull request not previewed", "pull", p.Number, "error", err, "again", again)
			}
			if err != nil && (failed == mostFailures || errors.As(err, new(*forge.RateLimitError))) {
				return 0, err
			}
		}
		if again > 0 {
			next = min(next, again)
		}
	}
	return next, nil
}

// mostFailures in a row are taken for the forge's, not for those of what it was asked about.
const mostFailures = 3

// list asks which pull requests are open.
func (n *answers) list(ctx context.Context, now time.Time) error {
	list, err := n.forge.Open(ctx)
	if n.failed("list", err) != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(pr forge.OpenPullRequest) bool { return !slices.Contains(n.agent.branches(n.source), pr.Base) })
	slices.SortFunc(list, func(a, b forge.OpenPullRequest) int { return int(b.Number - a.Number) })
	if len(list) > mostPulls {
		n.logger.Warn("there are more open pull requests than are previewed", "open", len(list), "previewed", mostPulls)
		list = list[:mostPulls]
	}
	open := map[int64]*openPull{}
	for _, pr := range list {
		p := n.pulls[pr.Number]
		if p == nil {
			p = &openPull{}
		}
		if p.Head != pr.Head {
			p.fetches, p.failures, p.silence = 0, 0, time.Time{}
		}
		p.OpenPullRequest = pr
		open[pr.Number] = p
	}
	n.pulls, n.listedAt = open, now
	n.agent.metrics.openPulls.WithLabelValues(n.source).Set(float64(len(open)))
	return nil
}

// fetch brings the heads of the open pull requests and the branches that they are for, if there is news of them. After a
// failure they come one by one, the one that was tried least first: one that never comes holds no other back.
func (n *answers) fetch(ctx context.Context) {
	want := sources.Wanted{Branches: n.agent.branches(n.source), Refs: []string{}}
	news := false
	for _, branch := range want.Branches {
		ours, _ := n.repo.Head(branch)
		theirs, ok := n.agent.sources[n.source].repo.Head(branch)
		news = news || ok && ours != theirs
	}
	var next *openPull
	for _, p := range n.pulls {
		if head, _ := n.repo.Ref(p.HeadRef); head == p.Head || n.stuck == 0 {
			want.Refs = append(want.Refs, p.HeadRef)
			news = news || head != p.Head
		} else if next == nil || p.fetches < next.fetches {
			next = p
		}
	}
	if next != nil {
		want.Refs = append(want.Refs, next.HeadRef)
		next.fetches++
	}
	if !news && next == nil || until(n.fetchAt, n.agent.now()) > 0 {
		return
	}
	got, err := n.repo.SyncAll(ctx, want)
	for _, c := range got.Refs {
		if c.Err != nil {
			n.logger.Warn("head of a pull request not taken", "ref", c.Ref, "error", c.Err)
		}
	}
	if errors.As(err, new(*sources.MissingError)) {
		err = nil // the poll of the source tells
	}
	if n.failed("fetch", err) == nil {
		n.stuck = 0
		return
	}
	n.stuck++
	n.fetchAt = n.agent.now().Add(min(n.backOff(n.stuck), max(n.every, retryFirst)))
	n.logger.Warn("pull requests not fetched", "error", err)
}

// preview brings one pull request up to date and says when to look again; 0 is not before something happens.
func (n *answers) preview(ctx context.Context, l *law, p *openPull) (again time.Duration, err error) {
	base, ok := n.repo.Head(p.Base)
	if head, _ := n.repo.Ref(p.HeadRef); !ok || head != p.Head {
		p.fetches++ // forges show a new head before they have moved its ref
		return min(retryFirst<<min(p.fetches, 10), max(n.every, retryFirst)), nil
	}
	p.fetches = 0
	var m *sources.Merge
	v := p.preview
	moved := v == nil || v.base != base.Commit || v.head != p.Head || v.governance != l.commit
	if moved || v.unseen > 0 {
		var next *preview
		if next, m, err = n.shape(ctx, l, p.OpenPullRequest, base.Commit); err != nil {
			return 0, err
		}
		if !moved {
			next.judged = v.judged
		}
		p.preview = next
	}
	if p.preview.unseen > 0 {
		again = recheck
		if n.agent.now().Sub(n.started) < unseenFor {
			return again, nil
		}
	}
	if p.preview.problem != "" || len(p.preview.affected)+len(p.preview.declares) == 0 {
		return again, nil
	}
	if err := n.describe(ctx, p); err != nil {
		return 0, err
	}
	until, err := n.judgeAll(ctx, l, p, m)
	if left := until.Sub(n.agent.now()); err == nil && !until.IsZero() && (again == 0 || left < again) {
		again = max(left, time.Millisecond)
	}
	return again, err
}

// describe asks the forge about commits and reviews, if they may have changed.
func (n *answers) describe(ctx context.Context, p *openPull) error {
	now := n.agent.now()
	changed := p.described == nil || p.described.Head != p.Head || !p.Updated.Equal(p.of)
	listed := n.listedAt.After(p.at)
	switch {
	case changed:
		p.asked = 0
	case listed && p.asked < describeTwice, listed && p.asked < describePusher && !p.described.PushersKnown && !p.Fork:
	case remaining(p.at, now, describeAfter*n.every) > 0:
		return nil
	}
	described, err := n.forge.Describe(ctx, p.OpenPullRequest)
	if n.failed("describe", err) != nil {
		return err
	}
	text, err := json.Marshal(forge.PullRequest{Head: described.Head, Author: described.Author, Commits: described.Commits, Pushers: described.Pushers, Reviews: described.Reviews})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	p.described, p.digest, p.of, p.at = described, hex.EncodeToString(sum[:]), p.Updated, now
	p.asked++
	return nil
}

// judgeAll asks the gates wherever what they said rests on something else now. until is the next time at which an answer
// may change by itself; zero is never.
func (n *answers) judgeAll(ctx context.Context, l *law, p *openPull, m *sources.Merge) (until time.Time, err error) {
	v := p.preview
	names := slices.Clone(v.affected)
	if len(v.declares) > 0 {
		names = append(names, policy.Governance)
	}
	var one *landed.Merge
	for _, name := range names {
		facts := n.factsOf(l, name, p.digest)
		j := v.judged[name]
		if j == nil || j.facts != facts || !j.until.IsZero() && !n.agent.now().Before(j.until) {
			if m == nil {
				if m, err = n.repo.Merge(ctx, v.base, v.head, landed.AlteredMax); err != nil {
					return time.Time{}, err
				}
			}
			if one == nil {
				if one, err = landed.ReadMerge(ctx, n.source, n.repo, m, v.base, p.described); err != nil && !passing(err) {
					v.problem = err.Error()
					return time.Time{}, nil
				}
				if err != nil {
					return time.Time{}, fmt.Errorf("read its commits: %w", err)
				}
			}
			if name == policy.Governance {
				j, err = n.judgeDeclarations(l, m, p.OpenPullRequest, one)
			} else {
				j, err = n.judge(ctx, l, name, m, v, one)
			}
			if err != nil {
				return time.Time{}, fmt.Errorf("preview for %q: %w", name, err)
			}
			j.facts = facts
			v.judged[name] = j
		}
		if !j.until.IsZero() && (until.IsZero() || j.until.Before(until)) {
			until = j.until
		}
	}
	return until, nil
}
