package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// ErrNoBackups says that an environment's backups are not the agent's to make.
var ErrNoBackups = errors.New("the environment has no backups")

// backups does what is due with the backups of all environments, and what people order. One loop says what is next; each job
// has a goroutine of its own, and each lane so many at a time as the configuration lets.
type backups struct {
	agent   *Agent
	site    *site.Site
	worker  *upkeep.Worker
	logger  *slog.Logger
	metrics *backupMetrics
	most    int           // jobs at a time, of each lane
	wake    chan struct{} // capacity 1: something changed

	mu      sync.Mutex
	stopped bool // no order is taken any more
	lanes   map[laneKey]*laneState
	quiet   map[string]map[string]upkeep.Run // by environment and [upkeep.Job.Run]: runs that left no record
	failed  map[string]map[string]problem    // the same: why the last run left none
	probes  map[string]*probe                // by store
}

type laneKey struct {
	environment string
	lane        upkeep.Lane
}

// laneState is one lane of one environment.
type laneState struct {
	running  upkeep.Task // "" while nothing is under way
	progress backup.Progress
	since    time.Time
	at       time.Time // when to ask again what is due
	orders   []*order  // of people, the first one first
}

// newBackups opens what the configuration names for backups. Nothing is connected to.
func newBackups(a *Agent) (*backups, error) {
	logger := a.logger.With("component", "backups")
	opened, err := site.Open(a.config.Backup, a.config.DataDir, a.now, logger)
	if err != nil {
		return nil, fmt.Errorf("open what backups need: %w", err)
	}
	b := &backups{
		agent: a, site: opened, logger: logger, most: a.config.Backup.Concurrency, wake: make(chan struct{}, 1),
		worker: &upkeep.Worker{Site: opened, Version: a.options.Version, Random: rand.IntN, Stall: a.options.Stall, Now: a.now, Logger: logger},
		lanes:  map[laneKey]*laneState{}, quiet: map[string]map[string]upkeep.Run{}, failed: map[string]map[string]problem{}, probes: map[string]*probe{},
	}
	b.metrics, err = newBackupMetrics(a.options.Registerer, b.views)
	return b, err
}

// signal has the loop look again.
func (b *backups) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// reconsider has everything asked again: the declarations changed.
func (b *backups) reconsider() {
	b.mu.Lock()
	for _, l := range b.lanes {
		l.at = time.Time{}
	}
	b.mu.Unlock()
	b.signal()
}

// run starts what is due until the context ends, and then waits for what is under way.
func (b *backups) run(ctx context.Context) error {
	var jobs sync.WaitGroup
	defer jobs.Wait()
	defer b.refuse()
	if len(b.agent.config.Backup.Databases) > 0 {
		b.worker.Sweep(ctx)
	}
	for {
		timer := time.NewTimer(b.start(ctx, &jobs))
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// ready is a job that could begin.
type ready struct {
	laneKey
	subject upkeep.Subject
	job     upkeep.Job
	order   *order    // nil: it is due by itself
	last    time.Time // end of the last run of what is due by itself; zero for never
}

// Bounds of how long the loop waits. A machine that was asleep, or a clock that was set, is noticed after the longer one.
const (
	waitLeast = time.Second
	waitMost  = time.Minute
)

// spoolFull is how many records may wait for the audit remote before no job is begun that could not be recorded.
const spoolFull = 2*spoolLimit - 100

// start starts as many jobs as may go on at a time, those first that were due first, and says how long to wait until something
// is due.
func (b *backups) start(ctx context.Context, jobs *sync.WaitGroup) time.Duration {
	now := b.agent.now()
	full := b.agent.journal.log.Status().Spooled >= spoolFull
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probe(ctx, jobs)
	if full {
		return waitMost // an alert tells
	}
	free := map[upkeep.Lane]int{}
	for _, lane := range upkeep.Lanes {
		free[lane] = b.most
	}
	for key, l := range b.lanes {
		if l.running != "" {
			free[key.lane]--
		}
	}
	list := b.ready(now)
	for _, r := range list {
		l := b.lanes[r.laneKey]
		if free[r.lane] <= 0 {
			continue // the end of a job signals
		}
		free[r.lane]--
		if r.order != nil {
			l.orders = l.orders[1:]
		}
		l.running, l.since, l.progress = r.job.Task, now, backup.Progress{}
		jobs.Go(func() {
			b.do(ctx, r)
			b.mu.Lock()
			l.running = ""
			for _, lane := range upkeep.Lanes { // what was done may make something due in the other
				b.lane(laneKey{r.environment, lane}).at = time.Time{}
			}
			b.mu.Unlock()
			b.signal()
		})
	}
	wait := waitMost
	for _, l := range b.lanes {
		if l.running == "" && l.at.After(now) {
			wait = min(wait, l.at.Sub(now))
		}
	}
	return max(wait, waitLeast)
}

// askAgain is after how long a lane is asked again at the latest, whatever it said.
const askAgain = time.Hour

// ready collects what could begin, orders first, then by the time that it was due at. The lock is held.
func (b *backups) ready(now time.Time) []ready {
	var list []ready
	known := map[string]bool{}
	for _, s := range b.subjects() {
		known[s.Environment] = true
		for _, lane := range upkeep.Lanes {
			key := laneKey{s.Environment, lane}
			l := b.lane(key)
			switch {
			case l.running != "":
			case len(l.orders) > 0:
				o := l.orders[0]
				s.For = o.release
				list = append(list, ready{laneKey: key, subject: s, job: o.job, order: o})
			case !l.at.After(now) || l.at.After(now.Add(askAgain)): // the clock may have been set back
				job, due, wake := upkeep.Next(lane, s.Environment, s.Policy, &s.Backups, b.quiet[s.Environment], now)
				if due {
					last := s.Backups.Runs[job.Run()].Ended
					if quiet := b.quiet[s.Environment][job.Run()].Ended; quiet.After(last) {
						last = quiet
					}
					list = append(list, ready{laneKey: key, subject: s, job: job, last: last})
				} else if l.at = wake; wake.IsZero() || wake.After(now.Add(askAgain)) {
					l.at = now.Add(askAgain)
				}
			}
		}
	}
	for key, l := range b.lanes {
		if !known[key.environment] { // it was declared when the order came
			l.refuse(fmt.Errorf("environment %q: %w", key.environment, ErrNoBackups))
		}
	}
	slices.SortStableFunc(list, func(x, y ready) int { return x.compare(y, now) })
	return list
}

// compare orders what could begin: orders first, then what was due first. Of what has no time of its own, such as what failed and
// is tried again, comes first what ran last the longest ago, so that what fails keeps nothing else from its turn.
func (r ready) compare(other ready, now time.Time) int {
	if (r.order != nil) != (other.order != nil) {
		return cmp.Compare(oneIf(other.order != nil), oneIf(r.order != nil))
	}
	return cmp.Or(r.since(now).Compare(other.since(now)), r.last.Compare(other.last))
}

// since is when the job was ordered, or due.
func (r ready) since(now time.Time) time.Time {
	switch {
	case r.order != nil:
		return r.order.at
	case r.job.Slot.IsZero():
		return now
	}
	return r.job.Slot
}

// forget drops what is remembered of an environment that is no longer declared.
func (b *backups) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.quiet, name)
	delete(b.failed, name)
}

func (b *backups) lane(key laneKey) *laneState {
	l := b.lanes[key]
	if l == nil {
		l = &laneState{}
		b.lanes[key] = l
	}
	return l
}

// subjects are the environments whose backups are the agent's to make, by name.
func (b *backups) subjects() []upkeep.Subject {
	l := b.agent.inForce()
	if l == nil {
		return nil
	}
	var list []upkeep.Subject
	for _, name := range slices.Sorted(maps.Keys(l.Environments)) {
		if s, err := b.subject(l, name); err == nil { // else an alert says why
			list = append(list, s)
		}
	}
	return list
}

// subject is an environment as its backups are concerned.
func (b *backups) subject(l *law, name string) (upkeep.Subject, error) {
	env := l.Environments[name]
	switch {
	case env == nil:
		return upkeep.Subject{}, fmt.Errorf("environment %q: %w", name, ErrNotDeclared)
	case env.Spec.Backup == "":
		return upkeep.Subject{}, fmt.Errorf("environment %q names no BackupPolicy: %w", name, ErrNoBackups)
	}
	policy := l.BackupPolicies[env.Spec.Backup]
	if policy == nil {
		return upkeep.Subject{}, fmt.Errorf("environment %q: BackupPolicy %q is not declared: %w", name, env.Spec.Backup, ErrNoBackups)
	}
	if err := b.reaches(name, policy); err != nil {
		return upkeep.Subject{}, err
	}
	state := b.agent.journal.environment(name)
	s := upkeep.Subject{Environment: name, Policy: policy, Governance: l.commit, Backups: state.Backups, Holds: state.held()}
	if state.Live != nil {
		s.Release = state.Live.Release
	}
	s.Settings = func(ctx context.Context) ([]byte, string, error) { return b.agent.settings(ctx, l, env) }
	return s, nil
}

// reaches reports what the configuration lacks for the backups of an environment. It opens nothing: what cannot be reached is a
// matter of the job that needs it.
func (b *backups) reaches(name string, policy *declaration.BackupPolicy) error {
	if _, configured := b.site.Database(name); !configured {
		return fmt.Errorf("%w: the agent's configuration names no database of environment %q", ErrNoBackups, name)
	}
	for _, store := range policy.Spec.Stores() {
		if !b.site.Names(store) {
			return fmt.Errorf("%w: the agent's configuration names no store %q", ErrNoBackups, store)
		}
	}
	return nil
}

// held are the releases whose backups are kept: those that run, may run, or ran last.
func (e *EnvironmentState) held() map[string]bool {
	held := map[string]bool{}
	for _, p := range []*Pointer{e.Proposed, e.Approved, e.Live, e.Previous} {
		if p != nil {
			held[p.Release] = true
		}
	}
	if e.Deployment.Release != "" {
		held[e.Deployment.Release] = true
	}
	return held
}
