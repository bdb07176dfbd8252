package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func definition(plural, kind, group, scope string) string {
	return fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.%[3]s}
spec:
  group: %[3]s
  scope: %[4]s
  names: {plural: %[1]s, singular: %[5]s, kind: %[2]s}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, maximum: 10}
              url: {type: string, x-kubernetes-validations: [{rule: "self == oldSelf", message: "url is immutable"}]}
`, plural, kind, group, scope, strings.ToLower(kind))
}

// A release may bring a namespace, a kind, objects of the kind and what uses them, all at once.
func TestDefinitionsAndNamespacesComeFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.everywhere()
	group := s.ns + ".example"
	release := fmt.Sprintf("---\napiVersion: %s/v1\nkind: Shelf\nmetadata: {name: s}\nspec: {size: 3}\n", group) +
		fmt.Sprintf("---\napiVersion: %s/v1\nkind: Hall\nmetadata: {name: h}\nspec: {size: 3}\n", group) +
		fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: inner, namespace: %s-extra}\n", s.ns) +
		fmt.Sprintf("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s-extra}\n", s.ns) +
		definition("shelves", "Shelf", group, "Namespaced") + definition("halls", "Hall", group, "Cluster")
	for _, u := range docs(t, release) {
		if u.GetKind() == "Namespace" || u.GetKind() == "CustomResourceDefinition" {
			s.drop(u)
		}
	}
	p := s.plan(release)
	for name, reason := range map[string]string{"Shelf/s": "kind comes with", "Hall/h": "kind comes with", "ConfigMap/inner": "namespace comes with", "Namespace/" + s.ns + "-extra": ""} {
		if e := entry(t, p, name); e.Action != Created || !strings.Contains(e.Reason, reason) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e := entry(t, p, "Hall/h"); e.Ref.Namespace != "" {
		t.Errorf("cluster-scoped object got a namespace: %v", e.Ref)
	}
	for name, action := range s.apply(release) {
		if action != Created {
			t.Errorf("%s: %s", name, action)
		}
	}
	s.unchanged(release)

	_, stalled := s.refuse(strings.Replace(release, "size: 3", "size: 11", 1))
	wantText(t, "error", stalled.Error(), "Shelf", "spec.size")
}

func TestImmutableByRule(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.everywhere()
	group := s.ns + ".example"
	crd := definition("shelves", "Shelf", group, "Namespaced")
	for _, u := range docs(t, crd) {
		s.drop(u)
	}
	shelf := func(url string) string {
		return fmt.Sprintf("---\napiVersion: %s/v1\nkind: Shelf\nmetadata: {name: s}\nspec: {url: %s}\n", group, url)
	}
	s.apply(crd + shelf("a"))
	_, stalled := s.refuse(crd + shelf("b"))
	wantText(t, "error", stalled.Error(), group+"/Shelf", "spec.url", "immutable")
}

// A definition that somebody deletes leaves its kind in the discovery cache.
func TestDefinitionDeletedBehindOurBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.everywhere()
	group := s.ns + ".example"
	crd := definition("shelves", "Shelf", group, "Namespaced")
	shelf := fmt.Sprintf("---\napiVersion: %s/v1\nkind: Shelf\nmetadata: {name: s}\nspec: {size: 1}\n", group)
	u := docs(t, crd)[0]
	s.drop(u)
	s.apply(crd + shelf)
	if err := s.at(u).Delete(t.Context(), u.GetName(), deleteNow); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "kind is gone", func(context.Context) error {
		_, err := s.client.Plan(t.Context(), s.with(shelf))
		if _, stalled := asStalled(err); !stalled {
			return fmt.Errorf("not yet: %w", err) // the shelf itself may still be on its way out
		}
		return nil
	})
	_, stalled := s.refuse(shelf)
	wantText(t, "error", stalled.Error(), "does not serve kind Shelf", "CustomResourceDefinition")
	want(t, s.apply(crd+shelf), map[string]string{"Shelf/s": Created, "CustomResourceDefinition/" + u.GetName(): Created})
	s.unchanged(crd + shelf)
}

func TestCustomDefinitionThatIsNotAccepted(t *testing.T) {
	s := newSite(t)
	s.everywhere()
	crd := strings.Replace(definition("shelves", "Shelf", s.ns+".example", "Namespaced"), "type: integer", "type: nonsense", 1)
	p, stalled := s.refuse(crd + configMap("a", "1"))
	wantText(t, "error", stalled.Error(), "CustomResourceDefinition", "type")
	changes, err := s.client.Apply(t.Context(), p)
	if err == nil || len(changes) != 1 || changes[0].Action != Skipped || changes[0].Error == "" {
		t.Errorf("changes %+v, error %v", changes, err)
	}
}

func TestFailureStopsLaterStagesAndReportsAll(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(configMap("old", "1"))
	release := configMap("a", "1") + configMap("b", "1") + deployment("web", "")
	p := s.plan(release)
	s.policy("configmaps", "CREATE", "object.metadata.name != 'b'")
	labtest.Eventually(t, "policy is enforced", func(context.Context) error {
		if _, err := s.client.Plan(t.Context(), s.with(configMap("b", "1"))); err == nil {
			return errors.New("not yet")
		}
		return nil
	})
	changes, err := s.client.Apply(t.Context(), p)
	stalled, ok := asStalled(err)
	if !ok {
		t.Fatalf("apply: %v", err)
	}
	wantText(t, "error", stalled.Error(), "ValidatingAdmissionPolicy", "ConfigMap "+s.ns+"/b", s.ns)
	want(t, actions(changes), map[string]string{"ConfigMap/a": Created, "ConfigMap/b": Created, "Deployment/web": Skipped, "ConfigMap/old": Skipped})
	for _, c := range changes {
		if failed := c.Error != ""; failed != (c.Ref.Name != "a") {
			t.Errorf("%s: error %q", c.Ref, c.Error)
		}
	}
	inv := s.inventory.Merge(changes)
	if len(inv) != 3 { // a, the attempted b, and old, which must not be forgotten
		t.Errorf("inventory: %v", inv)
	}
	if s.live(configMap("old", "")) == nil {
		t.Error("pruned although a stage failed")
	}
}

// policy denies requests in the site's namespace by a ValidatingAdmissionPolicy.
func (s *site) policy(resource, operation, expression string) {
	s.create(fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: ["v1"], operations: [%[3]s], resources: [%[2]s]}]}
  validations: [{expression: "%[4]s", message: "not in this house"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec:
  policyName: %[1]s
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}}
`, s.ns, resource, operation, expression))
}

func TestTenantMayNotGrantMoreThanItHas(t *testing.T) {
	s := newSite(t)
	limited := s.ns + "-limited"
	s.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: limited, namespace: %[1]s}
rules: [{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [get, create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: limited, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "purser:tenant:%[2]s"}]
`, s.ns, limited))
	client, err := s.cluster.Tenant(limited)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Plan(t.Context(), s.with("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: more}, rules: [{apiGroups: [''], resources: [secrets], verbs: [get]}]}"))
	stalled, ok := asStalled(err)
	if !ok {
		t.Fatalf("plan: %v", err)
	}
	wantText(t, "error", stalled.Error(), "may not grant permissions")
}

func TestTerminatingNamespaceIsTriedAgain(t *testing.T) {
	err := explain(call{verb: "patch", user: "u", cluster: "c"}, &apierrors.StatusError{ErrStatus: metav1.Status{
		Reason: metav1.StatusReasonForbidden, Code: 403, Message: "unable to create new content in namespace n because it is being terminated",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "NamespaceTerminating"}}}}})
	if _, ok := asStalled(err); ok || err == nil {
		t.Errorf("got %v", err)
	}
}

// A definition whose names are taken is accepted by the API server and never works.
func TestDefinitionWhoseNamesAreTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.everywhere()
	group := s.ns + ".example"
	first, second := definition("shelves", "Shelf", group, "Namespaced"), definition("racks", "Shelf", group, "Namespaced")
	for _, u := range docs(t, first+second) {
		s.drop(u)
	}
	s.apply(first)
	changes, err := s.client.Apply(t.Context(), s.plan(first+second+configMap("a", "1")))
	stalled, ok := asStalled(err)
	if !ok {
		t.Fatalf("apply: %v", err)
	}
	wantText(t, "error", stalled.Error(), "racks."+group, "Shelf", "already in use")
	want(t, actions(changes), map[string]string{"ConfigMap/a": Skipped, "CustomResourceDefinition/racks." + group: Created})
}
