package reconciler

import (
	"fmt"

	"github.com/purser-gitops/purser/reconciler/apply"
)

// behind refuses to change what a release applied that the log does not know. A data directory that began anew from the
// audit remote has what that remote has: after it was set back, that is less than what was done, and the clusters show it. A
// person who pinned a checkpoint of all that there was, or says resume, has looked.
func (a *Agent) behind(t task, plan *apply.Plan) error {
	sure := false
	a.journal.read(func(s *State) { sure = s.sure(t.state) })
	if sure || a.journal.log.Vouched() {
		return nil
	}
	strange := plan.Strange(t.state.Inventory)
	if len(strange) == 0 {
		return nil
	}
	return &apply.StalledError{ // without the number of such objects: what is the same problem must read the same
		What: fmt.Sprintf("%s bears the mark of a release that the log does not know, since the data directory began anew from the audit remote: "+
			"that may have been set back, and vetoes, revocations and approvals with it", strange[0]),
		Hint: fmt.Sprintf("compare it with a clone, and bring its branches back (git push) where they lack records; if nothing is missing, purser resume %s --reason …, "+
			"or pin its checkpoint (audit.checkpointFile)", t.env.Meta.Name),
	}
}

// sure reports whether the log is known not to be behind what an environment's cluster shows: its data directory never began
// anew, or the environment was looked at since.
func (s *State) sure(e EnvironmentState) bool { return e.SureEpoch >= s.Epoch }
