package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// task is what an attempt is made for: an environment equal to a release.
type task struct {
	env     *declaration.Environment
	state   EnvironmentState // when it began
	purpose string           // release or repair
	to      Pointer          // what is approved, or for repair what is live
	look    inspection       // of a repair: which objects; a release looks at all
}

// result is what an attempt came to, also where it failed.
type result struct {
	outcome Outcome
	failed  map[string]bool // keys of the objects that failed, where not all did
	stuck   []apply.Entry   // objects that cannot be restored before somebody changed them
}

// attempt surveys, records the intent, applies and records the outcome.
func (a *Agent) attempt(ctx context.Context, t task) (result, error) {
	s, err := a.survey(ctx, t)
	r := result{failed: s.failed, stuck: s.stuck}
	if err != nil {
		return r, err
	}
	plan := s.plan
	if t.purpose == evidence.PurposeRepair {
		if plan, err = a.planRepair(ctx, t, s); err != nil || plan == nil {
			return r, errors.Join(err, s.problem)
		}
	}
	if err := a.behind(t, plan); err != nil {
		return r, err
	}
	a.at("planned")
	intent, err := a.intend(ctx, t, s, plan)
	if err != nil {
		return r, err
	}
	if outcome, late, err := a.late(t.env); late {
		r.outcome = outcome
		return r, err
	}
	r.outcome, r.failed, err = a.execute(ctx, t, s, plan, intent)
	return r, errors.Join(err, s.problem)
}

// try makes an attempt and turns its error into an outcome. What a person must make possible is recorded.
func (a *Agent) try(ctx context.Context, t task) Outcome {
	name, now := t.env.Meta.Name, a.now()
	r, err := a.attempt(ctx, t)
	if err == nil {
		a.note(name, func(o *observation) {
			if p := o.pause(t.purpose); p.left(t.to.Release, now) == 0 { // else it is that of other objects
				*p = pause{}
			}
		})
		return r.outcome
	}
	after := outcomeOf(err)
	after.Wrote = r.outcome.Wrote
	a.note(name, func(o *observation) {
		p := o.pause(t.purpose)
		*p = p.after(t.to.Release, after, r.failed, t.look.missing, t.longestPause(r.stuck), a.now())
	})
	if after.Kind == Stalled {
		a.block(t, err)
	}
	return after
}

// pause is that of a purpose.
func (o *observation) pause(purpose string) *pause {
	if purpose == evidence.PurposeRepair {
		return &o.repair
	}
	return &o.release
}

// longestPause is the longest pause after an attempt that needs a person. An object that is stuck without our label is
// out of the watch's sight, so nobody will say that it changed.
func (t task) longestPause(stuck []apply.Entry) time.Duration {
	interval := t.env.Spec.Reconcile.Interval
	for _, entry := range stuck {
		if t.look.missing[entry.Ref.Key()] {
			return min(interval, retryLast)
		}
	}
	return interval
}

// deployment is the number of the deployment that the attempt belongs to. A release starts a new one.
func (t task) deployment() int {
	if t.purpose == evidence.PurposeRelease {
		return t.state.Deployment.Number + 1
	}
	return t.state.Deployment.Number
}
