package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Marks that the agent leaves on what it applies, see the package reconciler/apply.
const (
	ownerLabel       = "purser.dev/environment"
	digestAnnotation = "purser.dev/digest"
)

// edit is one way in which people and tools change objects by hand.
type edit struct {
	name string
	kind string // "": any managed one
	mark bool   // it takes away what only the agent puts there
	make func(context.Context, dynamic.ResourceInterface, *unstructured.Unstructured) error
}

// edits of all kinds. Field managers are those that the tools give themselves.
var edits = []edit{
	{"kubectl patch of a value", "ConfigMap", false, patch(types.MergePatchType, "kubectl-patch", `{"data":{"log_level":"debug"}}`)},
	{"client-side kubectl apply", "ConfigMap", false, patch(types.MergePatchType, "kubectl-client-side-apply",
		`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},"data":{"workers":"8"}}`)},
	{"kubectl edit that adds a key", "ConfigMap", false, patch(types.MergePatchType, "kubectl-edit", `{"data":{"extra":"1"}}`)},
	{"kubectl patch that removes a key", "ConfigMap", false, patch(types.JSONPatchType, "kubectl-patch", `[{"op":"remove","path":"/data/workers"}]`)},
	{"update by a dashboard", "ConfigMap", false, update},
	{"removed owner label", "", true, patch(types.MergePatchType, "kubectl-label", `{"metadata":{"labels":{"`+ownerLabel+`":null}}}`)},
	{"changed label", "", false, patch(types.MergePatchType, "kubectl-label", `{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}`)},
	{"removed digest annotation", "", true, patch(types.MergePatchType, "kubectl-annotate", `{"metadata":{"annotations":{"`+digestAnnotation+`":null}}}`)},
	{"deletion", "", false, remove},
	{"kubectl scale", "Deployment", false, patch(types.MergePatchType, "kubectl", `{"spec":{"replicas":1}}`, "scale")},
	{"kubectl set image", "Deployment", false, patch(types.StrategicMergePatchType, "kubectl-set",
		`{"spec":{"template":{"spec":{"containers":[{"name":"odoo","image":"registry.example/odoo:by-hand"}]}}}}`)},
	{"kubectl edit that adds a variable", "Deployment", false, patch(types.StrategicMergePatchType, "kubectl-edit",
		`{"spec":{"template":{"spec":{"containers":[{"name":"odoo","env":[{"name":"DEBUG","value":"1"}]}]}}}}`)},
	{"changed port", "Service", false, patch(types.JSONPatchType, "kubectl-patch", `[{"op":"replace","path":"/spec/ports/0/port","value":8070}]`)},
	{"changed selector", "Service", false, patch(types.MergePatchType, "kubectl-edit", `{"spec":{"selector":{"app.kubernetes.io/component":"other"}}}`)},
	{"kubectl patch of an account", "ServiceAccount", false, patch(types.MergePatchType, "kubectl-patch", `{"automountServiceAccountToken":true}`)},
}

func patch(form types.PatchType, manager, body string, subresource ...string) func(context.Context, dynamic.ResourceInterface, *unstructured.Unstructured) error {
	return func(ctx context.Context, objects dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		_, err := objects.Patch(ctx, o.GetName(), form, []byte(body), metav1.PatchOptions{FieldManager: manager}, subresource...)
		return err
	}
}

func update(ctx context.Context, objects dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	o = o.DeepCopy()
	if err := unstructured.SetNestedField(o.Object, "warn", "data", "log_level"); err != nil {
		return err
	}
	_, err := objects.Update(ctx, o, metav1.UpdateOptions{FieldManager: "dashboard"})
	return err
}

func remove(ctx context.Context, objects dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	return objects.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
}

// unmarked are the edits that can be made of objects without marks.
func unmarked(ways []edit) []edit {
	return slices.DeleteFunc(slices.Clone(ways), func(e edit) bool { return e.mark })
}

// planned is one edit of one object.
type planned struct {
	edit
	key objectKey
}

// planEdits chooses as many edits, all ways in turn, of different objects in different namespaces in random order;
// fewer when there are not enough objects.
func planEdits(random *rand.Rand, ways []edit, count int, namespaces []string) []planned {
	free := map[string][]string{} // namespaces whose object of a kind is not edited yet
	for _, k := range managed {
		free[k.kind] = append([]string{}, namespaces...)
		random.Shuffle(len(namespaces), func(i, j int) { list := free[k.kind]; list[i], list[j] = list[j], list[i] })
	}
	var list []planned
	for i, misses := 0, 0; len(list) < count && misses < len(ways); i++ {
		e := ways[i%len(ways)]
		kind := e.kind
		if kind == "" {
			kind = managed[random.IntN(len(managed))].kind
		}
		if len(free[kind]) == 0 {
			misses++
			continue
		}
		misses = 0
		k := kindOf(kind)
		list = append(list, planned{e, objectKey{k.resource, free[kind][0], k.name}})
		free[kind] = free[kind][1:]
	}
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// essence is what of an object must be as before once it is repaired: everything but what the API server and its
// controllers write. Annotations that were not there before may stay.
func essence(o *unstructured.Unstructured) map[string]any {
	text, err := json.Marshal(o.Object)
	content := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &content)
	}
	if err != nil {
		panic(fmt.Sprintf("an object from the API server is no JSON: %v", err))
	}
	delete(content, "status")
	labels, _, _ := unstructured.NestedMap(content, "metadata", "labels")
	content["metadata"] = map[string]any{"labels": labels}
	for _, given := range []string{"clusterIP", "clusterIPs"} {
		unstructured.RemoveNestedField(content, "spec", given)
	}
	return content
}

// asBefore reports whether an object is as it was.
func asBefore(now, before *unstructured.Unstructured) bool {
	digest := now.GetAnnotations()[digestAnnotation]
	return digest == before.GetAnnotations()[digestAnnotation] && reflect.DeepEqual(essence(now), essence(before))
}
