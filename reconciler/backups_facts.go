package reconciler

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// probe is what a store said last when it was asked whether backups can be written.
type probe struct {
	policy.Probe
	running bool
	wanted  map[string]bool // environments that wait for it
}

// How long what a store said counts as new, and how long it may take to say it.
const (
	probeEvery   = time.Minute
	probeTimeout = time.Minute
)

// facts are what the gates are told of an environment's backups. A release that migrates has the store asked whether it takes
// a backup now; until it has answered, that is unknown.
func (b *backups) facts(l *law, env *declaration.Environment, migrates bool) *policy.Backup {
	f := &policy.Backup{Policy: env.Spec.Backup}
	s, err := b.subject(l, env.Meta.Name)
	if err != nil {
		f.Problem = err.Error()
		return f
	}
	spec := s.Policy.Spec
	database, _ := b.site.Database(env.Meta.Name)
	f.In, f.Of, f.RPO, f.RTO = spec.Store, database.Address(), spec.RPO, spec.RTO
	tell(f, &s.Backups, b.agent.now())
	if migrates {
		f.Store = b.probed(spec.Store, env.Meta.Name)
	}
	return f
}

// tell sets what the records say of the backups in the policy's store, and of drills. What was proven of another database proves
// nothing of this one.
func tell(f *policy.Backup, b *upkeep.Backups, now time.Time) {
	f.Newest, f.Failed, f.Drill = nil, nil, nil
	if c, found := b.Newest(f.In, upkeep.Of(f.Of, upkeep.Until(now, upkeep.Copy.Good))); found {
		f.Newest = point(c)
	}
	if c, found := b.Newest(f.In, upkeep.Of(f.Of, upkeep.Until(now, func(c upkeep.Copy) bool { return !c.Undamaged() }))); found {
		if p := point(c); f.Newest == nil || p.Snapshot.After(f.Newest.Snapshot) {
			f.Failed = p
		}
	}
	if d := b.Drilled; d != nil && b.DrilledOf == f.Of {
		f.Drill = &policy.Drill{ID: string(d.ID), At: d.Ended, Passed: d.Passed, RPO: d.RPO, RTO: d.RTO, Record: b.DrilledAs}
		if !d.Passed {
			f.Drill.Problem = d.Why()
		}
	}
}

// holds reports whether the records still say what the gates were told.
func holds(told *policy.Backup, b *upkeep.Backups, now time.Time) bool {
	again := *told
	tell(&again, b, now)
	return reflect.DeepEqual(again, *told)
}

func point(c upkeep.Copy) *policy.BackupPoint {
	return &policy.BackupPoint{
		ID: string(c.ID), Snapshot: c.Snapshot, Verified: c.Verified, Level: string(c.Level), Problem: c.Problem, Record: c.Looked,
	}
}

// probed is what the store said last, if that is new; else it is asked, and the environment is visited once it has answered.
func (b *backups) probed(store, environment string) *policy.Probe {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.probes[store]
	if p == nil {
		p = &probe{}
		b.probes[store] = p
	}
	if age := b.agent.now().Sub(p.At); age < 0 || age > probeEvery {
		if p.wanted == nil {
			p.wanted = map[string]bool{}
		}
		p.wanted[environment] = true
		b.signal()
	}
	if p.At.IsZero() {
		return nil
	}
	said := p.Probe
	return &said
}

// asks reports whether a store is being asked, or about to be, for an environment.
func (b *backups) asks(environment string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.probes {
		if p.wanted[environment] {
			return true
		}
	}
	return false
}

// probe asks the stores that somebody waits for. The lock is held.
func (b *backups) probe(ctx context.Context, jobs *sync.WaitGroup) {
	for store, p := range b.probes {
		if len(p.wanted) == 0 || p.running {
			continue
		}
		p.running = true
		jobs.Go(func() { b.ask(ctx, store, p) })
	}
}

// ask asks a store, and has those visited that wait for its answer.
func (b *backups) ask(ctx context.Context, store string, p *probe) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	in, err := b.site.Store(store)
	if err == nil {
		err = in.Probe(ctx)
	}
	said := policy.Probe{At: b.agent.now()}
	if err != nil {
		said.Problem = backup.Short(err.Error())
	}
	b.mu.Lock()
	wanted := p.wanted
	p.Probe, p.running, p.wanted = said, false, nil
	b.mu.Unlock()
	for environment := range wanted {
		b.agent.visitSoon(environment, func(*observation) {})
	}
}
