package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// intend records what is about to be done. A release's intent must be seen in the audit remote before the
// first change; repair restores what was approved and may go on while the remote is away.
func (a *Agent) intend(ctx context.Context, t task, s survey, plan *apply.Plan) (evidence.Record, error) {
	diff, err := json.Marshal(plan.Changed())
	if err != nil {
		return evidence.Record{}, fmt.Errorf("encode plan: %w", err)
	}
	name := t.env.Meta.Name
	state := a.journal.environment(name) // with the drift that the survey found
	var drift *uint64
	if t.purpose == evidence.PurposeRepair && len(state.Drift) > 0 {
		drift = &state.DriftRecord
	}
	draft := ofRelease(evidence.TypePlan, name, s.release.Digest, evidence.Plan{
		Release: s.release.Digest, Revision: t.to.Revision, Purpose: t.purpose,
		Cluster: t.env.Spec.Cluster, Namespace: t.env.Spec.Namespace, Tenant: tenantOf(t.env), ClusterUID: s.uid, Attempt: state.Deployment.Repairs + 1,
		Summary: plan.Summary(), Items: planItems(plan, state.Inventory),
		Drift: drift,
	})
	draft.Deployment, draft.Blobs = t.deployment(), []evidence.Blob{{Name: "diff", Data: diff}}
	intent, err := a.journal.record(draft)
	if err != nil {
		return evidence.Record{}, err
	}
	if t.purpose == evidence.PurposeRepair {
		return intent, a.journal.durable(ctx, intent.Index)
	}
	if err := a.seen(ctx, name, intent.Index); err != nil {
		err = fmt.Errorf("%w: %w", errUnseen, err)
		a.note(name, func(o *observation) { o.abandoned = intent.Index })
		return intent, errors.Join(err, a.closeIntent(name, err))
	}
	return intent, nil
}

// publishTimeout is how long a release waits for its intent to be seen in the audit remote: one whole exchange with it,
// and what was under way before. Where the remote was heard to take no records, it waits for no more than publishGrace,
// which a few more tries fit in: while it waits, what is live is not repaired.
const (
	publishTimeout = 90 * time.Second
	publishGrace   = 3 * time.Second
)

// seen waits until the audit remote shows an intent.
func (a *Agent) seen(ctx context.Context, name string, intent uint64) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for {
		wait, stop := context.WithTimeout(ctx, publishGrace)
		err := a.journal.log.Published(wait, intent)
		late := wait.Err() != nil
		stop()
		if err == nil || !late || ctx.Err() != nil || a.journal.log.Status().Err != nil {
			return err
		}
		a.note(name, func(o *observation) {
			slow := Outcome{Kind: Waiting, Reason: "the audit remote does not show the intent yet"}
			if o.outcome.Reason != slow.Reason {
				o.outcome, o.since = slow, a.now()
			}
		})
	}
}

// Why an intent ended without its attempt having come to an outcome.
var (
	errInterrupted = errors.New("the agent ended before it knew the outcome")
	errUnrecorded  = errors.New("the outcome could not be recorded when it was known")
	errUnseen      = errors.New("intent not seen in the audit remote: nothing was changed")
	errFrozen      = errors.New("a freeze began before the first change: nothing was changed")
)

// closeIntent records the outcome of an open intent of which none is known: abandoned, where nothing was changed, else
// interrupted, for some of it may have happened.
func (a *Agent) closeIntent(name string, cause error) error {
	outcome := evidence.OutcomeInterrupted
	if errors.Is(cause, errUnseen) || errors.Is(cause, errFrozen) {
		outcome = evidence.OutcomeAbandoned
	}
	return a.recordOutcome(name, outcome, nil, cause)
}
