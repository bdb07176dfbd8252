package reconciler_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// image sets the image of an environment's only Deployment, which has no pods.
func (w *world) image(environment string, digit string) {
	w.t.Helper()
	w.write("apps/"+environment+"/web.yaml", fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "registry.example/odoo@sha256:%s"}]}
`, strings.Repeat(digit, 64)))
	w.write("apps/"+environment+"/kustomization.yaml", "resources: [web.yaml]\n")
}

func TestPromotionNeedsTheStageBefore(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.image("dev", "a")
		w.image("qa", "b")
		other := labtest.Namespace(t, w.lab)
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
	w.image("qa", "a") // what dev runs
	w.push("Promote a to qa")
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
	w.untilGate("approvals", policy.Wait, "first release")
	w.approves("release-manager-1")
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
