package reconciler

import (
	"testing"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// released takes a release through its deployment, with the origin that the agent gives it.
func (h *history) released(release string) {
	h.t.Helper()
	h.approved(release)
	number := h.fold().environment("dev").Deployment.Number + 1
	plan := h.plan(number, release)
	h.outcome(number, plan, release, evidence.OutcomeApplied)
	h.live(number, release)
}

// approved proposes a release, and approves it as what it is. A rollback vetoes what it leaves.
func (h *history) approved(release string) {
	h.t.Helper()
	h.propose(release)
	e := h.fold().environment("dev")
	d := evidence.Decision{To: release, Origin: policy.OriginGit, Verdict: policy.Verdict{Answer: policy.Allow}}
	if restores(*e, release) {
		d.Origin, d.Vetoes = policy.OriginRollback, e.besides(release)
	}
	h.add(evidence.TypeDecision, "dev", 0, d)
}

func (h *history) lift(release string) {
	h.add(evidence.TypeVeto, "dev", 0, evidence.Veto{Release: release, By: "release-manager-1", Lifted: true})
}

func (h *history) abort(release string) {
	h.add(evidence.TypeVeto, "dev", 0, evidence.Veto{Release: release, By: "release-manager-1", Reason: "gave up"})
}

// A rollback is a step back. What a rollback left is never reached by another one, lifted or not; it comes back past every gate,
// or not at all.
func TestWhatARollbackLeftIsNoWayBack(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(h *history)
		back    string // the releases of a to d that are a way back
		approve string
	}{
		"one step":                     {func(h *history) { h.released("a"); h.released("b"); h.released("c") }, "b", "c"},
		"a release under way":          {func(h *history) { h.released("a"); h.released("b"); h.approved("c") }, "ab", "c"},
		"a rollback":                   {func(h *history) { h.released("a"); h.released("b"); h.released("a"); h.lift("b") }, "", "a"},
		"a rollback that is under way": {func(h *history) { h.released("a"); h.released("b"); h.approved("a"); h.lift("b") }, "a", "a"},
		"a rollback that is given up": {func(h *history) {
			h.released("a")
			h.released("b")
			h.approved("a")
			h.lift("b")
			h.abort("a")
		}, "a", "a"},
		"a release over a rollback that failed": {func(h *history) {
			h.released("a")
			h.released("b")
			h.approved("a")
			h.released("c")
			h.lift("b")
		}, "", "c"},
		"a release after a rollback": {func(h *history) { h.released("a"); h.released("b"); h.released("a"); h.released("c") }, "a", "c"},
		"two steps, one after the other": {func(h *history) {
			h.released("a")
			h.released("b")
			h.released("c")
			h.released("b")
			h.released("a") // as any other release
		}, "b", "a"},
		"a revert of a revert": {func(h *history) {
			h.released("a")
			h.released("b")
			h.released("a")
			h.lift("b")
			h.released("b") // as any other release
		}, "a", "b"},
		"a revert of a revert before that ran": {func(h *history) {
			h.released("a")
			h.released("b")
			h.approved("a")
			h.lift("b")
			h.approved("b") // as any other release
			h.released("c")
		}, "b", "c"},
		"the same once more": {func(h *history) {
			h.released("a")
			h.released("b")
			h.released("a")
			h.lift("b")
			h.released("b")
			h.released("a")
			h.lift("b")
		}, "", "a"},
		"back from a release under way": {func(h *history) { h.released("a"); h.released("b"); h.approved("c"); h.released("b"); h.lift("c") }, "a", "b"},
		"an abort":                      {func(h *history) { h.released("a"); h.released("b"); h.approved("c"); h.abort("c"); h.lift("c") }, "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &history{t: t}
			c.do(h)
			e := h.fold().environment("dev")
			back := ""
			for _, release := range []string{"a", "b", "c", "d"} {
				if restores(*e, release) {
					back += release
				}
			}
			if back != c.back || !e.Approved.is(c.approve) {
				t.Errorf("the way back is %q, want %q; approved is %s, want %s", back, c.back, release(e.Approved), c.approve)
			}
		})
	}
}
