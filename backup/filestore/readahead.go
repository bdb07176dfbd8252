package filestore

import (
	"context"

	"golang.org/x/sync/errgroup"
)

const (
	readers    = 4 // files that are read at the same time: a disk answers each after a while
	looksAhead = 8 // files that may be read and not yet in the pack
)

// A readAhead looks at the files of contents, some at a time, and gives what it saw in order.
type readAhead struct {
	cancel context.CancelFunc
	queue  chan chan look // closed at the end
	err    error          // why it ended early; valid when queue is closed
}

func (c *copier) readAhead(ctx context.Context, batch []content) *readAhead {
	a := &readAhead{queue: make(chan chan look, looksAhead)}
	ctx, a.cancel = context.WithCancel(ctx)
	go func() { // until close
		defer close(a.queue)
		var workers errgroup.Group
		workers.SetLimit(readers)
		defer workers.Wait()
		for _, next := range batch {
			result := make(chan look, 1)
			select {
			case a.queue <- result:
			case <-ctx.Done():
				a.err = ctx.Err()
				return
			}
			workers.Go(func() error {
				result <- c.settled(ctx, next)
				return nil
			})
		}
	}()
	return a
}

// next returns the next look, false after the last.
func (a *readAhead) next() (look, bool, error) {
	result, ok := <-a.queue
	if !ok {
		return look{}, false, a.err
	}
	return <-result, true, nil
}

// close ends the reading and waits for it.
func (a *readAhead) close() {
	a.cancel()
	for result := range a.queue {
		l := <-result
		l.close()
	}
}

// settled looks at a file until it is right, or wrong and no longer in the making.
func (c *copier) settled(ctx context.Context, next content) look {
	l := lookAt(c.root, next, true)
	for range settleLooks {
		wrong := l.problem != nil && (l.problem.Kind == WrongSize || l.problem.Kind == WrongSum)
		if !wrong || c.o.now().Sub(l.changed).Abs() > settle || c.o.pause(ctx) != nil {
			break
		}
		before := l
		l = lookAt(c.root, next, true)
		if l.problem != nil && l.length == before.length && l.changed.Equal(before.changed) {
			break
		}
	}
	return l
}
