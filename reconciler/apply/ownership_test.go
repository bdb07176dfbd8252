package apply

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// kubectlApply creates an object the way "kubectl apply" does without --server-side.
func (s *site) kubectlApply(text string) {
	s.t.Helper()
	for _, u := range docs(s.t, text) {
		if u.GetNamespace() == "" {
			u.SetNamespace(s.ns)
		}
		data, err := json.Marshal(u.Object)
		if err != nil {
			s.t.Fatal(err)
		}
		annotations := u.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[lastApplied] = string(data)
		u.SetAnnotations(annotations)
		if _, err := s.at(u).Create(s.t.Context(), u, metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}); err != nil {
			s.t.Fatalf("create %s: %v", render.RefOf(u), err)
		}
		s.drop(u)
	}
}

func TestAdoptsWhatNobodyOwns(t *testing.T) {
	s := newSite(t)
	s.create(configMap("a", "old"))
	p := s.plan(configMap("a", "new"))
	e := entry(t, p, "ConfigMap/a")
	if e.Action != Configured || !strings.Contains(e.Reason, "adopted") {
		t.Errorf("entry: %+v", e)
	}
	want(t, s.apply(configMap("a", "new")), map[string]string{"ConfigMap/a": Configured})
	s.unchanged(configMap("a", "new"))
}

func TestAdoptionIsOfTheObjectThatWasPlanned(t *testing.T) {
	s := newSite(t)
	s.create(configMap("a", "old"))
	p := s.plan(configMap("a", "new"))
	s.patchAs("kubectl-patch", configMap("a", ""), fmt.Sprintf(`{"metadata":{"labels":{%q:"other"}}}`, labelEnvironment))
	changes, err := s.client.Apply(t.Context(), p)
	if _, ok := asStalled(err); !ok {
		t.Fatalf("apply: %v", err)
	}
	if changes[0].Error == "" {
		t.Errorf("changes: %+v", changes)
	}
}

func TestObjectOfAnotherEnvironment(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1"))
	s.inventory = nil
	s.desired.Environment = "other"
	_, stalled := s.refuse(configMap("a", "2"))
	wantText(t, "error", stalled.Error(), "ConfigMap", s.ns+"/a", "belongs to environment "+s.ns, labelEnvironment)
}

func TestTakesOverClientSideKubectl(t *testing.T) {
	s := newSite(t)
	s.kubectlApply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {old: "yes"}}
data: {keep: "1", change: old, remove: gone}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        env: [{name: A, value: a}, {name: B, value: b}]
        ports: [{containerPort: 8069}]
      - {name: sidecar, image: "registry.example/sidecar:1"}
`)
	release := `
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {keep: "1", change: new}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        env: [{name: A, value: a}]
        ports: [{containerPort: 8069}]
`
	p := s.plan(release)
	diff := map[string]render.FieldChange{}
	for _, e := range p.Entries {
		for _, f := range e.Diff {
			diff[e.Ref.Kind+" "+f.Path] = f
		}
	}
	for _, path := range []string{"ConfigMap data.remove", "ConfigMap metadata.labels.old", "Deployment spec.template.spec.containers[web].env[B]",
		"Deployment spec.template.spec.containers[sidecar]"} {
		if f, ok := diff[path]; !ok || f.Old == nil || f.New != nil {
			t.Errorf("plan does not show the removal of %s:\n%s", path, show(p))
		}
	}
	s.apply(release)
	a := s.live(configMap("a", ""))
	data, _, _ := unstructured.NestedStringMap(a.Object, "data")
	if data["remove"] != "" || data["change"] != "new" || data["keep"] != "1" {
		t.Errorf("data: %v", data)
	}
	if a.GetLabels()["old"] != "" || a.GetAnnotations()[lastApplied] != "" {
		t.Errorf("left behind: %v %v", a.GetLabels(), a.GetAnnotations())
	}
	containers, _, _ := unstructured.NestedSlice(s.live(deployment("web", "")).Object, "spec", "template", "spec", "containers")
	if len(containers) != 1 || len(containers[0].(map[string]any)["env"].([]any)) != 1 {
		t.Errorf("containers: %v", containers)
	}
	s.unchanged(release)
}

func TestTakesOverServerSideKubectl(t *testing.T) {
	s := newSite(t)
	s.applyAs("kubectl", `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {keep: "1", remove: gone}}`)
	release := `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {keep: "2"}}`
	s.apply(release)
	data, _, _ := unstructured.NestedStringMap(s.live(release).Object, "data")
	if len(data) != 1 || data["keep"] != "2" {
		t.Errorf("data: %v", data)
	}
	s.unchanged(release)
}

func TestRolloutRestartIsLeftAlone(t *testing.T) {
	s := newSite(t)
	release := deployment("web", "")
	s.apply(release)
	s.patchAs("kubectl-rollout", release, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`)
	s.unchanged(release)
}

func TestConflictWithAnotherApplier(t *testing.T) {
	s := newSite(t)
	s.applyAs("other-tool", `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {key: theirs, free: x}}`)
	_, stalled := s.refuse(configMap("a", "ours"))
	wantText(t, "error", stalled.Error(), "other-tool", "data.key", "ConfigMap "+s.ns+"/a", "give the fields up")
	if strings.Contains(stalled.Error(), "data.free") {
		t.Errorf("names a field that is not in conflict: %s", stalled)
	}
}

func TestForeignUpdateIsAConflictOnANewReleaseAndDriftOnTheSame(t *testing.T) {
	s := newSite(t)
	release := configMap("a", "1") + deployment("web", "  replicas: 2")
	s.apply(release)
	s.patchAs("lens", configMap("a", ""), `{"data":{"key":"drifted"}}`)
	p := s.plan(release)
	e := entry(t, p, "ConfigMap/a")
	if e.Action != Configured || !strings.Contains(e.Reason, "data.key (lens)") {
		t.Errorf("drift: %+v", e)
	}
	_, stalled := s.refuse(configMap("a", "2"))
	wantText(t, "error", stalled.Error(), "lens", "data.key")

	want(t, s.apply(release), map[string]string{"ConfigMap/a": Configured, "Deployment/web": Unchanged})
	s.unchanged(release)
	s.patchAs("kubectl-scale", deployment("web", ""), `{"spec":{"replicas":5}}`, "scale")
	want(t, s.apply(release), map[string]string{"Deployment/web": Configured})
	s.unchanged(release)
}

func TestDeletedAndForeignFieldsAreDrift(t *testing.T) {
	s := newSite(t)
	release := configMap("a", "1")
	s.apply(release)
	s.patchAs("kubectl-edit", release, `{"metadata":{"labels":{"stray":"yes"}},"data":{"key":null}}`)
	e := entry(t, s.plan(release), "ConfigMap/a")
	if got := changed(e); e.Action != Configured || got["data"] == nil && got["data.key"] != "1" {
		t.Errorf("drift: %+v", e)
	}
	s.apply(release)
	if s.live(release).GetLabels()["stray"] != "" {
		t.Error("stray label is still there")
	}
	s.unchanged(release)
}

func TestRemovedLabelOfDesiredObjectIsDrift(t *testing.T) {
	s := newSite(t)
	release := configMap("a", "1")
	s.apply(release)
	s.patchAs("kubectl-label", release, fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, labelEnvironment))
	e := entry(t, s.plan(release), "ConfigMap/a")
	if e.Action != Configured || !strings.Contains(e.Reason, "takes back its label") {
		t.Errorf("entry: %+v", e)
	}
	s.apply(release)
	if s.live(release).GetLabels()[labelEnvironment] != s.ns {
		t.Error("label is still missing")
	}
}

// Two environments that both plan to create one object: the second one to apply does not take it.
func TestTwoPlansForOneObject(t *testing.T) {
	s := newSite(t)
	first := s.plan(configMap("a", "1"))
	s.desired.Environment = "second"
	second := s.plan(configMap("a", "2"))
	if _, err := s.client.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := s.client.Apply(t.Context(), second)
	if _, ok := asStalled(err); !ok {
		t.Errorf("apply: %v", err)
	}
	if got := s.live(configMap("a", "")).GetLabels()[labelEnvironment]; got != s.ns {
		t.Errorf("object went to %s", got)
	}
}

// What is gone since it was planned is not made anew from an old plan.
func TestObjectDeletedSinceThePlan(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1"))
	p := s.plan(configMap("a", "2"))
	if err := s.at(docs(t, configMap("a", ""))[0]).Delete(t.Context(), "a", deleteNow); err != nil {
		t.Fatal(err)
	}
	_, err := s.client.Apply(t.Context(), p)
	if _, stalled := asStalled(err); err == nil || stalled || !strings.Contains(err.Error(), "deleted since it was planned") {
		t.Errorf("apply: %v", err)
	}
	want(t, s.apply(configMap("a", "2")), map[string]string{"ConfigMap/a": Created})
}

// TestTakesBackWhatStandsBesideOurs changes the port of a Service by hand. The ports are a list with the number for its
// key, so ours and theirs would stand beside each other under one name, which no dry run accepts.
func TestTakesBackWhatStandsBesideOurs(t *testing.T) {
	s := newSite(t)
	service := "---\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: http, port: 80}, {name: chat, port: 8072}]}}\n"
	s.apply(service)
	for _, patch := range []string{
		`{"spec":{"ports":[{"name":"http","port":8070},{"name":"chat","port":8072}]}}`,
		`{"spec":{"ports":[{"name":"http","port":8070}]}}`,
	} {
		s.patchAs("kubectl-patch", service, patch)
		p := s.plan(service)
		e := entry(t, p, "Service/web")
		if e.Action != Configured || len(e.Diff) == 0 || len(e.By) == 0 || e.By[0].Manager != "kubectl-patch" {
			t.Fatalf("%s: %+v", patch, e)
		}
		if _, err := s.client.Apply(t.Context(), p); err != nil {
			t.Fatalf("%s: %v", patch, err)
		}
		ports, _, _ := unstructured.NestedSlice(s.live(service).Object, "spec", "ports")
		if len(ports) != 2 || ports[0].(map[string]any)["port"] != int64(80) {
			t.Errorf("%s: ports %v", patch, ports)
		}
		s.unchanged(service)
	}
}
