package sources

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	defaultInterval = time.Minute
	// minGap is the least time between two polls, however often hooks trigger.
	minGap = time.Second
	// maxBackOff is how many intervals pass, at most, between two polls of a
	// source that fails.
	maxBackOff = 10
)

// syncer is a [Repository].
type syncer interface {
	SyncAll(ctx context.Context, want Wanted) (News, error)
}

// PollerOptions says what a poller asks for and how often.
type PollerOptions struct {
	Source     string                                // name, for metrics
	Branches   func() []string                       // asked before every poll
	Refs       func() []string                       // like Branches, see Wanted; nil: no other refs
	Interval   time.Duration                         // default 1 minute
	Report     func(changes []HeadChange, err error) // required; called after every poll, in turn; both may be set, see MissingError
	ReportRefs func(changes []RefChange)             // required with Refs; called before Report when other refs changed
	Metrics    *Metrics                              // nil: none
	Logger     *slog.Logger                          // default: discard
}

// Poller asks one repository for news at an interval, and at once when triggered.
type Poller struct {
	repo    syncer
	o       PollerOptions
	trigger chan struct{}
}

// NewPoller makes a poller; [Poller.Run] runs it.
func NewPoller(repo syncer, o PollerOptions) *Poller {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Poller{repo: repo, o: o, trigger: make(chan struct{}, 1)}
}

// Trigger asks for a poll soon and returns at once. Triggers that come before
// the poll starts are one.
func (p *Poller) Trigger() {
	select {
	case p.trigger <- struct{}{}:
	default:
	}
}

// Run polls until ctx ends, the first time at once. It returns ctx's error.
func (p *Poller) Run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		if p.poll(ctx) {
			failures = 0
		} else {
			failures++
		}
		if !sleep(ctx, minGap, nil) || !sleep(ctx, nextPoll(failures, p.o.Interval, rand.Float64())-minGap, p.trigger) {
			break
		}
	}
	return ctx.Err()
}

func (p *Poller) poll(ctx context.Context) (ok bool) {
	start := time.Now()
	want := Wanted{Branches: p.o.Branches()}
	if p.o.Refs != nil {
		want.Refs = append([]string{}, p.o.Refs()...) // not nil: what is no longer wanted is forgotten
	}
	news, err := p.repo.SyncAll(ctx, want)
	moved := len(news.Heads) + len(news.Refs)
	if ctx.Err() != nil && err != nil && moved == 0 {
		return true // stopping, nothing to tell
	}
	p.o.Metrics.observe(p.o.Source, time.Since(start), time.Now(), moved, err)
	p.o.Logger.Debug("polled", "took", time.Since(start), "moved", moved, "error", err)
	if len(news.Refs) > 0 {
		p.o.ReportRefs(news.Refs)
	}
	p.o.Report(news.Heads, err)
	return answered(err)
}

// answered reports whether the source works, even if a wanted branch is absent.
func answered(err error) bool {
	return err == nil || errors.As(err, new(*MissingError)) && !errors.As(err, new(*refsError))
}

// nextPoll gives the time until the next poll: the interval, doubled for each
// failure in a row up to ten intervals, and up to 10 % more or less so that the
// pollers of an estate do not march in step. random is in [0, 1).
func nextPoll(failures int, interval time.Duration, random float64) time.Duration {
	factor := 1
	for range failures {
		if factor = min(2*factor, maxBackOff); factor == maxBackOff {
			break
		}
	}
	return time.Duration(float64(interval) * float64(factor) * (0.9 + 0.2*random))
}

// sleep waits for d, or for wake; false says that ctx ended first.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-wake:
		return true
	case <-ctx.Done():
		return false
	}
}
