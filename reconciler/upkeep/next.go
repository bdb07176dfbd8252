package upkeep

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/schedule"
)

// Task is a kind of work.
type Task string

// Tasks.
const (
	TakeBackup Task = "backup"
	Verify     Task = "verify"
	Replicate  Task = "replicate"
	Retain     Task = "retain"
	Drill      Task = "drill"
)

// Job is something to be done with the backups of one environment.
type Job struct {
	Task   Task
	Store  string       // that it is done in, or that is copied to
	ID     backup.ID    // of the backup that is verified or copied
	Level  backup.Level // of a verification
	Drill  string       // name of the schedule of a drill; see [DrillName]
	Point  string       // of a drill; see [declaration.Drill]
	Reason string
	Slot   time.Time
	Missed int
	// Ordered says that somebody wants it, beside what is due by itself.
	Ordered bool
}

// Run names what the job is one run of.
func (j Job) Run() string {
	switch j.Task {
	case Verify:
		return string(j.Task) + " " + string(j.Level) + " " + j.Store
	case Replicate, Retain:
		return string(j.Task) + " " + j.Store
	case Drill:
		return string(j.Task) + " " + j.Drill
	}
	return string(j.Task)
}

// A Lane is a kind of work of which an environment has one job at a time.
type Lane int

// Lanes.
const (
	Taking Lane = iota
	Proving
)

func (l Lane) String() string { return [...]string{"taking", "proving"}[l] }

// Lanes are all of them.
var Lanes = []Lane{Taking, Proving}

// Lane is the one that the task belongs to.
func (t Task) Lane() Lane {
	if t == TakeBackup {
		return Taking
	}
	return Proving
}

// How often a store is gone through for what can be deleted or has to be locked for longer: at least daily, and not long after
// it got something or something of it was verified; after a failure, again within an hour.
const (
	retainEvery = 24 * time.Hour
	retainSoon  = 10 * time.Minute
	retainRetry = time.Hour
)

// DrillName names the schedule of a drill in records.
func DrillName(d declaration.Drill) string { return d.Point + " " + d.Schedule }

// Next is what is to be done now for an environment, in a lane in which nothing is under way. If there is nothing, wake is when
// there may be something without a new record; zero for never. Quiet are runs that left no record.
func Next(lane Lane, name string, p *declaration.BackupPolicy, b *Backups, quiet map[string]Run, now time.Time) (job Job, due bool, wake time.Time) {
	q := &query{name: name, policy: p, b: b, quiet: quiet, now: now}
	steps := []func(){q.backup}
	if lane == Proving {
		steps = []func(){q.look, q.readable, q.replicate, q.retain, q.restorable, q.drills}
	}
	for _, step := range steps {
		if step(); q.due {
			return q.job, true, time.Time{}
		}
	}
	return Job{}, false, q.wake
}

// A query asks one lane.
type query struct {
	name   string
	policy *declaration.BackupPolicy
	b      *Backups
	quiet  map[string]Run
	now    time.Time

	job  Job
	due  bool
	wake time.Time
}

// newest leaves out what a clock that was wrong has made in the future.
func (q *query) newest(store string, fits func(Copy) bool) (Copy, bool) {
	return q.b.Newest(store, Until(q.now, fits))
}

// future says that a time is one of a clock that was wrong, or is.
func (q *query) future(t time.Time) bool { return t.After(q.now.Add(clockSkew)) }

// last is the last run of a job's kind. One of the future counts only if there is no other.
func (q *query) last(j Job) Run {
	recorded, quiet := q.b.Runs[j.Run()], q.quiet[j.Run()]
	recorded.Ended, quiet.Ended = latest(recorded.Begun, recorded.Ended), latest(quiet.Begun, quiet.Ended)
	switch {
	case q.future(quiet.Ended):
		return recorded
	case quiet.Ended.After(recorded.Ended), !quiet.Ended.IsZero() && q.future(recorded.Ended):
		return quiet
	}
	return recorded
}

// offer takes the job if its time has come.
func (q *query) offer(j Job, at time.Time) {
	switch {
	case q.due:
	case at.After(q.now):
		q.again(at)
	default:
		q.job, q.due = j, true
	}
}

func (q *query) again(at time.Time) {
	if !at.IsZero() && (q.wake.IsZero() || at.Before(q.wake)) {
		q.wake = at
	}
}

// scheduled offers a job if its schedule says so; a nil schedule never does.
func (q *query) scheduled(j Job, s *schedule.Schedule) {
	if s == nil || q.due {
		return
	}
	last := q.last(j)
	d := s.Decide(q.name, schedule.State{Begun: last.Begun, Ended: last.Ended, Failures: last.Failures}, q.now)
	if !d.Start {
		q.again(d.Wake)
		return
	}
	j.Reason, j.Slot, j.Missed = d.Reason, d.Slot, d.Missed
	q.offer(j, q.now)
}

// retried offers a job that has no schedule: at once, or some time after it failed.
func (q *query) retried(j Job) {
	last := q.last(j)
	at := q.now
	if last.Failures > 0 && !q.future(last.Ended) { // else nobody knows how long ago it failed
		at = last.Ended.Add(schedule.Backoff(last.Failures))
	}
	q.offer(j, at)
}

func (q *query) backup() {
	q.scheduled(Job{Task: TakeBackup, Store: q.policy.Spec.Store}, q.policy.Schedules.Backups)
}

// look has each new backup looked at once, and the newest ones by schedule.
func (q *query) look() {
	for _, store := range q.policy.Spec.Stores() {
		unseen := func(c Copy) bool { return c.Seen.IsZero() && c.Undamaged() }
		if c, found := q.newest(store, unseen); found {
			q.retried(Job{Task: Verify, Level: backup.L0, Store: store, ID: c.ID, Reason: "it is new"})
		}
		q.verification(backup.L0, store, q.policy.Schedules.L0)
	}
}

func (q *query) readable() {
	for _, store := range q.policy.Spec.Stores() {
		q.verification(backup.L1, store, q.policy.Schedules.L1)
	}
}

func (q *query) restorable() { q.verification(backup.L2, q.policy.Spec.Store, q.policy.Schedules.L2) }

// verification offers to verify the newest backup that is not known to be bad.
func (q *query) verification(level backup.Level, store string, s *schedule.Schedule) {
	if c, found := q.newest(store, Copy.Undamaged); found {
		q.scheduled(Job{Task: Verify, Level: level, Store: store, ID: c.ID}, s)
	}
}

// replicate offers to copy the newest backup that was found in its store to where it is not yet.
func (q *query) replicate() {
	c, found := q.newest(q.policy.Spec.Store, func(c Copy) bool { return !c.Seen.IsZero() && c.Undamaged() })
	if !found {
		return
	}
	for _, replica := range q.policy.Spec.Replicas {
		if _, there := q.b.Copy(c.ID, replica); !there {
			q.retried(Job{Task: Replicate, Store: replica, ID: c.ID, Reason: fmt.Sprintf("%s lacks the newest backup", replica)})
		}
	}
}

func (q *query) retain() {
	for _, store := range q.policy.Spec.Stores() {
		j := Job{Task: Retain, Store: store, Reason: "it is done once a day, and after something changed"}
		if _, open := q.b.Expiring[store]; open {
			j.Reason = "a deletion was broken off"
		}
		last := q.last(j)
		at := last.Ended.Add(retainEvery)
		there, changed := false, time.Time{}
		for _, c := range q.b.Copies {
			if c.Store != store {
				continue
			}
			there = true
			if at := latest(c.Made, c.Verified); !q.future(at) {
				changed = latest(changed, at)
			}
		}
		switch {
		case last.Ended.IsZero() && !there:
			continue // nothing was ever there
		case last.Ended.IsZero(), q.future(last.Ended):
			at = q.now
		case last.Failures > 0:
			at = last.Ended.Add(retainRetry)
		case changed.After(last.Begun):
			at = last.Ended.Add(retainSoon)
		}
		q.offer(j, at)
	}
}

func (q *query) drills() {
	if _, found := q.newest(q.policy.Spec.Store, Copy.Good); !found {
		return
	}
	for i, d := range q.policy.Spec.Drills {
		q.scheduled(Job{Task: Drill, Store: q.policy.Spec.Store, Drill: DrillName(d), Point: d.Point}, q.policy.Schedules.Drills[i])
	}
}

func latest(times ...time.Time) time.Time {
	var l time.Time
	for _, t := range times {
		if t.After(l) {
			l = t
		}
	}
	return l
}
