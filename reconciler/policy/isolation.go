package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// isolation keeps a release inside what its tenant may touch: namespaces, kinds, cluster-scoped kinds.
// It cannot be overridden. The API server enforces it a second time, through the tenant's own identity.
func isolation(c Candidate, f Facts, _ time.Time) Result {
	if f.ScopesUnknown != "" {
		return Result{Answer: Wait, Reason: f.ScopesUnknown}
	}
	for _, object := range c.Release.Objects {
		ref := render.RefOf(object)
		namespaced, known := scopeOf(ref, c.Release, f.Scopes)
		if !known {
			return Result{Answer: Deny, Reason: fmt.Sprintf("%s: the cluster does not serve the kind %s/%s", ref, ref.Group, ref.Kind),
				Hint: "install its CustomResourceDefinition first, or add it to this release"}
		}
		if why := outside(ref, namespaced, c); why != "" {
			return Result{Answer: Deny, Reason: fmt.Sprintf("%s: %s", ref, why),
				Hint: "change the kustomization, or what the Tenant may touch, in governance"}
		}
	}
	return allow("every object is the tenant's to touch")
}

// Isolated asks the gate isolation alone: an environment whose own release it denies can be told before anybody proposes one.
func Isolated(c Candidate, scopes map[string]bool) Result {
	return isolation(c, Facts{Scopes: scopes}, time.Time{})
}

// Leftover is an environment of the candidate's cluster that owns objects and is declared no more.
type Leftover struct{ Environment, Namespace string }

// FindNeighbours notes whose namespaces the release touches besides its own: those of other environments of the same cluster,
// and of what is left of some. What their gates keep out would come in through this one.
func (c *Candidate) FindNeighbours(set *declaration.Set, left []Leftover) {
	own, touched := c.Environment.Spec, map[string]bool{}
	for _, object := range c.Release.Objects {
		touched[object.GetNamespace()] = true
		if ref := render.RefOf(object); ref.Group == "" && ref.Kind == "Namespace" {
			touched[ref.Name] = true
		}
	}
	delete(touched, own.Namespace)
	delete(touched, "")
	if len(touched) == 0 {
		return
	}
	c.Neighbours = map[string]string{}
	note := func(name, namespace string) {
		if other := c.Neighbours[namespace]; touched[namespace] && (other == "" || name < other) {
			c.Neighbours[namespace] = name
		}
	}
	for name, e := range set.Environments {
		if e.Spec.Cluster == own.Cluster {
			note(name, e.Spec.Namespace)
		}
	}
	for _, l := range left {
		note(l.Environment, l.Namespace)
	}
}

// KindKey is how [Facts.Scopes] names a kind.
func KindKey(ref render.Ref) string { return ref.Group + "/" + ref.Kind }

// scopeOf looks at what the cluster serves, then at the release itself: it may bring the definition of its own
// kinds.
func scopeOf(ref render.Ref, release *render.Release, scopes map[string]bool) (namespaced, known bool) {
	if namespaced, known = scopes[KindKey(ref)]; known {
		return namespaced, true
	}
	for _, object := range release.Objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		spec, _ := object.Object["spec"].(map[string]any)
		names, _ := spec["names"].(map[string]any)
		if spec["group"] == ref.Group && names["kind"] == ref.Kind {
			return spec["scope"] == "Namespaced", true
		}
	}
	return false, false
}

// outside says why the candidate's tenant may not touch the object; "" when it may.
func outside(ref render.Ref, namespaced bool, c Candidate) string {
	tenant := c.Tenant
	if tenant == nil {
		tenant = &declaration.Tenant{Meta: declaration.Meta{Name: declaration.DefaultTenant}}
	}
	mayUse := func(namespace string) bool {
		return namespace == c.Environment.Spec.Namespace || tenant.Spec.AllowsNamespace(namespace)
	}
	at := ref.Namespace
	if !namespaced && ref.Group == "" && ref.Kind == "Namespace" {
		at = ref.Name
	}
	switch {
	case c.Neighbours[at] != "":
		return fmt.Sprintf("namespace %q is that of environment %q: what its gates keep out would come in here", at, c.Neighbours[at])
	case namespaced && ref.Namespace == "":
		return "it names no namespace, and its kind is none of Kubernetes' own: write metadata.namespace"
	case !namespaced && ref.Namespace != "":
		return fmt.Sprintf("it names namespace %q, and its kind is in none: leave metadata.namespace out", ref.Namespace)
	case namespaced && !mayUse(ref.Namespace):
		return fmt.Sprintf("namespace %q is outside tenant %q", ref.Namespace, tenant.Meta.Name)
	case namespaced && !tenant.Spec.AllowsKind(ref.Group, ref.Kind):
		return fmt.Sprintf("tenant %q may not touch the kind %s", tenant.Meta.Name, ref.Kind)
	case !namespaced && !tenant.Spec.AllowsClusterKind(ref.Group, ref.Kind):
		return fmt.Sprintf("tenant %q may not touch the cluster-scoped kind %s", tenant.Meta.Name, ref.Kind)
	case !namespaced && ref.Group == "" && ref.Kind == "Namespace" && !mayUse(ref.Name):
		return fmt.Sprintf("namespace %q is outside tenant %q", ref.Name, tenant.Meta.Name)
	}
	return ""
}
