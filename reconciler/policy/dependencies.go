package policy

import (
	"fmt"
	"time"
)

// dependencies waits until every environment named in dependsOn runs what is approved for it, healthy.
func dependencies(_ Candidate, f Facts, _ time.Time) Result {
	for _, d := range f.Dependencies {
		if !d.Ready {
			return Result{Answer: Wait, Reason: fmt.Sprintf("waits for the environment %q, which is %s", d.Name, d.State)}
		}
	}
	return allow("nothing to wait for")
}
