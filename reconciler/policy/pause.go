package policy

import (
	"fmt"
	"time"
)

// Hold is a person's order to leave an environment as it is.
type Hold struct {
	Person string    `json:"person"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// pause waits while a person holds the environment.
func pause(_ Candidate, f Facts, _ time.Time) Result {
	if h := f.Hold; h != nil {
		return Result{Answer: Wait, Reason: fmt.Sprintf("paused by %s since %s: %s", h.Person, h.Since.UTC().Format(time.RFC3339), h.Reason), Hint: "purser resume"}
	}
	return allow("nobody holds the environment")
}
