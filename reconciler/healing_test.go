package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// In these tests the interval of full comparisons is ten minutes: what is seen sooner, the watch saw.

// patchByHand changes a ConfigMap as a field manager.
func (w *world) patchByHand(name, manager, patch string) {
	w.t.Helper()
	if _, err := w.kube.CoreV1().ConfigMaps(w.namespace).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteByHand(name string) {
	w.t.Helper()
	if err := w.kube.CoreV1().ConfigMaps(w.namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// drifts reads the drift records of an environment.
func drifts(t *testing.T, records []evidence.Record, environment string) []evidence.Drift {
	t.Helper()
	var list []evidence.Drift
	for _, r := range records {
		if r.Type == evidence.TypeDrift && r.Environment == environment {
			var d evidence.Drift
			decode(t, r, &d)
			list = append(list, d)
		}
	}
	return list
}

// TestManualChangesAreHealedAtOnce edits, deletes and unlabels objects. They are restored long before the next full
// comparison, and the records say what differed, who wrote it and which repair answered it.
func TestManualChangesAreHealedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.setByHand("c1", "by hand")
	w.deleteByHand("c2")
	w.patchByHand("c3", "kubectl-label", `{"metadata":{"labels":{"purser.dev/environment":null}}}`)
	w.waitFor("all are restored", func(ctx context.Context) error {
		if err := w.runs(ctx, "one"); err != nil {
			return err
		}
		c3, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, "c3", metav1.GetOptions{})
		if err == nil && c3.Labels["purser.dev/environment"] != "dev" {
			err = errors.New("c3 lost its label")
		}
		return err
	})
	w.until("no drift is left", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if len(dev.Drift) > 0 {
			return fmt.Errorf("drift %v", dev.Drift)
		}
		return nil
	})
	records := w.records()
	seen := map[string]evidence.Drifted{}
	for _, d := range drifts(t, records, "dev") {
		if d.Policy != "correct" || d.Found != evidence.FoundByWatch {
			t.Errorf("drift was found by %s under the policy %s", d.Found, d.Policy)
		}
		for _, o := range d.Objects {
			seen[o.Name] = o
		}
	}
	for name, want := range map[string]struct{ action, manager, field string }{
		"c1": {"configured", "kubectl-edit", "data.value"},
		"c2": {"created", "", ""},
		"c3": {"configured", "", "metadata.labels"}, // who only takes away holds nothing
	} {
		got, ok := seen[name]
		if !ok || got.Action != want.action || got.User != evidence.Unattributed {
			t.Errorf("%s is recorded as %+v", name, got)
			continue
		}
		if want.field != "" && !slices.ContainsFunc(got.Fields, func(f string) bool { return strings.HasPrefix(f, want.field) }) {
			t.Errorf("%s: fields %v, want %s", name, got.Fields, want.field)
		}
		if want.manager != "" && (len(got.By) == 0 || got.By[0].Manager != want.manager) {
			t.Errorf("%s: by %v, want %s", name, got.By, want.manager)
		}
	}
	everyIntentHasOneOutcome(t, records)
	for _, r := range records {
		var plan evidence.Plan
		if r.Type != evidence.TypePlan {
			continue
		}
		if decode(t, r, &plan); plan.Purpose == evidence.PurposeRepair && (plan.Drift == nil || records[*plan.Drift].Type != evidence.TypeDrift) {
			t.Errorf("the repair of record %d names no drift record", r.Index)
		}
	}
}

// TestDriftIsReportedAndLeft changes an object of an environment that only reports: each difference is recorded once,
// and so is that it is gone.
func TestDriftIsReportedAndLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "drift: report"))
	})
	w.run()
	w.untilLive("dev", "one")
	differs := func(n int) {
		t.Helper()
		w.until(fmt.Sprintf("%d objects differ", n), func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if len(dev.Drift) != n {
				return fmt.Errorf("drift %v", dev.Drift)
			}
			return nil
		})
	}
	w.setByHand("c1", "by hand")
	differs(1)
	w.patchByHand("c1", "kubectl-edit", `{"metadata":{"annotations":{"note":"unrelated"}}}`)
	w.deleteByHand("c2")
	differs(2)
	w.until("the missing object shows in the health", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Health != "Missing" {
			return fmt.Errorf("health is %s", dev.Health)
		}
		return nil
	})
	if c1, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(t.Context(), "c1", metav1.GetOptions{}); err != nil || c1.Data["value"] != "by hand" {
		t.Errorf("a reported object was changed: %v %v", c1.Data, err)
	}
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", ""))
	w.push("Correct drift from now on")
	w.waitFor("all are restored", func(ctx context.Context) error { return w.runs(ctx, "one") })
	differs(0)
	records := w.records()
	list := drifts(t, records, "dev")
	if len(list) < 2 || len(list) > 4 {
		t.Errorf("%d drift records, want one for each change: %+v", len(list), list)
	}
	for _, r := range records {
		var plan evidence.Plan
		if r.Type == evidence.TypePlan {
			if decode(t, r, &plan); plan.Purpose == evidence.PurposeRepair && plan.Drift == nil {
				t.Errorf("the repair of record %d names no drift record", r.Index)
			}
		}
	}
}

// TestDriftIsToldOnce edits many objects of an environment that reports, one after the other: each is recorded and logged
// once, and each record says how many differ.
func TestDriftIsToldOnce(t *testing.T) {
	t.Parallel()
	const many = 30
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "drift: report"))
		w.write("apps/dev/objects.yaml", configMaps(many, "one"))
	})
	w.run()
	w.untilLive("dev", "one")
	differs := func(n int) {
		t.Helper()
		w.until(fmt.Sprintf("%d objects differ", n), func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
			if len(dev.Drift) != n {
				return fmt.Errorf("%d do", len(dev.Drift))
			}
			return nil
		})
	}
	for i := range many {
		w.setByHand(fmt.Sprintf("c%d", i), "by hand")
		if i%10 == 0 {
			differs(i + 1)
		}
	}
	differs(many)
	w.until("each is told of, once", func(reconciler.Status, reconciler.EnvironmentStatus) error {
		if n := strings.Count(w.logs.String(), "msg=drift "); n != many {
			return fmt.Errorf("%d lines are about the drift of %d objects", n, many)
		}
		return nil
	})
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", ""))
	w.push("Correct drift from now on")
	differs(0)
	told, known := map[string]int{}, 0
	for _, d := range drifts(t, w.records(), "dev") {
		if known += len(d.Objects) - len(d.Gone); d.Known != known {
			t.Errorf("a record says that %d objects differ, and with it there are %d", d.Known, known)
		}
		for _, o := range d.Objects {
			told[o.Name]++
		}
	}
	for name, n := range told {
		if n != 1 {
			t.Errorf("%s is recorded %d times", name, n)
		}
	}
	if len(told) != many {
		t.Errorf("%d objects are recorded, want %d", len(told), many)
	}
}

// TestTwoManagersFightSlowly has another program overwrite a field whenever it is repaired: the repairs keep a growing
// distance, everybody can see why, and the last word is the release's.
func TestTwoManagersFightSlowly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	fight, stop := context.WithCancel(t.Context())
	defer stop()
	fights := make(chan int, 1)
	go func() {
		n := 0
		for fight.Err() == nil {
			c1, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(fight, "c1", metav1.GetOptions{})
			if err == nil && c1.Data["value"] != "mine" {
				_, err = w.kube.CoreV1().ConfigMaps(w.namespace).Patch(fight, "c1", types.MergePatchType, []byte(`{"data":{"value":"mine"}}`), metav1.PatchOptions{FieldManager: "rival"})
				if err == nil {
					n++
				}
			}
			select {
			case <-fight.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		fights <- n
	}()
	w.until("the fight is seen", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "waiting" || !strings.Contains(dev.Reason, "c1 (by rival)") || len(dev.Drift) != 1 || !dev.Drift[0].Contested {
			return fmt.Errorf("%s: %s, drift %v", dev.Outcome, dev.Reason, dev.Drift)
		}
		return nil
	})
	w.setByHand("c2", "another matter")
	w.waitFor("what nobody fights over is repaired at once", func(ctx context.Context) error {
		c2, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, "c2", metav1.GetOptions{})
		if err == nil && c2.Data["value"] != "one" {
			err = errors.New("c2 is not repaired")
		}
		return err
	})
	stop()
	if n := <-fights; n < 4 || n > 6 {
		t.Errorf("the rival wrote %d times, want 4 to 6: three repairs at once, then a pause", n)
	}
	w.waitFor("the release has the last word", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.until("no drift is left", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if len(dev.Drift) > 0 || dev.Outcome == "waiting" {
			return fmt.Errorf("%s: %s, drift %v", dev.Outcome, dev.Reason, dev.Drift)
		}
		return nil
	})
	everyIntentHasOneOutcome(t, w.records())
}

// TestDriftDuringAnOutageIsFoundAfterwards changes objects while the agent cannot reach the API server.
func TestDriftDuringAnOutageIsFoundAfterwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy := w.proxied()
	w.run()
	w.untilLive("dev", "one")
	for round, fault := range []lab.Fault{{Mode: lab.Refuse}, {Mode: lab.Hang}, {Mode: lab.Answer, Status: http.StatusServiceUnavailable}} {
		if err := proxy.Set(fault); err != nil {
			t.Fatal(err)
		}
		if fault.Mode == lab.Answer {
			proxy.Cut() // open watches end as well
		}
		w.setByHand("c1", fmt.Sprint("by hand ", round))
		w.deleteByHand("c2")
		if err := proxy.Clear(); err != nil {
			t.Fatal(err)
		}
		w.waitFor("both are restored", func(ctx context.Context) error { return w.runs(ctx, "one") })
	}
	for _, d := range drifts(t, w.records(), "dev") {
		if d.Found != evidence.FoundByWatch {
			t.Errorf("the drift of %v was found by the %s", d.Objects, d.Found)
		}
	}
}
