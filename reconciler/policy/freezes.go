package policy

import (
	"fmt"
	"time"
)

// Caught is a release that a freeze took back while it was under way.
type Caught struct {
	Release string    `json:"release"`
	Freeze  string    `json:"freeze"`
	At      time.Time `json:"at"`
}

// freezes passes when no freeze of the environment's calendar holds for the class, and, if the class has windows, one is
// open for long enough.
func freezes(c Candidate, f Facts, now time.Time) Result {
	switch {
	case c.Origin == OriginRollback:
		return allow("a rollback may go in a freeze")
	case c.Calendar == nil:
		return allow("the environment has no calendar")
	case c.Class.Spec.Calendar.Exempt:
		return allow(fmt.Sprintf("class %q is exempt", c.Class.Meta.Name))
	}
	took := ""
	if f.Caught != nil && f.Caught.Release == c.Release.Digest {
		took = fmt.Sprintf("; freeze %q took the release back at %s", f.Caught.Freeze, f.Caught.At.UTC().Format(time.RFC3339))
		if now.Before(f.Caught.At) { // the freeze that was seen in force is not over because the clock went back
			return Result{Answer: Wait, Reason: fmt.Sprintf("calendar %q: the clock went back%s", c.Calendar.Meta.Name, took), Until: &f.Caught.At}
		}
	}
	at := c.Calendar.Compiled.At(c.Class.Meta.Name, now)
	if !at.Open {
		return Result{Answer: Wait, Reason: fmt.Sprintf("calendar %q: %s%s", c.Calendar.Meta.Name, at.Reason, took), Until: at.NextOpen}
	}
	least := c.Class.Spec.Calendar.MinimumRemaining
	if at.NextClose != nil && at.NextClose.Sub(now) < least {
		return Result{Answer: Wait, Reason: fmt.Sprintf("calendar %q closes at %s, in less than %s", c.Calendar.Meta.Name, at.NextClose.Format(time.RFC3339), least), Until: at.NextClose}
	}
	return allow(fmt.Sprintf("calendar %q: %s", c.Calendar.Meta.Name, at.Reason))
}
