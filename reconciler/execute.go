package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
)

// execute applies the plan and records what came of it, also when it was cut short.
func (a *Agent) execute(ctx context.Context, t task, s survey, plan *apply.Plan, intent evidence.Record) (o Outcome, failed map[string]bool, err error) {
	name := t.env.Meta.Name
	a.clusters[t.env.Spec.Cluster].cover(t.env, a.journal.environment(name).Inventory) // with what is about to be created
	a.at("intended")
	set, applyErr := s.client.Apply(ctx, plan)
	a.at("applied")
	outcome := evidence.OutcomeApplied
	if applyErr != nil {
		outcome = evidence.OutcomeFailed
	}
	if err := a.recordOutcome(name, outcome, set, applyErr); err != nil {
		return Outcome{}, s.failed, errors.Join(applyErr, err)
	}
	a.at("recorded")
	failed = s.failed
	if applyErr != nil && t.purpose == evidence.PurposeRepair {
		failed = failedKeys(set, s.failed)
	}
	a.metrics.applied(name, t.purpose, outcome, set)
	a.note(name, func(o *observation) {
		o.healthAt = time.Time{}
		switch {
		case applyErr != nil:
			o.comparedAt = time.Time{} // nobody knows what is there
		case t.purpose == evidence.PurposeRepair && s.looked.all() || o.comparedAt.IsZero(): // a release looks at everything that the watch does not vouch for
			o.comparedAt = a.now()
		}
	})
	a.metrics.drift(name, a.journal.environment(name).Drift)
	if applyErr == nil && t.purpose == evidence.PurposeRelease {
		a.mu.Lock()
		a.unclaim(name) // the inventory says it from now on
		a.mu.Unlock()
	}
	if givesUp(set) {
		a.wakeDenied(t.env)
	}
	a.logger.Info("applied", "environment", name, "deployment", intent.Deployment, "purpose", t.purpose, "outcome", outcome, "changes", plan.Summary())
	return Outcome{Kind: Applied, Wrote: applyErr != nil}, failed, applyErr
}

// failedKeys are the objects that were not brought to their desired state, with those that could not even be planned.
func failedKeys(set apply.ChangeSet, unplanned map[string]bool) map[string]bool {
	failed := maps.Clone(unplanned)
	if failed == nil {
		failed = map[string]bool{}
	}
	for _, c := range set {
		if c.Error != "" {
			failed[c.Ref.Key()] = true
		}
	}
	return failed
}

// givesUp reports whether a change set took something out of an inventory.
func givesUp(set apply.ChangeSet) bool {
	return slices.ContainsFunc(set, func(c apply.Change) bool { return c.Error == "" && (c.Action == apply.Deleted || c.Released) })
}

// recordOutcome records the outcome of the open intent of an environment.
func (a *Agent) recordOutcome(name, outcome string, set apply.ChangeSet, cause error) error {
	d := a.journal.environment(name).Deployment
	if d.Intent == nil {
		return fmt.Errorf("deployment %d of %q has no open intent", d.Number, name)
	}
	result := evidence.Apply{
		Plan: d.Intent.Record, Release: d.Intent.Release, Purpose: d.Intent.Purpose, Outcome: outcome,
		Summary: map[string]int{}, Items: []evidence.Item{},
	}
	for _, c := range set {
		result.Summary[c.Action]++
		if c.Action != apply.Unchanged || c.Error != "" {
			result.Items = append(result.Items, evidence.Item{
				Ref: c.Ref, Action: c.Action, Digest: c.Digest, Reason: c.Reason, Error: c.Error, Released: c.Released,
			})
		}
	}
	if cause != nil {
		result.Error = joinLines(messages(cause))
	}
	draft := ofRelease(evidence.TypeApply, name, d.Intent.Release, result)
	draft.Deployment = d.Number
	_, err := a.journal.record(draft)
	return err
}

// block records, once, why an approved release cannot be planned without a person's help.
func (a *Agent) block(t task, cause error) {
	if t.purpose == evidence.PurposeRepair {
		return // the status says it; records are about what is meant to change
	}
	r := evidence.Refused{
		Revision: t.to.Revision, Stage: evidence.StagePlan, Release: t.to.Release, Errors: messages(cause),
	}
	last := a.journal.environment(t.env.Meta.Name).Blocked
	if last != nil && last.Release != r.Release {
		last = nil
	}
	a.refuse(t.env.Meta.Name, last, r)
}

// wakeDenied wakes the environments of a cluster whose proposals were not allowed: one of them may have waited
// for an object that this environment gave up.
func (a *Agent) wakeDenied(env *declaration.Environment) {
	var denied []string
	a.journal.read(func(s *State) {
		for name, e := range s.Environments {
			if e.Verdict != nil && e.Verdict.Answer == policy.Deny {
				denied = append(denied, name)
			}
		}
	})
	for _, name := range denied {
		if e, _, ok := a.declared(name); ok && e.Spec.Cluster == env.Spec.Cluster {
			a.wake(name)
		}
	}
}
