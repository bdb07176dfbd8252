package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

const claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: filestore}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"

const database = `---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "registry.example/db:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

func TestProtectedKindsAreNotDeleted(t *testing.T) {
	s := newSite(t)
	s.apply(claim + database + configMap("a", "1") + configMap("b", "1"))
	rest := configMap("a", "1")
	p, stalled := s.refuse(rest)
	wantText(t, "error", stalled.Error(), "PersistentVolumeClaim "+s.ns+"/filestore", "it holds data", "apps/StatefulSet", "put it back", labelEnvironment)
	if e := entry(t, p, "PersistentVolumeClaim/filestore"); e.Action != Skipped || !strings.Contains(e.Reason, "protected") {
		t.Errorf("entry: %+v", e)
	}
	if _, err := s.client.Apply(t.Context(), p); err == nil {
		t.Fatal("stalled plan was applied")
	}
	if s.live(configMap("b", "")) == nil {
		t.Error("stalled plan deleted something")
	}

	// Rollback and repair go on and leave them in place, and in the inventory.
	s.desired.KeepProtected = true
	want(t, s.apply(rest), map[string]string{"PersistentVolumeClaim/filestore": Skipped, "StatefulSet/db": Skipped, "ConfigMap/b": Deleted})
	if len(s.inventory) != 3 || s.live(claim) == nil {
		t.Errorf("inventory: %v", s.inventory)
	}
}

func TestPruneLimits(t *testing.T) {
	s := newSite(t)
	many := ""
	for i := range 6 {
		many += configMap(fmt.Sprintf("c%d", i), "1")
	}
	s.apply(many)
	s.desired.Limits = declaration.Prune{MaxObjects: 10, MaxShare: 0.5}
	p, err := s.client.Plan(t.Context(), s.with(configMap("c0", "2")))
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Deletes != 5 || limit.Owned != 6 {
		t.Fatalf("share: %v", err)
	}
	wantText(t, "error", err.Error(), "deletes 5 of 6", "83 %", "maxShare 0.50", "spec.prune")
	if _, err := s.client.Apply(t.Context(), p); !errors.As(err, &limit) {
		t.Errorf("apply: %v", err)
	}
	s.desired.Limits = declaration.Prune{MaxObjects: 4, MaxShare: 1}
	if _, err := s.client.Plan(t.Context(), s.with(configMap("c0", "1"))); !errors.As(err, &limit) {
		t.Errorf("count: %v", err)
	}
	if _, err := s.client.Plan(t.Context(), s.with("")); !errors.As(err, &limit) {
		t.Errorf("empty release: %v", err)
	}
	s.desired.Limits = declaration.Prune{MaxObjects: 5, MaxShare: 0.9}
	want(t, s.apply(configMap("c0", "1")), map[string]string{"ConfigMap/c1": Deleted, "ConfigMap/c5": Deleted})
}

func TestNotOursIsNotPruned(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1") + configMap("unlabelled", "1") + configMap("stolen", "1") + configMap("keep", "1") + configMap("gone", "1") + configMap("late", "1"))
	label := func(v string) string { return fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, labelEnvironment, v) }
	s.patchAs("kubectl-label", configMap("unlabelled", ""), label("null"))
	s.patchAs("kubectl-label", configMap("stolen", ""), label(`"other"`))
	s.patchAs("kubectl-annotate", configMap("keep", ""), fmt.Sprintf(`{"metadata":{"annotations":{%q:"disabled"}}}`, annotationPrune))
	if err := s.at(docs(t, configMap("gone", ""))[0]).Delete(t.Context(), "gone", deleteNow); err != nil {
		t.Fatal(err)
	}
	foreign := fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: foreign, labels: {%s: %s}}}", labelEnvironment, s.ns)
	s.create(foreign) // our label, but never written by us
	s.inventory = append(s.inventory, Item{Ref: render.RefOf(s.live(foreign))})
	p := s.plan(configMap("a", "1"))
	for name, c := range map[string][2]string{"ConfigMap/foreign": {Skipped, "field manager"}, "ConfigMap/unlabelled": {Skipped, "label"}, "ConfigMap/stolen": {Skipped, "environment other"},
		"ConfigMap/keep": {Skipped, annotationPrune}, "ConfigMap/gone": {Deleted, "already gone"}, "ConfigMap/late": {Deleted, ""}} {
		if e := entry(t, p, name); e.Action != c[0] || !strings.Contains(e.Reason, c[1]) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	// A label that goes between plan and apply is respected too.
	s.patchAs("kubectl-label", configMap("late", ""), label("null"))
	changes, err := s.client.Apply(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"unlabelled", "stolen", "keep", "late", "foreign"} {
		if s.live(configMap(name, "")) == nil {
			t.Errorf("%s was deleted", name)
		}
	}
	var names []string
	for _, it := range s.inventory.Merge(changes) {
		names = append(names, it.Ref.Name)
	}
	if got := strings.Join(names, " "); got != "a keep" {
		t.Errorf("inventory: %s", got)
	}
}

func TestBlockedDeletesStayInTheInventory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(configMap("a", "1") + configMap("held", "1") + configMap("denied", "1") + configMap("free", "1"))
	s.patchAs("kubectl-patch", configMap("held", ""), `{"metadata":{"finalizers":["example.org/hold"]}}`)
	s.policy("configmaps", "DELETE", "oldObject.metadata.name != 'denied'")
	labtest.Eventually(t, "policy is enforced", func(context.Context) error {
		err := s.at(docs(t, configMap("denied", ""))[0]).Delete(t.Context(), "denied", dryDelete)
		if err == nil {
			return errors.New("not yet")
		}
		return nil
	})
	p := s.plan(configMap("a", "1"))
	changes, err := s.client.Apply(t.Context(), p)
	if err == nil {
		t.Fatal("blocked deletes went unnoticed")
	}
	s.inventory = s.inventory.Merge(changes)
	for name, wanted := range map[string]string{"held": "finalizers [example.org/hold]", "denied": "ValidatingAdmissionPolicy", "free": ""} {
		for _, c := range changes {
			if c.Ref.Name == name && (c.Action != Deleted || (wanted == "") != (c.Error == "") || !strings.Contains(c.Error, wanted)) {
				t.Errorf("%+v", c)
			}
		}
		if holds(s.inventory, render.Ref{Kind: "ConfigMap", Namespace: s.ns, Name: name}) != (wanted != "") {
			t.Errorf("%s: inventory %v", name, s.inventory)
		}
	}
	// The next plan still knows both, and the one that is on its way out does not count again.
	p = s.plan(configMap("a", "1"))
	if e := entry(t, p, "ConfigMap/held"); e.Action != Deleted || !strings.Contains(e.Reason, "is being deleted") {
		t.Errorf("entry: %+v", e)
	}
	s.patchAs("kubectl-patch", configMap("held", ""), `{"metadata":{"finalizers":null}}`)
}

func TestReplacedObjectIsNotDeleted(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1") + configMap("b", "1"))
	p := s.plan(configMap("a", "1"))
	at := s.at(docs(t, configMap("b", ""))[0])
	if err := at.Delete(t.Context(), "b", deleteNow); err != nil {
		t.Fatal(err)
	}
	inv := s.inventory
	s.inventory = nil
	s.apply(configMap("b", "2"))
	s.inventory = inv
	changes, err := s.client.Apply(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("apply: %v", err)
	}
	if s.live(configMap("b", "")) == nil || !holds(s.inventory.Merge(changes), s.inventory[1].Ref) {
		t.Error("the new object was deleted or forgotten")
	}
}
