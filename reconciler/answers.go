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

	"github.com/purser-gitops/purser/reconciler/answer"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
)

// openPulls is the forge as far as open pull requests are concerned.
type openPulls interface {
	Open(ctx context.Context) ([]forge.OpenPullRequest, error)
	Describe(ctx context.Context, open forge.OpenPullRequest) (*forge.PullRequest, error)
}

// answers tells a forge what the gates say of its open pull requests, and what became of those that landed. It has a
// goroutine and a copy of the repository of its own: whatever the forge or a fork does, releases do not notice.
type answers struct {
	agent    *Agent
	source   string
	forge    openPulls
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
	box       *answer.Outbox
	listedAt  time.Time
	rest      answer.BackOff // of the forge as a whole
	stuck     bool           // the last fetch failed
	fetches   answer.BackOff // after one failed
}

// openPull is an open pull request and what is known of it.
type openPull struct {
	forge.OpenPullRequest
	preview   *answer.Preview
	described *forge.PullRequest
	digest    string    // of what of that is judged
	of        time.Time // when the forge had last changed what is described
	at        time.Time // when it was described
	asked     int       // how often since it last changed
	fetches   int       // in a row that did not bring its head
	rest      answer.BackOff
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
	n := &answers{
		agent: a, source: c.Name, forge: client, pullOf: known.Of, repo: repo, every: c.Interval, logger: logger,
		renderer: render.New(render.Options{
			Concurrency: 1, CacheBytes: previewBytes, Limits: render.Limits{Time: previewRender}, Logger: logger,
		}),
		signals: make(chan struct{}, 1), started: a.now(), noticed: true,
		pulls: map[int64]*openPull{}, offers: map[string]offered{}, resumed: map[string]bool{},
	}
	n.box = answer.NewOutbox(answer.Options{
		Forge: client, Marker: "purser " + c.Name + " of " + a.config.Writer, Pace: n.pace(), Note: n.posted, Now: a.now, Logger: logger,
	})
	return n, nil
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
	if left := n.rest.Left(now); left > 0 {
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
		if retry, err = n.box.Send(ctx, said); retry > 0 {
			next = min(next, retry)
		}
		if err == nil {
			n.box.Keep(n.concerns)
		}
		n.settle(said)
	}
	if ctx.Err() != nil {
		return n.every
	}
	if err != nil {
		return n.pause(err)
	}
	n.rest = answer.BackOff{}
	return next
}

// say adds what is to be said of an open pull request.
func (n *answers) say(said answer.Letters, p *openPull) {
	v := p.preview
	if v == nil || v.Head != p.Head || v.Unseen > 0 && n.agent.now().Sub(n.started) < unseenFor {
		return // the last word stays until there is another
	}
	n.box.Say(said, p.OpenPullRequest, v)
}

// pause leaves the forge alone for a while after a failure.
func (n *answers) pause(err error) time.Duration {
	now := n.agent.now()
	wait := n.rest.Failed(n.pace(), now)
	var limited *forge.RateLimitError
	if errors.As(err, &limited) {
		wait = n.rest.Wait(limited.RetryAfter, now)
	}
	n.logger.Warn("pull requests are not answered now; releases go on", "error", err, "again", wait)
	return wait
}

// pace is how long to wait after failures in a row.
func (n *answers) pace() answer.Pace {
	return answer.Pace{First: max(n.every, retryFirst), Longest: max(n.every, longestSilence)}
}

// longestSilence is how long the forge is left alone at most, unless it says so itself or is asked less often anyway.
const longestSilence = 5 * time.Minute

// posted counts what was told to the forge, and what it did not take.
func (n *answers) posted(operation string, err error) {
	if n.failed(operation, err) == nil {
		n.agent.metrics.forgeWrites.WithLabelValues(n.source, operation).Inc()
	}
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
		again := p.rest.Left(n.agent.now())
		if again == 0 {
			again, err = n.preview(ctx, l, p)
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err == nil {
				p.rest, failed = answer.BackOff{}, 0
			} else {
				failed++
				again = p.rest.Failed(n.pace(), n.agent.now())
				n.logger.Warn("pull request not previewed", "pull", p.Number, "error", err, "again", again)
			}
			if err != nil && (failed == answer.MostFailures || errors.As(err, new(*forge.RateLimitError))) {
				return 0, err
			}
		}
		if again > 0 {
			next = min(next, again)
		}
	}
	return next, nil
}

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
			p.fetches, p.rest = 0, answer.BackOff{}
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
		if head, _ := n.repo.Ref(p.HeadRef); head == p.Head || !n.stuck {
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
	if !news && next == nil || n.fetches.Left(n.agent.now()) > 0 {
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
	if n.stuck = n.failed("fetch", err) != nil; !n.stuck {
		return
	}
	n.fetches.Wait(n.pace().First, n.agent.now())
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
	moved := v == nil || v.Base != base.Commit || v.Head != p.Head || v.Governance != l.commit
	if moved || v.Unseen > 0 {
		var next *answer.Preview
		if next, m, err = n.shape(ctx, l, p.OpenPullRequest, base.Commit); err != nil {
			return 0, err
		}
		if !moved {
			next.Judged = v.Judged
		}
		p.preview = next
	}
	if p.preview.Unseen > 0 {
		again = recheck
		if n.agent.now().Sub(n.started) < unseenFor {
			return again, nil
		}
	}
	if p.preview.Problem != "" || len(p.preview.Affected)+len(p.preview.Declares) == 0 {
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
	var one *landed.Merge
	for _, name := range v.Names() {
		facts := n.factsOf(l, name, p.digest)
		j := v.Judged[name]
		if j == nil || j.Basis != facts || !j.Until.IsZero() && !n.agent.now().Before(j.Until) {
			if m == nil {
				if m, err = n.repo.Merge(ctx, v.Base, v.Head, landed.AlteredMax); err != nil {
					return time.Time{}, err
				}
			}
			if one == nil {
				if one, err = landed.ReadMerge(ctx, n.source, n.repo, m, v.Base, p.described); err != nil && !passing(err) {
					v.Problem = err.Error()
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
			j.Basis = facts
			v.Judged[name] = j
		}
		if !j.Until.IsZero() && (until.IsZero() || j.Until.Before(until)) {
			until = j.Until
		}
	}
	return until, nil
}
