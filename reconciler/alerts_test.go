package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/alert"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Since when something is wrong follows from the records, so that a new agent says the same.
func TestTheBeginningOfTroubleFollowsFromTheRecords(t *testing.T) {
	t.Parallel()
	h := &history{t: t}
	begins := func(what string, since func(*EnvironmentState) time.Time, want time.Time) {
		t.Helper()
		if got := since(h.fold().Environments["dev"]); !got.Equal(want) {
			t.Errorf("%s since %s, want %s", what, got, want)
		}
	}
	judged := func(e *EnvironmentState) time.Time { return e.JudgedAt }
	failed := func(e *EnvironmentState) time.Time { return e.Deployment.FailedAt }
	drift := func(e *EnvironmentState) time.Time { return e.DriftSince }

	h.propose("r1")
	h.decide("r1", policy.Wait)
	h.decide("r1", policy.Deny)
	denied := h.at
	h.decide("r1", policy.Deny)
	begins("denied", judged, denied)
	h.decide("r1", policy.Allow)
	h.outcome(1, h.plan(1, "r1"), "r1", evidence.OutcomeFailed)
	first := h.at
	h.outcome(2, h.plan(2, "r1"), "r1", evidence.OutcomeFailed)
	begins("failing", failed, first)
	h.outcome(3, h.plan(3, "r1", item("a", "created", "")), "r1", evidence.OutcomeApplied)
	begins("applied, failing", failed, time.Time{})

	differ := func(name, diff string, policy string) {
		h.add(evidence.TypeDrift, "dev", 3, evidence.Drift{Policy: policy, Objects: []evidence.Drifted{drifted(name, diff)}})
	}
	differ("a", "one", declaration.DriftReport)
	begun := h.at
	differ("b", "one", declaration.DriftReport)
	begins("drift", drift, begun)
	h.add(evidence.TypeDrift, "dev", 3, evidence.Drift{Policy: declaration.DriftReport, Gone: []render.Ref{configMap("a"), configMap("b")}})
	begins("no drift", drift, time.Time{})
	h.add(evidence.TypeRefused, "dev", 0, evidence.Refused{Stage: evidence.StageRender, Errors: []string{"F:1:2: no"}})
	begins("refused", func(e *EnvironmentState) time.Time { return e.RefusedAt }, h.at)
	h.add(evidence.TypeRefused, "dev", 0, evidence.Refused{Stage: evidence.StagePlan, Errors: []string{"no"}})
	begins("blocked", func(e *EnvironmentState) time.Time { return e.BlockedAt }, h.at)
}

// A repair that is undone again and again began with the first one.
func TestAContestHasABeginning(t *testing.T) {
	t.Parallel()
	first := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	var c Contest
	for i := range contestFree + 1 {
		c = c.next(first.Add(time.Duration(i) * time.Minute))
	}
	now := first.Add(5 * time.Minute)
	d := &declaration.Environment{}
	state := EnvironmentState{
		Contests: map[string]Contest{configMap("fought").Key(): c}, DriftSince: first.Add(time.Minute),
		Drift: []evidence.Drifted{drifted("fought", "one"), drifted("stuck", "one")},
	}
	stays, comes := driftTroubles(d, state, now)
	if !comes.Since.Equal(first) || !strings.Contains(comes.Why, "fought (4 repairs)") {
		t.Errorf("contested: %+v", comes)
	}
	if !stays.Since.Equal(state.DriftSince) || !strings.Contains(stays.Why, "stuck") || strings.Contains(stays.Why, "fought") {
		t.Errorf("drift that stays: %+v", stays)
	}
	d.Spec.Drift = declaration.DriftReport
	if stays, comes = driftTroubles(d, state, now); !comes.Since.IsZero() || !strings.Contains(stays.Remedy, "only reports") || !strings.Contains(stays.Why, "fought") {
		t.Errorf("reported: %+v, %+v", stays, comes)
	}
}

func TestIllness(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	ill := &evidence.Health{Release: "r1", To: string(health.Degraded), Message: "web: 1 of 3 pods", Cause: "application"}
	for name, test := range map[string]struct {
		health  *evidence.Health
		phase   Phase
		outcome Kind
		ill     bool
	}{
		"never looked":             {nil, PhaseLive, Unchanged, false},
		"healthy":                  {&evidence.Health{Release: "r1", To: string(health.Healthy)}, PhaseLive, Unchanged, false},
		"as declared":              {&evidence.Health{Release: "r1", To: string(health.Suspended)}, PhaseLive, Unchanged, false},
		"live and ill":             {ill, PhaseLive, Waiting, true},
		"still has time":           {ill, PhaseApplied, Waiting, false},
		"not healthy in time":      {ill, PhaseApplied, Stalled, true},
		"of the release before it": {&evidence.Health{Release: "r0", To: string(health.Degraded)}, PhaseApplied, Stalled, false},
	} {
		state := EnvironmentState{Health: test.health, HealthAt: at, Deployment: Deployment{Release: "r1", Phase: test.phase}}
		got := illness(state, &observation{outcome: Outcome{Kind: test.outcome}})
		if !got.Since.IsZero() != test.ill || test.ill && (!got.Since.Equal(at) || !strings.Contains(got.Why, "Degraded since 2026-11-27T08:00:00Z, cause application: web: 1 of 3 pods")) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGovernanceTroubles(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	refused := &evidence.Refused{Revision: evidence.Revision{Revision: "main@sha1:1"}, Errors: []string{"purser/dev.yaml:3:1: no"}}
	first := beginnings{}
	if got := governanceTroubles(Governance{}, true, first, now); got != (alert.Governance{}) {
		t.Errorf("in force: %+v", got)
	}
	got := governanceTroubles(Governance{Candidacy: Candidacy{Refused: refused, RefusedAt: now.Add(-time.Hour)}}, true, first, now)
	if !got.Refused.Since.Equal(now.Add(-time.Hour)) || got.Refused.Why != "main@sha1:1: purser/dev.yaml:3:1: no" || !got.Missing.Since.IsZero() {
		t.Errorf("refused: %+v", got)
	}
	governanceTroubles(Governance{}, false, first, now)
	got = governanceTroubles(Governance{Candidacy: Candidacy{Refused: refused}}, false, first, now.Add(time.Minute))
	if !got.Missing.Since.Equal(now) || !strings.Contains(got.Missing.Why, "dev.yaml:3:1") {
		t.Errorf("none in force: %+v", got)
	}
}

// What no record tells of begins when it is first seen, anew after it was over.
func TestBeginnings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	first, broken := beginnings{}, errors.New("connection refused")
	for i, test := range []struct {
		err  error
		want time.Time
	}{{broken, now}, {broken, now}, {nil, time.Time{}}, {broken, now.Add(3 * time.Minute)}} {
		if got := first.trouble("it", test.err, "mend it", now.Add(time.Duration(i)*time.Minute)); !got.Since.Equal(test.want) {
			t.Errorf("%d: since %s, want %s", i, got.Since, test.want)
		}
	}
}
