package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// TestKilledWhileTheIntentWaits kills the agent when a release's intent is recorded and the audit remote does not show it.
// The next agent, to which the remote refuses all pushes, says so, and repairs what is live meanwhile.
func TestKilledWhileTheIntentWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy := w.gitProxy(&w.settings.auditURL)
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	tip := w.auditGit("rev-parse", w.auditBranch())
	agent := w.agentProcess("added:4") // start, change, decision, plan
	labtest.Eventually(t, "the agent runs", func(context.Context) error {
		if w.auditGit("rev-parse", w.auditBranch()) == tip {
			return errors.New("its start is not recorded yet")
		}
		return nil
	})
	if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
		t.Fatal(err)
	}
	w.write("apps/dev/objects.yaml", configMaps(7, "two"))
	w.push("Release two")
	if err := agent.wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the agent did not come to its intent: %v", err)
	}
	if err := errors.Join(w.audit.RejectPushes("closed for the audit"), proxy.Clear()); err != nil {
		t.Fatal(err)
	}

	w.run()
	w.until("dev waits for the audit remote", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Deployment.Phase != reconciler.PhaseAbandoned || !strings.Contains(dev.Reason, "audit") {
			return fmt.Errorf("dev is %s: %q; deployment %+v", dev.Outcome, dev.Reason, dev.Deployment)
		}
		return nil
	})
	w.setByHand("c3", "by hand")
	w.holds("c3", "one")
	w.until("dev still waits for the audit remote", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !strings.Contains(dev.Reason, "closed for the audit") {
			return fmt.Errorf("dev is %s: %q", dev.Outcome, dev.Reason)
		}
		return nil
	})
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("a release was applied without its intent on the audit remote: %v", err)
	}
	if err := w.audit.AcceptPushes(); err != nil {
		t.Fatal(err)
	}
	w.untilLive("dev", "two")
	records := w.records()
	everyIntentHasOneOutcome(t, records)
	outcomes := map[string]int{}
	for _, r := range records {
		if r.Type == evidence.TypeApply {
			var p evidence.Apply
			decode(t, r, &p)
			outcomes[p.Outcome]++
		}
	}
	if outcomes[evidence.OutcomeAbandoned] < 1 || outcomes[evidence.OutcomeInterrupted] > 0 {
		t.Errorf("outcomes %v: the intent that nobody saw was abandoned, not interrupted", outcomes)
	}
}
