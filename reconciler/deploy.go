package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
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
		outcome, cause := evidence.OutcomeInterrupted, errUnrecorded
		if a.observation(env.Meta.Name).abandoned == i.Record {
			outcome, cause = evidence.OutcomeAbandoned, errUnseen
		}
		if err := a.recordOutcome(env.Meta.Name, state.Deployment, outcome, nil, cause); err != nil {
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
	return a.try(ctx, attempt{env: env, state: state, purpose: evidence.PurposeRelease, to: *state.Approved})
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
	case vetoed && !applied: // there was nothing live to go back to
		return Outcome{Kind: Stalled, Reason: fmt.Sprintf("the approved release was vetoed by %s: %s", veto.By, veto.Reason),
			Hint: "push another release, or purser lift " + env.Meta.Name}, true
	case hold != nil:
		return Outcome{Kind: Waiting, Reason: fmt.Sprintf("paused by %s: %s", hold.Person, hold.Reason), Hint: "purser resume " + env.Meta.Name}, true
	}
	return a.freeze(env, state)
}

// try makes an attempt and turns its error into an outcome. What a person must make possible is recorded.
func (a *Agent) try(ctx context.Context, t attempt) Outcome {
	name, now := t.env.Meta.Name, a.now()
	outcome, err := a.attempt(ctx, &t)
	if err == nil {
		a.note(name, func(o *observation) {
			if p := o.pause(t.purpose); p.left(t.to.Release, now) == 0 { // else it is that of other objects
				*p = pause{}
			}
		})
		return outcome
	}
	after := outcomeOf(err)
	after.Wrote = outcome.Wrote
	a.note(name, func(o *observation) {
		p := o.pause(t.purpose)
		*p = p.after(t.to.Release, after, t.failed, t.look.missing, t.longestPause(), a.now())
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
func (t attempt) longestPause() time.Duration {
	interval := t.env.Spec.Reconcile.Interval
	for _, entry := range t.stuck {
		if t.look.missing[entry.Ref.Key()] {
			return min(interval, retryLast)
		}
	}
	return interval
}

var (
	errUnrecorded = errors.New("the outcome could not be recorded when it was known")
	errUnseen     = errors.New("intent not seen in the audit remote: nothing was changed")
	errFrozen     = errors.New("a freeze began before the first change: nothing was changed")
)

// attempt is one try to make the cluster equal to a release, for a purpose.
type attempt struct {
	env     *declaration.Environment
	state   EnvironmentState
	purpose string
	to      Pointer    // what is approved, or for repair what is live
	look    inspection // of a repair: which objects; a release looks at all
	found   string     // of a repair: what a drift record says found the drift

	release *render.Release
	client  *apply.Client
	uid     string // of the cluster
	plan    *apply.Plan
	stuck   []apply.Entry   // of a repair: objects that cannot be restored before somebody changed them
	problem error           // of a repair: what keeps some objects from being planned
	failed  map[string]bool // keys of the objects that failed, where not all did
}

// deployment is the number of the deployment that the attempt belongs to. A release starts a new one.
func (t attempt) deployment() int {
	if t.purpose == evidence.PurposeRelease {
		return t.state.Deployment.Number + 1
	}
	return t.state.Deployment.Number
}

// attempt plans, records the intent, applies and records the outcome.
func (a *Agent) attempt(ctx context.Context, t *attempt) (Outcome, error) {
	if err := a.prepare(ctx, t); err != nil {
		return Outcome{}, err
	}
	if t.purpose == evidence.PurposeRepair {
		if needed, err := a.needsRepair(ctx, t); err != nil || !needed {
			return Outcome{}, errors.Join(err, t.problem)
		}
	}
	a.at("planned")
	intent, err := a.intend(ctx, *t)
	if err != nil {
		return Outcome{}, err
	}
	if outcome, late, err := a.late(t.env); late {
		return outcome, err
	}
	outcome, err := a.execute(ctx, t, intent)
	return outcome, errors.Join(err, t.problem)
}

// needsRepair records the drift that a comparison found, and narrows the plan to what may be repaired now. False when
// there is nothing to write.
func (a *Agent) needsRepair(ctx context.Context, t *attempt) (bool, error) {
	due, later, err := a.drift(t)
	a.note(t.env.Meta.Name, func(o *observation) { o.unrecorded = t.unrecorded(o.unrecorded, err != nil) })
	if err != nil {
		return false, err
	}
	compared := func() {
		if t.look.all() {
			a.compared(t)
		}
	}
	if policyOf(t.env) != declaration.DriftCorrect {
		compared()
		return false, nil
	}
	if len(later) > 0 { // somebody fights over these: they wait, the others do not wait with them
		compared()
		if len(due) == 0 {
			return false, nil
		}
		return true, a.plan(ctx, t, due)
	}
	if len(planItems(t.plan, t.state.Inventory)) == 0 {
		compared()
		return false, nil
	}
	return true, nil
}

// changed are the objects that differ from the release.
func (t *attempt) changed() []apply.Entry { return append(t.plan.Changed(), t.stuck...) }

// unrecorded is what is known to differ without a record after a comparison: what was before and was not compared, and
// if the record failed, what differs of the rest.
func (t *attempt) unrecorded(before map[string]bool, failed bool) map[string]bool {
	after := map[string]bool{}
	for key := range before {
		if !t.look.all() && !t.look.only[key] {
			after[key] = true
		}
	}
	if failed {
		for _, entry := range t.changed() {
			after[entry.Ref.Key()] = true
		}
	}
	return after
}

// compared notes that every object was compared. Health is looked at in the same visit.
func (a *Agent) compared(t *attempt) {
	a.note(t.env.Meta.Name, func(o *observation) { o.comparedAt, o.healthAt = a.now(), time.Time{} })
}

// prepare reads everything an attempt needs and plans it. Nothing is changed.
func (a *Agent) prepare(ctx context.Context, t *attempt) (err error) {
	cluster := a.clusters[t.env.Spec.Cluster]
	if t.release, err = a.release(ctx, t.env, t.to); err != nil {
		return fmt.Errorf("read the release: %w", err)
	}
	if err := samePlace(t); err != nil {
		return err
	}
	if t.uid, err = a.sameCluster(ctx, cluster); err != nil {
		return err
	}
	if t.client, err = cluster.Tenant(tenantOf(t.env)); err != nil {
		return err
	}
	cluster.cover(t.env, t.state.Inventory)
	err = a.plan(ctx, t, t.look.only)
	if err == nil || t.purpose != evidence.PurposeRepair || ctx.Err() != nil {
		return err
	}
	return a.planBeside(ctx, t, err)
}

// planBeside plans a repair again without the objects that could not be planned: one that is stuck, or fails just now,
// keeps none of the others from being restored.
func (a *Agent) planBeside(ctx context.Context, t *attempt, problem error) error {
	looked, changed := map[string]bool{}, map[string]bool{}
	t.stuck, t.problem, t.failed = t.plan.Stuck, problem, map[string]bool{}
	for _, entry := range t.plan.Entries {
		looked[entry.Ref.Key()] = true
		if entry.Action == apply.Created || entry.Action == apply.Configured {
			changed[entry.Ref.Key()] = true
		}
	}
	for _, entry := range t.stuck {
		looked[entry.Ref.Key()] = true
	}
	for _, item := range t.state.Inventory {
		if key := item.Ref.Key(); !looked[key] && (t.look.all() || t.look.only[key]) {
			t.failed[key] = true
		}
	}
	if t.look.all() && len(t.failed) == 0 {
		a.compared(t)
	}
	if len(changed)+len(t.stuck) == 0 {
		return problem
	}
	t.look.only = looked
	return a.plan(ctx, t, changed)
}

// plan compares the release with the cluster, as far as some objects go; nil is all of them.
func (a *Agent) plan(ctx context.Context, t *attempt, only map[string]bool) error {
	objects, err := a.decrypt.Decrypt(t.release.Objects)
	if err != nil {
		return &apply.StalledError{What: "decrypt the release: " + err.Error(), Hint: "check the agent's age key", Err: err}
	}
	limits := t.env.Spec.Prune
	if t.to.Deletes || restores(t.state, t.to.Release) { // a person let it, or the way back takes away whatever the failed release brought
		limits = declaration.Prune{MaxObjects: len(t.state.Inventory), MaxShare: 1}
	}
	t.plan, err = t.client.Plan(ctx, apply.Desired{
		Environment: t.env.Meta.Name,
		Namespace:   t.env.Spec.Namespace,
		Objects:     objects,
		Digests:     t.release.ObjectDigests,
		Inventory:   t.state.Inventory,
		Limits:      limits,
		// Repair and the way back go on beside a protected object that only a person may delete.
		KeepProtected: t.purpose == evidence.PurposeRepair || restores(t.state, t.to.Release),
		Trust:         t.purpose == evidence.PurposeRelease,
		Only:          only,
		Drifted:       driftedKeys(t.state.Drift),
		Owner:         a.ownerOn(t.env.Spec.Cluster),
	})
	return err
}

// samePlace refuses to apply a release where it was not made for, or to look for the inventory where it is not.
func samePlace(t *attempt) error {
	place := placeOf(t.env)
	if b := t.release.Binding; b.Cluster != place.Cluster || b.Namespace != place.Namespace {
		return &apply.StalledError{
			What: fmt.Sprintf("release %s was approved for namespace %q of cluster %q, and the environment is declared elsewhere now", t.to.Release, b.Namespace, b.Cluster),
			Hint: "push a commit that renders, so that a release for the new place can be approved",
		}
	}
	if len(t.state.Inventory) > 0 && t.state.Place != place {
		return &apply.StalledError{
			What: fmt.Sprintf("the environment owns %d objects in %s, and is declared in %s now", len(t.state.Inventory), t.state.Place, place),
			Hint: "declare it where its objects are; a second environment with a name of its own can be promoted to",
		}
	}
	return nil
}

// placeOf is where an environment is declared.
func placeOf(env *declaration.Environment) Place {
	return Place{Cluster: env.Spec.Cluster, Namespace: env.Spec.Namespace, Tenant: tenantOf(env)}
}

func tenantOf(env *declaration.Environment) string {
	if env.Spec.Tenant == "" {
		return declaration.DefaultTenant
	}
	return env.Spec.Tenant
}

// sameCluster gives the cluster's UID, unless the cluster behind the name is another than the one this log
// knows: what was healthy there says nothing here.
func (a *Agent) sameCluster(ctx context.Context, c *cluster) (string, error) {
	uid, err := c.UID(ctx)
	if err != nil {
		return "", err
	}
	known := ""
	a.journal.read(func(s *State) { known = s.ClusterUIDs[c.Name()] })
	if known != "" && known != uid {
		return "", &apply.StalledError{
			What: fmt.Sprintf("cluster %q is another cluster now: kube-system has UID %s, the records say %s", c.Name(), uid, known),
			Hint: "if it was rebuilt, declare it under a new name with environments of its own; if not, correct the agent's kubeconfig",
		}
	}
	return uid, nil
}

// intend records what is about to be done. A release's intent must be seen in the audit remote before the
// first change; repair restores what was approved and may go on while the remote is away.
func (a *Agent) intend(ctx context.Context, t attempt) (evidence.Record, error) {
	diff, err := json.Marshal(t.plan.Changed())
	if err != nil {
		return evidence.Record{}, fmt.Errorf("encode plan: %w", err)
	}
	name := t.env.Meta.Name
	var drift *uint64
	if t.purpose == evidence.PurposeRepair && len(t.state.Drift) > 0 {
		drift = &t.state.DriftRecord
	}
	intent, err := a.journal.record(evidence.Draft{
		Type: evidence.TypePlan, Environment: name, Deployment: t.deployment(),
		Subjects: []evidence.Subject{releaseSubject(name, t.release.Digest)},
		Predicate: evidence.Plan{
			Release: t.release.Digest, Revision: t.to.Revision, Purpose: t.purpose,
			Cluster: t.env.Spec.Cluster, Namespace: t.env.Spec.Namespace, Tenant: tenantOf(t.env), ClusterUID: t.uid, Attempt: t.state.Deployment.Repairs + 1,
			Summary: t.plan.Summary(), Items: planItems(t.plan, t.state.Inventory),
			Drift: drift,
		},
		Blobs: []evidence.Blob{{Name: "diff", Data: diff}},
	})
	if err != nil {
		return evidence.Record{}, err
	}
	if t.purpose == evidence.PurposeRepair {
		return intent, a.journal.durable(ctx, intent.Index)
	}
	if err := a.seen(ctx, name, intent.Index); err != nil {
		err = fmt.Errorf("%w: %w", errUnseen, err)
		a.note(name, func(o *observation) { o.abandoned = intent.Index })
		return intent, errors.Join(err, a.recordOutcome(name, a.journal.environment(name).Deployment, evidence.OutcomeAbandoned, nil, err))
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

// execute applies the plan and records what came of it, also when it was cut short.
func (a *Agent) execute(ctx context.Context, t *attempt, intent evidence.Record) (Outcome, error) {
	name := t.env.Meta.Name
	a.clusters[t.env.Spec.Cluster].cover(t.env, a.journal.environment(name).Inventory) // with what is about to be created
	a.at("intended")
	set, applyErr := t.client.Apply(ctx, t.plan)
	a.at("applied")
	outcome := evidence.OutcomeApplied
	if applyErr != nil {
		outcome = evidence.OutcomeFailed
	}
	if err := a.recordOutcome(name, a.journal.environment(name).Deployment, outcome, set, applyErr); err != nil {
		return Outcome{}, errors.Join(applyErr, err)
	}
	a.at("recorded")
	if applyErr != nil && t.purpose == evidence.PurposeRepair {
		t.failed = failedKeys(set, t.failed)
	}
	a.metrics.applied(name, t.purpose, outcome, set)
	a.note(name, func(o *observation) {
		o.healthAt = time.Time{}
		switch {
		case applyErr != nil:
			o.comparedAt = time.Time{} // nobody knows what is there
		case t.purpose == evidence.PurposeRepair && t.look.all() || o.comparedAt.IsZero(): // a release looks at everything that the watch does not vouch for
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
	a.logger.Info("applied", "environment", name, "deployment", intent.Deployment, "purpose", t.purpose, "outcome", outcome, "changes", t.plan.Summary())
	return Outcome{Kind: Applied, Wrote: applyErr != nil}, applyErr
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

// recordOutcome records the outcome of the open intent of a deployment.
func (a *Agent) recordOutcome(name string, d Deployment, outcome string, set apply.ChangeSet, cause error) error {
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
	_, err := a.journal.record(evidence.Draft{
		Type: evidence.TypeApply, Environment: name, Deployment: d.Number,
		Subjects: []evidence.Subject{releaseSubject(name, d.Intent.Release)}, Predicate: result,
	})
	return err
}

// block records, once, why an approved release cannot be planned without a person's help.
func (a *Agent) block(t attempt, cause error) {
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

// planItems lists what a plan changes, leaves for a reason, or finds as desired and not in the inventory yet.
func planItems(p *apply.Plan, owned apply.Inventory) []evidence.Item {
	digests := make(map[string]string, len(owned))
	for _, item := range owned {
		digests[item.Ref.Key()] = item.Digest
	}
	items := []evidence.Item{}
	for _, e := range p.Entries {
		if digest, known := digests[e.Ref.Key()]; e.Action == apply.Unchanged && known && digest == e.Digest {
			continue
		}
		items = append(items, evidence.Item{Ref: e.Ref, Action: e.Action, Digest: e.Digest, Reason: e.Reason})
	}
	return items
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
