package reconciler

import (
	"fmt"

	"github.com/purser-gitops/purser/reconciler/apply"
)

// behind refuses to change what a release applied that the log does not know. A data directory that began anew from the
// audit remote has what that remote has: after it was set back, that is less than what was done, and the clusters show it. A
// person who pinned a checkpoint of all that there was, or says resume, has looked.
func (a *Agent) behind(t task, plan *apply.Plan) error {
	epoch := 0
	a.journal.read(func(s *State) { epoch = s.Epoch })
	if t.state.Sure >= epoch || a.journal.log.Vouched() {
		return nil
	}
	strange := plan.Strange(t.state.Inventory)
	if len(strange) == 0 {
		return nil
	}
	return &apply.StalledError{
		What: fmt.Sprintf("%s and %d more objects bear the mark of a release that the log does not know, since the data directory began anew from the audit remote: "+
			"that may have been set back, and vetoes, revocations and approvals with it", strange[0], len(strange)-1),
		Hint: fmt.Sprintf("compare it with a clone, and bring its branches back (git push) where they lack records; if nothing is missing, purser resume %s --reason …, "+
			"or pin its checkpoint (audit.checkpointFile)", t.env.Meta.Name),
	}
}
