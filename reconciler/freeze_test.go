package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// frozen gives dev a calendar with one freeze that ends some time after the world's clock starts. Calendars have minutes,
// so the clock starts that long before a full one.
func (w *world) frozen(left time.Duration, more string) {
	w.t.Helper()
	began := time.Now()
	ends := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	w.settings.now = func() time.Time { return ends.Add(-left).Add(time.Since(began)) }
	w.write("purser/calendar.yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: UTC
  freezes: [{name: black-friday, reason: peak trade, start: "2026-11-26T00:00", end: "2026-11-27T06:00"%s}]
`, more))
}

func TestFreezeEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.frozen(30*time.Second, "")
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "calendar: retail"))
	})
	w.run()
	w.untilGate("calendar", policy.Wait, "black-friday")
	w.until("the status says until when", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		until := dev.Verdict.Until()
		if until == nil || !until.Equal(time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)) {
			return fmt.Errorf("until %v", until)
		}
		return nil
	})
	w.untilLive("dev", "one")
	for _, r := range w.records() {
		if r.Type == evidence.TypePlan && r.Time.Before(time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)) {
			t.Errorf("record %d plans at %s, in the freeze", r.Index, r.Time)
		}
	}
}

func TestInAFreezeRepairAndRollbackGoOnAndAnOverrideIsReviewed(t *testing.T) {
	w := governed(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: standard"))
	})
	w.run()
	w.firstRelease()
	w.untilLive("dev", "one")
	w.signedBy("developer-1")
	w.setValue("two")
	w.untilGate("approvals", policy.Wait, "")
	w.approves("release-manager-1")
	w.untilLive("dev", "two")

	now := time.Now().UTC()
	w.write("purser/calendar.yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: UTC
  freezes: [{name: black-friday, reason: peak trade, start: %q, end: %q}]
`, now.Add(-time.Hour).Format("2006-01-02T15:04"), now.Add(24*time.Hour).Format("2006-01-02T15:04")))
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: standard\ncalendar: retail"))
	w.setValue("three")
	w.untilGate("calendar", policy.Wait, "black-friday")

	w.setByHand("c1", "drifted")
	w.untilRuns("two") // what is live is repaired

	w.approves("release-manager-1")
	override := w.says("release-manager-1", statement.Statement{
		Verb: statement.Override, Environment: "dev", Gates: []string{"calendar"}, Reason: "orders are lost", Ticket: "ERP-9",
		Expires: time.Now().Add(time.Hour),
	})
	w.untilLive("dev", "three")
	w.says("release-manager-1", statement.Statement{Verb: statement.Review, Statement: override}) // nobody reviews their own
	w.says("release-manager-2", statement.Statement{Verb: statement.Review, Statement: override})

	w.signedBy("release-manager-2")
	w.setValue("two") // what was live before: a rollback
	left := w.untilLive("dev", "two")
	w.setValue("three") // was live before as well, and was left: no way past the freeze
	w.untilGate("veto", policy.Deny, "a rollback to "+left+" left it")
	w.says("release-manager-1", statement.Statement{
		Verb: statement.Lift, Environment: "dev", To: find(w.agent.Status(), "dev").Proposed.Release, Reason: "it was not that bad",
	})
	w.approves("release-manager-1")
	w.untilGate("veto", policy.Allow, "not vetoed")
	w.untilGate("approvals", policy.Allow, "release-manager-1 (statement)")
	w.untilGate("calendar", policy.Wait, "black-friday") // with the veto lifted it is a release as any other

	refused, reviewed := 0, 0
	for _, r := range w.records() {
		switch r.Type {
		case evidence.TypeStatement:
			var s evidence.Statement
			decode(t, r, &s)
			if said, err := statement.Decode(s.Payload); err == nil && said.Verb == statement.Review {
				if s.Refused != "" {
					refused++
				} else {
					reviewed++
				}
			}
		case evidence.TypeDecision:
			var d evidence.Decision
			decode(t, r, &d)
			for _, g := range d.Verdict.Gates {
				if g.Override != "" && (g.Gate != "calendar" || !strings.Contains(g.Reason, "orders are lost")) {
					t.Errorf("record %d: %+v", r.Index, g)
				}
			}
		}
	}
	if refused != 1 || reviewed != 1 {
		t.Errorf("%d reviews refused and %d accepted, want one of each", refused, reviewed)
	}
}

// untilRuns waits until all objects of dev hold a value.
func (w *world) untilRuns(value string) {
	w.t.Helper()
	labtest.Eventually(w.t, "dev runs "+value, func(ctx context.Context) error { return w.runs(ctx, value) })
}

func TestPauseHoldsAndAbortGoesBack(t *testing.T) {
	w := governed(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: low\nhealth: {timeout: 5m}"))
	})
	w.run()
	first := w.untilLive("dev", "one")
	w.says("release-manager-1", statement.Statement{Verb: statement.Pause, Environment: "dev", Reason: "stock count"})
	w.until("dev is held", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Hold == nil {
			return fmt.Errorf("not held: %s", dev.Reason)
		}
		return nil
	})
	// A release that never gets healthy.
	w.write("apps/dev/web.yaml", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {lab.purser.dev/pod: not-ready}
    spec: {containers: [{name: web, image: "registry.example/odoo:18"}]}
`)
	w.write(kustomization, "resources: [objects.yaml, web.yaml]\n")
	w.push("Add the web server")
	w.untilGate("pause", policy.Wait, "stock count")
	w.says("developer-1", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "let me"}) // may not
	w.says("release-manager-2", statement.Statement{Verb: statement.Resume, Environment: "dev", Reason: "counted"})
	w.until("the release is applied and not healthy", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Deployment.Phase != reconciler.PhaseApplied || dev.Approved.Release == first {
			return fmt.Errorf("%s: %s", dev.Deployment.Phase, dev.Reason)
		}
		return nil
	})
	w.says("release-manager-1", statement.Statement{Verb: statement.Abort, Environment: "dev", Reason: "no such image"})
	w.until("what was live is live again", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release != first || dev.Deployment.Release != first || dev.Deployment.Phase != reconciler.PhaseLive {
			return fmt.Errorf("%s %s: %s", dev.Deployment.Release, dev.Deployment.Phase, dev.Reason)
		}
		return nil
	})
	w.untilGate("veto", policy.Deny, "no such image")
	w.records()
}
