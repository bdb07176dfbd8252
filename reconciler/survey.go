package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// survey is what a task finds: the release, the cluster, and what would have to change there. Nothing is changed by it.
type survey struct {
	release *render.Release
	client  *apply.Client
	uid     string // of the cluster
	plan    *apply.Plan
	looked  inspection // what was compared: what the task looks at, without what could not be planned

	stuck   []apply.Entry   // of a repair: objects that cannot be restored before somebody changed them
	failed  map[string]bool // of a repair: keys of the objects that could not be planned
	problem error           // of a repair: why not
}

// changed are the objects that differ from the release.
func (s survey) changed() []apply.Entry { return append(s.plan.Changed(), s.stuck...) }

// survey reads everything a task needs and plans it.
func (a *Agent) survey(ctx context.Context, t task) (s survey, err error) {
	cluster := a.clusters[t.env.Spec.Cluster]
	if s.release, err = a.release(ctx, t.env, t.to); err != nil {
		return s, fmt.Errorf("read the release: %w", err)
	}
	if err := samePlace(t, s.release); err != nil {
		return s, err
	}
	if s.uid, err = a.sameCluster(ctx, cluster); err != nil {
		return s, err
	}
	if s.client, err = cluster.Tenant(tenantOf(t.env)); err != nil {
		return s, err
	}
	cluster.cover(t.env, t.state.Inventory)
	s.looked = t.look
	s.plan, err = a.plan(ctx, t, s, t.look.only)
	if err == nil || s.plan == nil || t.purpose != evidence.PurposeRepair || ctx.Err() != nil {
		return s, err
	}
	return a.planBeside(ctx, t, s, err)
}

// planBeside plans a repair again without the objects that could not be planned: one that is stuck, or fails just now,
// keeps none of the others from being restored.
func (a *Agent) planBeside(ctx context.Context, t task, s survey, problem error) (survey, error) {
	looked, changed := map[string]bool{}, map[string]bool{}
	s.stuck, s.problem, s.failed = s.plan.Stuck, problem, map[string]bool{}
	for _, entry := range s.plan.Entries {
		looked[entry.Ref.Key()] = true
		if entry.Action == apply.Created || entry.Action == apply.Configured {
			changed[entry.Ref.Key()] = true
		}
	}
	for _, entry := range s.stuck {
		looked[entry.Ref.Key()] = true
	}
	for _, item := range t.state.Inventory {
		if key := item.Ref.Key(); !looked[key] && (t.look.all() || t.look.only[key]) {
			s.failed[key] = true
		}
	}
	if t.look.all() && len(s.failed) == 0 {
		a.compared(t.env)
	}
	if len(changed)+len(s.stuck) == 0 {
		return s, problem
	}
	s.looked.only = looked
	var err error
	s.plan, err = a.plan(ctx, t, s, changed)
	return s, err
}

// compared notes that every object was compared. Health is looked at in the same visit.
func (a *Agent) compared(env *declaration.Environment) {
	a.note(env.Meta.Name, func(o *observation) { o.comparedAt, o.healthAt = a.now(), time.Time{} })
}

// plan compares the release with the cluster, as far as some objects go; nil is all of them. With an error it may give
// what could be planned.
func (a *Agent) plan(ctx context.Context, t task, s survey, only map[string]bool) (*apply.Plan, error) {
	objects, err := a.decrypt.Decrypt(s.release.Objects)
	if err != nil {
		return nil, &apply.StalledError{What: "decrypt the release: " + err.Error(), Hint: "check the agent's age key", Err: err}
	}
	limits, back := t.env.Spec.Prune, restores(t.state, t.to.Release)
	if t.to.Deletes || back { // a person let it, or the way back takes away whatever the failed release brought
		limits = declaration.Prune{MaxObjects: len(t.state.Inventory), MaxShare: 1}
	}
	return s.client.Plan(ctx, apply.Desired{
		Environment: t.env.Meta.Name,
		Namespace:   t.env.Spec.Namespace,
		Objects:     objects,
		Digests:     s.release.ObjectDigests,
		Inventory:   t.state.Inventory,
		Limits:      limits,
		// Repair and the way back go on beside a protected object that only a person may delete.
		KeepProtected: t.purpose == evidence.PurposeRepair || back,
		Trust:         t.purpose == evidence.PurposeRelease,
		Only:          only,
		Drifted:       driftedKeys(t.state.Drift),
		Owner:         a.ownerFor(t.env),
		Formerly:      t.env.Spec.RenamedFrom,
	})
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
