package reconciler

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Health of what waits to be live is looked at often where nobody says that it changed, and of what is live at the
// interval, more often while it is not healthy. Where the watch says it, time alone is left to be looked at.
const (
	healthEvery  = time.Second
	unwellEvery  = 5 * healthEvery
	watchedEvery = 10 * healthEvery
)

// healthDue is how often the health of an environment is looked at, if nothing changes.
func healthDue(env *declaration.Environment, state *EnvironmentState, watched bool, now time.Time) time.Duration {
	d := state.Deployment
	every, last := env.Spec.Reconcile.Interval, watchedEvery
	switch {
	case d.Phase == PhaseApplied && now.Sub(d.AppliedAt) < env.Spec.Health.Timeout:
		every, last = healthEvery, min(watchedEvery, env.Spec.Health.Timeout-now.Sub(d.AppliedAt))
	case d.Phase == PhaseApplied || state.Health == nil || !wellEnough(health.Status(state.Health.To)):
		every = unwellEvery
	}
	switch {
	case !watched || len(env.Spec.Health.HTTP) > 0:
		return every
	case every == env.Spec.Reconcile.Interval:
		return 2 * every // never reached: the full comparison looks at it
	}
	return max(every, last)
}

// movedEvery is how often health is looked at while watched objects change: what waits to be live is in a hurry.
func movedEvery(p Phase) time.Duration {
	if p == PhaseApplied {
		return healthEvery / 5
	}
	return unwellEvery
}

// observe looks at the health of what is applied. A release that is fully applied and healthy becomes live; one
// that is not healthy in time stalls, and what was live before is still known.
func (a *Agent) observe(ctx context.Context, env *declaration.Environment) Outcome {
	name := env.Meta.Name
	state := a.journal.environment(name)
	d := state.Deployment
	if d.Phase != PhaseLive && (d.Phase != PhaseApplied || !state.Approved.is(d.Release)) {
		return Outcome{} // there is nothing, or nothing that could become live
	}
	watched := a.clusters[env.Spec.Cluster].watcher.Watches(name)
	every := healthDue(env, &state, watched, a.now())
	seen := a.observation(name)
	if seen.moved { // the watch says that something changed
		every = min(every, movedEvery(d.Phase))
	}
	if wait := remaining(seen.healthAt, a.now(), every); wait > 0 {
		outcome := a.judge(env, state, seen.report, every)
		outcome.After = wait
		return outcome
	}
	a.note(name, func(o *observation) { o.moved = false }) // what changes from here on is looked at again
	report, ran, err := a.report(ctx, env, state)
	if err != nil {
		a.note(name, func(o *observation) { o.moved = o.moved || seen.moved })
		return Outcome{Kind: Failed, Reason: fmt.Sprintf("read health: %v", err)}
	}
	if d.Phase == PhaseApplied && !wellEnough(report.Status) && a.now().Sub(d.AppliedAt) >= env.Spec.Health.Timeout {
		report.Status, report.Message = health.Degraded, fmt.Sprintf("not healthy %s after it was applied: %s", env.Spec.Health.Timeout, report.Message)
	}
	a.note(name, func(o *observation) { o.healthAt, o.report = a.now(), report })
	a.metrics.health(name, report)
	outcome := Outcome{}
	if err := a.recordHealth(name, state, report, ran); err != nil {
		outcome = Outcome{Kind: Failed, Reason: err.Error()}
	} else if d.Phase == PhaseApplied && wellEnough(report.Status) {
		outcome = a.goLive(ctx, env, state)
	} else {
		return a.judge(env, state, report, every)
	}
	if outcome.Kind == Failed { // it is no news yet: the next visit looks again, and fails visibly or not at all
		a.note(name, func(o *observation) { o.healthAt = time.Time{} })
	}
	return outcome
}

// judge says what a health report means for an environment that is not about to go live.
func (a *Agent) judge(env *declaration.Environment, state EnvironmentState, r health.Report, every time.Duration) Outcome {
	switch {
	case wellEnough(r.Status):
		return Outcome{}
	case state.Deployment.Phase == PhaseLive:
		return Outcome{Kind: Waiting, Reason: "live, and not healthy: " + r.Message, After: every}
	case a.now().Sub(state.Deployment.AppliedAt) < env.Spec.Health.Timeout:
		return Outcome{Kind: Waiting, Reason: "health: " + r.Message, After: every}
	}
	return Outcome{Kind: Stalled, Reason: r.Message,
		Hint: "push a release that works, or revert to the live one", After: every}
}

// wellEnough reports whether a release with this health may be live. Suspended objects are as declared.
func wellEnough(s health.Status) bool { return s == health.Healthy || s == health.Suspended }

// report asks the API server and the declared checks. Of kinds without a status it is enough to know that the
// objects exist, and of that the watch knows. ran are the images that are seen to run.
func (a *Agent) report(ctx context.Context, env *declaration.Environment, state EnvironmentState) (_ health.Report, ran []string, err error) {
	cluster := a.clusters[env.Spec.Cluster]
	client, err := cluster.Tenant(tenantOf(env))
	if err != nil {
		return health.Report{}, nil, err
	}
	missing := map[string]bool{}
	for _, ref := range cluster.watcher.Missing(env.Meta.Name) {
		missing[ref.Key()] = true
	}
	for _, d := range state.Drift {
		missing[d.Key()] = missing[d.Key()] || d.Action == apply.Created
	}
	var refs []render.Ref
	var objects []health.ObjectHealth
	for _, item := range state.Inventory {
		switch {
		case !health.Static(item.Ref):
			refs = append(refs, item.Ref)
		case missing[item.Ref.Key()]:
			objects = append(objects, health.Of(item.Ref, nil))
		default:
			objects = append(objects, health.ObjectHealth{Ref: item.Ref, Status: health.Healthy})
		}
	}
	live, err := client.Live(ctx, refs)
	if err != nil {
		return health.Report{}, nil, err
	}
	for i, ref := range refs {
		objects = append(objects, health.Of(ref, live[i]))
		if health.Ran(live[i]) {
			ran = append(ran, render.PodImages(live[i])...)
		}
	}
	checks := make([]health.CheckResult, len(env.Spec.Health.HTTP))
	var group errgroup.Group
	for i, c := range env.Spec.Health.HTTP {
		group.Go(func() error {
			checks[i] = health.HTTP(ctx, http.DefaultTransport, health.HTTPCheck(c))
			return nil
		})
	}
	_ = group.Wait() // a check reports its failure in its result
	return health.Aggregate(objects, checks), ran, nil
}

// recordHealth writes down a transition between states that last, and which images were seen to run for the first time.
// Progressing is on the way to a state that lasts.
func (a *Agent) recordHealth(name string, state EnvironmentState, r health.Report, ran []string) error {
	if r.Status == health.Progressing || r.Status == health.Unknown {
		return nil
	}
	release := state.Deployment.Release
	last := evidence.Health{}
	if state.Health != nil {
		last = *state.Health
	}
	known := 0
	if last.Release == release {
		known, ran = len(last.Ran), slices.Concat(last.Ran, ran)
	}
	slices.Sort(ran)
	ran = slices.Compact(ran)
	if last.Release == release && last.To == string(r.Status) && len(ran) == known {
		return nil
	}
	draft := ofRelease(evidence.TypeHealth, name, release, evidence.Health{
		Release: release, From: last.To, To: string(r.Status), Cause: string(r.Cause), Message: r.Message, Ran: ran,
	})
	draft.Deployment = state.Deployment.Number
	_, err := a.journal.record(draft)
	if err == nil {
		if r.Status == health.Healthy && state.Deployment.Phase == PhaseLive && state.Health != nil && last.To != string(r.Status) {
			a.metrics.restore.WithLabelValues(name).Observe(max(a.now().Sub(state.HealthAt), 0).Seconds())
		}
		a.wakeDependents(name)
	}
	return err
}

// goLive moves the live pointer, with the bytes of the release and of the one before.
func (a *Agent) goLive(ctx context.Context, env *declaration.Environment, state EnvironmentState) Outcome {
	name := env.Meta.Name
	approved := *state.Approved
	release, err := a.release(ctx, env, approved)
	if err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	kept, err := keep(name, keepLive, release)
	if err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	live := evidence.Live{
		Release: approved.Release, Revision: approved.Revision,
		LeadTime: max(a.now().Sub(approved.FirstAt), 0),
		Images:   approved.Images,
	}
	if state.Live != nil && state.Live.Release != approved.Release {
		live.Previous = state.Live.Release
		if previous, err := a.release(ctx, env, *state.Live); err == nil {
			if k, err := keep(name, keepPrevious, previous); err == nil {
				kept = append(kept, k...)
			}
		}
	}
	draft := ofRelease(evidence.TypeLive, name, approved.Release, live)
	draft.Deployment, draft.Keep = state.Deployment.Number, kept
	if _, err := a.journal.record(draft); err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	a.at("live")
	a.metrics.live(name, approved.Origin, live.LeadTime, a.now())
	a.logger.Info("live", "environment", name, "release", approved.Release, "lead time", live.LeadTime)
	a.wakeDependents(name)
	return Outcome{Kind: Applied}
}

// wakeDependents wakes the environments that wait for another one to be live and healthy, and itself: a gate may wait for
// that, too.
func (a *Agent) wakeDependents(name string) {
	for _, dependent := range a.environments(func(e *declaration.Environment) bool {
		return slices.Contains(e.Spec.DependsOn, name) || e.Spec.Promotion.From == name || e.Meta.Name == name
	}) {
		a.wake(dependent)
	}
}
