package apply

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const annotated = `---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, annotations: {house: rules}, labels: {team: north}}
data: {key: "1", other: "1"}
`

// Every way in which a person or a program can change what we own is noticed, named and repaired.
func TestEveryKindOfDriftIsSeen(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := annotated + configMap("b", "1")
	v.settle(release)
	edits := []struct {
		name   string
		edit   func()
		action string
		by     string // "" is nobody
	}{
		{"merge patch", func() { v.patchAs("kubectl-patch", annotated, `{"data":{"key":"2"}}`) }, Configured, "kubectl-patch Update"},
		{"server-side apply with force", func() {
			v.applyAs("lens", `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {house: none}}}`)
			v.patchAs("lens-ui", annotated, `{"metadata":{"annotations":{"house":"mine"}}}`)
		}, Configured, "lens-ui Update"},
		{"update", func() {
			u := v.live(annotated)
			u.SetAnnotations(map[string]string{"house": "theirs", annotationDigest: u.GetAnnotations()[annotationDigest]})
			if _, err := v.at(u).Update(t.Context(), u, metav1.UpdateOptions{FieldManager: "lens-edit"}); err != nil {
				t.Fatal(err)
			}
		}, Configured, "lens-edit Update"},
		{"field removed", func() { v.patchAs("kubectl-edit", annotated, `{"data":{"key":null}}`) }, Configured, ""},
		{"our label removed", func() {
			v.patchAs("kubectl-label", annotated, fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, labelEnvironment))
		}, Configured, ""},
		{"our label changed", func() { v.patchAs("kubectl-label", annotated, `{"metadata":{"labels":{"team":"south"}}}`) }, Configured, "kubectl-label Update"},
		{"annotation removed", func() { v.patchAs("kubectl-annotate", annotated, `{"metadata":{"annotations":{"house":null}}}`) }, Configured, ""},
		{"digest removed", func() {
			v.patchAs("kubectl-annotate", annotated, fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, annotationDigest))
		}, Configured, ""},
		{"extra key by kubectl", func() { v.patchAs("kubectl-edit", annotated, `{"data":{"extra":"1"}}`) }, Configured, "kubectl-edit Update"},
		{"deleted", func() {
			if err := v.at(docs(t, annotated)[0]).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, Created, ""},
	}
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			v.forgetNotices()
			e.edit()
			only := v.suspect()
			if len(only) != 1 {
				t.Fatalf("suspects: %v", only)
			}
			if gone := len(v.w.Missing(v.ns)) > 0; gone != (e.action == Created || e.name == "our label removed") {
				t.Errorf("said to be deleted: %v", gone)
			}
			p := v.look(release, only)
			if len(p.Entries) != 1 || p.Entries[0].Action != e.action {
				t.Fatalf("plan: %s", show(p))
			}
			by := ""
			if w := p.Entries[0].By; len(w) > 0 {
				by = w[0].Manager + " " + w[0].Operation
			}
			if by != e.by {
				t.Errorf("attributed to %q, want %q: %+v", by, e.by, p.Entries[0].By)
			}
			v.quietNow("examined and different")
			changes, err := v.client.Apply(t.Context(), p)
			if err != nil {
				t.Fatalf("apply: %v", err)
			}
			v.inventory = v.inventory.Merge(changes)
			v.caughtUp(annotated)
			v.vouched()
			v.quietNow("repaired")
			v.unchanged(release)
		})
	}
}

// A deletion that a finalizer holds is seen when it begins and when it ends.
func TestDeletionHeldByFinalizer(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1")
	v.settle(release)
	v.patchAs("holder", release, `{"metadata":{"finalizers":["example.org/hold"]}}`)
	v.caughtUp(release)
	v.quietNow("a foreign finalizer")
	if err := v.at(docs(t, release)[0]).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	only := v.suspect()
	d := v.with(release)
	d.Only = only
	if _, err := v.client.Plan(t.Context(), d); err == nil {
		t.Fatal("an object that is being deleted can be planned")
	}
	v.patchAs("holder", release, `{"metadata":{"finalizers":null}}`)
	v.eventually("object is gone", func() bool { return len(v.w.Missing(v.ns)) == 1 })
	p := v.look(release, v.suspect())
	want(t, entriesOf(p), map[string]string{"ConfigMap/a": Created})
}

// Somebody writes a field of ours and writes it back: it is theirs from then on, and their next change is still seen.
func TestFieldWrittenBack(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1")
	v.settle(release)
	v.patchAs("lens", release, `{"data":{"key":"2"}}`)
	v.patchAs("lens", release, `{"data":{"key":"1"}}`)
	v.caughtUp(release)
	want(t, entriesOf(v.look(release, v.suspect())), map[string]string{"ConfigMap/a": Unchanged})
	v.quietNow("examined and equal")
	v.patchAs("lens", release, `{"data":{"key":"3"}}`)
	want(t, entriesOf(v.look(release, v.suspect())), map[string]string{"ConfigMap/a": Configured})
}

// In report mode what was found is not looked at again until it changes.
func TestReportedDriftIsLookedAtOnce(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1")
	v.settle(release)
	for _, value := range []string{"2", "3"} {
		v.patchAs("lens", release, fmt.Sprintf(`{"data":{"key":%q}}`, value))
		p := v.look(release, v.suspect())
		if got := p.Entries[0].Diff[0].Old; got != value {
			t.Errorf("diff is from %v, want %s", got, value)
		}
		v.caughtUp(release)
		v.quietNow("reported")
	}
	v.patchAs("lens", release, `{"data":{"key":"1"}}`)
	want(t, entriesOf(v.look(release, v.suspect())), map[string]string{"ConfigMap/a": Unchanged})
}

func entriesOf(p *Plan) map[string]string {
	out := map[string]string{}
	for _, e := range p.Entries {
		out[e.Ref.Kind+"/"+e.Ref.Name] = e.Action
	}
	return out
}

// A drifted object that a webhook keeps changing is attributed to ourselves, since the API server says so.
func TestWebhookIsAttributedToUs(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1")
	v.settle(release)
	v.webhook("Mutating", "None", patches(map[string]any{"op": "add", "path": "/data/key", "value": "rewritten"}))
	p := v.plan(release)
	e := entry(t, p, "ConfigMap/a")
	if e.Action != Configured || !slices.ContainsFunc(e.By, func(w FieldWriter) bool { return w.Manager == fieldManager }) {
		t.Fatalf("entry: %+v", e)
	}
	v.apply(release)
	v.caughtUp(release)
	v.quietNow("our own write, changed by a webhook")
	v.unchanged(release)
	if n := v.told(Suspect); n != 0 {
		t.Errorf("%d notices", n)
	}
}
