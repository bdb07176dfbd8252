package apply

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Masks stand for values of Secrets.
const (
	mask       = "***"
	maskBefore = "*** (before)"
	maskAfter  = "*** (after)"
)

// serverFields are the parts of metadata that the API server writes by itself.
var serverFields = []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink",
	"deletionTimestamp", "deletionGracePeriodSeconds"}

// ownContent is an object without what changes by itself.
func ownContent(u *unstructured.Unstructured) map[string]any {
	o := u.DeepCopy().Object
	delete(o, "status")
	if m, ok := o["metadata"].(map[string]any); ok {
		for _, f := range serverFields {
			delete(m, f)
		}
		dropEmpty(m, "labels")
		dropEmpty(m, "annotations")
	}
	return o
}

func dropEmpty(m map[string]any, key string) {
	if m[key] == nil || empty(m[key]) {
		delete(m, key)
	}
}

// diffObjects lists the fields that differ between live state and what an apply makes of it. Of a Secret it shows no value
// but its type: people and programs keep values in annotations and labels, too. The copy of an object that kubectl keeps in
// an annotation is masked as well.
func diffObjects(ref render.Ref, live, result *unstructured.Unstructured) []render.FieldChange {
	from, to := ownContent(live), ownContent(result)
	delete(from, "apiVersion")
	delete(to, "apiVersion")
	var changes []render.FieldChange
	walkDiff("", from, to, func(path string, old, new any) {
		changes = append(changes, render.FieldChange{Path: path, Old: old, New: new})
	})
	for i, c := range changes {
		if c.Path == "metadata.annotations["+lastApplied+"]" || isSecret(ref) && c.Path != "type" && c.Path != "immutable" {
			changes[i] = masked(c)
		}
	}
	return changes
}

func masked(c render.FieldChange) render.FieldChange {
	out := render.FieldChange{Path: c.Path}
	switch {
	case c.Old != nil && c.New != nil:
		out.Old, out.New = maskBefore, maskAfter
	case c.Old != nil:
		out.Old = maskNames(c.Old)
	default:
		out.New = maskNames(c.New)
	}
	return out
}

// maskNames masks values and keeps the names of keys.
func maskNames(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return mask
	}
	out := make(map[string]any, len(m))
	for k := range m {
		out[k] = mask
	}
	return out
}

// walkDiff reports the deepest differing fields in the order of their names. Lists of named things are compared by name,
// other lists place by place.
func walkDiff(path string, old, new any, report func(path string, old, new any)) {
	if reflect.DeepEqual(old, new) {
		return
	}
	if a, ok := old.(map[string]any); ok {
		if b, ok := new.(map[string]any); ok {
			walkMaps(path, a, b, report)
			return
		}
	}
	if a, ok := old.([]any); ok {
		if b, ok := new.([]any); ok {
			walkLists(path, a, b, report)
			return
		}
	}
	report(path, old, new)
}

func walkMaps(path string, a, b map[string]any, report func(string, any, any)) {
	for _, k := range keysOfBoth(a, b) {
		walkDiff(join(path, k), a[k], b[k], report)
	}
}

// join writes names that hold dots or slashes in brackets: metadata.annotations[example.org/a].
func join(path, name string) string {
	if strings.ContainsAny(name, "./[") {
		return path + "[" + name + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func walkLists(path string, a, b []any, report func(string, any, any)) {
	an, aok := byName(a)
	bn, bok := byName(b)
	if !aok || !bok {
		for i := 0; i < len(a) || i < len(b); i++ {
			walkDiff(fmt.Sprintf("%s[%d]", path, i), at(a, i), at(b, i), report)
		}
		return
	}
	for _, k := range keysOfBoth(an, bn) {
		walkDiff(path+"["+k+"]", an[k], bn[k], report)
	}
	if !sameOrder(a, b) {
		report(path+" (order)", order(a), order(b))
	}
}

// keysOfBoth are the keys of both maps, sorted, each once.
func keysOfBoth(a, b map[string]any) []string {
	all := make(map[string]any, len(a))
	maps.Copy(all, a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// byName indexes a list whose elements all have a name of their own.
func byName(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		name, ok := m["name"].(string)
		if _, dup := out[name]; !ok || dup {
			return nil, false
		}
		out[name] = m
	}
	return out, true
}

// sameOrder says whether the names that both lists have come in the same order.
func sameOrder(a, b []any) bool {
	inA, inB := map[string]bool{}, map[string]bool{}
	for _, n := range order(a) {
		inA[n.(string)] = true
	}
	for _, n := range order(b) {
		inB[n.(string)] = true
	}
	return reflect.DeepEqual(only(order(a), inB), only(order(b), inA))
}

func only(names []any, keep map[string]bool) []any {
	out := []any{}
	for _, n := range names {
		if keep[n.(string)] {
			out = append(out, n)
		}
	}
	return out
}

func order(list []any) []any {
	names := make([]any, 0, len(list))
	for _, v := range list {
		names = append(names, v.(map[string]any)["name"])
	}
	return names
}
