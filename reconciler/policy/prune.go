package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/render"
)

// prune denies a release that would delete more of what is approved than the environment's limits allow:
// a lost line in a kustomization must not empty a shop.
func prune(c Candidate, f Facts, now time.Time) Result {
	if c.Approved == nil {
		return allow("nothing is approved yet")
	}
	if c.Origin == OriginRollback {
		return allow("it was live before: only what came after it goes")
	}
	deleted := 0
	for _, change := range c.Diff {
		if change.Action == render.ActionDeleted {
			deleted++
		}
	}
	total := len(c.Approved.Objects)
	limits := c.Environment.Spec.Prune
	if limits.Exceeded(deleted, total) {
		for _, s := range f.Statements {
			meant := s.Verb == VerbApproveDelete && s.From == c.from() && s.To == c.Release.Digest && now.Before(s.Expires)
			if meant && MayDelete(f.People[s.Person]) {
				return Result{Answer: Allow, Override: s.ID, Reason: fmt.Sprintf("%s allows it to delete %d of %d objects", s.Person, deleted, total)}
			}
		}
		return Result{Answer: Deny,
			Reason: fmt.Sprintf("it would delete %d of %d objects, more than the limits (maxObjects %d, maxShare %g)", deleted, total, limits.MaxObjects, limits.MaxShare),
			Hint:   fmt.Sprintf("if this is meant: purser approve-delete %s, or raise spec.prune of the environment, in governance", c.Environment.Meta.Name)}
	}
	return allow(fmt.Sprintf("it deletes %d of %d objects", deleted, total))
}
