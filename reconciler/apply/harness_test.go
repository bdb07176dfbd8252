package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// agent is the identity Purser itself has in these tests: it may impersonate tenants and read kube-system.
var agent = lab.Identity{User: "purser-agent"}

// site is one namespace of the lab with a tenant that may do everything in it and nothing elsewhere.
type site struct {
	t         *testing.T
	lab       *lab.Endpoints
	ns        string // also the name of its tenant and its environment
	admin     *Cluster
	root      dynamic.Interface
	cluster   *Cluster
	client    *Client
	inventory Inventory
	desired   Desired // template of every plan
}

// newSite makes a namespace, a tenant with the ClusterRole admin-like rights in it, and the agent's rights.
func newSite(t *testing.T) *site { return siteIn(t, labtest.Shared(t)) }

func siteIn(t *testing.T, l *lab.Endpoints) *site {
	s := &site{t: t, lab: l, ns: labtest.Namespace(t, l)}
	cfg := labtest.Config(t, l)
	root, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.root = root
	s.admin = open(t, cfg, Options{})
	s.grantAgent()
	s.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "purser:tenant:%[1]s"}]
`, s.ns))
	s.cluster = open(t, labtest.ConfigFor(t, l, agent), Options{})
	s.client = s.tenant(s.cluster)
	s.desired = Desired{Environment: s.ns, Namespace: s.ns, Limits: declaration.Prune{MaxObjects: 10, MaxShare: 1}}
	return s
}

// everywhere lets the tenant do everything in the whole cluster.
func (s *site) everywhere() {
	s.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "purser:tenant:%[1]s"}]
`, s.ns))
}

func (s *site) grantAgent() {
	for _, doc := range docs(s.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: purser-agent-test}
rules:
- {apiGroups: [""], resources: [users], verbs: [impersonate]}
- {apiGroups: [""], resources: [namespaces], resourceNames: [kube-system], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: purser-agent-test}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: purser-agent-test}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: purser-agent}]
`) {
		_, err := s.at(doc).Create(s.t.Context(), doc, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			s.t.Fatalf("create %s: %v", render.RefOf(doc), err)
		}
	}
}

func open(t *testing.T, cfg *rest.Config, o Options) *Cluster {
	c, err := NewCluster("lab", cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *site) tenant(c *Cluster) *Client {
	client, err := c.Tenant(s.ns)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// at is the administrator's endpoint of an object.
func (s *site) at(u *unstructured.Unstructured) dynamic.ResourceInterface {
	s.t.Helper()
	mapping, err := s.admin.mapping(render.RefOf(u))
	if err != nil {
		s.t.Fatal(err)
	}
	if mapping.Scope.Name() == "namespace" {
		ns := u.GetNamespace()
		if ns == "" {
			ns = s.ns
		}
		return s.root.Resource(mapping.Resource).Namespace(ns)
	}
	return s.root.Resource(mapping.Resource)
}

// create makes objects as the administrator and deletes them at the end.
func (s *site) create(text string) {
	s.t.Helper()
	for _, u := range docs(s.t, text) {
		if _, err := s.at(u).Create(s.t.Context(), u, metav1.CreateOptions{FieldManager: "kubectl-create"}); err != nil {
			s.t.Fatalf("create %s: %v", render.RefOf(u), err)
		}
		s.drop(u)
	}
}

// drop deletes an object at the end of the test, when it is still there.
func (s *site) drop(u *unstructured.Unstructured) {
	at := s.at(u)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := at.Delete(ctx, u.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.t.Errorf("delete %s: %v", render.RefOf(u), err)
		}
	})
}

// applyAs writes objects by server-side apply in another's name.
func (s *site) applyAs(manager, text string) {
	s.t.Helper()
	for _, u := range docs(s.t, text) {
		if _, err := s.at(u).Apply(s.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
			s.t.Fatalf("apply %s as %s: %v", render.RefOf(u), manager, err)
		}
	}
}

// patchAs merges a change into an object in another's name.
func (s *site) patchAs(manager, object, patch string, subresources ...string) {
	s.t.Helper()
	u := docs(s.t, object)[0]
	_, err := s.at(u).Patch(s.t.Context(), u.GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager}, subresources...)
	if err != nil {
		s.t.Fatalf("patch %s as %s: %v", render.RefOf(u), manager, err)
	}
}

// live reads an object as the administrator; nil when it does not exist.
func (s *site) live(object string) *unstructured.Unstructured {
	s.t.Helper()
	u := docs(s.t, object)[0]
	got, err := s.at(u).Get(s.t.Context(), u.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func (s *site) with(text string) Desired {
	d := s.desired
	d.Objects = docs(s.t, text)
	d.Digests = digests(d.Objects)
	d.Inventory = s.inventory
	return d
}

// plan plans a release of the objects and expects it to be applicable.
func (s *site) plan(text string) *Plan {
	s.t.Helper()
	p, err := s.client.Plan(s.t.Context(), s.with(text))
	if err != nil {
		s.t.Fatalf("plan: %v", err)
	}
	return p
}

// refuse plans a release that needs a person.
func (s *site) refuse(text string) (*Plan, *StalledError) {
	s.t.Helper()
	p, err := s.client.Plan(s.t.Context(), s.with(text))
	var stalled *StalledError
	if !errors.As(err, &stalled) {
		s.t.Fatalf("plan: got error %v, want a StalledError", err)
	}
	return p, stalled
}

// apply plans and applies, expects success and keeps the inventory. It returns the actions by name of object.
func (s *site) apply(text string) map[string]string {
	s.t.Helper()
	p := s.plan(text)
	changes, err := s.client.Apply(s.t.Context(), p)
	s.inventory = s.inventory.Merge(changes)
	if err != nil {
		s.t.Fatalf("apply: %v", err)
	}
	return actions(changes)
}

func actions(cs ChangeSet) map[string]string {
	out := map[string]string{}
	for _, c := range cs {
		out[c.Ref.Kind+"/"+c.Ref.Name] = c.Action
	}
	return out
}

func (s *site) unchanged(text string) {
	s.t.Helper()
	if p := s.plan(text); len(p.Changed()) > 0 {
		s.t.Errorf("second plan is not unchanged: %s\n%s", p, show(p))
	}
}

func show(p *Plan) string {
	var b strings.Builder
	for _, e := range p.Entries {
		fmt.Fprintf(&b, "%s %s (%s)\n", e.Action, e.Ref, e.Reason)
		for _, f := range e.Diff {
			fmt.Fprintf(&b, "  %s: %v -> %v\n", f.Path, f.Old, f.New)
		}
	}
	return b.String()
}

func entry(t *testing.T, p *Plan, name string) Entry {
	t.Helper()
	for _, e := range p.Entries {
		if e.Ref.Kind+"/"+e.Ref.Name == name {
			return e
		}
	}
	t.Fatalf("plan has no entry %s:\n%s", name, show(p))
	return Entry{}
}

// changed are the new values of a diff by path.
func changed(e Entry) map[string]any {
	out := map[string]any{}
	for _, f := range e.Diff {
		out[f.Path] = f.New
	}
	return out
}

func want(t *testing.T, got map[string]string, wanted map[string]string) {
	t.Helper()
	for k, v := range wanted {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q (all: %v)", k, got[k], v, got)
		}
	}
}

func wantText(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q: %s", what, part, text)
		}
	}
}

func docs(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := dec.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if len(u.Object) > 0 {
			list = append(list, u)
		}
	}
}

func digests(objects []*unstructured.Unstructured) map[string]string {
	out := map[string]string{}
	for _, u := range objects {
		data, err := json.Marshal(u.Object)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		out[render.RefOf(u).Key()] = "sha256:" + hex.EncodeToString(sum[:])
	}
	return out
}

func configMap(name, value string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {key: %q}\n", name, value)
}

func deployment(name string, more string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
%[2]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        ports: [{containerPort: 8069}]
`, name, more)
}

type contextT = context.Context

func agentNamed(user string) lab.Identity { return lab.Identity{User: user} }

var (
	createNow = metav1.CreateOptions{}
	dryCreate = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	deleteNow = metav1.DeleteOptions{}
	dryDelete = metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
)

// holds says whether an inventory names an object.
func holds(inv Inventory, ref render.Ref) bool {
	return slices.ContainsFunc(inv, func(it Item) bool { return it.Ref.Key() == ref.Key() })
}
