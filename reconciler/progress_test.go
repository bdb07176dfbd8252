package reconciler

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/forge"
)

func TestProgress(t *testing.T) {
	pointer := func(release string) *Pointer {
		return &Pointer{Release: release, At: time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)}
	}
	wait := &policy.Verdict{Answer: policy.Wait, Gates: []policy.Result{
		{Gate: "change", Answer: policy.Allow, Reason: "fine"}, {Gate: "approvals", Answer: policy.Wait, Reason: "needs 1 more"}}}
	deny := &policy.Verdict{Answer: policy.Deny, Gates: []policy.Result{
		{Gate: "approvals", Answer: policy.Wait, Reason: "needs 1 more"}, {Gate: "policy", Answer: policy.Deny, Reason: "no limits"}}}
	for name, test := range map[string]struct {
		e     EnvironmentState
		state forge.StatusState
		says  string
		final bool
	}{
		"just proposed":                  {EnvironmentState{Proposed: pointer("b"), Live: pointer("a"), Approved: pointer("a")}, forge.Pending, "being judged", false},
		"waits":                          {EnvironmentState{Proposed: pointer("b"), Candidacy: Candidacy{Verdict: wait}}, forge.Pending, "waits: approvals: needs 1 more", false},
		"denied":                         {EnvironmentState{Proposed: pointer("b"), Candidacy: Candidacy{Verdict: deny}}, forge.Failure, "denied: policy: no limits; approvals: needs 1 more", false},
		"approved":                       {EnvironmentState{Proposed: pointer("b"), Approved: pointer("b"), Live: pointer("a")}, forge.Pending, "approved", false},
		"planned":                        {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhasePlanned}}, forge.Pending, "being applied", false},
		"applied":                        {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhaseApplied}}, forge.Pending, "applied", false},
		"failed":                         {EnvironmentState{Approved: pointer("b"), Deployment: Deployment{Release: "b", Phase: PhaseFailed, Error: "quota"}}, forge.Failure, "failed: quota", false},
		"vetoed":                         {EnvironmentState{Approved: pointer("b"), Vetoes: map[string]policy.Veto{"b": {Reason: "unwell"}}}, forge.Failure, "vetoed: unwell", false},
		"live":                           {EnvironmentState{Approved: pointer("b"), Live: pointer("b")}, forge.Success, "live since 2026-11-30 06:00 UTC", true},
		"live, and the next is approved": {EnvironmentState{Approved: pointer("c"), Live: pointer("b")}, forge.Success, "live since", true},
	} {
		state, text, final := progress(test.e, "b")
		if state != test.state || !strings.HasPrefix(text, test.says) || final != test.final {
			t.Errorf("%s: %s: %s (%t)", name, state, text, final)
		}
	}
}

func TestForgeIsLeftAloneForAsLongAsItSays(t *testing.T) {
	now := time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
	n := &answers{agent: &Agent{now: func() time.Time { return now }}, every: time.Minute, logger: slog.New(slog.DiscardHandler)}
	if wait := n.pause(&forge.RateLimitError{RetryAfter: 90 * time.Second}); wait != 90*time.Second || n.rest.Left(now) != wait {
		t.Errorf("it is left alone for %s", wait)
	}
}
