package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// signatures passes when every commit of each landed change is signed by a key that was valid when the agent first saw
// the commit. A forge's merge or squash commit passes on its parents' signatures where it adds nothing of its own.
func signatures(c Candidate, _ Facts, _ time.Time) Result {
	if c.Class.Spec.Signatures != declaration.SignaturesRequired {
		return allow("the class asks for no signatures")
	}
	if !c.judgedByLanded() {
		return allow("judged by statements: " + c.noLanded())
	}
	for _, l := range c.Landed {
		if bad := l.Unsigned(); len(bad) > 0 {
			return Result{Answer: Deny, Reason: fmt.Sprintf("landed change %s: %s", short(l.Commit), some(bad)),
				Hint: "revert it, or let people approve the release by statement"}
		}
	}
	return allow(fmt.Sprintf("all commits of %d landed changes are signed by known people", len(c.Landed)))
}
