package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTenantsDoNotWaitForEachOther gives one tenant a thousand environments that each take a minute; another
// tenant's only one is looked at without waiting for any of them.
func TestTenantsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var busy, most, done atomic.Int64
		small := make(chan time.Duration, 1)
		start := time.Now()
		q := newQueue(8, func(ctx context.Context, environment string) time.Duration {
			if environment == "small" {
				small <- time.Since(start)
				return 0
			}
			if n := busy.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer busy.Add(-1)
			select {
			case <-time.After(time.Minute):
				done.Add(1)
			case <-ctx.Done():
			}
			return 0
		})
		var running sync.WaitGroup
		running.Go(func() {
			if err := q.run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("run ended: %v", err)
			}
		})
		for i := range 1000 {
			q.add("north", fmt.Sprint(i))
		}
		synctest.Wait()
		q.add("south", "small")
		if waited := <-small; waited != 0 {
			t.Errorf("the small tenant waited %s", waited)
		}
		time.Sleep(1000/8*time.Minute + time.Second)
		synctest.Wait()
		if done.Load() != 1000 || most.Load() != 8 {
			t.Errorf("%d of 1000 done, %d at the same time, want 8", done.Load(), most.Load())
		}
		cancel()
		running.Wait()
	})
}

// TestAnEnvironmentIsNotReconciledTwiceAtOnce wakes one environment while it is worked on: it is looked at once more
// afterwards.
func TestAnEnvironmentIsNotReconciledTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var busy, runs atomic.Int64
		q := newQueue(8, func(context.Context, string) time.Duration {
			if busy.Add(1) > 1 {
				t.Error("reconciled twice at the same time")
			}
			time.Sleep(time.Second)
			busy.Add(-1)
			runs.Add(1)
			return 0
		})
		var running sync.WaitGroup
		running.Go(func() { _ = q.run(ctx) })
		for range 10 {
			q.add("north", "dev")
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if runs.Load() != 2 {
			t.Errorf("%d runs, want 2", runs.Load())
		}
		cancel()
		running.Wait()
	})
}
