package evidence

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	p := pace{linger: 25, interval: 250}
	for i, c := range []struct{ now, wait time.Duration }{
		{1000, 25},  // after idleness
		{1080, 25},  // once more at once,
		{1130, 145}, // then one per interval
		{1276, 249},
		{1700, 75}, // a push that took longer
		{1776, 249},
		{9000, 25}, // idle again: what is saved up does not grow
		{9026, 25},
		{9052, 223},
	} {
		now := time.Unix(0, int64(c.now))
		if got := p.wait(now); got != c.wait {
			t.Errorf("push %d at %d: waits %d, want %d", i, c.now, got, c.wait)
		}
		p.begin(now.Add(p.wait(now)))
	}
}

// Whatever many writers add, and however many wait for the remote, the pushes keep
// to their pace.
func TestPushesKeepPace(t *testing.T) {
	f, _ := httpFixture(t)
	f.pace = pace{linger: pushLinger, interval: pushInterval}
	f.run()
	start := time.Now()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 3 {
				r, err := f.log.Add(applyDraft(3*w + i))
				if err == nil {
					err = f.log.Published(t.Context(), r.Index)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	most := int(time.Since(start)/pushInterval) + 2
	f.close()
	f.verified(24)
	pushes, err := strconv.Atoi(git(t, f.bare, "rev-list", "--count", "audit/2026"))
	if err != nil || pushes > most {
		t.Errorf("%d pushes, at most %d; %v", pushes, most, err)
	}
}

// A closing log publishes the rest without a pause, also after a failure.
func TestCloseDoesNotPause(t *testing.T) {
	for name, fail := range map[string]bool{"between pushes": false, "between failures": true} {
		t.Run(name, func(t *testing.T) {
			f, s := httpFixture(t)
			f.o.RetryMin, f.o.RetryMax = time.Hour, time.Hour
			if !fail {
				f.pace = pace{linger: time.Hour, interval: time.Hour}
			}
			f.open()
			s.down.Store(fail)
			f.run()
			f.add(3)
			if fail {
				f.failing("503")
				s.down.Store(false)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := f.log.Close(ctx); err != nil {
				t.Error(err)
			}
			f.stop()
			f.log = nil
			f.verified(3)
		})
	}
}
