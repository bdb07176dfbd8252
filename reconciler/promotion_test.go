package reconciler_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// image sets the image of an environment's only Deployment.
func (w *world) image(environment, digit string, replicas int) {
	w.t.Helper()
	w.write("apps/"+environment+"/web.yaml", fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "registry.example/odoo@sha256:%s"}]}
`, replicas, strings.Repeat(digit, 64)))
	w.write("apps/"+environment+"/kustomization.yaml", "resources: [web.yaml]\n")
}

// playKubelet makes the next pod of a namespace ready.
func (w *world) playKubelet(namespace string) {
	w.t.Helper()
	labtest.Eventually(w.t, "a pod is ready", func(ctx context.Context) error {
		pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || len(pods.Items) == 0 {
			return fmt.Errorf("no pod: %w", err)
		}
		patch := `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`
		_, err = w.kube.CoreV1().Pods(namespace).Patch(ctx, pods.Items[0].Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubelet"}, "status")
		return err
	})
}

func TestPromotionNeedsTheStageBefore(t *testing.T) {
	var other string
	w := newWorld(t, func(w *world) {
		w.image("dev", "a", 0)
		w.image("qa", "b", 1)
		other = labtest.Namespace(t, w.lab)
		w.allow("default", other)
		w.write("purser/qa.yaml", strings.ReplaceAll(w.environment("qa", "apps/qa", "promotion: {from: dev, soak: 3s}"), w.namespace, other))
	})
	w.run()
	gate := func(says string, answer policy.Answer) {
		t.Helper()
		w.until("qa: "+says, func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
			qa := find(s, "qa")
			if qa.Verdict == nil {
				return fmt.Errorf("no verdict: %s", qa.Reason)
			}
			for _, g := range qa.Verdict.Gates {
				if g.Gate == "promotion" && (g.Answer != answer || !strings.Contains(g.Reason, says)) {
					return fmt.Errorf("%s: %s", g.Answer, g.Reason)
				}
			}
			return nil
		})
	}
	gate(`was never live in "dev"`, policy.Deny)
	w.image("qa", "a", 1)
	w.push("Promote a to qa")
	gate("not seen to run there", policy.Wait) // it is live and healthy in dev, which has no pod
	w.image("dev", "a", 1)
	w.push("Let dev run it")
	w.playKubelet(w.namespace)
	w.playKubelet(other) // once it is let in
	w.until("qa is live", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if qa := find(s, "qa"); qa.Live == nil {
			return fmt.Errorf("%s: %s", qa.Outcome, qa.Reason)
		}
		return nil
	})
	gate("the same images were live and healthy", policy.Allow)
	w.records()
}

func TestGovernanceIsJudgedByTheApprovedOne(t *testing.T) {
	w := governed(t, func(w *world) {
		w.person("owner-1", "governance-owner")
		w.write("purser/estate.yaml", `apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: test}
spec:
  governance:
    signatures: required
    approvals: [{count: 1, roles: [governance-owner]}]
`)
	})
	w.run()
	w.firstRelease()
	w.untilLive("dev", "one")

	// One push loosens the class and makes use of it.
	w.signedBy("developer-1")
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "class: low"))
	w.setValue("two")
	w.untilGate("approvals", policy.Wait, "needs 1 more of release-manager")
	w.until("the governance waits", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if v := s.GovernanceVerdict; v == nil || v.Answer != policy.Wait || !strings.Contains(strings.Join(v.Reasons(), " "), "governance-owner (owner-1)") {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	w.approvesGovernance("release-manager-1") // has not the role
	w.approvesGovernance("owner-1")
	w.untilLive("dev", "two") // low asks for nothing

	w.signedBy("")
	w.write("purser/people/owner-1.yaml", "")
	w.write("purser/estate.yaml", "apiVersion: purser.dev/v1alpha1\nkind: Estate\nmetadata: {name: test}\nspec: {}\n")
	w.git("rm", "--quiet", "--force", "purser/people/owner-1.yaml")
	w.push("Take over the estate")
	w.until("unsigned governance is denied", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if v := s.GovernanceVerdict; v == nil || v.Answer != policy.Deny {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	w.git("revert", "--no-edit", "HEAD")
	w.push("Take it back")
	w.until("no governance waits", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.GovernanceProposed != nil || s.GovernanceVerdict != nil {
			return fmt.Errorf("%+v %+v", s.GovernanceProposed, s.GovernanceVerdict)
		}
		return nil
	})
	for range 2 { // and the same mistake is told as often as it is made
		w.write("purser/estate.yaml", "kind: [\n")
		w.push("Break the declarations")
		w.until("the governance is refused", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
			if s.Refused == nil {
				return fmt.Errorf("%+v", s.GovernanceProposed)
			}
			return nil
		})
		w.git("revert", "--no-edit", "HEAD")
		w.push("Mend them")
		w.until("no governance is refused", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
			if s.Refused != nil {
				return fmt.Errorf("%+v", s.Refused)
			}
			return nil
		})
	}
	w.until("no governance waits", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.GovernanceProposed != nil || s.GovernanceVerdict != nil {
			return fmt.Errorf("%+v %+v", s.GovernanceProposed, s.GovernanceVerdict)
		}
		return nil
	})
	w.records()
}
