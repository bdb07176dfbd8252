package reconciler_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// replaceByHand deletes a ConfigMap and creates another one in its place at once, without any mark.
func (w *world) replaceByHand(name, manager, value string) {
	w.t.Helper()
	maps := w.kube.CoreV1().ConfigMaps(w.namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"value": value}}
	for range 20 {
		w.deleteByHand(name)
		if _, err := maps.Create(w.t.Context(), object, metav1.CreateOptions{FieldManager: manager}); err == nil {
			return
		}
	}
	w.t.Fatal("the agent is faster each time")
}

// Whoever edits an object and its marks at once, or puts another object in its place, can neither switch repair off nor
// block a release: what is ours is what the inventory says.
func TestForgedMarksAreTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/twin.yaml", w.environment("twin", "apps/twin", ""))
		w.write("apps/twin/kustomization.yaml", "resources: [objects.yaml]\n")
		w.write("apps/twin/objects.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-twin}\ndata: {value: one}\n")
	})
	clock := w.clock()
	w.run()
	w.untilLive("dev", "one")
	w.untilLive("twin", "one")
	clock.stop() // no attempt has to be made twice, and nothing waits for the next comparison
	w.patchByHand("c0", "dashboard", `{"data":{"value":"0"},"metadata":{"annotations":{"purser.dev/digest":null}}}`)
	w.patchByHand("c1", "kubectl-label", `{"data":{"value":"1"},"metadata":{"labels":{"purser.dev/environment":"nosuch"}}}`)
	w.patchByHand("c2", "dashboard", `{"data":{"value":"2"},"metadata":{"labels":{"purser.dev/environment":"twin"},"annotations":null}}`)
	w.patchByHand("c3", "dashboard", `{"data":{"value":"3"},"metadata":{"labels":null}}`)
	labtest.Eventually(t, "all is taken back from who edited it", func(ctx context.Context) error { return w.labelled(ctx, "one") })
	clock.resume()
	w.replaceByHand("c4", "dashboard", "4") // and if that comes between a plan and its apply, another attempt is made
	labtest.Eventually(t, "all is taken back", func(ctx context.Context) error { return w.labelled(ctx, "one") })
	w.patchByHand("c0", "dashboard", `{"data":{"value":"0"},"metadata":{"annotations":{"purser.dev/digest":null}}}`)
	w.patchByHand("c1", "dashboard", `{"data":{"value":"1"},"metadata":{"labels":{"purser.dev/environment":"twin"}}}`)
	w.replaceByHand("c4", "dashboard", "4")
	w.setValue("two")
	w.untilLive("dev", "two")
	if err := w.labelled(t.Context(), "two"); err != nil {
		t.Error(err)
	}
	by := map[string][]string{}
	for _, d := range drifts(t, w.records(), "dev") {
		for _, o := range d.Objects {
			if o.Action == "skipped" {
				t.Errorf("%s is skipped: %s", o.Name, o.Reason)
			}
			for _, writer := range o.By {
				by[o.Name] = append(by[o.Name], writer.Manager)
			}
		}
	}
	for name, manager := range map[string]string{"c0": "dashboard", "c1": "kubectl-label", "c2": "dashboard", "c3": "dashboard"} {
		if !slices.Contains(by[name], manager) {
			t.Errorf("%s is attributed to %v, not to %s", name, by[name], manager)
		}
	}
}

// labelled checks that all five ConfigMaps hold a value and bear the label of dev.
func (w *world) labelled(ctx context.Context, value string) error {
	for i := range 5 {
		c, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, fmt.Sprintf("c%d", i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c.Data["value"] != value || c.Labels["purser.dev/environment"] != "dev" || c.Annotations["purser.dev/digest"] == "" {
			return fmt.Errorf("%s holds %v, labels %v, annotations %v", c.Name, c.Data, c.Labels, c.Annotations)
		}
	}
	return nil
}

// Something else in the place of an object that cannot be changed into ours is left, with a record of what differs and by
// whom. Once it is gone ours comes back, although the watch never saw the other one.
func TestUnmarkedObjectInTheWayThatGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) { w.write("apps/dev/objects.yaml", configMaps(5, "one")+deploymentYAML) })
	w.run()
	w.untilLive("dev", "one")
	deployments := w.kube.AppsV1().Deployments(w.namespace)
	if err := deployments.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "theirs"}
	other := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.org/other"}}}},
	}}
	created, err := deployments.Create(t.Context(), other, metav1.CreateOptions{FieldManager: "dashboard"})
	for i := 0; err != nil && i < 20; i++ { // the agent was faster
		_ = deployments.Delete(t.Context(), "web", metav1.DeleteOptions{})
		created, err = deployments.Create(t.Context(), other, metav1.CreateOptions{FieldManager: "dashboard"})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.until("dev is stalled", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "stalled" || !strings.Contains(dev.Reason, "immutable") {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	w.setByHand("c1", "by hand")
	w.holds("c1", "one")
	uid := created.UID
	if err := deployments.Delete(t.Context(), "web", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "ours is back", func(ctx context.Context) error {
		d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err == nil && d.Spec.Selector.MatchLabels["app"] != "web" {
			err = fmt.Errorf("it selects %v", d.Spec.Selector.MatchLabels)
		}
		return err
	})
	told := false
	for _, d := range drifts(t, w.records(), "dev") {
		for _, o := range d.Objects {
			told = told || o.Name == "web" && o.Action == "skipped" && slices.Contains(o.Fields, "spec.selector.matchLabels.app") &&
				slices.ContainsFunc(o.By, func(by evidence.FieldWriter) bool { return by.Manager == "dashboard" })
		}
	}
	if !told {
		t.Error("no drift record says which fields of the other object differ, and who wrote it")
	}
}

// No annotation of a Secret reaches the audit repository.
func TestSecretAnnotationsAreNotRecorded(t *testing.T) {
	t.Parallel()
	const value = "hush-hush"
	encrypted, err := os.ReadFile("testdata/sops/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.write("apps/dev/secret.yaml", string(encrypted))
		w.write(kustomization, "resources: [objects.yaml, secret.yaml]\n")
	})
	copyFile(t, "testdata/sops/age.txt", filepath.Join(w.dir, "age.txt"))
	w.settings.more = "  decryption: {ageKeyFile: age.txt}\n"
	w.run()
	w.untilLive("dev", "one")
	secrets := w.kube.CoreV1().Secrets(w.namespace)
	patch := fmt.Sprintf(`{"data":null,"metadata":{"annotations":{"note":%q},"labels":{"note":%q}}}`, value, value)
	if _, err := secrets.Patch(t.Context(), "pos", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the Secret is restored", func(ctx context.Context) error {
		s, err := secrets.Get(ctx, "pos", metav1.GetOptions{})
		if err == nil && (s.Annotations["note"] != "" || len(s.Data) == 0) {
			err = fmt.Errorf("annotations %v", s.Annotations)
		}
		return err
	})
	told := false
	for _, d := range drifts(t, w.records(), "dev") {
		for _, o := range d.Objects {
			told = told || slices.Contains(o.Fields, "metadata.annotations.note")
		}
	}
	if !told {
		t.Error("no record names the annotation")
	}
	w.nowhere(value)
}
