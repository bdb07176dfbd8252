package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// Retention is a plan for one store, and what is to be recorded of it.
type Retention struct {
	Plan   backup.RetentionPlan
	Record evidence.Retention // its phase is that of a plan if something is to be deleted

	store   site.Store
	expirer site.Deleter // nil: nobody deletes
}

// ErrNoExpirer says that the configuration has no identity that may delete.
var ErrNoExpirer = errors.New("nothing is deleted: the agent's configuration has no credentials for it (expiry)")

// PlanRetention says what is kept in a store and why, and finishes first what was broken off.
func (w *Worker) PlanRetention(ctx context.Context, s Subject, j Job) (*Retention, error) {
	in, err := w.Site.Store(j.Store)
	if err != nil {
		return nil, err
	}
	keep, err := s.keep()
	if err != nil {
		return nil, err
	}
	r := &Retention{store: in}
	r.expirer, _ = w.Site.Expirer(j.Store)
	inv, err := backup.Survey(ctx, in, s.Environment, s.records(j.Store))
	if err != nil {
		return nil, err
	}
	there, err := in.Now(ctx)
	if err != nil {
		return nil, err
	}
	r.Plan = keep.Decide(inv, backup.Clocks{Here: w.Now(), Store: there})
	r.Record = evidence.Retention{Cause: s.cause(j), Store: j.Store, Phase: evidence.RetentionDone, At: r.Plan.At,
		Blocked: slices.Concat(r.Plan.Blocked, r.Plan.Held)}
	for _, d := range r.Plan.Decisions {
		if d.Keep {
			r.Record.Kept++
		}
	}
	if len(r.Plan.Expire) > 0 && r.expirer == nil {
		r.Plan.Expire, r.Record.Blocked = nil, append(r.Record.Blocked, ErrNoExpirer.Error())
	}
	if len(r.Plan.Expire) > 0 {
		r.Record.Phase, r.Record.Expire = evidence.RetentionPlanned, r.Plan.Expire
	}
	return r, nil
}

// Retained says what becomes of the backups in a store, as far as the records tell: neither the store nor its clock is asked, and
// nothing may be deleted for it.
func (s Subject) Retained(in string, now time.Time) ([]backup.Decision, error) {
	keep, err := s.keep()
	if err != nil {
		return nil, err
	}
	inv := backup.Inventory{Environment: s.Environment}
	for _, r := range s.records(in) {
		manifest := r.Manifest
		if until, extended := r.Locks[manifest.Key]; extended {
			manifest.LockedUntil = until
		}
		inv.Backups = append(inv.Backups, backup.Candidate{
			ID: r.ID, Recorded: true, Objects: []store.Object{manifest}, Verified: r.Verified, Failed: r.Failed, Holds: r.Holds,
		})
	}
	return keep.Decide(inv, backup.Clocks{Here: now, Store: now}).Decisions, nil
}

// Idle says that there is nothing to do, and nothing to say that is not recorded already.
func (r *Retention) Idle(b *Backups) bool {
	blocked := ""
	if len(r.Record.Blocked) > 0 {
		blocked = r.Record.Blocked[0]
	}
	return len(r.Plan.Expire)+len(r.Plan.Extend) == 0 && blocked == b.Blocked[r.Record.Store]
}

// CarryOut extends locks and deletes, and returns what is to be recorded of that. A plan that deletes was recorded at the index.
func (w *Worker) CarryOut(ctx context.Context, r *Retention, plan *uint64) evidence.Retention {
	done := r.Record
	done.Phase, done.Expire, done.Plan = evidence.RetentionDone, nil, plan
	extended, err := backup.ExtendLocks(ctx, r.store, r.Plan)
	done.Extended = extended
	if r.expirer != nil && len(r.Plan.Expire) > 0 {
		deleted, failed := backup.Expire(ctx, r.expirer, r.Plan, w.Now())
		done.Deleted, err = deleted, errors.Join(err, failed)
	}
	if err != nil {
		done.Error = backup.Short(err.Error())
	}
	return done
}

// Resume finishes a plan whose outcome is not recorded: of each backup whose manifest is gone already, the rest is deleted.
// Those that are still whole are left for another plan: what the plan rested on may have changed. So are packs; those that are
// gone belong to what was deleted.
func (w *Worker) Resume(ctx context.Context, s Subject, j Job) (evidence.Retention, error) {
	pending := s.Backups.Expiring[j.Store]
	done := evidence.Retention{Cause: s.cause(j), Store: j.Store, Phase: evidence.RetentionDone, At: w.Now().UTC(), Plan: &pending.Record}
	in, err := w.Site.Store(j.Store)
	if err != nil {
		return done, err
	}
	expirer, _ := w.Site.Expirer(j.Store)
	plan := backup.RetentionPlan{Environment: s.Environment, At: w.Now()}
	var packs []store.Object // that are gone
	for _, e := range pending.Expire {
		look := e.Objects
		if e.ID != "" {
			look = look[:min(len(look), 1)] // its manifest
		}
		for _, o := range look {
			_, err := in.Stat(ctx, o)
			switch {
			case err == nil, errors.Is(err, store.ErrChanged):
			case !errors.Is(err, store.ErrMissing):
				return done, fmt.Errorf("look what a deletion has left: %w", err)
			case e.ID == "":
				packs = append(packs, o)
			default:
				plan.Expire = append(plan.Expire, e)
			}
		}
	}
	if len(plan.Expire) > 0 && expirer == nil {
		return done, ErrNoExpirer
	}
	if expirer != nil {
		done.Deleted, err = backup.Expire(ctx, expirer, plan, w.Now())
		if err != nil {
			return done, err // it is tried again
		}
	}
	done.Deleted = append(done.Deleted, packs...)
	return done, nil
}
