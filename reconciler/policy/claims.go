package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/render"
)

// claims denies a release that contains an object of another environment: two owners of one object would
// overwrite each other for ever.
func claims(c Candidate, f Facts, _ time.Time) Result {
	for _, ref := range Claimed(c.Release, c.Environment.Spec.Namespace, f.Scopes) {
		if owner, taken := f.Claims[ref.Key()]; taken && owner != c.Environment.Meta.Name {
			return Result{Answer: Deny, Reason: fmt.Sprintf("%s belongs to the environment %q", ref, owner),
				Hint: fmt.Sprintf("give the object another name or namespace in one of the two; or, if %q is the name that this environment had before, remove that declaration and say renamedFrom in this one", owner)}
		}
	}
	return allow("no other environment owns one of its objects")
}

// Claimed lists the objects of a release as the cluster will name them: namespaced objects without a
// namespace go to the environment's.
func Claimed(release *render.Release, namespace string, scopes map[string]bool) []render.Ref {
	refs := make([]render.Ref, 0, len(release.Objects))
	for _, object := range release.Objects {
		ref := render.RefOf(object)
		if namespaced, _ := scopeOf(ref, release, scopes); namespaced && ref.Namespace == "" {
			ref.Namespace = namespace
		}
		refs = append(refs, ref)
	}
	return refs
}
