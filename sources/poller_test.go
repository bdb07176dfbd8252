package sources

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestNextPoll(t *testing.T) {
	for _, tc := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{
		{0, 0.5, time.Minute}, {0, 0, 54 * time.Second}, {1, 0.5, 2 * time.Minute}, {2, 0.5, 4 * time.Minute}, {3, 0.5, 8 * time.Minute},
		{4, 0.5, 10 * time.Minute}, {5, 0.5, 10 * time.Minute}, {1 << 40, 0.5, 10 * time.Minute},
	} {
		if got := nextPoll(tc.failures, time.Minute, tc.random); (got - tc.want).Abs() > time.Millisecond {
			t.Errorf("nextPoll(%d, 1m, %v) = %v, want %v", tc.failures, tc.random, got, tc.want)
		}
	}
}

// fakeRepo answers Sync from a list and notes when it was asked.
type fakeRepo struct {
	mu    sync.Mutex
	times []time.Duration
	start time.Time
	takes time.Duration
	err   error
}

func (f *fakeRepo) SyncAll(ctx context.Context, want Wanted) (News, error) {
	f.mu.Lock()
	f.times = append(f.times, time.Since(f.start))
	err, takes := f.err, f.takes
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return News{}, ctx.Err()
	}
	if err != nil {
		return News{}, err
	}
	news := News{Heads: []HeadChange{{Branch: want.Branches[0], To: "x"}}}
	for _, ref := range want.Refs {
		news.Refs = append(news.Refs, RefChange{Ref: ref, To: "y"})
	}
	return news, nil
}

func (f *fakeRepo) taken() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.times)
}

func (f *fakeRepo) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// poll runs a poller in the bubble for as long as during does.
func poll(t *testing.T, f *fakeRepo, o PollerOptions, during func(p *Poller)) (reports int) {
	t.Helper()
	f.start = time.Now()
	o.Branches = func() []string { return []string{"main"} }
	o.Report = func([]HeadChange, error) { reports++ }
	p := NewPoller(f, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	synctest.Wait()
	during(p)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	return reports
}

func TestPollerKeepsItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRepo{}
		m, err := NewMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		reports := poll(t, f, PollerOptions{Source: "estate", Interval: time.Minute, Metrics: m}, func(*Poller) { time.Sleep(time.Hour) })
		times := f.taken()
		if times[0] != 0 || len(times) < 54 || len(times) > 67 || reports != len(times) {
			t.Errorf("%d polls in an hour, %d reports, the first after %v", len(times), reports, times[0])
		}
		for i := 1; i < len(times); i++ {
			if gap := times[i] - times[i-1]; gap < 54*time.Second || gap > 66*time.Second {
				t.Errorf("gap %d is %v", i, gap)
			}
		}
		if n := testutil.ToFloat64(m.fetches.WithLabelValues("estate", "changed")); n != float64(reports) {
			t.Errorf("purser_source_fetch_total = %v", n)
		}
		if at := testutil.ToFloat64(m.lastSuccess.WithLabelValues("estate")); at < float64(f.start.Unix()) {
			t.Errorf("purser_source_last_success_timestamp_seconds = %v", at)
		}
	})
}

func TestPollerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRepo{err: errors.New("down")}
		poll(t, f, PollerOptions{Interval: time.Minute}, func(*Poller) {
			time.Sleep(2 * time.Hour)
			f.fail(nil)
			n := len(f.taken())
			if n < 12 || n > 18 { // 1+2+4+8+10+10+… minutes
				t.Errorf("%d polls in two hours of failures", n)
			}
			time.Sleep(time.Hour)
			if got := len(f.taken()) - n; got < 44 {
				t.Errorf("%d polls in the hour after the failures", got)
			}
		})
	})
}

func TestTriggersAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRepo{takes: 3 * time.Second}
		poll(t, f, PollerOptions{Interval: time.Hour}, func(p *Poller) {
			for range 100 { // while the first poll runs
				p.Trigger()
			}
			time.Sleep(time.Minute)
			if got, want := f.taken(), []time.Duration{0, 4 * time.Second}; !slices.Equal(got, want) {
				t.Errorf("polls at %v, want %v", got, want)
			}
			f.mu.Lock()
			f.takes = 0
			f.mu.Unlock()
			for range 1000 { // a flood
				p.Trigger()
				time.Sleep(10 * time.Millisecond)
			}
			if n := len(f.taken()) - 2; n < 9 || n > 11 {
				t.Errorf("%d polls in a flood of 10 s", n)
			}
		})
	})
}

func TestPollerStopsDuringAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRepo{takes: time.Hour}
		if reports := poll(t, f, PollerOptions{}, func(*Poller) { time.Sleep(time.Second) }); reports != 0 {
			t.Errorf("%d reports of a poll that was interrupted", reports)
		}
	})
}

func TestPollerReportsRefs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []RefChange
		o := PollerOptions{
			Refs:       func() []string { return []string{"refs/pull/7/head"} },
			ReportRefs: func(changes []RefChange) { got = append(got, changes...) },
		}
		reports := poll(t, &fakeRepo{}, o, func(*Poller) { time.Sleep(time.Second) })
		if want := []RefChange{{Ref: "refs/pull/7/head", To: "y"}}; reports != 1 || !slices.Equal(got, want) {
			t.Errorf("%d reports, refs %+v", reports, got)
		}
	})
}
