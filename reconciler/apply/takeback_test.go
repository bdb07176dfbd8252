package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/render"
)

// replaceAs deletes an object and creates another one in its place, in another's name.
func (s *site) replaceAs(manager, text string) {
	s.t.Helper()
	u := docs(s.t, text)[0]
	if err := s.at(u).Delete(s.t.Context(), u.GetName(), deleteNow); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.at(u).Create(s.t.Context(), u, metav1.CreateOptions{FieldManager: manager}); err != nil {
		s.t.Fatal(err)
	}
}

// marksWith is a merge patch of our two marks and of the value.
func marksWith(value, label, digest string) string {
	return fmt.Sprintf(`{"data":{"key":%q},"metadata":{"labels":{%q:%s},"annotations":{%q:%s}}}`, value, labelEnvironment, label, annotationDigest, digest)
}

// Whoever drops or alters our marks together with our fields, or puts another object in the place of ours, drifts: the
// inventory says whose the object is.
func TestTakesBackWhatTheInventoryHolds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := configMap("a", "1") + deployment("web", "  minReadySeconds: 1")
	s.apply(release)
	keep := fmt.Sprintf("%q", s.live(configMap("a", "")).GetAnnotations()[annotationDigest])
	label := fmt.Sprintf("%q", s.ns)
	for _, c := range []struct {
		name   string
		edit   func()
		entry  string
		reason string
	}{
		{"digest dropped", func() { s.patchAs("dashboard", configMap("a", ""), marksWith("2", label, "null")) }, "ConfigMap/a", "takes back data.key (dashboard)"},
		{"digest altered", func() { s.patchAs("dashboard", configMap("a", ""), marksWith("2", label, `"sha256:0"`)) }, "ConfigMap/a", "takes back"},
		{"label dropped", func() { s.patchAs("dashboard", configMap("a", ""), marksWith("2", "null", keep)) }, "ConfigMap/a", "takes back its label"},
		{"both dropped", func() { s.patchAs("dashboard", configMap("a", ""), marksWith("2", "null", "null")) }, "ConfigMap/a", "takes back its label"},
		{"label of nobody", func() { s.patchAs("dashboard", configMap("a", ""), marksWith("2", `"nosuch"`, keep)) }, "ConfigMap/a", "which names nosuch"},
		{"label of nobody by hand", func() { s.patchAs("kubectl-label", configMap("a", ""), marksWith("2", `"nosuch"`, "null")) }, "ConfigMap/a", "which names nosuch"},
		{"replaced", func() { s.replaceAs("dashboard", configMap("a", "2")) }, "ConfigMap/a", "takes back its label"},
		{"replaced by its like", func() { s.replaceAs("dashboard", configMap("a", "1")) }, "ConfigMap/a", "takes back its label"},
		{"applied by another tool", func() {
			s.applyAs("dashboard", fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {%s: nosuch}}, data: {key: "2"}}`, labelEnvironment))
		}, "ConfigMap/a", "data.key (dashboard)"},
		{"written beside a status", func() {
			s.patchAs("dashboard", deployment("web", ""), `{"status":{"collisionCount":1}}`, "status")
			s.patchAs("dashboard", deployment("web", ""), `{"spec":{"minReadySeconds":2}}`)
		}, "Deployment/web", "takes back spec.minReadySeconds (dashboard)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			c.edit()
			p := s.plan(release)
			e := entry(t, p, c.entry)
			if e.Action != Configured || len(e.Diff) == 0 || !strings.Contains(e.Reason, c.reason) {
				t.Fatalf("entry: %+v", e)
			}
			if len(e.By) == 0 || e.By[0].Manager != "dashboard" && e.By[0].Manager != "kubectl-label" {
				t.Errorf("attributed to %+v", e.By)
			}
			changes, err := s.client.Apply(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			s.inventory = s.inventory.Merge(changes)
			a := s.live(configMap("a", ""))
			if value, _, _ := unstructured.NestedString(a.Object, "data", "key"); value != "1" || a.GetLabels()[labelEnvironment] != s.ns {
				t.Errorf("data.key is %q, labels %v", value, a.GetLabels())
			}
			s.unchanged(release)
		})
	}
	s.t = t
}

// What the inventory does not hold, or does not say to have been applied, is taken from nobody.
func TestTakesNothingThatIsNotInTheInventory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := configMap("a", "1")
	theirs := fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {%s: other}}, data: {key: "2"}}`, labelEnvironment)
	unsure := Inventory{{Ref: render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: s.ns, Name: "a"}}} // planned once, and never seen to be applied
	for _, inventory := range []Inventory{nil, unsure} {
		s.inventory = inventory
		s.applyAs("agent-of-others", theirs)
		_, stalled := s.refuse(release)
		wantText(t, "error", stalled.Error(), "belongs to environment other")
		s.applyAs("agent-of-others", configMap("a", "2"))
		_, stalled = s.refuse(release)
		wantText(t, "error", stalled.Error(), "data.key (agent-of-others)")
		if value, _, _ := unstructured.NestedString(s.live(release).Object, "data", "key"); value != "2" {
			t.Errorf("inventory %v: data.key is %q", inventory, value)
		}
	}
}

// An object is applied by the one environment whose inventory holds it, whatever the label says.
func TestObjectOfAnotherInventory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := configMap("a", "1")
	s.apply(release)
	s.desired.Owner = func(render.Ref) string { return s.ns }
	s.unchanged(release)
	s.desired.Owner = func(render.Ref) string { return "" }
	s.unchanged(release)
	s.desired.Owner = func(render.Ref) string { return "other" }
	_, stalled := s.refuse(release)
	wantText(t, "error", stalled.Error(), "belongs to environment other")
	s.inventory = nil
	s.patchAs("kubectl-label", release, fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, labelEnvironment))
	_, stalled = s.refuse(release)
	wantText(t, "error", stalled.Error(), "belongs to environment other")
}

// A renamed environment takes over what it inherits from the one of the name that it had, and nothing on the word of a label alone.
func TestFormerNameHandsOverWhatIsInherited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := configMap("a", "1")
	s.applyAs(fieldManager, fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {%s: other}}}`, labelEnvironment))
	s.desired.Formerly = "other"
	for _, owner := range []string{"", "other"} {
		s.desired.Owner = func(render.Ref) string { return owner }
		_, stalled := s.refuse(release)
		wantText(t, "error", stalled.Error(), "belongs to environment other")
	}
	s.desired.Owner = func(render.Ref) string { return s.ns }
	want(t, s.apply(release), map[string]string{"ConfigMap/a": Configured})
	if label := s.live(release).GetLabels()[labelEnvironment]; label != s.ns {
		t.Errorf("its label is %q", label)
	}
}

// What cannot be brought to its desired state is named with what differs and who wrote it, and is never made anew.
func TestStuckObjectsSayWhatDiffers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := configMap("a", "1") + deployment("web", "") + configMap("b", "1")
	s.apply(release)
	s.patchAs("dashboard", configMap("a", ""), `{"immutable":true,"data":{"key":"2"}}`)
	s.replaceAs("dashboard", strings.ReplaceAll(deployment("web", ""), "app: web", "app: theirs"))
	uid := s.live(deployment("web", "")).GetUID()
	s.patchAs("kubectl-edit", configMap("b", ""), `{"data":{"key":"2"},"metadata":{"finalizers":["example.org/hold"]}}`)
	if err := s.at(docs(t, configMap("b", ""))[0]).Delete(t.Context(), "b", deleteNow); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = s.at(docs(t, configMap("b", ""))[0]).Patch(context.Background(), "b", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	p, err := s.client.Plan(t.Context(), s.with(release))
	if err == nil || len(p.Stuck) != 3 || len(p.Entries) != 0 {
		t.Fatalf("plan: %v, stuck %+v\n%s", err, p.Stuck, show(p))
	}
	for i, c := range []struct{ name, reason, path, by string }{
		{"a", "immutable", "data.key", "dashboard"},
		{"web", "immutable", "spec.selector.matchLabels.app", "dashboard"},
		{"b", "is being deleted", "data.key", "kubectl-edit"},
	} {
		at := slices.IndexFunc(p.Stuck, func(e Entry) bool { return e.Ref.Name == c.name })
		e := p.Stuck[max(at, 0)]
		if at < 0 || e.Action != Skipped || !strings.Contains(e.Reason, c.reason) || e.Digest == "" {
			t.Errorf("%d: %+v", i, e)
		}
		if !slices.ContainsFunc(e.Diff, func(f render.FieldChange) bool { return f.Path == c.path && f.Old != nil && f.New != nil }) {
			t.Errorf("%s differs in %+v", c.name, e.Diff)
		}
		if len(e.By) == 0 || e.By[0].Manager != c.by {
			t.Errorf("%s is attributed to %+v", c.name, e.By)
		}
	}
	if s.live(deployment("web", "")).GetUID() != uid {
		t.Error("the Deployment was made anew")
	}
}

// Of a Secret no annotation, label or other value gets out, as drift and when it is stuck.
func TestSecretsShowNoAnnotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	release := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: db, annotations: {note: first-hush}, labels: {team: second-hush}}\nstringData: {password: third-hush}\n"
	s.apply(release)
	for _, patch := range []string{
		`{"metadata":{"annotations":{"note":"fourth-hush","more":"fifth-hush"},"labels":{"team":"sixth-hush"}}}`,
		`{"immutable":true,"data":{"password":"aHVzaA=="},"metadata":{"annotations":null,"labels":{"team":null,"x":"seventh-hush"}}}`,
	} {
		s.patchAs("dashboard", release, patch)
		p, err := s.client.Plan(t.Context(), s.with(release))
		found := slices.Concat(p.Entries, p.Stuck)
		data, _ := json.Marshal(found)
		if text := fmt.Sprint(string(data), err); strings.Contains(text, "hush") || strings.Contains(text, "aHVzaA") {
			t.Errorf("a value got out: %s", text)
		}
		if len(found) != 1 || !slices.ContainsFunc(found[0].Diff, func(f render.FieldChange) bool {
			return f.Path == "metadata.labels.team" && f.New == maskAfter || f.New == mask
		}) {
			t.Errorf("the label is not named: %+v", found)
		}
	}
}
