package evidence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	maxBatchRecords = 1_000
	maxBatchBytes   = 8 << 20 // in the spool; a push holds three times as much in memory
)

// Run publishes what is added until ctx or the log ends, at the pace of [pace].
// Failures are retried for ever, with growing pauses; see [Status]. One Run at a
// time; on a closed log it returns at once.
func (l *Log) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &runner{cancel: cancel, closing: make(chan struct{}), done: make(chan struct{})}
	l.mu.Lock()
	busy, closing := l.run != nil, l.closing
	if !busy && !closing {
		l.run = run
	}
	l.mu.Unlock()
	switch {
	case closing:
		return nil
	case busy:
		return errors.New("run evidence log: it is running already")
	}
	defer func() {
		l.mu.Lock()
		l.run = nil
		l.mu.Unlock()
		close(run.done)
	}()
	l.publishAll(ctx, run.closing)
	return nil
}

// publishAll is the loop of Run. Once hurry is closed it does not pause any more,
// except between failures.
func (l *Log) publishAll(ctx context.Context, hurry <-chan struct{}) {
	retry, pushes := l.o.RetryMin, l.pace
	for {
		some, closing := l.due()
		if !some {
			if closing {
				return
			}
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !pause(ctx, hurry, pushes.wait(time.Now())) {
			return
		}
		pushes.begin(time.Now())
		err := l.publish(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			retry = l.o.RetryMin
			continue
		}
		if closing {
			hurry = nil // it was tried once more, at once
		}
		if !pause(ctx, hurry, retry/2+rand.N(retry/2+1)) {
			return
		}
		retry = min(2*retry, l.o.RetryMax)
	}
}

// pause waits, unless hurry is closed. It returns false when ctx ends.
func pause(ctx context.Context, hurry <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// due says whether there is something to publish, and whether the log is closing.
func (l *Log) due() (some, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil { // what is not durable never will be
		return len(l.spool.ready()) > 0, l.closing
	}
	return len(l.spool.entries) > 0, l.closing
}

// publish makes what was added durable and brings the first batch of it to the
// remote.
func (l *Log) publish(ctx context.Context) error {
	if err := l.settle(ctx); ctx.Err() != nil {
		return err
	} // Status shows the error; what is durable is published all the same
	l.mu.Lock()
	ready := len(l.spool.ready())
	l.mu.Unlock()
	if ready == 0 {
		return nil
	}
	start := time.Now()
	attempt, cancel := context.WithTimeout(ctx, l.o.Timeout)
	err := l.publishBatch(attempt)
	cancel()
	if ctx.Err() == nil {
		l.report(err, time.Since(start))
	}
	return err
}

// report keeps the outcome for Status and those who wait.
func (l *Log) report(err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.metrics.duration.Observe(took.Seconds())
		if l.lastErr != nil {
			l.o.Logger.Info("publishing evidence works again")
		}
		l.failedAt = time.Time{}
	} else {
		l.metrics.failures.Inc()
		if l.failedAt.IsZero() {
			l.failedAt = l.o.Now()
		}
		if l.lastErr == nil || l.lastErr.Error() != err.Error() {
			l.o.Logger.Error("publishing evidence failed, records wait in the spool", "records", len(l.spool.entries), "error", err)
		}
	}
	l.lastErr = err
	l.notify()
}

// publishBatch brings one commit to the remote: look where the remote is, write
// down the commit, send it, read the branch back, and only then forget the
// spooled copies. A crash or a lost answer at any point leaves the remote at the
// last acknowledged commit or at the pending one; both are recognised.
//
// Where the batch before was read back a moment ago, the first look is spared: a
// remote that moved meanwhile refuses the push, and then it is looked at.
func (l *Log) publishBatch(ctx context.Context) error {
	if err := l.leaveBranch(); err != nil {
		return err
	}
	session := l.remote.resumePush(ctx, l.known)
	l.known = nil
	if session != nil {
		if err := l.publishTo(ctx, session); err == nil || ctx.Err() != nil {
			return err
		}
	}
	session, err := l.remote.openPush(ctx)
	if err != nil {
		return err
	}
	return l.publishTo(ctx, session)
}

func (l *Log) publishTo(ctx context.Context, session *pushSession) error {
	defer session.close()
	arrived, err := l.checkTip(session.refs)
	if err != nil {
		return err
	}
	b, err := l.makeBatch()
	if err != nil {
		return err
	}
	if !arrived {
		if err := l.setPending(b.pending); err != nil {
			return err
		}
		l.at("before-push")
		if err := l.push(ctx, session, b); err != nil {
			return err
		}
		l.at("pushed")
		b.objects = nil // sent
		if err := l.readBack(ctx, session); err != nil {
			return err
		}
	}
	l.see(b.after.index())
	if err := l.acknowledge(b); err != nil {
		return err
	}
	l.known = session
	return nil
}

// readBack looks whether the branch is where the push was to bring it. When not,
// it looks at everything, to say what is wrong.
func (l *Log) readBack(ctx context.Context, session *pushSession) error {
	seen, err := l.remote.look(ctx, session.refs, "refs/heads/"+l.state.Published.Branch, blobPrefix)
	if err != nil {
		return fmt.Errorf("read back audit branch: %w", err)
	}
	session.refs = seen
	if arrived, err := l.checkTip(seen); arrived && err == nil {
		return nil
	}
	if seen, err = l.remote.list(ctx); err != nil {
		return fmt.Errorf("read back audit branch: %w", err)
	}
	arrived, err := l.checkTip(seen)
	if err == nil && !arrived {
		err = errors.New("read back audit branch: the server accepted the push but does not show it")
	}
	session.refs = seen
	return err
}

// see tells those who wait that the remote shows the records below end.
func (l *Log) see(end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = end
	l.lastTime = l.o.Now()
	l.notify()
}

// leaveBranch moves on to the next year's branch once the earlier one's records
// are all published.
func (l *Log) leaveBranch() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.spool.entries[0]
	if first.Branch == l.state.Published.Branch {
		return nil
	}
	next := l.state
	next.Published = position{Branch: first.Branch, Base: first.Index}
	next.Branches = append(slices.Clone(l.state.Branches), branchStart{Branch: first.Branch, Base: first.Index})
	if l.state.Published.Frontier.Size == 0 { // nothing was ever published under the earlier name
		next.Branches = next.Branches[len(next.Branches)-1:]
	}
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.state = next
	return l.archive.open(first.Branch, 0)
}

// setPending writes the commit down before it is sent.
func (l *Log) setPending(p *pendingPush) error {
	if l.state.Pending != nil {
		return nil
	}
	next := l.state
	next.Pending = p
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	l.state = next
	l.mu.Unlock()
	return nil
}

// push sends the batch: keep refs and blobs with the branch where the server
// moves all or none, before it where not.
func (l *Log) push(ctx context.Context, session *pushSession, b *batch) error {
	aux, updates, err := l.besides(session.refs, b)
	if err != nil {
		return err
	}
	branch := refUpdate{name: "refs/heads/" + b.after.Branch, old: l.state.Published.Tip, new: b.after.Tip}
	if len(updates) == 0 || session.atomic() {
		pack, err := encodePack(distinct(append(aux, b.objects...)), session.thin())
		if err != nil {
			return err
		}
		return session.send(ctx, pack, append(updates, branch))
	}
	pack, err := encodePack(distinct(aux), false)
	if err != nil {
		return err
	}
	if err := session.send(ctx, pack, updates); err != nil {
		return err
	}
	second, err := l.remote.openPush(ctx)
	if err != nil {
		return err
	}
	defer second.close()
	if pack, err = encodePack(distinct(b.objects), second.thin()); err != nil {
		return err
	}
	return second.send(ctx, pack, []refUpdate{branch})
}

// acknowledge forgets the spooled copies of records that the remote shows.
// Until the state is saved it can be repeated.
func (l *Log) acknowledge(b *batch) error {
	if err := l.store(b); err != nil {
		return err
	}
	envelopes := make([][]byte, len(b.items))
	for i, item := range b.items {
		envelopes[i] = item.Envelope
	}
	if err := l.archive.append(envelopes, b.ids); err != nil {
		return err
	}
	next := l.state
	next.Published, next.Pending = b.after, nil
	next.Branches = slices.Clone(l.state.Branches)
	next.Branches[len(next.Branches)-1].Checkpoint = b.pending.Checkpoint
	if err := next.save(l.o.Dir); err != nil {
		return err
	}
	l.archive.commit(envelopes)
	l.mu.Lock()
	l.state = next
	err := l.spool.drop(len(b.items))
	l.mu.Unlock()
	if err != nil { // published all the same; the next start removes the files
		l.o.Logger.Warn("published records could not be removed from the spool", "error", err)
	}
	l.at("acknowledged")
	return nil
}

// storeWorkers is how many files are flushed at the same time: a disk flushes
// several for little more than the price of one.
const storeWorkers = 8

// store keeps the newest files of every keep ref of the batch.
func (l *Log) store(b *batch) error {
	kept := map[string]spooledKeep{}
	for _, item := range b.items {
		for _, k := range item.Keep {
			kept[k.Ref] = k
		}
	}
	if len(kept) == 0 {
		return nil
	}
	var workers errgroup.Group
	workers.SetLimit(storeWorkers)
	for _, k := range kept {
		workers.Go(func() error { return l.keeps.put(k.Ref, k.Files) })
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	if err := syncDir(l.keeps.dir); err != nil {
		return fmt.Errorf("store kept files: %w", err)
	}
	return nil
}
