package reconciler

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// ownerFor says whose an object is, as the records tell it and an environment is declared, "" when no inventory holds it. What
// is left of an environment that is declared no more stays its own; only the one that has its name from it inherits that.
func (a *Agent) ownerFor(env *declaration.Environment) func(render.Ref) string {
	return func(ref render.Ref) string {
		owner := ""
		a.journal.read(func(s *State) { owner = s.owner(env.Spec.Cluster, ref.Key()) })
		if _, _, declared := a.declared(owner); owner != "" && !declared && owner == env.Spec.RenamedFrom {
			return env.Meta.Name
		}
		return owner
	}
}

// leftovers are the environments of a cluster that own objects and are declared no more.
func (a *Agent) leftovers(cluster string, set *declaration.Set) []policy.Leftover {
	var left []policy.Leftover
	a.journal.read(func(s *State) {
		for _, name := range slices.Sorted(maps.Keys(s.Environments)) {
			if e := s.Environments[name]; set.Environments[name] == nil && len(e.Inventory) > 0 && e.Place.Cluster == cluster {
				left = append(left, policy.Leftover{Environment: name, Namespace: e.Place.Namespace})
			}
		}
	})
	return left
}

// watchLeftovers looks from time to time at what is left of environments that are declared no more: what a person deleted is
// nobody's any more, so that it neither alerts nor denies anything to others.
func (a *Agent) watchLeftovers(ctx context.Context) error {
	ticker := time.NewTicker(cmp.Or(a.options.Leftovers, time.Minute))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		law := a.inForce()
		if law == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(a.clusters)) {
			for _, left := range a.leftovers(name, law.Set) {
				if err := a.dropGone(ctx, a.clusters[name], left.Environment); err != nil && ctx.Err() == nil {
					a.logger.Warn("what is left of an environment cannot be read; it stays its own", "environment", left.Environment, "error", err)
				}
			}
		}
		if law := a.inForce(); law != nil {
			a.metrics.orphans(a.orphans(law.Set))
		}
	}
}

// leftoversTimeout bounds one look at what is left of an environment.
const leftoversTimeout = 30 * time.Second

// dropGone records which objects of an environment that is declared no more do not exist any more. An answer of another cluster,
// a refusal and an error say nothing about any of them.
func (a *Agent) dropGone(ctx context.Context, c *cluster, name string) error {
	ctx, cancel := context.WithTimeout(ctx, leftoversTimeout)
	defer cancel()
	if !a.take(name) { // its last visit is not over
		return nil
	}
	defer a.leave(name)
	if _, _, declared := a.declared(name); declared {
		return nil
	}
	state := a.journal.environment(name)
	if state.Deployment.Intent != nil {
		return nil // it may still create something
	}
	if _, err := a.sameCluster(ctx, c); err != nil {
		return err
	}
	client, err := c.Tenant(state.Place.Tenant)
	if err != nil {
		return err
	}
	refs := make([]render.Ref, len(state.Inventory))
	for i, item := range state.Inventory {
		refs[i] = item.Ref
	}
	live, err := client.Live(ctx, refs)
	if err != nil {
		return err
	}
	var gone []render.Ref
	for i, ref := range refs {
		if live[i] == nil {
			gone = append(gone, ref)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	_, err = a.journal.record(evidence.Draft{Type: evidence.TypeGone, Environment: name, Predicate: evidence.Gone{Objects: gone}})
	if err == nil {
		a.logger.Info("objects of an environment that is declared no more are gone", "environment", name, "objects", len(gone))
		a.wakeAll() // others may have them, or their namespace
	}
	return err
}

// foldGone takes what does not exist any more out of the inventory of an environment that is declared no more.
func foldGone(s *State, r evidence.Record, p evidence.Gone) {
	set := make(apply.ChangeSet, len(p.Objects))
	for i, ref := range p.Objects {
		set[i] = apply.Change{Ref: ref, Action: apply.Deleted}
	}
	s.merge(r.Environment, set)
}
