package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/purser-gitops/purser/render"
)

func TestInventoryMerge(t *testing.T) {
	ref := func(name string) render.Ref {
		return render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "n", Name: name}
	}
	inv := Inventory{
		{Ref: ref("old"), Digest: "1"}, {Ref: ref("held"), Digest: "1"}, {Ref: ref("changed"), Digest: "1"}, {Ref: ref("failed"), Digest: "1"},
		{Ref: ref("left"), Digest: "1"}, {Ref: ref("kept"), Digest: "1"},
	}
	got := inv.Merge(ChangeSet{
		{Ref: ref("new"), Action: Created, Digest: "2"},
		{Ref: ref("maybe"), Action: Created, Digest: "2", Error: "timeout"},
		{Ref: ref("changed"), Action: Configured, Digest: "2"},
		{Ref: ref("failed"), Action: Configured, Digest: "2", Error: "timeout"},
		{Ref: ref("old"), Action: Deleted},
		{Ref: ref("held"), Action: Deleted, Error: "finalizers"},
		{Ref: ref("left"), Action: Skipped, Released: true},
		{Ref: ref("kept"), Action: Skipped},
		{Ref: ref("never"), Action: Skipped, Error: "not attempted"},
	})
	want := map[string]string{"new": "2", "maybe": "", "changed": "2", "failed": "1", "held": "1", "kept": "1"}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for i, it := range got {
		if d, ok := want[it.Ref.Name]; !ok || d != it.Digest {
			t.Errorf("%s: %q", it.Ref.Name, it.Digest)
		}
		if i > 0 && got[i-1].Ref.Key() >= it.Ref.Key() {
			t.Error("not sorted")
		}
	}
	if len(inv) != 6 {
		t.Error("Merge altered its receiver")
	}
}

func TestJoinProblems(t *testing.T) {
	stalled, limit, transient := &StalledError{What: "w", Hint: "h"}, &LimitError{}, errors.New("timeout")
	for name, c := range map[string]struct {
		problems       []error
		stalled, limit bool
	}{
		"one stalled":         {[]error{stalled}, true, false},
		"two stalled":         {[]error{stalled, stalled}, true, false},
		"stalled and limit":   {[]error{limit, stalled}, true, false},
		"limit":               {[]error{limit}, false, true},
		"transient wins":      {[]error{stalled, transient, limit}, false, false},
		"cancelled is no why": {[]error{context.Canceled, transient}, false, false},
	} {
		err := joinProblems("plan x", c.problems)
		_, isStalled := asStalled(err)
		var l *LimitError
		if isStalled != c.stalled || errors.As(err, &l) != c.limit {
			t.Errorf("%s: %v", name, err)
		}
		if !c.stalled && !c.limit && !errors.Is(err, transient) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if joinProblems("x", nil) != nil {
		t.Error("no problems make an error")
	}
}

func TestDiffObjects(t *testing.T) {
	a := docs(t, `{apiVersion: v1, kind: Pod, metadata: {name: p, generation: 1, uid: a, annotations: {example.org/x: "1"}}, status: {phase: Running},
 spec: {containers: [{name: web, image: "a:1", env: [{name: A, value: "1"}]}, {name: gone, image: x}], tolerations: [1, 2]}}`)[0]
	b := docs(t, `{apiVersion: v1, kind: Pod, metadata: {name: p, generation: 2, uid: b, annotations: {example.org/x: "2"}}, status: {phase: Failed},
 spec: {containers: [{name: web, image: "a:2", env: [{name: A, value: "1"}, {name: B, value: "2"}]}], tolerations: [1, 3, 4]}}`)[0]
	var paths []string
	for _, f := range diffObjects(render.RefOf(a), a, b) {
		paths = append(paths, f.Path)
	}
	want := []string{"metadata.annotations[example.org/x]", "spec.containers[gone]", "spec.containers[web].env[B]", "spec.containers[web].image", "spec.tolerations[1]", "spec.tolerations[2]"}
	if !reflect.DeepEqual(paths, want) {
		t.Errorf("got %v", paths)
	}
	if d := diffObjects(render.RefOf(a), a, a); len(d) != 0 {
		t.Errorf("an object differs from itself: %v", d)
	}
	order := diffObjects(render.Ref{}, docs(t, "{spec: {env: [{name: A}, {name: B}]}}")[0], docs(t, "{spec: {env: [{name: B}, {name: A}]}}")[0])
	if len(order) != 1 {
		t.Errorf("order: %v", order)
	}
}

func TestProtected(t *testing.T) {
	for text, want := range map[string]bool{
		"{apiVersion: v1, kind: Namespace}":        true,
		"{apiVersion: v1, kind: PersistentVolume}": true,
		claim:    true,
		database: true,
		"{apiVersion: apps/v1, kind: StatefulSet, spec: {}}":                            false,
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition}":         true,
		"{apiVersion: postgresql.cnpg.io/v1, kind: Cluster}":                            true,
		"{apiVersion: postgresql.cnpg.io/v1, kind: ScheduledBackup}":                    true,
		"{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot}":                true,
		"{apiVersion: v1, kind: ConfigMap}":                                             false,
		"{apiVersion: cluster.x-k8s.io/v1beta1, kind: Cluster, metadata: {name: none}}": false,
	} {
		u := docs(t, text)[0]
		if got := protected(u) != ""; got != want {
			t.Errorf("%s %s: %v", u.GetAPIVersion(), u.GetKind(), got)
		}
	}
}

func TestTakeOver(t *testing.T) {
	for manager, want := range map[string]bool{"kubectl": true, "kubectl-client-side-apply": true, "kubectl-edit": true, "before-first-apply": true,
		"kubectlx": false, "helm": false, "kube-controller-manager": false, "": false} {
		if takeOver(manager) != want {
			t.Errorf("%q: %v", manager, !want)
		}
	}
}

func TestJudge(t *testing.T) {
	live := docs(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: [
 {manager: lens, operation: Update}, {manager: operator, operation: Apply}, {manager: scaler, operation: Update, subresource: scale}]}}`)[0]
	for name, c := range map[string]struct {
		manager     string
		sameRelease bool
		stalls      bool
	}{
		"ourselves":                  {fieldManager, false, false},
		"kubectl":                    {"kubectl-edit", false, false},
		"by hand, new release":       {"lens", false, true},
		"by hand, same release":      {"lens", true, false},
		"declared, new release":      {"operator", false, true},
		"declared, same release":     {"operator", true, false},
		"through a subresource":      {"scaler", true, true},
		"replicas of a gone scaler":  {hpaManager, false, false},
		"another tool, never seen":   {"somebody", false, true},
		"another tool, same release": {"somebody", true, false},
	} {
		field := "data.key"
		if c.manager == hpaManager {
			field = "spec.replicas"
		}
		_, stalled := judge(render.RefOf(live), live, []conflict{{manager: c.manager, field: field}}, c.sameRelease)
		if (stalled != nil) != c.stalls {
			t.Errorf("%s: %v", name, stalled)
		}
	}
}

func TestScrubKeepsWhatDecides(t *testing.T) {
	ref := render.Ref{Version: "v1", Kind: "Secret", Namespace: "n", Name: "s"}
	for _, err := range []error{
		apierrors.NewTooManyRequests("hush", 9), apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "s", errors.New("hush")),
		apierrors.NewInternalError(errors.New("hush")), apierrors.NewServiceUnavailable("hush"), apierrors.NewBadRequest("hush"),
		apierrors.NewGenericServerResponse(422, "patch", schema.GroupResource{}, "s", "hush", 0, true),
	} {
		got := scrub(ref, fmt.Errorf("wrapped hush: %w", err))
		if apierrors.ReasonForError(got) != apierrors.ReasonForError(err) {
			t.Errorf("%v became %v", err, got)
		}
		explained := explain(call{verb: "patch", ref: ref, user: "u", cluster: "c"}, fmt.Errorf("wrapped hush: %w", err))
		for e := explained; e != nil; e = errors.Unwrap(e) {
			if text := fmt.Sprintf("%v %+v", e, e); len(text) == 0 || strings.Contains(text, "hush") {
				t.Errorf("%v leaks: %s", err, text)
			}
		}
	}
}

func TestRankOrdersKinds(t *testing.T) {
	kinds := []string{"CustomResourceDefinition", "Namespace", "ClusterRole", "StorageClass", "ServiceAccount", "ConfigMap", "Deployment", "IngressRoute", "ValidatingWebhookConfiguration"}
	for i := 1; i < len(kinds); i++ {
		if a, b := rank(render.Ref{Kind: kinds[i-1]}), rank(render.Ref{Kind: kinds[i]}); a >= b {
			t.Errorf("%s (%d) is not before %s (%d)", kinds[i-1], a, kinds[i], b)
		}
	}
	if rank(render.Ref{Kind: "PersistentVolumeClaim"}) >= rank(render.Ref{Kind: "Deployment"}) {
		t.Error("a claim comes after what mounts it")
	}
}

func TestDressMovesStringData(t *testing.T) {
	u := docs(t, secret("x", ""))[0]
	u.Object["status"] = map[string]any{"a": "b"}
	if err := dress(target{ref: render.RefOf(u), object: u, env: "dev", digest: "d"}); err != nil {
		t.Fatal(err)
	}
	data, _, _ := unstructured.NestedStringMap(u.Object, "data")
	if data["password"] != "eA==" || u.Object["stringData"] != nil || u.Object["status"] != nil {
		t.Errorf("keys: %v", len(data))
	}
}

// A digest that an interrupted attempt may have applied is no stranger's, and what is left as it is does not matter.
func TestStrange(t *testing.T) {
	ref := render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "n", Name: "a"}
	live := func(environment, digest string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		u.SetLabels(map[string]string{labelEnvironment: environment})
		u.SetAnnotations(map[string]string{annotationDigest: digest})
		return u
	}
	inventory := Inventory{{Ref: ref, Digest: "applied", Tried: []string{"tried", "tried later"}}}
	for name, c := range map[string]struct {
		live    *unstructured.Unstructured
		action  string
		strange bool
	}{
		"absent":              {nil, Created, false},
		"as planned":          {live("dev", "planned"), Configured, false},
		"as applied":          {live("dev", "applied"), Configured, false},
		"as tried":            {live("dev", "tried"), Configured, false},
		"as tried, to delete": {live("dev", "tried later"), Deleted, false},
		"unknown":             {live("dev", "unknown"), Configured, true},
		"unknown, to delete":  {live("dev", "unknown"), Deleted, true},
		"unknown, left alone": {live("dev", "unknown"), Skipped, false},
		"somebody else's":     {live("qa", "unknown"), Configured, false},
	} {
		p := &Plan{Environment: "dev", steps: []*step{{live: c.live, entry: Entry{Ref: ref, Action: c.action, Digest: "planned"}}}}
		if got := p.Strange(inventory); (len(got) > 0) != c.strange {
			t.Errorf("%s: strange are %v", name, got)
		}
	}
}

func TestTriedDigestsAreBounded(t *testing.T) {
	inventory := Inventory{}
	for i := range 2 * mostTried {
		before := inventory
		inventory = before.Merge(ChangeSet{{Ref: render.Ref{Kind: "ConfigMap", Name: "a"}, Action: Configured, Digest: fmt.Sprint(i), Error: "timeout"}})
		if i > 0 && before[0].Tried[0] == inventory[0].Tried[0] != (i < mostTried) {
			t.Errorf("after %d attempts it knows %v, before %v", i+1, inventory[0].Tried, before[0].Tried)
		}
	}
	if got := inventory[0].Tried; len(got) != mostTried || got[mostTried-1] != fmt.Sprint(2*mostTried-1) {
		t.Errorf("it knows %v", got)
	}
}

// Where the tenant may not do something, the hint grants no more than that, and never the right to grant.
func TestHintsOfRefusals(t *testing.T) {
	refused := func(group, resource, prose string) string {
		ref := render.Ref{Group: group, Version: "v1", Kind: "K", Namespace: "north-dev", Name: "a"}
		err := explain(call{verb: "get", ref: ref, user: "purser:tenant:north", cluster: "c"}, &apierrors.StatusError{ErrStatus: metav1.Status{
			Reason: metav1.StatusReasonForbidden, Code: 403, Message: prose, Details: &metav1.StatusDetails{Group: group, Kind: resource}}})
		stalled, ok := asStalled(err)
		if !ok {
			t.Fatalf("%s: %v", resource, err)
		}
		return stalled.Hint
	}
	wantText(t, "hint", refused("", "configmaps", "User cannot get"), "grant User purser:tenant:north exactly get on configmaps", "in namespace north-dev with a Role and RoleBinding")
	for _, resource := range []string{"roles", "rolebindings", "clusterroles"} {
		hint := refused("rbac.authorization.k8s.io", resource, "User cannot get")
		if wantText(t, "hint", hint, "take it out of the release", resource); strings.Contains(hint, "grant") {
			t.Error(hint)
		}
	}
	wantText(t, "hint", refused("rbac.authorization.k8s.io", "roles", "permissions not currently held"), "take them out of the role", "never grant a tenant the verbs escalate or bind")
}
