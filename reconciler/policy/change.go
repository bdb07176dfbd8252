package policy

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// change passes when release.yaml says what the class wants to know about the change.
func change(c Candidate, _ Facts, _ time.Time) Result {
	asked := c.Class.Spec.Change
	if asked == (declaration.ChangeDemand{}) {
		return allow("the class asks for nothing")
	}
	about := c.Release.Declaration
	if about == nil {
		return Result{Answer: Deny, Reason: "there is no release.yaml beside the kustomization", Hint: "add one that gives the change's ticket and reason"}
	}
	var missing []string
	for _, part := range []struct {
		name  string
		asked bool
		value string
	}{
		{"ticket", asked.Ticket != "", about.Change.Ticket},
		{"reason", asked.Reason, about.Change.Reason},
		{"impact", asked.Impact, about.Change.Impact},
		{"rollback", asked.Rollback, about.Change.Rollback},
	} {
		if part.asked && strings.TrimSpace(part.value) == "" {
			missing = append(missing, "spec.change."+part.name)
		}
	}
	if len(missing) > 0 {
		return Result{Answer: Deny, Reason: fmt.Sprintf("release.yaml: %s is missing", strings.Join(missing, ", ")), Hint: "push a commit that adds it"}
	}
	if asked.Ticket != "" {
		form, err := regexp.Compile(asked.Ticket)
		if err != nil {
			return Result{Answer: Deny, Reason: fmt.Sprintf("the class's form of tickets is unusable: %v", err)}
		}
		if !form.MatchString(about.Change.Ticket) {
			return Result{Answer: Deny, Reason: fmt.Sprintf("release.yaml: ticket %q does not have the form %s", about.Change.Ticket, asked.Ticket),
				Hint: "push a commit that names the ticket"}
		}
	}
	return allow(fmt.Sprintf("ticket %q, reason %q", about.Change.Ticket, about.Change.Reason))
}
