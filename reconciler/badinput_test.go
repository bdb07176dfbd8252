package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
)

// TestBadInputIsRefusedAndNothingIsLost pushes one bad commit each to an estate that is live. The commit is
// answered with a clear message, what was live stays live and untouched, and a good commit goes through.
func TestBadInputIsRefusedAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bad  func(*world)
		says []string // in the messages; %NS% stands for the namespace
		undo func(*world)
	}{
		"malformed YAML": {
			bad:  func(w *world) { w.write("purser/dev.yaml", "apiVersion: purser.dev/v1alpha1\nkind: [Environment\n") },
			says: []string{"purser/dev.yaml:"},
		},
		"unknown field": {
			bad: func(w *world) {
				w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", ""), "  namespace:", "  namspace:", 1))
			},
			says: []string{"purser/dev.yaml:6:3", `"namspace"`, `"namespace"`},
		},
		"unknown cluster": {
			bad: func(w *world) {
				w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", ""), "cluster: lab", "cluster: moon", 1))
			},
			says: []string{"purser/dev.yaml:7:", `"moon"`, "lab"},
		},
		"cyclic dependsOn": {
			bad: func(w *world) {
				w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "dependsOn: [qa]"))
				w.write("purser/qa.yaml", w.environment("qa", "apps/dev", "dependsOn: [dev]"))
			},
			says: []string{"purser/", "dev", "qa"},
			undo: func(w *world) { w.git("rm", "--quiet", "purser/qa.yaml") },
		},
		"namespace outside the tenant": {
			bad: func(w *world) {
				w.write("purser/north.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec:\n  namespaces: [north-dev]\n")
				w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "tenant: north"))
			},
			says: []string{"purser/dev.yaml:", "%NS%", "north"},
			undo: func(w *world) { w.git("rm", "--quiet", "purser/north.yaml") },
		},
		"environment moved": {
			bad: func(w *world) {
				w.write("purser/dev.yaml", strings.Replace(w.environment("dev", "apps/dev", ""), "namespace: "+w.namespace, "namespace: elsewhere", 1))
			},
			says: []string{"purser/dev.yaml:", `cannot move`, "elsewhere", "declare a second environment"},
		},
		"missing path": {
			bad:  func(w *world) { w.git("mv", "apps/dev", "apps/gone") },
			says: []string{"apps/dev"},
			undo: func(w *world) { w.git("mv", "apps/gone", "apps/dev") },
		},
		"object in another tenant's namespace": {
			bad: func(w *world) {
				w.write("apps/dev/objects.yaml", configMaps(5, "one")+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: spy, namespace: kube-system}\n")
			},
			says: []string{`namespace "kube-system" is outside tenant "default"`},
		},
		"empty render": {
			bad:  func(w *world) { w.write("apps/dev/objects.yaml", "# nothing\n") },
			says: []string{"apps/dev: render is empty"},
		},
		"four fifths of the objects dropped": {
			bad:  func(w *world) { w.write("apps/dev/objects.yaml", configMaps(1, "one")) },
			says: []string{"delete 4 of 5 objects", "spec.prune"},
		},
		"file of 10 MB": {
			bad:  func(w *world) { w.write("apps/dev/objects.yaml", configMaps(1, strings.Repeat("x", 10<<20))) },
			says: []string{"objects.yaml", "byte", "limit"},
		},
		"link out of the tree": {
			bad: func(w *world) {
				if err := errors.Join(os.Remove(filepath.Join(w.work, "apps/dev/objects.yaml")), os.Symlink("/etc/passwd", filepath.Join(w.work, "apps/dev/objects.yaml"))); err != nil {
					w.t.Fatal(err)
				}
			},
			says: []string{"objects.yaml", "leads out of the tree"},
			undo: func(w *world) {
				if err := os.Remove(filepath.Join(w.work, "apps/dev/objects.yaml")); err != nil {
					w.t.Fatal(err)
				}
			},
		},
		"submodule": {
			bad: func(w *world) {
				w.git("rm", "--quiet", "-r", "apps/dev")
				w.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",apps/dev")
			},
			says: []string{"apps/dev", "submodule"},
			undo: func(w *world) { w.git("rm", "--quiet", "--cached", "apps/dev") },
		},
		"remote base": {
			bad:  func(w *world) { w.write(kustomization, "resources: [objects.yaml, https://example.com/base]\n") },
			says: []string{"apps/dev/kustomization.yaml:1:", "https://example.com/base"},
		},
		"object that the API server rejects": {
			bad: func(w *world) {
				w.write("apps/dev/objects.yaml", configMaps(5, "one")+"---\napiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  ports: [{port: 99999}]\n")
			},
			says: []string{"Service %NS%/shop", "spec.ports[0].port"},
		},
		"kind without its definition": {
			bad: func(w *world) {
				w.write("apps/dev/objects.yaml", configMaps(5, "one")+"---\napiVersion: shops.example.com/v1\nkind: Shop\nmetadata: {name: one}\n")
			},
			says: []string{"Shop", "CustomResourceDefinition"},
		},
		"plain Secret": {
			bad: func(w *world) {
				w.write("apps/dev/objects.yaml", configMaps(5, "one")+"---\napiVersion: v1\nkind: Secret\nmetadata: {name: pos}\nstringData: {password: hunter2}\n")
			},
			says: []string{"Secret", "pos"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.run()
			before := w.untilLive("dev", "one")
			versions := w.resourceVersions()
			test.bad(w)
			if name == "submodule" {
				w.git("commit", "--quiet", "--message", "Something bad")
				w.git("push", "--quiet", "origin", "main")
			} else {
				w.push("Something bad")
			}
			var said string
			w.until("the commit is refused with the reason", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
				said = everythingSaid(s, dev)
				for _, want := range test.says {
					if want = strings.ReplaceAll(want, "%NS%", w.namespace); !strings.Contains(said, want) {
						return fmt.Errorf("%q is not in: %s", want, said)
					}
				}
				return nil
			})
			if strings.Contains(said, "hunter2") || strings.Contains(w.logs.String(), "hunter2") {
				t.Error("a secret value is shown")
			}
			if after := w.resourceVersions(); after != versions {
				t.Errorf("objects changed from %s to %s", versions, after)
			}
			if dev := find(w.agent.Status(), "dev"); dev.Live == nil || dev.Live.Release != before {
				t.Errorf("live moved from %s to %+v", before, dev.Live)
			}
			if test.undo != nil {
				test.undo(w)
			}
			w.write("purser/dev.yaml", w.environment("dev", "apps/dev", ""))
			w.write(kustomization, "resources: [objects.yaml]\n")
			w.setValue("good again")
			w.untilLive("dev", "good again")
			w.records()
		})
	}
}

// everythingSaid joins every message about an environment.
func everythingSaid(s reconciler.Status, dev reconciler.EnvironmentStatus) string {
	said := []string{dev.Reason, dev.Hint}
	if s.Refused != nil {
		said = append(said, s.Refused.Errors...)
	}
	if dev.Refused != nil {
		said = append(said, dev.Refused.Errors...)
	}
	if dev.Blocked != nil {
		said = append(said, dev.Blocked.Errors...)
	}
	return strings.Join(said, "\n")
}

// resourceVersions tells whether anything wrote to the ConfigMaps.
func (w *world) resourceVersions() string {
	w.t.Helper()
	var versions []string
	for i := range 5 {
		object, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(w.t.Context(), fmt.Sprintf("c%d", i), metav1.GetOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		versions = append(versions, object.Name+"="+object.ResourceVersion)
	}
	return strings.Join(versions, " ")
}

// TestTwoEnvironmentsCannotClaimOneObject: the first keeps it, the second is denied by the other's name.
func TestTwoEnvironmentsCannotClaimOneObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	before := w.untilLive("dev", "one")
	w.write("purser/twin.yaml", w.environment("twin", "apps/twin", ""))
	w.write("apps/twin/kustomization.yaml", "resources: [../dev]\n")
	w.push("Declare a twin")
	w.until("the twin is denied", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		twin := find(s, "twin")
		if twin.Outcome != "denied" || !strings.Contains(twin.Reason, `belongs to the environment "dev"`) {
			return fmt.Errorf("twin is %s: %s", twin.Outcome, twin.Reason)
		}
		return nil
	})
	if dev := find(w.agent.Status(), "dev"); dev.Live.Release != before {
		t.Error("dev moved")
	}
}

// TestQuotaExceeded stalls nothing for good: with room in the quota the release goes on by itself.
func TestQuotaExceeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	quotas := w.kube.CoreV1().ResourceQuotas(w.namespace)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"count/configmaps": resource.MustParse("6")}}}
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the quota is counted", func(ctx context.Context) error {
		q, err := quotas.Get(ctx, "few", metav1.GetOptions{})
		if err == nil && len(q.Status.Used) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	w.write("apps/dev/objects.yaml", configMaps(9, "two"))
	w.push("More than the quota has room for")
	w.until("the quota is named", func(s reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if said := everythingSaid(s, dev); !strings.Contains(said, "quota") {
			return errors.New(said)
		}
		return nil
	})
	if err := quotas.Delete(t.Context(), "few", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilLive("dev", "two")
	w.records()
}

// waitFor polls until a check passes.
func (w *world) waitFor(what string, check func(context.Context) error) {
	w.t.Helper()
	labtest.Eventually(w.t, what, check)
}

// TestLiveIsRepairedWhileAnApprovedReleaseIsStuck: what the API server does not take keeps nothing else from
// being looked after.
func TestLiveIsRepairedWhileAnApprovedReleaseIsStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "reconcile: {interval: 1s}"))
	})
	w.run()
	w.untilLive("dev", "one")
	w.write("apps/dev/objects.yaml", configMaps(5, "two")+"---\napiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  ports: [{port: 99999}]\n")
	w.push("A Service that the API server rejects")
	w.until("the release is stuck", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Blocked == nil || dev.Approved.Release == dev.Live.Release {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	w.setByHand("c3", "by hand")
	w.waitFor("what is live is repaired", func(ctx context.Context) error { return w.runs(ctx, "one") })
	w.setValue("three")
	w.untilLive("dev", "three")
	everyIntentHasOneOutcome(t, w.records())
}
