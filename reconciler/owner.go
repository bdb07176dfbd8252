package reconciler

import (
	"maps"
	"slices"

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
