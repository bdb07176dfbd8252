package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

// Order is what somebody wants to have done with the backups of an environment, beside what is due by itself.
type Order struct {
	Task   upkeep.Task  // TakeBackup, Verify or Drill
	Store  string       // "": the one that the policy writes to
	ID     backup.ID    // of the backup that is verified, or rehearsed; "": the newest, or the point
	Level  backup.Level // of a verification
	Point  string       // of a drill; "": the latest
	Reason string
	// Release is the digest of the one that a backup is made for; "" for none.
	Release string
	// Progress is called about every second; nil for nothing.
	Progress func(upkeep.Task, backup.Progress)
}

// order waits in a lane.
type order struct {
	ctx      context.Context // of whoever waits for it
	job      upkeep.Job
	at       time.Time
	release  string
	progress func(upkeep.Task, backup.Progress)
	done     chan ending // capacity 1
}

type ending struct {
	records []evidence.Record
	err     error
}

// errStopping answers orders that were not begun.
var errStopping = errors.New("the agent stops")

// Order has something done and waits for it. It returns what was recorded: also that something failed is recorded, and no
// error. If the context ends, so does the job.
func (a *Agent) Order(ctx context.Context, environment string, o Order) ([]evidence.Record, error) {
	return a.orderIn(ctx, o.Task.Lane(), environment, o)
}

func (a *Agent) orderIn(ctx context.Context, lane upkeep.Lane, environment string, o Order) ([]evidence.Record, error) {
	l := a.inForce()
	if l == nil {
		return nil, errNoGovernance
	}
	s, err := a.backups.subject(l, environment)
	if err != nil {
		return nil, err
	}
	job, err := o.job(s)
	if err != nil {
		return nil, err
	}
	wanted := &order{ctx: ctx, job: job, at: a.now(), release: o.Release, progress: o.Progress, done: make(chan ending, 1)}
	if err := a.backups.take(laneKey{environment, lane}, wanted); err != nil {
		return nil, err
	}
	select {
	case done := <-wanted.done:
		return done.records, done.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// maxOrders bounds how many orders wait in a lane.
const maxOrders = 16

func (b *backups) take(key laneKey, o *order) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lane(key)
	if b.stopped {
		return errStopping
	}
	l.orders = slices.DeleteFunc(l.orders, func(o *order) bool { return o.ctx.Err() != nil }) // nobody waits for it any more
	if len(l.orders) >= maxOrders {
		return fmt.Errorf("%d orders wait for environment %q already", len(l.orders), key.environment)
	}
	l.orders = append(l.orders, o)
	b.signal()
	return nil
}

// refuse answers all orders that are not begun: none is taken any more.
func (b *backups) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	for _, l := range b.lanes {
		l.refuse(errStopping)
	}
}

// refuse answers the orders that are not begun.
func (l *laneState) refuse(err error) {
	for _, o := range l.orders {
		o.done <- ending{err: err}
	}
	l.orders = nil
}

// job is what the order asks for.
func (o Order) job(s upkeep.Subject) (upkeep.Job, error) {
	j := upkeep.Job{Task: o.Task, Store: o.Store, ID: o.ID, Level: o.Level, Point: o.Point, Reason: o.Reason, Ordered: true}
	if j.Store == "" {
		j.Store = s.Policy.Spec.Store
	}
	switch {
	case o.Task == upkeep.TakeBackup && j.Store != s.Policy.Spec.Store:
		return j, fmt.Errorf("backups of %s are written to store %q: policy %q says so", s.Environment, s.Policy.Spec.Store, s.Policy.Meta.Name)
	case o.Task == upkeep.Verify && j.ID == "":
		c, found := s.Backups.Newest(j.Store, func(upkeep.Copy) bool { return true })
		if !found {
			return j, fmt.Errorf("the log knows no backup of %s in store %q", s.Environment, j.Store)
		}
		j.ID = c.ID
	case o.Task == upkeep.Verify || o.Task == upkeep.Drill && j.ID != "":
		if _, found := s.Backups.Copy(j.ID, j.Store); !found {
			return j, fmt.Errorf("the log knows no backup %q of %s in store %q", string(j.ID), s.Environment, j.Store)
		}
	}
	return j, nil
}

// BackUpBefore makes a backup for a release that is about to go live, and reads it to its end. It returns when the backup is
// verified; without it, no migration may begin. It waits for no drill: both go on in the lane in which backups are made.
func (a *Agent) BackUpBefore(ctx context.Context, environment, release string) (evidence.Backup, error) {
	why := "before release " + release
	made, err := ordered[evidence.Backup](ctx, a, environment, Order{Task: upkeep.TakeBackup, Release: release, Reason: why})
	switch {
	case err != nil:
		return made, fmt.Errorf("back up %s: %w", environment, err)
	case made.Manifest == nil:
		return made, fmt.Errorf("back up %s: %s", environment, made.Error)
	}
	looked, err := ordered[evidence.Verification](ctx, a, environment, Order{Task: upkeep.Verify, ID: made.ID, Level: backup.L1, Reason: why})
	switch {
	case err != nil:
		return made, fmt.Errorf("verify backup %s: %w", made.ID, err)
	case looked.Unfinished != "":
		return made, fmt.Errorf("verify backup %s: %s", made.ID, looked.Unfinished)
	case !looked.Passed:
		return made, fmt.Errorf("verify backup %s: %w", made.ID, looked.Err())
	}
	return made, nil
}

// ordered has something done in the lane in which backups are made, and decodes what was recorded of it.
func ordered[P any](ctx context.Context, a *Agent, environment string, o Order) (p P, err error) {
	records, err := a.orderIn(ctx, upkeep.Taking, environment, o)
	if err != nil {
		return p, err
	}
	if len(records) != 1 {
		return p, fmt.Errorf("%d records of one job", len(records))
	}
	return p, json.Unmarshal(records[0].Predicate, &p)
}
