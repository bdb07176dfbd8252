package reconciler

import (
	"context"
	"fmt"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// samePlace refuses to apply a release where it was not made for, or to look for the inventory where it is not.
func samePlace(t task, release *render.Release) error {
	place := placeOf(t.env)
	if b := release.Binding; b.Cluster != place.Cluster || b.Namespace != place.Namespace {
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
		stalled := &apply.StalledError{
			What: fmt.Sprintf("cluster %q is another cluster now: kube-system has UID %s, the records say %s", c.Name(), uid, known),
			Hint: "if it was rebuilt, declare it under a new name with environments of its own; if not, correct the agent's kubeconfig",
		}
		c.replaced.Store(stalled)
		return "", stalled
	}
	c.replaced.Store(nil)
	return uid, nil
}
