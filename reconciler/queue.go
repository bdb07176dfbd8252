package reconciler

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// queue runs the reconciliations of one cluster. Each tenant has a lane with workers of its own: a thousand changes
// of one tenant, or a webhook that holds all its workers, keep no other tenant waiting. An environment is never
// reconciled twice at the same time.
type queue struct {
	workers int // of each lane
	// reconcile looks at one environment and says when to look again at the latest; 0: not by itself.
	reconcile func(ctx context.Context, environment string) time.Duration

	mu    sync.Mutex
	lanes map[string]*lane // by tenant
	grown chan struct{}    // capacity 1: there is a lane that does not run yet
}

// lane is what of one tenant waits to be reconciled.
type lane struct {
	keys    workqueue.TypedDelayingInterface[string]
	running bool
}

func newQueue(workers int, reconcile func(context.Context, string) time.Duration) *queue {
	return &queue{workers: workers, reconcile: reconcile, lanes: map[string]*lane{}, grown: make(chan struct{}, 1)}
}

// add asks for a reconciliation now.
func (q *queue) add(tenant, environment string) { q.lane(tenant).keys.Add(environment) }

func (q *queue) lane(tenant string) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[tenant]
	if l == nil {
		l = &lane{keys: workqueue.NewTypedDelayingQueue[string]()}
		q.lanes[tenant] = l
		select {
		case q.grown <- struct{}{}:
		default: // it is known already that there are new ones
		}
	}
	return l
}

// run works until the context ends, and returns when everything under way has ended.
func (q *queue) run(ctx context.Context) error {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	defer q.shutDown()
	for {
		for _, l := range q.idle() {
			lanes.Go(func() { q.work(ctx, l) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.grown:
		}
	}
}

// work hands out what waits in a lane, to at most so many workers at a time. A lane with nothing to do costs one.
func (q *queue) work(ctx context.Context, l *lane) {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, q.workers)
	for {
		slots <- struct{}{}
		environment, shutdown := l.keys.Get()
		if shutdown || ctx.Err() != nil {
			return
		}
		workers.Go(func() {
			defer func() { <-slots }()
			defer l.keys.Done(environment)
			if after := q.reconcile(ctx, environment); after > 0 {
				l.keys.AddAfter(environment, after)
			}
		})
	}
}

// idle takes the lanes that nobody works on yet.
func (q *queue) idle() []*lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	var idle []*lane
	for _, l := range q.lanes {
		if !l.running {
			l.running = true
			idle = append(idle, l)
		}
	}
	return idle
}

func (q *queue) shutDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lanes {
		l.keys.ShutDown()
	}
}
