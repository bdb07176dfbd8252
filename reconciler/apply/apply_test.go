package apply

import (
	"errors"
	"testing"

	"github.com/purser-gitops/purser/render"
)

func TestCreateUpdateUnchangedPrune(t *testing.T) {
	s := newSite(t)
	release := configMap("a", "1") + configMap("b", "1") + deployment("web", "  replicas: 2")
	want(t, s.apply(release), map[string]string{"ConfigMap/a": Created, "ConfigMap/b": Created, "Deployment/web": Created})
	if len(s.inventory) != 3 {
		t.Fatalf("inventory: %v", s.inventory)
	}
	live := s.live(configMap("a", ""))
	if live.GetLabels()[labelEnvironment] != s.ns || live.GetAnnotations()[annotationDigest] == "" {
		t.Errorf("marks are missing: %v", live.Object["metadata"])
	}
	s.unchanged(release)
	version := live.GetResourceVersion()

	release = configMap("a", "1") + configMap("b", "2") + deployment("web", "  replicas: 3")
	p := s.plan(release)
	e := entry(t, p, "ConfigMap/b")
	if e.Action != Configured || changed(e)["data.key"] != "2" {
		t.Errorf("entry of b: %+v", e)
	}
	want(t, s.apply(release), map[string]string{"ConfigMap/a": Unchanged, "ConfigMap/b": Configured, "Deployment/web": Configured})
	if got := s.live(configMap("a", "")).GetResourceVersion(); got != version {
		t.Errorf("unchanged object was written: %s to %s", version, got)
	}

	want(t, s.apply(configMap("a", "1")), map[string]string{"ConfigMap/b": Deleted, "Deployment/web": Deleted})
	if s.live(configMap("b", "")) != nil || s.live(deployment("web", "")) != nil {
		t.Error("pruned objects are still there")
	}
	if len(s.inventory) != 1 {
		t.Errorf("inventory: %v", s.inventory)
	}
}

func TestLiveReadsInOrderAndMissingIsNil(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1"))
	a := s.inventory[0].Ref
	missing := a
	missing.Name = "missing"
	unknown := render.Ref{Group: "nowhere.example", Version: "v1", Kind: "Nothing", Namespace: s.ns, Name: "x"}
	list, err := s.client.Live(t.Context(), []render.Ref{missing, a, unknown})
	if err != nil {
		t.Fatal(err)
	}
	if list[0] != nil || list[1] == nil || list[1].GetName() != "a" || list[2] != nil {
		t.Errorf("got %v", list)
	}
}

func TestUIDAndScope(t *testing.T) {
	s := newSite(t)
	uid, err := s.cluster.UID(t.Context())
	if err != nil || len(uid) < 30 {
		t.Fatalf("uid %q: %v", uid, err)
	}
	for kind, wantNamespaced := range map[string]bool{"ConfigMap": true, "Namespace": false} {
		namespaced, err := s.cluster.Scope(render.Ref{Version: "v1", Kind: kind})
		if err != nil || namespaced != wantNamespaced {
			t.Errorf("%s: %v %v", kind, namespaced, err)
		}
	}
	if _, err := s.cluster.Scope(render.Ref{Group: "nowhere.example", Version: "v1", Kind: "Nothing"}); !errors.Is(err, ErrNotServed) {
		t.Error("unknown kind is known")
	}
}
