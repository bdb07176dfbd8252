package reconciler

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// queue runs the reconciliations of one cluster. An environment is never reconciled twice at the same time,
// and a cluster that hangs holds only its own workers.
type queue struct {
	keys    workqueue.TypedDelayingInterface[string]
	workers int
	// reconcile looks at one environment and says when to look again at the latest; 0: not by itself.
	reconcile func(ctx context.Context, environment string) time.Duration
}

func newQueue(workers int, reconcile func(context.Context, string) time.Duration) *queue {
	return &queue{
		keys:      workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{}),
		workers:   workers,
		reconcile: reconcile,
	}
}

// add asks for a reconciliation now.
func (q *queue) add(environment string) { q.keys.Add(environment) }

// run works until the context ends, and returns when every worker has.
func (q *queue) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, q.keys.ShutDown)
	defer stop()
	var workers sync.WaitGroup
	for range q.workers {
		workers.Go(func() {
			for q.next(ctx) {
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// next handles one key; false when the queue was shut down.
func (q *queue) next(ctx context.Context) bool {
	environment, shutdown := q.keys.Get()
	if shutdown || ctx.Err() != nil {
		return false
	}
	defer q.keys.Done(environment)
	if after := q.reconcile(ctx, environment); after > 0 {
		q.keys.AddAfter(environment, after)
	}
	return true
}
