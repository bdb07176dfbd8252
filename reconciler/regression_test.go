package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/client-go/kubernetes"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
)

// TestChangedPathIsRendered: path moved in governance.
func TestChangedPathIsRendered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/other/kustomization.yaml", "resources: [objects.yaml]\n")
	w.write("apps/other/objects.yaml", configMaps(5, "other"))
	w.write("purser/dev.yaml", w.environment("dev", "apps/other", ""))
	w.push("Move the path")
	w.untilLive("dev", "other")
}

// TestLiveIsRepairedWhileAReleaseWaits: live is repaired while an approved release waits for the audit remote.
func TestLiveIsRepairedWhileAReleaseWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	w.run()
	w.untilLive("dev", "one")
	if err := w.audit.RejectPushes("closed for the audit"); err != nil {
		t.Fatal(err)
	}
	w.setValue("two")
	w.until("two is approved and waits", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved.Release == dev.Live.Release || dev.Outcome != "waiting" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	w.setByHand("c3", "by hand")
	labtest.Eventually(t, "live is repaired", func(ctx context.Context) error { return w.runs(ctx, "one") })
}

// TestRevertLeavesTheVolume: rollback of a release that added a PVC.
func TestRevertLeavesTheVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(5, "two")+"---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n")
	w.push("Release two with a volume")
	w.waitFor("two runs", func(ctx context.Context) error { return w.runs(ctx, "two") })
	w.setValue("one")
	labtest.Eventually(t, "one runs again", func(ctx context.Context) error {
		if err := w.runs(ctx, "one"); err != nil {
			dev := find(w.agent.Status(), "dev")
			return fmt.Errorf("%w; %s %s", err, dev.Outcome, dev.Reason)
		}
		return nil
	})
}

// TestRevertOfManyObjects: rollback of a release that added many objects.
func TestRevertOfManyObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(30, "two"))
	w.push("Release two with 25 more objects")
	w.untilLive("dev", "two")
	w.setValue("one")
	labtest.Eventually(t, "one runs again", func(ctx context.Context) error {
		if err := w.runs(ctx, "one"); err != nil {
			dev := find(w.agent.Status(), "dev")
			return fmt.Errorf("%w; %s %s", err, dev.Outcome, dev.Reason)
		}
		return nil
	})
}

func realWrites(r *http.Request) bool {
	return r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == ""
}

// hangWrites lets real writes to paths with a suffix hang, and tells of each.
func (w *world) hangWrites(proxy *lab.Proxy, suffix string) <-chan struct{} {
	w.t.Helper()
	hung := make(chan struct{}, 100)
	if err := proxy.Set(lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool {
		if realWrites(r) && strings.HasSuffix(r.URL.Path, suffix) {
			hung <- struct{}{}
			return true
		}
		return false
	}}); err != nil {
		w.t.Fatal(err)
	}
	return hung
}

// proxied puts a proxy with switchable faults in front of the API server.
func (w *world) proxied() *lab.Proxy {
	proxy, kubeconfig, err := w.lab.APIProxy(lab.Identity{User: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { proxy.Close() })
	w.settings.kubeconfig = kubeconfig
	return proxy
}

// TestFailedRepairIsRetried: a failed repair is retried with back-off, not at the interval.
func TestFailedRepairIsRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 25s}"))
	})
	proxy := w.proxied()
	w.run()
	w.untilLive("dev", "one")
	if err := proxy.Set(lab.Fault{Mode: lab.Answer, Status: 500, Match: realWrites}); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c3", "by hand")
	w.until("the repair fails", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "failed" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	cleared := time.Now()
	time.Sleep(3 * time.Second)
	dev := find(w.agent.Status(), "dev")
	t.Logf("3 s after the failed repair: outcome %s reason %q health %s drift %v", dev.Outcome, dev.Reason, dev.Health, dev.Drift)
	w.waitFor("repaired", func(ctx context.Context) error { return w.runs(ctx, "one") })
	if took := time.Since(cleared); took > 15*time.Second {
		t.Errorf("repaired %s after the API server was back", took)
	}
}

// moveDev declares dev in another namespace.
func (w *world) moveDev() {
	w.t.Helper()
	w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", ""), "namespace: "+w.namespace, "namespace: elsewhere", 1))
	w.push("Move dev")
}

func (w *world) untilMoveRefused() {
	w.t.Helper()
	w.until("the move is refused", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if s.Refused == nil {
			return fmt.Errorf("accepted: namespace %s, inventory %v, %s %s", dev.Namespace, dev.Inventory, dev.Outcome, dev.Reason)
		}
		return nil
	})
}

// TestReAddedElsewhereIsRefused: remove, re-add elsewhere: another namespace, with generous prune limits.
func TestReAddedElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.orphan()
	w.moveDev()
	w.untilMoveRefused()
}

// TestMoveIsRefusedOnANewMachine: a new machine whose governance head moved an environment meanwhile.
func TestMoveIsRefusedOnANewMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	w.moveDev()
	w.moveMachine()
	w.run()
	w.untilMoveRefused()
}

// TestEnvironmentHasOneWorker: one environment in two queues.
func TestEnvironmentHasOneWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
		w.write(kustomization, "resources: [nothing.yaml]\n")
	})
	w.settings.clusters = fmt.Sprintf("    - name: far\n      kubeconfig: %s\n", w.settings.kubeconfig)
	w.run()
	w.until("dev is refused", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Refused == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"), "cluster: lab", "cluster: far", 1))
	w.write(kustomization, "resources: [objects.yaml]\n")
	w.push("Declare it on far")
	w.untilLive("dev", "one")
	for i := range 15 { // three times each: more would look like a fight
		w.setByHand(fmt.Sprintf("c%d", i%5), fmt.Sprintf("by hand %d", i))
		w.waitFor("repaired", func(ctx context.Context) error { return w.runs(ctx, "one") })
	}
	if n := strings.Count(w.logs.String(), "no open intent"); n > 0 {
		t.Errorf("%d outcomes found no open intent", n)
	}
	everyIntentHasOneOutcome(t, w.records())
}

// TestOutcomeThatCouldNotBeRecorded: an outcome that could not be recorded.
func TestOutcomeThatCouldNotBeRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy := w.proxied()
	w.run()
	w.untilLive("dev", "one")
	hung := w.hangWrites(proxy, "")
	w.setValue("two")
	<-hung
	time.Sleep(500 * time.Millisecond)
	spool := filepath.Join(w.dir, "data", "audit", "spool")
	if err := os.Rename(spool, spool+".away"); err != nil {
		t.Fatal(err)
	}
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the outcome is not recorded", func(context.Context) error { return w.logged("no such file") })
	if err := os.Rename(spool+".away", spool); err != nil {
		t.Fatal(err)
	}
	w.untilLive("dev", "two")
	everyIntentHasOneOutcome(t, w.records())
}

// TestUnchangedObjectsJoinTheInventory: a new log over objects that are ours and unchanged.
func TestUnchangedObjectsJoinTheInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	w.dir = t.TempDir()
	fresh := filepath.Join(t.TempDir(), "audit.git")
	w.git("init", "--quiet", "--bare", fresh)
	w.settings.auditURL = "file://" + fresh
	w.run()
	w.untilLive("dev", "one")
	dev := find(w.agent.Status(), "dev")
	if len(dev.Inventory) != 5 {
		t.Errorf("inventory holds %d of 5 objects; health %s", len(dev.Inventory), dev.Health)
	}
}

// TestStopWhileAClusterHangs: stop with a hanging cluster.
func TestStopWhileAClusterHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy := w.proxied()
	w.run()
	w.untilLive("dev", "one")
	hung := w.hangWrites(proxy, "")
	w.setValue("two")
	<-hung
	start := time.Now()
	w.stop()
	t.Logf("stop took %s", time.Since(start))
	if time.Since(start) > 15*time.Second {
		t.Error("too long")
	}
	everyIntentHasOneOutcome(t, w.records())
}

// TestGovernanceIsTriedAgain: governance whose record fails is considered again.
func TestGovernanceIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.until("all records are published", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Evidence.Spooled > 0 { // their flush would fail, too
			return fmt.Errorf("%d are spooled", s.Evidence.Spooled)
		}
		return nil
	})
	spool := filepath.Join(w.dir, "data", "audit", "spool")
	if err := os.Rename(spool, spool+".away"); err != nil {
		t.Fatal(err)
	}
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}\ndrift: report"))
	w.push("Change governance")
	w.waitFor("it fails", func(context.Context) error { return w.logged("governance not considered") })
	if err := os.Rename(spool+".away", spool); err != nil {
		t.Fatal(err)
	}
	head := w.git("rev-parse", "HEAD")
	w.until("the governance is approved", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if !strings.Contains(s.Governance.Revision, head) {
			return fmt.Errorf("in force is %s", s.Governance.Revision)
		}
		return nil
	})
}

// TestClusterRemovedFromTheConfiguration: a cluster is removed from the agent's configuration: the others go on.
func TestClusterRemovedFromTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
		w.write("purser/far.yaml", strings.Replace(w.environment("far", "apps/far", ""), "cluster: lab", "cluster: far", 1))
		w.write("apps/far/kustomization.yaml", "namePrefix: far-\nresources: [../dev]\n")
	})
	w.settings.clusters = fmt.Sprintf("    - name: far\n      kubeconfig: %s\n", w.settings.kubeconfig)
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	w.settings.clusters = ""
	w.run()
	w.setByHand("c3", "by hand")
	labtest.Eventually(t, "dev is repaired", func(ctx context.Context) error {
		if err := w.runs(ctx, "one"); err != nil {
			s := w.agent.Status()
			return fmt.Errorf("%w; ready: %v; refused: %+v", err, w.agent.Ready(), s.Refused)
		}
		return nil
	})
}

// TestStoreRemovedFromTheConfiguration: a store that the approved declarations name is removed from the agent's configuration:
// environments go on, but declarations that name it are no longer taken.
func TestStoreRemovedFromTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "backup: nightly\nreconcile: {interval: 1s}"))
		w.write("purser/nightly.yaml", `apiVersion: purser.dev/v1alpha1
kind: BackupPolicy
metadata: {name: nightly}
spec: {schedule: "30 2 * * *", timeZone: UTC, store: main, retention: {daily: 7}, rpo: 26h, rto: 4h, verify: {l1: "0 5 * * *"}}
`)
	})
	w.settings.more = "  backup: {stores: [{name: main, directory: {path: backups}}]}\n"
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	w.settings.more = ""
	w.run()
	w.setByHand("c3", "by hand")
	labtest.Eventually(t, "dev is repaired", func(ctx context.Context) error {
		if err := w.runs(ctx, "one"); err != nil {
			s := w.agent.Status()
			return fmt.Errorf("%w; ready: %v; refused: %+v", err, w.agent.Ready(), s.Refused)
		}
		return nil
	})
	w.write("purser/north.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec: {namespaces: [north-more]}\n")
	w.push("one tenant more")
	w.until("the next declarations are refused", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Refused == nil || !strings.Contains(fmt.Sprint(s.Refused.Errors), `unknown store "main": the agent has no stores`) {
			return fmt.Errorf("refused is %+v", s.Refused)
		}
		return nil
	})
}

// TestCrashWhileAdopting: a crash while objects are adopted.
func TestCrashWhileAdopting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for i := range 5 {
		_, err := w.kube.CoreV1().ConfigMaps(w.namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)}, Data: map[string]string{"value": "zero"}}, metav1.CreateOptions{FieldManager: "kubectl-create"})
		if err != nil {
			t.Fatal(err)
		}
	}
	proxy := w.proxied()
	w.configure()
	hung := w.hangWrites(proxy, "/c4")
	agent := w.spawn("", os.Args[0])
	<-hung
	w.waitFor("c0 is written", func(ctx context.Context) error {
		for i := range 4 {
			o, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, fmt.Sprintf("c%d", i), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if o.Data["value"] != "one" {
				return errors.New("not yet")
			}
		}
		return nil
	})
	_ = agent.Process.Kill()
	_ = agent.Wait()
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.untilLive("dev", "one")
	dev := find(w.agent.Status(), "dev")
	if len(dev.Inventory) != 5 {
		t.Errorf("live, and the inventory holds %d of 5 objects: %v; health %s", len(dev.Inventory), dev.Inventory, dev.Health)
	}
	w.write("apps/dev/objects.yaml", strings.Replace(configMaps(5, "one"), "name: c0", "name: renamed", 1))
	w.push("Rename c0")
	labtest.Eventually(t, "c0 is pruned", func(ctx context.Context) error {
		_, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, "c0", metav1.GetOptions{})
		if err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
}

// TestObjectMovesToAnotherEnvironment: an object moves from one environment to another.
func TestObjectMovesToAnotherEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/b.yaml", w.environment("b", "apps/b", ""))
		w.write("apps/b/kustomization.yaml", "resources: [objects.yaml]\n")
		w.write("apps/b/objects.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b0}\n")
	})
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(4, "one"))
	w.write("apps/b/objects.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b0}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c4}\n")
	w.push("Move c4 to b")
	labtest.Eventually(t, "b has it", func(ctx context.Context) error {
		b := find(w.agent.Status(), "b")
		if b.Live == nil || len(b.Inventory) != 2 {
			return fmt.Errorf("b is %s: %s", b.Outcome, b.Reason)
		}
		return nil
	})
}

// TestReAddedOnAnotherClusterIsRefused: removed, and declared again on another cluster.
func TestReAddedOnAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	other := labtest.Start(t, "kube-apiserver")
	w := newWorld(t, nil)
	w.settings.clusters = fmt.Sprintf("    - name: far\n      kubeconfig: %s\n", other.Kubeconfig)
	w.run()
	w.untilLive("dev", "one")
	w.orphan()
	labtest.CreateNamespace(t, &other.Endpoints, "elsewhere")
	kube := kubernetes.NewForConfigOrDie(labtest.Config(t, &other.Endpoints))
	if _, err := kube.RbacV1().RoleBindings("elsewhere").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "x"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:default"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "x"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:default"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(w.environment("dev", "apps/dev", ""), "namespace: "+w.namespace, "namespace: elsewhere", 1)
	w.write("purser/dev.yaml", strings.Replace(moved, "cluster: lab", "cluster: far", 1))
	w.push("Add dev on another cluster")
	for range 60 {
		dev := find(w.agent.Status(), "dev")
		forgotten := true
		for _, ref := range dev.Inventory {
			if ref.Namespace == w.namespace {
				forgotten = false
			}
		}
		if forgotten {
			if err := w.runs(t.Context(), "one"); err == nil {
				t.Fatalf("the objects in the first cluster run on and the inventory forgot them: %v", dev.Inventory)
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	dev := find(w.agent.Status(), "dev")
	t.Logf("dev %s %s %v", dev.Outcome, dev.Reason, dev.Inventory)
}

// TestStopWhileTheAuditRemoteHangs: stop while the audit remote hangs.
func TestStopWhileTheAuditRemoteHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	proxy := w.gitProxy(&w.settings.auditURL)
	w.run()
	w.untilLive("dev", "one")
	if err := proxy.Set(lab.Fault{Mode: lab.Hang}); err != nil {
		t.Fatal(err)
	}
	w.setValue("two")
	w.until("planned", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Deployment.Intent == nil {
			return errors.New("no intent")
		}
		return nil
	})
	start := time.Now()
	w.stop()
	t.Logf("stop took %s", time.Since(start))
	if time.Since(start) > 13*time.Second {
		t.Error("too long")
	}
	_ = proxy.Clear()
	w.run()
	w.untilLive("dev", "two")
	everyIntentHasOneOutcome(t, w.records())
}

// TestYearTurns: a new year, then an empty disk.
func TestYearTurns(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	w := newWorld(t, nil)
	w.settings.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	w.run()
	w.untilLive("dev", "one")
	ahead.Store(int64(366 * 24 * time.Hour))
	w.setValue("two")
	two := w.untilLive("dev", "two")
	before := find(w.agent.Status(), "dev")
	w.stop()
	w.moveMachine()
	w.run()
	w.until("same", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Live == nil || dev.Live.Release != two || dev.Outcome != "unchanged" || len(dev.Inventory) != 5 || dev.Deployment.Number != before.Deployment.Number {
			return fmt.Errorf("%+v", dev)
		}
		return nil
	})
	w.setValue("three")
	w.untilLive("dev", "three")
}

// TestNamespaceChangedBeforeTheFirstDeployment: the namespace is changed before the first deployment, while the head does not render.
func TestNamespaceChangedBeforeTheFirstDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {suspend: true}"))
	})
	second := labtest.Namespace(t, w.lab)
	w.allow("default", second)
	w.run()
	var approved string
	w.until("approved", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Approved == nil {
			return errors.New("not yet")
		}
		approved = dev.Approved.Release
		return nil
	})
	w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"), "namespace: "+w.namespace, "namespace: "+second, 1))
	w.write(kustomization, "resources: [nothing.yaml]\n")
	w.push("Move before the first deployment, and break the head")
	for range 30 {
		if _, err := w.kube.CoreV1().ConfigMaps(second).Get(t.Context(), "c0", metav1.GetOptions{}); err == nil {
			t.Fatalf("release %s, bound to namespace %s, was applied to %s", approved, w.namespace, second)
		}
		time.Sleep(500 * time.Millisecond)
	}
}
