package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// liveHealth passes when what is live now is healthy: a release on top of a sick shop hides what made it sick.
func liveHealth(c Candidate, f Facts, _ time.Time) Result {
	switch {
	case c.Class.Spec.LiveHealth != declaration.LiveHealthRequired:
		return allow("the class may fix what is not healthy")
	case c.Origin == OriginRollback:
		return allow("a rollback may leave what is not healthy")
	case f.Live == nil:
		return allow("nothing is live yet")
	case f.Live.Healthy:
		return allow("what is live is healthy")
	}
	return Result{Answer: Wait, Reason: fmt.Sprintf("what is live is %s", f.Live.State),
		Hint: "roll back, or release the fix under a class that may (liveHealth: any)"}
}

// Live is the health of what is live.
type Live struct {
	Healthy bool   `json:"healthy"`
	State   string `json:"state"`
}
