package reconciler

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/forge"
)

// history builds records as the journal would.
type history struct {
	t       *testing.T
	records []evidence.Record
	at      time.Time
}

func (h *history) add(kind, environment string, deployment int, predicate any) uint64 {
	h.t.Helper()
	encoded, err := json.Marshal(predicate)
	if err != nil {
		h.t.Fatal(err)
	}
	h.at = h.at.Add(time.Second)
	index := uint64(len(h.records))
	h.records = append(h.records, evidence.Record{
		Index: index, Type: kind, Predicate: encoded,
		Header: evidence.Header{Environment: environment, Deployment: deployment, Time: h.at},
	})
	return index
}

// fold gives the state after all records, and checks that it survives being stored.
func (h *history) fold() *State {
	h.t.Helper()
	s := NewState()
	for _, r := range h.records {
		if err := s.Fold(r); err != nil {
			h.t.Fatal(err)
		}
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		h.t.Fatal(err)
	}
	opening, err := json.Marshal(evidence.State{State: encoded})
	if err != nil {
		h.t.Fatal(err)
	}
	restored := NewState()
	if err := restored.Fold(evidence.Record{Type: evidence.TypeState, Predicate: opening}); err != nil {
		h.t.Fatal(err)
	}
	again, _ := json.Marshal(restored)
	if string(again) != string(encoded) {
		h.t.Errorf("the state does not survive a state record:\n%s\n%s", encoded, again)
	}
	return s
}

func (h *history) propose(to string) {
	h.add(evidence.TypeChange, "dev", 0, evidence.Change{To: to, Revision: evidence.Revision{Source: "estate", Revision: "main@sha1:" + to}})
}

func (h *history) decide(to string, answer policy.Answer) {
	h.add(evidence.TypeDecision, "dev", 0, evidence.Decision{To: to, Verdict: policy.Verdict{Answer: answer}})
}

func (h *history) plan(deployment int, release string, items ...evidence.Item) uint64 {
	return h.add(evidence.TypePlan, "dev", deployment, evidence.Plan{
		Release: release, Purpose: evidence.PurposeRelease, Cluster: "lab", ClusterUID: "u1", Items: items,
	})
}

func (h *history) outcome(deployment int, plan uint64, release, outcome string, items ...evidence.Item) {
	h.add(evidence.TypeApply, "dev", deployment, evidence.Apply{
		Plan: plan, Release: release, Purpose: evidence.PurposeRelease, Outcome: outcome, Items: items,
	})
}

func (h *history) live(deployment int, release string) {
	h.add(evidence.TypeLive, "dev", deployment, evidence.Live{Release: release})
}

func item(name, action, problem string) evidence.Item {
	return evidence.Item{Ref: render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "north-dev", Name: name}, Action: action, Error: problem}
}

func owns(e *EnvironmentState) []string {
	names := []string{}
	for _, i := range e.Inventory {
		names = append(names, i.Ref.Name)
	}
	return names
}

func release(p *Pointer) string {
	if p == nil {
		return ""
	}
	return p.Release
}

func TestPointersFollowTheRecords(t *testing.T) {
	h := &history{t: t}
	type pointers struct{ proposed, approved, live, previous, target string }
	check := func(doing string, want pointers) {
		t.Helper()
		e := h.fold().environment("dev")
		got := pointers{release(e.Proposed), release(e.Approved), release(e.Live), release(e.Previous), e.Target()}
		if got != want {
			t.Errorf("%s: pointers %+v, want %+v", doing, got, want)
		}
	}
	check("nothing happened", pointers{})
	h.propose("a")
	h.decide("a", policy.Wait)
	check("a waits", pointers{proposed: "a"})
	h.decide("a", policy.Allow)
	check("a is approved, and not yet what repair aims at", pointers{proposed: "a", approved: "a"})
	plan := h.plan(1, "a", item("x", apply.Created, ""))
	check("a is under deployment", pointers{proposed: "a", approved: "a", target: "a"})
	h.outcome(1, plan, "a", evidence.OutcomeApplied, item("x", apply.Created, ""))
	h.live(1, "a")
	check("a is live", pointers{proposed: "a", approved: "a", live: "a", target: "a"})
	h.propose("b")
	h.decide("b", policy.Deny)
	check("b is denied", pointers{proposed: "b", approved: "a", live: "a", target: "a"})
	h.decide("a", policy.Allow)
	check("a decision about what is no longer proposed moves nothing", pointers{proposed: "b", approved: "a", live: "a", target: "a"})
	h.propose("c")
	h.decide("c", policy.Allow)
	check("c is approved", pointers{proposed: "c", approved: "c", live: "a", target: "a"})
	plan = h.plan(2, "c")
	h.outcome(2, plan, "c", evidence.OutcomeFailed)
	check("c failed half way: repair must not fight it", pointers{proposed: "c", approved: "c", live: "a", target: "c"})
	h.add(evidence.TypeSuperseded, "dev", 2, evidence.Superseded{Release: "c", By: "a"})
	check("c is given up", pointers{proposed: "c", approved: "c", live: "a", target: "a"})
	plan = h.plan(3, "c")
	h.outcome(3, plan, "c", evidence.OutcomeApplied)
	h.live(3, "c")
	check("c is live", pointers{proposed: "c", approved: "c", live: "c", previous: "a", target: "c"})
}

func TestInventoryForgetsNothingThatMayExist(t *testing.T) {
	h := &history{t: t}
	plan := h.plan(1, "a", item("x", apply.Created, ""), item("y", apply.Created, ""))
	if got := owns(h.fold().environment("dev")); !reflect.DeepEqual(got, []string{"x", "y"}) {
		t.Errorf("after an intent to create x and y it owns %v", got)
	}
	h.outcome(1, plan, "a", evidence.OutcomeInterrupted)
	if got := owns(h.fold().environment("dev")); !reflect.DeepEqual(got, []string{"x", "y"}) {
		t.Errorf("after an interrupted apply it owns %v", got)
	}
	plan = h.plan(2, "b", item("x", apply.Deleted, ""), item("y", apply.Deleted, ""))
	h.outcome(2, plan, "b", evidence.OutcomeFailed, item("x", apply.Deleted, "denied by a webhook"), item("y", apply.Deleted, ""))
	if got := owns(h.fold().environment("dev")); !reflect.DeepEqual(got, []string{"x"}) {
		t.Errorf("after one of two deletes failed it owns %v", got)
	}
}

func TestIntentIsOpenUntilItsOwnOutcome(t *testing.T) {
	h := &history{t: t}
	plan := h.plan(1, "a")
	h.outcome(1, plan+7, "a", evidence.OutcomeApplied) // of another plan
	if d := h.fold().environment("dev").Deployment; d.Intent == nil || d.Intent.Record != plan || d.Phase != PhasePlanned {
		t.Errorf("deployment %+v, want the intent %d open", d, plan)
	}
	h.outcome(1, plan, "a", evidence.OutcomeAbandoned)
	e := h.fold().environment("dev")
	if d := e.Deployment; d.Intent != nil || d.Phase != PhaseAbandoned {
		t.Errorf("deployment %+v, want it abandoned without an open intent", d)
	}
	if target := e.Target(); target != "" {
		t.Errorf("repair aims at %s, of which nothing was applied", target)
	}
}

func TestRefusalsStayUntilTheNextGoodInput(t *testing.T) {
	h := &history{t: t}
	h.add(evidence.TypeRefused, "dev", 0, evidence.Refused{Stage: evidence.StageRender, Errors: []string{"no such file"}})
	h.add(evidence.TypeRefused, "dev", 0, evidence.Refused{Stage: evidence.StagePlan, Errors: []string{"forbidden"}})
	h.add(evidence.TypeRefused, "", 0, evidence.Refused{Stage: evidence.StageDeclaration, Errors: []string{"unknown field"}})
	s := h.fold()
	if e := s.environment("dev"); e.Refused == nil || e.Blocked == nil || s.Governance.Refused == nil {
		t.Fatalf("refusals are not kept: %+v %+v", e, s.Governance)
	}
	h.propose("a")
	h.plan(1, "a")
	h.add(evidence.TypeDecision, "", 0, evidence.Decision{To: "c1", Verdict: policy.Verdict{Answer: policy.Allow}})
	s = h.fold()
	if e := s.environment("dev"); e.Refused != nil || e.Blocked != nil || s.Governance.Refused != nil {
		t.Errorf("refusals outlive good input: %+v %+v", e, s.Governance)
	}
}

func TestUndecodableRecordIsAnError(t *testing.T) {
	if err := NewState().Fold(evidence.Record{Type: evidence.TypePlan, Predicate: []byte(`{"items": 7}`)}); err == nil {
		t.Error("state was guessed from a record that does not decode")
	}
}

// Approvals are remembered until something is approved, so that none is written down twice; the protection of branches is
// what was last seen.
func TestApprovalsAreRememberedUntilUsed(t *testing.T) {
	h := &history{t: t, at: time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)}
	vote := policy.Vote{Kind: policy.ByReview, Person: "dba-1", Review: &policy.VotedReview{ID: 4, Pull: 7, Head: "h"}, Landed: []string{"c1"}}
	h.add(evidence.TypeChange, "dev", 0, evidence.Change{To: "sha256:bb"})
	index := h.add(evidence.TypeApproval, "dev", 0, evidence.Approval{Vote: vote, To: "sha256:bb"})
	h.add(evidence.TypeApproval, "", 0, evidence.Approval{Vote: vote, To: "c2"})
	for _, approvals := range []int{1, 2} {
		h.add(evidence.TypeProtection, "", 0, evidence.Protection{Source: "estate", Branch: "main", Protection: forge.Protection{Protected: true, RequiredApprovals: approvals}})
	}
	s := h.fold()
	known := s.Environments["dev"].Approvals
	if len(known) != 1 || known[0].Record != index || !known[0].Vote.Covers(vote) || len(s.Governance.Approvals) != 1 {
		t.Errorf("known are %+v and %+v", known, s.Governance.Approvals)
	}
	if p := s.Protections[protectionKey("estate", "main")]; len(s.Protections) != 1 || p.RequiredApprovals != 2 {
		t.Errorf("the protections are %+v", s.Protections)
	}
	h.add(evidence.TypeDecision, "dev", 0, evidence.Decision{To: "sha256:bb", Verdict: policy.Verdict{Answer: policy.Wait}})
	if s = h.fold(); len(s.Environments["dev"].Approvals) != 1 {
		t.Error("a decision that waits used them up")
	}
	h.add(evidence.TypeDecision, "dev", 0, evidence.Decision{To: "sha256:bb", Verdict: policy.Verdict{Answer: policy.Allow}, Approvals: []uint64{index}})
	h.add(evidence.TypeDecision, "", 0, evidence.Decision{To: "c2", Verdict: policy.Verdict{Answer: policy.Allow}})
	if s = h.fold(); len(s.Environments["dev"].Approvals)+len(s.Governance.Approvals) != 0 {
		t.Errorf("left are %+v and %+v", s.Environments["dev"].Approvals, s.Governance.Approvals)
	}
}

// TestForcedMoveIsRemembered: what a branch lost is remembered by all that follow it, also after the next approval.
func TestForcedMoveIsRemembered(t *testing.T) {
	h := &history{t: t, at: started}
	revision := func(branch string, digit string) evidence.Revision {
		return evidence.Revision{Source: "estate", Revision: branch + "@sha1:" + strings.Repeat(digit, 40)}
	}
	approve := func(environment, release string, at evidence.Revision) {
		h.add(evidence.TypeChange, environment, 0, evidence.Change{To: release, Revision: at})
		h.add(evidence.TypeDecision, environment, 0, evidence.Decision{To: release, Revision: at, Verdict: policy.Verdict{Answer: policy.Allow}})
	}
	approve("", revision("main", "1").Revision, revision("main", "1"))
	approve("dev", "a", revision("main", "1"))
	approve("qa", "a", revision("other", "1"))
	h.add(evidence.TypeForcePush, "", 0, evidence.ForcePush{Source: "estate", Branch: "main"})
	lost := h.at
	approve("", revision("main", "2").Revision, revision("main", "2"))
	approve("dev", "b", revision("main", "2"))
	s := h.fold()
	for name, got := range map[string]time.Time{"governance": s.Governance.Offers.Rewritten, "dev": s.environment("dev").Offers.Rewritten} {
		if !got.Equal(lost) {
			t.Errorf("%s: main was rewritten at %s, want %s", name, got, lost)
		}
	}
	if got := s.environment("qa").Offers.Rewritten; !got.IsZero() {
		t.Errorf("qa follows another branch, and says that it was rewritten at %s", got)
	}
}

// That more images ran is no change of health: since when it is as it is stays.
func TestImagesThatRanMoveNoHealth(t *testing.T) {
	h := &history{t: t}
	h.released("a")
	health := func(to string, ran ...string) time.Time {
		h.t.Helper()
		h.add(evidence.TypeHealth, "dev", 1, evidence.Health{Release: "a", To: to, Ran: ran})
		return h.fold().environment("dev").HealthAt
	}
	well := health("Healthy", "one")
	if at := health("Healthy", "one", "two"); !at.Equal(well) || len(h.fold().environment("dev").Health.Ran) != 2 {
		t.Errorf("it is healthy since %s, want %s", at, well)
	}
	if ill := health("Degraded", "one", "two"); !ill.Equal(h.at) {
		t.Errorf("it is ill since %s, want %s", ill, h.at)
	}
	h.add(evidence.TypeHealth, "dev", 2, evidence.Health{Release: "b", To: "Degraded"})
	if at := h.fold().environment("dev").HealthAt; !at.Equal(h.at) {
		t.Errorf("another release is ill since %s, want %s", at, h.at)
	}
}
