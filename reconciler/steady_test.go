package reconciler_test

// What stands still, is stuck or fails must neither block the rest, nor hide, nor cause a storm of requests or records.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// holds waits until a ConfigMap holds a value.
func (w *world) holds(name, value string) {
	w.t.Helper()
	labtest.Eventually(w.t, name+" holds "+value, func(ctx context.Context) error {
		c, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && c.Data["value"] != value {
			dev := find(w.agent.Status(), "dev")
			err = fmt.Errorf("it holds %q; dev is %s: %s, drift %v", c.Data["value"], dev.Outcome, dev.Reason, dev.Drift)
		}
		return err
	})
}

// An object that a finalizer keeps from going away must not keep the others from being repaired.
func TestTerminatingObjectBlocksNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	clock := w.clock()
	w.run()
	w.untilLive("dev", "one")
	w.patchByHand("c0", "other-operator", `{"metadata":{"finalizers":["example.org/hold"]}}`)
	t.Cleanup(func() {
		_, _ = w.kube.CoreV1().ConfigMaps(w.namespace).Patch(context.Background(), "c0", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	w.deleteByHand("c0")
	w.until("c0 is stuck", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "failed" || !strings.Contains(dev.Reason, "/c0 is being deleted") {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	clock.stop() // it is not tried again
	w.setByHand("c1", "by hand")
	w.holds("c1", "one")
}

// An object that is stuck must stay visible as long as it is stuck.
func TestStuckObjectStaysVisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.patchByHand("c1", "dashboard", `{"immutable":true,"data":{"value":"stolen"}}`)
	w.until("dev is stalled", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "stalled" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	time.Sleep(5 * time.Second)
	dev := find(w.agent.Status(), "dev")
	t.Logf("5 s later: %s: %q, health %s, drift %v", dev.Outcome, dev.Reason, dev.Health, dev.Drift)
	if dev.Outcome == "unchanged" && len(dev.Drift) == 0 {
		t.Error("c1 cannot be changed any more and holds another value, and dev is said to be unchanged without drift")
	}
	if list := drifts(t, w.records(), "dev"); len(list) == 0 {
		t.Error("no drift record")
	}
}

// An object that is stuck must not turn every visit into a full comparison.
func TestStuckObjectIsNoStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 8s}"))
		w.write("apps/dev/objects.yaml", configMaps(5, "one")+deploymentYAML)
	})
	var requests atomic.Int64 // of ConfigMaps that are not watches
	proxy, kubeconfig, err := w.lab.APIProxy(lab.Identity{User: "admin", Groups: []string{"system:masters"}}, func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/configmaps/") && r.URL.Query().Get("watch") == "" {
			requests.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	w.settings.kubeconfig = kubeconfig
	w.run()
	w.untilLive("dev", "one")
	w.patchByHand("c1", "dashboard", `{"immutable":true,"data":{"value":"stolen"}}`)
	time.Sleep(10 * time.Second) // the interval comes once
	before := requests.Load()
	for i := range 40 { // a workload that reports often
		w.status(t, func(s *appsv1.DeploymentStatus) { s.CollisionCount = ptr(int32(i)) })
		time.Sleep(100 * time.Millisecond)
	}
	n := requests.Load() - before
	t.Logf("%d requests about ConfigMaps in 4 s, %d would be one full comparison", n, 10)
	if n > 20 {
		t.Error("every visit compares everything")
	}
}

const deploymentYAML = `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.org/web@sha256:0000000000000000000000000000000000000000000000000000000000000000}]}
`

func ptr[T any](v T) *T { return &v }

func (w *world) status(t *testing.T, change func(*appsv1.DeploymentStatus)) {
	t.Helper()
	for range 20 {
		d, err := w.kube.AppsV1().Deployments(w.namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d.Status.ObservedGeneration = d.Generation
		change(&d.Status)
		if _, err = w.kube.AppsV1().Deployments(w.namespace).UpdateStatus(t.Context(), d, metav1.UpdateOptions{FieldManager: "controller"}); err == nil {
			return
		}
	}
	t.Fatal("status cannot be written")
}

// Nobody in the lab runs pods, so the test says what their health is.
const podYAML = `---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {automountServiceAccountToken: false, containers: [{name: web, image: example.org/web}]}
`

// ready says whether the pod is.
func (w *world) ready(is string) {
	w.t.Helper()
	patch := fmt.Sprintf(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":%q}]}}`, is)
	w.waitFor("the pod has a status", func(ctx context.Context) error {
		_, err := w.kube.CoreV1().Pods(w.namespace).Patch(ctx, "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubelet"}, "status")
		return err
	})
}

// A change of health that the watch told of is not forgotten because the first look at it failed.
func TestHealthChangeSurvivesAFailedRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+podYAML) })
	proxy := w.proxied()
	w.run()
	w.ready("True")
	w.untilLive("dev", "one")
	time.Sleep(7 * time.Second) // the last look at health is longer ago than unwellEvery
	if err := proxy.Set(lab.Fault{Mode: lab.Answer, Status: 500, Match: func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods/web")
	}, Times: 1}); err != nil {
		t.Fatal(err)
	}
	w.ready("False")
	time.Sleep(20 * time.Second)
	dev := find(w.agent.Status(), "dev")
	t.Logf("20 s later: %s: %q, health %s %s", dev.Outcome, dev.Reason, dev.Health, dev.HealthWhy)
	if dev.Health == "Healthy" {
		t.Error("the pod is not ready, and its environment is said to be healthy until the interval is over")
	}
}

// The same, when the watch has to load everything anew after a gap.
func TestHealthChangeInAGapOfTheWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+podYAML) })
	proxy := w.proxied()
	w.run()
	w.ready("True")
	w.untilLive("dev", "one")
	time.Sleep(7 * time.Second)
	// What was known is too old to go on with: the watch is told 410 and loads everything anew.
	if err := proxy.Set(lab.Fault{Mode: lab.Answer, Status: http.StatusGone, Match: func(r *http.Request) bool {
		q := r.URL.Query()
		return strings.HasSuffix(r.URL.Path, "/pods") && q.Get("watch") != "" && q.Get("sendInitialEvents") == ""
	}}); err != nil {
		t.Fatal(err)
	}
	w.settleAfterCut(proxy)
	w.ready("False")
	time.Sleep(5 * time.Second)
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Second)
	dev := find(w.agent.Status(), "dev")
	t.Logf("25 s later: %s: %q, health %s %s", dev.Outcome, dev.Reason, dev.Health, dev.HealthWhy)
	if dev.Health == "Healthy" {
		t.Error("the pod is not ready, and its environment is said to be healthy until the interval is over")
	}
}

// settleAfterCut cuts all connections; the agent's watches come back within a second.
func (w *world) settleAfterCut(proxy *lab.Proxy) { proxy.Cut() }

// A program that keeps writing other values to an environment that only reports must not fill the log.
func TestReportedFightIsDamped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "drift: report"))
	})
	w.run()
	w.untilLive("dev", "one")
	for i := range 60 {
		w.patchByHand("c1", "rival", fmt.Sprintf(`{"data":{"value":"tick %d"}}`, i))
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second)
	n := len(drifts(t, w.records(), "dev"))
	t.Logf("%d drift records of 60 writes in 6 s", n)
	if n > 10 {
		t.Error("each write of somebody else becomes a record")
	}
}

// What is live is repaired although the intent of a newer release was abandoned: nothing of that was applied.
func TestRepairGoesOnAfterAnAbandonedIntent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 5s, timeout: 6s}"))
	})
	proxy, clock := w.gitProxy(&w.settings.auditURL), w.clock()
	w.run()
	w.untilLive("dev", "one")
	if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
		t.Fatal(err)
	}
	w.setValue("two")
	w.until("the intent is abandoned", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release == dev.Live.Release || dev.Deployment.Intent != nil || dev.Deployment.Number < 2 {
			return fmt.Errorf("dev is %s: %s; deployment %+v", dev.Outcome, dev.Reason, dev.Deployment)
		}
		return nil
	})
	clock.stop() // the release is not tried again
	w.setByHand("c3", "by hand")
	w.holds("c3", "one")
}

// What is approved and not applied yet stays claimed through a restart.
func TestClaimsSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {suspend: true}"))
	})
	w.run()
	approved := func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved == nil {
			return errors.New("nothing is approved")
		}
		return nil
	}
	w.until("approved", approved)
	w.stop()
	w.run()
	w.until("approved", approved)
	w.write("purser/twin.yaml", w.environment("twin", "apps/twin", ""))
	w.write("apps/twin/kustomization.yaml", "resources: [../dev]\n")
	w.push("Declare a twin")
	w.until("the twin is denied", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		twin := find(s, "twin")
		if twin.Live != nil {
			t.Fatal("the twin took all objects that are approved for dev")
		}
		if twin.Outcome != "denied" {
			return fmt.Errorf("twin is %s: %s", twin.Outcome, twin.Reason)
		}
		return nil
	})
}

// A fight over one object delays no release, not even of that object.
func TestContestedObjectDelaysNoRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	clock := w.clock()
	w.run()
	w.untilLive("dev", "one")
	fight, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for fight.Err() == nil {
			c1, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(fight, "c1", metav1.GetOptions{})
			if err == nil && c1.Data["value"] != "mine" {
				_, _ = w.kube.CoreV1().ConfigMaps(w.namespace).Patch(fight, "c1", types.MergePatchType, []byte(`{"data":{"value":"mine"}}`), metav1.PatchOptions{FieldManager: "rival"})
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	w.until("the fight is seen", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "waiting" || len(dev.Drift) != 1 || !dev.Drift[0].Contested {
			return fmt.Errorf("%s: %s, drift %v", dev.Outcome, dev.Reason, dev.Drift)
		}
		return nil
	})
	clock.stop() // c1 is not due, or once more and then never again
	w.setValue("two")
	w.holds("c2", "two")
}

// While the audit remote takes no records a release that waits for it costs the API server nothing.
func TestWaitingForTheAuditRemoteCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var requests atomic.Int64
	proxy, kubeconfig, err := w.lab.APIProxy(lab.Identity{User: "admin", Groups: []string{"system:masters"}}, func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/configmaps/") && r.URL.Query().Get("watch") == "" {
			requests.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	w.settings.kubeconfig = kubeconfig
	w.run()
	w.untilLive("dev", "one")
	if err := w.audit.RejectPushes("closed for the audit"); err != nil {
		t.Fatal(err)
	}
	w.setValue("two")
	w.until("two is approved and waits", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release == dev.Live.Release || dev.Outcome != "waiting" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	time.Sleep(time.Second)
	before := requests.Load()
	time.Sleep(10 * time.Second)
	n := requests.Load() - before
	t.Logf("%d requests in 10 s for a release of 5 objects", n)
	if n > 10 {
		t.Error("the release is planned again and again while nothing can come of it")
	}
}

// A repair that fails is tried again when it is time, not at every visit that the watch causes.
func TestFailingRepairIsNoRecordStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+deploymentYAML) })
	proxy := w.proxied()
	w.run()
	w.untilLive("dev", "one")
	if err := proxy.Set(lab.Fault{Mode: lab.Answer, Status: 500, Match: realWrites}); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c1", "by hand")
	for i := range 80 {
		w.status(t, func(s *appsv1.DeploymentStatus) { s.CollisionCount = ptr(int32(i)) })
		time.Sleep(100 * time.Millisecond)
	}
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.holds("c1", "one")
	repairs := 0
	for _, r := range w.records() {
		var plan evidence.Plan
		if r.Type == evidence.TypePlan {
			if decode(t, r, &plan); plan.Purpose == evidence.PurposeRepair {
				repairs++
			}
		}
	}
	t.Logf("%d repair plans in 8 s", repairs)
	if repairs > 8 { // 0.5, 1, 2, 4 s …
		t.Error("each event of the watch makes a failing repair try again, at two records a time")
	}
}

// The same without a fault.
func TestHealthChangeIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+podYAML) })
	w.run()
	w.ready("True")
	w.untilLive("dev", "one")
	time.Sleep(7 * time.Second)
	w.ready("False")
	w.until("the change is seen", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Health == "Healthy" {
			return errors.New("healthy")
		}
		return nil
	})
}

// An object that a release left in place (nothing may delete it) and that a person then deletes leaves the inventory, and
// its environment is healthy without it.
func TestKeptObjectDeletedByHand(t *testing.T) {
	t.Parallel()
	kept := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {purser.dev/prune: disabled}}\ndata: {a: b}\n"
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+kept) })
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(5, "two"))
	w.push("Without kept")
	w.untilLive("dev", "two")
	time.Sleep(2 * time.Second)
	dev := find(w.agent.Status(), "dev")
	t.Logf("before: %s: %q, health %s, %d objects", dev.Outcome, dev.Reason, dev.Health, len(dev.Inventory))
	w.deleteByHand("kept")
	time.Sleep(15 * time.Second)
	dev = find(w.agent.Status(), "dev")
	t.Logf("15 s later: %s: %q, health %s, %d objects", dev.Outcome, dev.Reason, dev.Health, len(dev.Inventory))
	if dev.Health != "Healthy" || len(dev.Inventory) != 5 {
		t.Error("what was kept and is gone by now stays in the inventory, and a suspect, until the interval is over")
	}
}
