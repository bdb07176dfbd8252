package reconciler

import (
	"context"
	"fmt"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
)

// deploy makes the cluster run the approved release. Once that is applied, it repairs what
// drifted. While the approved release cannot be applied, what is live is repaired instead.
func (a *Agent) deploy(ctx context.Context, env *declaration.Environment) Outcome {
	state := a.journal.environment(env.Meta.Name)
	if state.Approved == nil {
		return Outcome{}
	}
	if i := state.Deployment.Intent; i != nil { // its outcome could not be recorded: the disk or the spool was full
		cause := errUnrecorded
		if a.observation(env.Meta.Name).abandoned == i.Record {
			cause = errUnseen
		}
		if err := a.closeIntent(env.Meta.Name, cause); err != nil {
			return Outcome{Kind: Failed, Reason: err.Error()}
		}
		state = a.journal.environment(env.Meta.Name)
	}
	outcome, held := a.holds(env, state)
	state = a.journal.environment(env.Meta.Name) // what is live may be approved again
	if state.applied() {
		return outcome.join(a.repair(ctx, env, state, *state.Approved))
	}
	d := state.Deployment
	if !held {
		outcome = outcome.join(a.advance(ctx, env, state))
	}
	after := a.journal.environment(env.Meta.Name)
	if after.Deployment.Number == d.Number && after.Live != nil && after.Target() == after.Live.Release {
		return outcome.join(a.repair(ctx, env, after, *after.Live)) // it did not come to an intent
	}
	return outcome
}

// advance tries to apply the approved release. After a failure only time or a wake-up call makes it try again, not any
// visit: the watch causes visits, too.
func (a *Agent) advance(ctx context.Context, env *declaration.Environment, state EnvironmentState) Outcome {
	seen := a.observation(env.Meta.Name)
	if left := seen.release.left(state.Approved.Release, a.now()); left > 0 {
		return seen.release.again(left)
	}
	switch log := a.journal.log.Status(); { // the log tries again by itself; an intent now would be abandoned
	case log.Err != nil:
		return Outcome{Kind: Waiting, Reason: "the audit remote takes no records: " + log.Err.Error(), After: recheck}
	case seen.abandoned >= log.Published && seen.abandoned > 0:
		return Outcome{Kind: Waiting, Reason: "the audit remote does not show the records yet that were made before", After: recheck}
	}
	return a.try(ctx, task{env: env, state: state, purpose: evidence.PurposeRelease, to: *state.Approved})
}

// holds says whether the approved release has to wait, and why: for a person, or for the end of a freeze. What is applied
// already waits for nobody.
func (a *Agent) holds(env *declaration.Environment, state EnvironmentState) (Outcome, bool) {
	applied := state.applied()
	hold := state.Hold
	if state.Approved.Origin == policy.OriginRollback {
		hold = nil
	}
	veto, vetoed := state.Vetoes[state.Approved.Release]
	switch {
	case applied && (env.Spec.Reconcile.Suspend || hold != nil):
		return Outcome{}, false
	case env.Spec.Reconcile.Suspend:
		return Outcome{Kind: Waiting, Reason: "suspended: an approved release is not applied"}, true
	case vetoed && !applied: // nothing was live to go back to, or a rollback left it
		return Outcome{Kind: Stalled, Reason: fmt.Sprintf("the approved release was vetoed by %s: %s", veto.By, veto.Reason),
			Hint: "push another release, or purser lift " + env.Meta.Name}, true
	case hold != nil:
		return Outcome{Kind: Waiting, Reason: fmt.Sprintf("paused by %s: %s", hold.Person, hold.Reason), Hint: "purser resume " + env.Meta.Name}, true
	}
	return a.freeze(env, state)
}
