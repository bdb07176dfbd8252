package alert

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	resendEvery = time.Minute
	validFor    = 4 * resendEvery // a few repetitions may fail before Alertmanager takes an alert for resolved
	batchMost   = 64              // alerts of one request: some 250 KiB at most
	alertsMost  = 10_000          // that fire at the same time; of more, the worst are sent
)

// Options of a [Sender].
type Options struct {
	URLs      []string      // of the Alertmanagers, without /api; none: nothing is sent
	CAFile    string        // PEM certificates trusted besides the system's; read by New
	TokenFile string        // bearer token; read for every request
	Timeout   time.Duration // of one request

	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Sender tells Alertmanagers which alerts fire. It is safe for concurrent use, and nobody who calls it waits for them.
type Sender struct {
	now     func() time.Time
	metrics *metrics
	logger  *slog.Logger
	targets []*target

	mu      sync.Mutex
	entries map[Labels]*entry
	order   []Labels // of entries, the worst first
}

// entry is an alert that fires, or that somebody may not know yet to be resolved.
type entry struct {
	alert Alert
	ended time.Time // zero while it fires
}

// told is what one Alertmanager was told last of an alert.
type told struct {
	at    time.Time
	since time.Time // of the alert
	ended bool
}

// New prepares a sender. It makes no request.
func New(o Options) (*Sender, error) {
	metrics, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Sender{now: o.Now, metrics: metrics, logger: o.Logger, entries: map[Labels]*entry{}}
	for _, url := range o.URLs {
		t, err := newTarget(s, url, o)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, t)
	}
	return s, nil
}

// Run sends until the context ends. What fires then ends by itself if no later agent goes on with it.
func (s *Sender) Run(ctx context.Context) error {
	var targets sync.WaitGroup
	for _, t := range s.targets {
		targets.Go(func() { t.run(ctx) })
	}
	targets.Wait()
	return ctx.Err()
}

// Set says which alerts fire now. Those that fired before and are not among them are resolved; those that are keep the
// time since when they fire.
func (s *Sender) Set(firing []Alert) {
	now := s.now()
	s.metrics.set(firing)
	slices.SortFunc(firing, compare)
	if more := len(firing) - alertsMost; more > 0 {
		s.metrics.sent.WithLabelValues(resultDropped).Add(float64(more))
		firing = firing[:alertsMost]
	}
	s.mu.Lock()
	s.take(firing, now)
	s.mu.Unlock()
	for _, t := range s.targets {
		select {
		case t.wake <- struct{}{}:
		default: // it will look
		}
	}
}

func (s *Sender) take(firing []Alert, now time.Time) {
	next := make(map[Labels]*entry, len(firing))
	s.order = s.order[:0]
	for _, a := range firing {
		if before := s.entries[a.Labels]; before != nil && before.ended.IsZero() {
			a.Since = before.alert.Since
		}
		if next[a.Labels] == nil {
			s.order = append(s.order, a.Labels)
		}
		next[a.Labels] = &entry{alert: a}
	}
	for labels, e := range s.entries {
		if e.ended.IsZero() {
			e.ended = now
		}
		// Afterwards it ended by itself for whoever did not hear it.
		if next[labels] == nil && now.Sub(e.ended) < validFor && len(s.targets) > 0 {
			next[labels] = e
			s.order = append(s.order, labels)
		}
	}
	s.entries = next
}

// due gives what an Alertmanager is to be told now, at most a batch, and if that is nothing, how long until there may be
// something; 0: until a call of Set.
func (s *Sender) due(t *target) (batch []entry, wait time.Duration) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for labels := range t.told {
		if s.entries[labels] == nil {
			delete(t.told, labels)
		}
	}
	for _, labels := range s.order {
		e, last := s.entries[labels], t.told[labels]
		left := time.Duration(0)
		switch {
		case !e.ended.IsZero():
			if last.at.IsZero() || last.ended {
				continue // it never knew, or it knows
			}
		case !last.ended && last.since.Equal(e.alert.Since) && !now.Before(last.at):
			left = resendEvery - now.Sub(last.at)
		}
		switch {
		case left > 0 && (wait == 0 || left < wait):
			wait = left
		case left <= 0 && len(batch) < batchMost:
			batch = append(batch, *e)
		}
	}
	return batch, wait
}

// heard notes what an Alertmanager was told.
func (s *Sender) heard(t *target, batch []entry) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		t.told[e.alert.Labels] = told{at: now, since: e.alert.Since, ended: !e.ended.IsZero()}
	}
}
