package reconciler

import "github.com/purser-gitops/purser/render"

// ownerOn says which declared environment owns an object of a cluster, as the records tell it, "" when none does.
func (a *Agent) ownerOn(cluster string) func(render.Ref) string {
	return func(ref render.Ref) string {
		name := ""
		a.journal.read(func(s *State) { name = s.owner(cluster, ref.Key()) })
		if _, _, declared := a.declared(name); !declared {
			return ""
		}
		return name
	}
}
