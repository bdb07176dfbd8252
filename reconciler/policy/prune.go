package policy

import (
	"fmt"
	"time"
)

// prune denies a release that would delete more of what is approved than the environment's limits allow:
// a lost line in a kustomization must not empty a shop. More than maxObjects and more than maxShare of the
// objects is too much; so a small environment can lose a few objects, and a large one a small share.
func prune(c Candidate, _ Facts, _ time.Time) Result {
	if c.Approved == nil {
		return allow("nothing is approved yet")
	}
	deleted := 0
	for _, change := range c.Diff {
		if change.Action == "deleted" {
			deleted++
		}
	}
	total := len(c.Approved.Objects)
	limits := c.Environment.Spec.Prune
	if ExceedsLimits(deleted, total, limits.MaxObjects, limits.MaxShare) {
		return Result{Answer: Deny,
			Reason: fmt.Sprintf("it would delete %d of %d objects, more than the limits (maxObjects %d, maxShare %g)", deleted, total, limits.MaxObjects, limits.MaxShare),
			Hint:   "if this is meant, raise spec.prune of the environment in governance first"}
	}
	return allow(fmt.Sprintf("it deletes %d of %d objects", deleted, total))
}

// ExceedsLimits reports whether deleting some of an environment's objects goes beyond either limit. A share
// of a handful of objects says little, so up to smallDelete objects may always go.
func ExceedsLimits(deleted, total, maxObjects int, maxShare float64) bool {
	if deleted <= smallDelete && deleted < total {
		return false
	}
	return deleted > maxObjects || float64(deleted) > maxShare*float64(total)
}

// smallDelete is how many objects may go whatever their share, as long as something stays.
const smallDelete = 1
