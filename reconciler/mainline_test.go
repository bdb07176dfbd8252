package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// TestPushBecomesLiveAndRecorded is the main line: a push is rendered, decided, applied, healthy and recorded.
func TestPushBecomesLiveAndRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	first := w.untilLive("dev", "one")
	w.setValue("two")
	second := w.untilLive("dev", "two")
	if first == second {
		t.Fatal("a changed release has the same digest")
	}
	w.write("README.md", "unrelated\n")
	w.push("Touch nothing that is rendered")
	w.write("apps/dev/objects.yaml", configMaps(4, "two"))
	w.push("Drop one object")
	labtest.Eventually(t, "c4 is pruned", func(ctx context.Context) error {
		_, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, "c4", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is still there (%v)", err)
	})
	w.until("the third release is live", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Live.Release == second {
			return errors.New("the second still is")
		}
		return nil
	})
	var history []string
	for _, r := range w.records() {
		if r.Environment == "dev" && r.Type != evidence.TypeHealth {
			history = append(history, r.Type)
		}
	}
	once := []string{evidence.TypeChange, evidence.TypeDecision, evidence.TypePlan, evidence.TypeApply, evidence.TypeLive}
	if want := slices.Concat(once, once, once); !slices.Equal(history, want) {
		t.Errorf("recorded %v, want %v", history, want)
	}
}

// TestIdleAgentSaysThatItLives writes a heartbeat when nothing else is written.
func TestIdleAgentSaysThatItLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.settings.heartbeat = 200 * time.Millisecond
	w.run()
	w.untilLive("dev", "one")
	before := w.agent.Status().Evidence.Records
	w.waitFor("two heartbeats", func(context.Context) error {
		if now := w.agent.Status().Evidence.Records; now < before+2 {
			return fmt.Errorf("%d records, %d before", now, before)
		}
		return nil
	})
	for _, r := range w.records() {
		if r.Type == evidence.TypeHeartbeat {
			return
		}
	}
	t.Error("no heartbeat is recorded")
}

// TestManualChangeIsRepaired edits and deletes objects by hand; the next full comparison restores them.
func TestManualChangeIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	w.run()
	w.untilLive("dev", "one")
	maps := w.kube.CoreV1().ConfigMaps(w.namespace)
	edited, err := maps.Get(t.Context(), "c1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edited.Data["value"] = "by hand"
	if _, err := maps.Update(t.Context(), edited, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "c2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "both are restored", func(ctx context.Context) error { return w.runs(ctx, "one") })
	plans := 0
	for _, r := range w.records() {
		if r.Type == evidence.TypePlan {
			plans++
		}
	}
	if plans < 2 {
		t.Errorf("%d plans recorded, want the release's and a repair's", plans)
	}
}

// TestDependencyGoesFirst declares two environments, one waiting for the other.
func TestDependencyGoesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/later.yaml", w.environment("later", "apps/later", "dependsOn: [dev]"))
		w.write("apps/later/kustomization.yaml", "namePrefix: later-\nresources: [../dev]\n")
	})
	w.run()
	w.untilLive("later", "one")
	var order []string
	for _, r := range w.records() {
		if r.Type == evidence.TypeLive || r.Type == evidence.TypePlan {
			order = append(order, r.Type+" "+r.Environment)
		}
	}
	if want := []string{"plan dev", "live dev", "plan later", "live later"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

// TestSuspendedEnvironmentIsWatchedAndLeft neither applies releases nor repairs.
func TestSuspendedEnvironmentIsWatchedAndLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {suspend: true}"))
	w.write("apps/dev/objects.yaml", configMaps(5, "two"))
	w.push("Suspend dev and release two")
	w.until("the release is approved and waits", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !dev.Suspended || dev.Approved.Release == dev.Live.Release || dev.Outcome != "waiting" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("a suspended environment was changed: %v", err)
	}
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", ""))
	w.push("Resume dev")
	w.untilLive("dev", "two")
}

// orphan removes the declaration of dev.
func (w *world) orphan() {
	w.t.Helper()
	w.git("rm", "--quiet", "purser/dev.yaml")
	w.write("purser/estate.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: sample}\nspec: {}\n")
	w.push("Remove dev")
	w.until("dev is orphaned", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !dev.Orphaned {
			return errors.New("it is still declared")
		}
		return nil
	})
}

// TestRemovedEnvironmentIsOrphaned leaves the objects of a declaration that disappeared.
func TestRemovedEnvironmentIsOrphaned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.orphan()
	if err := w.runs(t.Context(), "one"); err != nil {
		t.Errorf("an orphaned environment was changed: %v", err)
	}
}

// TestRenamedEnvironmentKeepsItsObjects gives an environment another name. Nobody else takes what it owned, not even by an approval
// that the cluster would contradict.
func TestRenamedEnvironmentKeepsItsObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	uid := w.uidOf("c0")
	w.orphan()
	w.git("mv", "apps/dev", "apps/shop")
	w.write("purser/shop.yaml", w.environment("shop", "apps/shop", ""))
	w.push("Declare another name")
	w.until("shop may not have them", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if shop := find(s, "shop"); shop.Verdict == nil || shop.Approved != nil || !strings.Contains(shop.Reason, `belongs to the environment "dev"`) || !strings.Contains(shop.Reason, "renamedFrom") {
			return fmt.Errorf("%s: %s", shop.Outcome, shop.Reason)
		}
		return nil
	})
	w.write("purser/shop.yaml", w.environment("shop", "apps/shop", "renamedFrom: dev"))
	w.push("Say which name it had")
	w.until("shop is live, and nothing is left of dev", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if shop := find(s, "shop"); shop.Live == nil || len(shop.Inventory) != 5 || len(dev.Inventory) != 0 {
			return fmt.Errorf("%s: %s; dev has %v", shop.Outcome, shop.Reason, dev.Inventory)
		}
		return nil
	})
	c, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(t.Context(), "c0", metav1.GetOptions{})
	if err != nil || string(c.UID) != uid || c.Labels["purser.dev/environment"] != "shop" {
		t.Errorf("c0 is %v with labels %v: %v", c.UID, c.Labels, err)
	}
	w.records()
}

// TestWhatIsLeftAndDeletedIsNobodys: a person deletes what is left of an environment, and then another one may have it.
func TestWhatIsLeftAndDeletedIsNobodys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.orphan()
	w.git("mv", "apps/dev", "apps/shop")
	w.write("purser/shop.yaml", w.environment("shop", "apps/shop", ""))
	w.push("Declare another one in its place")
	remove := func(names ...string) {
		for _, name := range names {
			if err := w.kube.CoreV1().ConfigMaps(w.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove("c0", "c1", "c2", "c3")
	w.until("one is left, and shop may not have it", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if shop := find(s, "shop"); len(dev.Inventory) != 1 || shop.Approved != nil || !strings.Contains(shop.Reason, `belongs to the environment "dev"`) {
			return fmt.Errorf("%s: %s; dev has %v", shop.Outcome, shop.Reason, dev.Inventory)
		}
		return nil
	})
	remove("c4")
	w.until("shop is live", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if shop := find(s, "shop"); shop.Live == nil || len(shop.Inventory) != 5 || len(dev.Inventory) != 0 {
			return fmt.Errorf("%s: %s; dev has %v", shop.Outcome, shop.Reason, dev.Inventory)
		}
		return nil
	})
	w.records()
}

// uidOf is that of a ConfigMap.
func (w *world) uidOf(name string) string {
	w.t.Helper()
	c, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(c.UID)
}

// TestForcePushIsRecordedAndFollowed rewrites the history of the branch.
func TestForcePushIsRecordedAndFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.git("checkout", "--quiet", "--orphan", "rewritten")
	w.git("branch", "--delete", "--force", "main")
	w.git("branch", "--move", "main")
	w.write("apps/dev/objects.yaml", configMaps(5, "rewritten"))
	w.push("Another history")
	w.untilLive("dev", "rewritten")
	for _, r := range w.records() {
		if r.Type == evidence.TypeForcePush {
			return
		}
	}
	t.Error("the force push is not recorded")
}

// TestRestartContinues stops the agent, and starts it on the same data and then on an empty disk.
func TestRestartContinues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	release := w.untilLive("dev", "one")
	for _, disk := range []string{"the same", "an empty"} {
		w.stop()
		if disk == "an empty" {
			w.moveMachine()
		}
		w.run()
		w.until("dev is live again on "+disk+" disk", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if dev.Live == nil || dev.Live.Release != release || dev.Outcome != "unchanged" {
				return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
			}
			return nil
		})
	}
	plans := 0
	for _, r := range w.records() {
		if r.Type == evidence.TypePlan {
			plans++
		}
	}
	if plans != 1 {
		t.Errorf("%d plans for one release and two restarts", plans)
	}
}

// TestNewMachineNeedsTheAuditRemoteAlone starts on an empty disk while the estate cannot be read: what was live
// is known and repaired from what the audit remote keeps.
func TestNewMachineNeedsTheAuditRemoteAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	release := w.untilLive("dev", "one")
	w.stop()
	w.moveMachine()
	if err := w.estate.SetUsers(map[string]string{"nobody": "knows"}); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c3", "by hand")
	w.run()
	w.waitFor("what was live is restored", func(ctx context.Context) error { return w.runs(ctx, "one") })
	if dev := find(w.agent.Status(), "dev"); dev.Live == nil || dev.Live.Release != release {
		t.Errorf("live is %+v, want %s", dev.Live, release)
	}
	everyIntentHasOneOutcome(t, w.records())
}
