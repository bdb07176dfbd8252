package policy

import (
	"fmt"
	"time"
)

// Veto keeps one release away until a person lifts it.
type Veto struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"` // person, or the agent
	At     time.Time `json:"at"`
}

// veto denies a release that failed before, or that somebody took back.
func veto(_ Candidate, f Facts, _ time.Time) Result {
	if v := f.Veto; v != nil {
		return Result{Answer: Deny, Reason: fmt.Sprintf("vetoed at %s by %s: %s", v.At.UTC().Format(time.RFC3339), v.By, v.Reason),
			Hint: "push another release, or purser lift"}
	}
	return allow("the release is not vetoed")
}
