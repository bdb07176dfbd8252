package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// do does one job, records what became of it, and answers the order that it is for.
func (b *backups) do(ctx context.Context, r ready) {
	if r.order != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(r.order.ctx, stop)()
	}
	began := b.agent.now()
	records, err := b.carry(ctx, r)
	if ended := ctx.Err() != nil && err != nil; !ended { // else it is due again when the agent starts, or was given up by who ordered it
		b.note(r, began, len(records), err)
		if err != nil {
			b.logger.Error("job not done", "environment", r.environment, "task", r.job.Task, "store", r.job.Store, "error", err)
		}
	}
	if r.order != nil {
		r.order.done <- ending{records, err}
	}
	b.agent.visitSoon(r.environment, func(*observation) {}) // its gates may answer otherwise now
}

// note remembers runs that left no record.
func (b *backups) note(r ready, began time.Time, records int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	run := r.job.Run()
	if b.quiet[r.environment] == nil {
		b.quiet[r.environment], b.failed[r.environment] = map[string]upkeep.Run{}, map[string]problem{}
	}
	if err == nil {
		delete(b.failed[r.environment], run)
		if records > 0 {
			delete(b.quiet[r.environment], run) // the record tells
			return
		}
	}
	next := upkeep.Run{Begun: began, Ended: b.agent.now()}
	if err != nil {
		next.Failures = b.quiet[r.environment][run].Failures + 1
		was := b.failed[r.environment][run]
		if was.err == nil {
			was.since = began
		}
		b.failed[r.environment][run] = problem{err: err, since: was.since}
	}
	b.quiet[r.environment][run] = next
}

// carry does a job and returns what was recorded of it.
func (b *backups) carry(ctx context.Context, r ready) ([]evidence.Record, error) {
	progress := func(p backup.Progress) {
		b.mu.Lock()
		b.lanes[r.laneKey].progress = p
		b.mu.Unlock()
		if r.order != nil && r.order.progress != nil {
			r.order.progress(r.job.Task, p)
		}
	}
	kind, predicate, err := "", any(nil), error(nil)
	switch r.job.Task {
	case upkeep.TakeBackup:
		kind = evidence.TypeBackup
		predicate, err = b.worker.Take(ctx, r.subject, r.job, progress)
	case upkeep.Verify:
		kind = evidence.TypeVerification
		predicate, err = b.worker.Verify(ctx, r.subject, r.job, progress)
	case upkeep.Drill:
		kind = evidence.TypeRestoreTest
		predicate, err = b.worker.Drill(ctx, r.subject, r.job, progress)
	case upkeep.Replicate:
		kind = evidence.TypeReplication
		predicate, err = b.worker.Replicate(ctx, r.subject, r.job, progress)
	case upkeep.Retain:
		return b.retain(ctx, r)
	default:
		return nil, fmt.Errorf("unknown task %q", r.job.Task)
	}
	if err != nil {
		return nil, err
	}
	record, err := b.record(evidence.Draft{Type: kind, Environment: r.environment, Predicate: predicate})
	if err != nil {
		return nil, err
	}
	b.metrics.recorded(r.environment, predicate)
	return []evidence.Record{record}, nil
}

func (b *backups) record(d evidence.Draft) (evidence.Record, error) {
	r, err := b.agent.journal.record(d)
	if err == nil {
		b.logger.Info(r.Type, "environment", r.Environment, "what", r.Summary())
	}
	return r, err
}

// deletionSeen bounds how long a deletion waits for the audit remote to show the plan.
const deletionSeen = 90 * time.Second

var errDeletionUnseen = errors.New("the audit remote does not show the plan: nothing was deleted")

// retain finishes a deletion that was broken off, and carries out a new plan. What would be deleted is seen in the audit
// remote before it is.
func (b *backups) retain(ctx context.Context, r ready) ([]evidence.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, r.subject.Policy.Spec.Deadline)
	defer cancel()
	var records []evidence.Record
	record := func(p evidence.Retention, plan backup.RetentionPlan) (evidence.Record, error) {
		draft := evidence.Draft{Type: evidence.TypeRetention, Environment: r.environment, Predicate: p}
		if p.Phase == evidence.RetentionPlanned || p.Plan == nil {
			data, err := json.Marshal(plan)
			if err != nil {
				return evidence.Record{}, fmt.Errorf("encode plan: %w", err)
			}
			draft.Blobs = []evidence.Blob{{Name: "plan", Data: data}}
		}
		rec, err := b.record(draft)
		if err == nil {
			records = append(records, rec)
			b.metrics.recorded(r.environment, p)
		}
		return rec, err
	}
	if _, open := r.subject.Backups.Expiring[r.job.Store]; open {
		done, err := b.worker.Resume(ctx, r.subject, r.job)
		if err != nil {
			return nil, err
		}
		if _, err := record(done, backup.RetentionPlan{}); err != nil {
			return records, err
		}
		r.subject.Backups = b.agent.journal.environment(r.environment).Backups
	}
	plan, err := b.worker.PlanRetention(ctx, r.subject, r.job)
	if err != nil {
		return records, err
	}
	if plan.Idle(&r.subject.Backups) {
		return records, nil
	}
	if plan.Record.Phase != evidence.RetentionPlanned {
		return records, b.carryOut(ctx, plan, nil, record)
	}
	rec, err := record(plan.Record, plan.Plan)
	if err != nil {
		return records, err
	}
	if err := b.mayDelete(ctx, r, rec.Index); err != nil {
		undone := plan.Record
		undone.Phase, undone.Expire, undone.Plan, undone.Error = evidence.RetentionDone, nil, &rec.Index, err.Error()
		_, failed := record(undone, plan.Plan)
		return records, errors.Join(err, failed)
	}
	return records, b.carryOut(ctx, plan, &rec.Index, record)
}

// mayDelete waits until the audit remote shows the plan, and reports what changed since it was made.
func (b *backups) mayDelete(ctx context.Context, r ready, plan uint64) error {
	seen, cancel := context.WithTimeout(ctx, deletionSeen)
	defer cancel()
	if err := b.agent.journal.log.Published(seen, plan); err != nil {
		return fmt.Errorf("%w: %w", errDeletionUnseen, err)
	}
	state := b.agent.journal.environment(r.environment)
	if !maps.Equal(state.held(), r.subject.Holds) {
		return errors.New("other releases run or may run than when the plan was made: nothing was deleted")
	}
	return nil
}

// carryOut does what was planned, and records it.
func (b *backups) carryOut(ctx context.Context, plan *upkeep.Retention, index *uint64, record func(evidence.Retention, backup.RetentionPlan) (evidence.Record, error)) error {
	done := b.worker.CarryOut(ctx, plan, index)
	if _, err := record(done, plan.Plan); err != nil {
		return err
	}
	if done.Error != "" {
		return errors.New(done.Error)
	}
	return nil
}

// settings are what was declared and deployed when a backup is made.
func (a *Agent) settings(ctx context.Context, l *law, env *declaration.Environment) ([]byte, string, error) {
	state := a.journal.environment(env.Meta.Name)
	s := struct {
		Governance  string                      `json:"governance"`
		Environment declaration.EnvironmentSpec `json:"environment"`
		Live        *Pointer                    `json:"live,omitempty"`
		Release     json.RawMessage             `json:"release,omitempty"` // as keep refs have it
	}{Governance: l.commit, Environment: env.Spec, Live: state.Live}
	if state.Live != nil {
		release, err := a.release(ctx, env, *state.Live)
		if err != nil {
			return nil, "", err
		}
		if s.Release, err = release.Encode(); err != nil {
			return nil, "", err
		}
	}
	data, err := json.Marshal(s)
	return data, "application/json", err
}
