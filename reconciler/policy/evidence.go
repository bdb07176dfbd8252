package policy

import (
	"fmt"
	"time"
)

// clockSteps is how far back a clock may be set without being doubted, as when it is corrected.
const clockSteps = time.Minute

// evidence waits while the audit remote cannot be written: what cannot be recorded does not happen.
func evidence(c Candidate, f Facts, now time.Time) Result {
	e := f.Evidence
	switch {
	case e == nil:
		return Result{Answer: Deny, Reason: "the state of the audit log is unknown"}
	case c.timed() && now.Add(clockSteps).Before(e.Newest):
		return Result{Answer: Wait, Until: &e.Newest, Hint: "set the clock of the agent's machine",
			Reason: fmt.Sprintf("the clock shows %s, and the newest record is of %s: it went back, or was ahead", now.UTC().Format(time.RFC3339), e.Newest.UTC().Format(time.RFC3339))}
	case e.Problem != "":
		return Result{Answer: Wait, Reason: "the audit branch is not written: " + e.Problem}
	case e.Spooled >= e.SpoolMax:
		return Result{Answer: Wait, Reason: fmt.Sprintf("%d records wait to be published, the limit is %d", e.Spooled, e.SpoolMax)}
	case e.Reached.IsZero():
		return Result{Answer: Wait, Reason: "the audit remote has not been reached yet"}
	case now.Sub(e.Reached) > e.Limit || now.Before(e.Reached): // also when the clock went back
		return Result{Answer: Wait, Reason: fmt.Sprintf("the audit remote has been out of reach since %s", e.Reached.UTC().Format(time.RFC3339))}
	}
	return allow("the audit remote is within reach")
}

// timed reports whether it depends on the time what the candidate has to pass.
func (c Candidate) timed() bool {
	return c.guarded() || len(c.Class.Spec.Tests) > 0 || c.AsksBackups()
}
