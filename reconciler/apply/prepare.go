package apply

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/purser-gitops/purser/render"
)

// target is one desired object as it will be sent.
type target struct {
	ref     render.Ref
	object  *unstructured.Unstructured // ours to alter, marked, with its namespace
	digest  string
	env     string
	comes   bool              // the release brings its kind
	mapping *meta.RESTMapping // nil: its kind does not exist yet
}

// prepare copies, marks and places the desired objects. An object that cannot be sent at all is a problem.
func (c *Client) prepare(d Desired) ([]target, []error) {
	var targets []target
	var problems []error
	crds := definedKinds(d.Objects)
	seen := map[string]bool{}
	for _, u := range d.Objects {
		t, err := c.target(u, d, crds)
		if err == nil && seen[t.ref.Key()] {
			err = &StalledError{What: t.ref.String() + " is in the release twice", Hint: "remove one of them"}
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		seen[t.ref.Key()] = true
		targets = append(targets, t)
	}
	return targets, problems
}

func (c *Client) target(u *unstructured.Unstructured, d Desired, crds map[schema.GroupKind]bool) (target, error) {
	original := render.RefOf(u)
	if original.Name == "" {
		return target{}, &StalledError{What: original.String() + " has no name", Hint: "give it metadata.name; generateName has no place in Git"}
	}
	t := target{object: u.DeepCopy(), env: d.Environment}
	mapping, err := c.cluster.mapping(original)
	namespaced, comes := crds[schema.GroupKind{Group: original.Group, Kind: original.Kind}]
	switch {
	case err == nil:
		t.mapping, t.comes = mapping, comes
		namespaced = mapping.Scope.Name() == meta.RESTScopeNameNamespace
	case meta.IsNoMatchError(err) && comes:
	default:
		return target{}, explain(c.call("find", original), err)
	}
	switch {
	case !namespaced:
		t.object.SetNamespace("")
	case original.Namespace == "":
		t.object.SetNamespace(d.Namespace)
	}
	if namespaced && t.object.GetNamespace() == "" {
		return target{}, &StalledError{What: original.String() + " has no namespace", Hint: "give it one, or give the environment one"}
	}
	t.ref = render.RefOf(t.object)
	if t.digest = d.Digests[original.Key()]; t.digest == "" {
		t.digest = d.Digests[t.ref.Key()]
	}
	if t.digest == "" {
		return target{}, fmt.Errorf("%s has no digest in its release", t.ref)
	}
	if err := dress(t); err != nil {
		return target{}, err
	}
	return t, nil
}

// dress removes what only the API server writes, and sets our marks.
func dress(t target) error {
	u := t.object
	unstructured.RemoveNestedField(u.Object, "status")
	for _, f := range serverFields {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelEnvironment] = t.env
	u.SetLabels(labels)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationDigest] = t.digest
	u.SetAnnotations(annotations)
	if isSecret(t.ref) {
		return encodeStringData(t.ref, u)
	}
	return nil
}

// encodeStringData moves stringData to data: applied as it is, a key taken out of it would stay in the live object.
func encodeStringData(ref render.Ref, u *unstructured.Unstructured) error {
	plain, ok, err := unstructured.NestedStringMap(u.Object, "stringData")
	if err != nil {
		return &StalledError{What: ref.String() + ": stringData holds a value that is not a string", Hint: "quote it"}
	}
	if !ok {
		return nil
	}
	data, ok, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil {
		return &StalledError{What: ref.String() + ": data holds a value that is not a string", Hint: "encode it as base64"}
	}
	if !ok {
		data = map[string]string{}
	}
	for k, v := range plain {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	unstructured.RemoveNestedField(u.Object, "stringData")
	return unstructured.SetNestedStringMap(u.Object, data, "data")
}

// definedKinds are the kinds that CustomResourceDefinitions among the objects bring, and whether they are namespaced.
func definedKinds(objects []*unstructured.Unstructured) map[schema.GroupKind]bool {
	kinds := map[schema.GroupKind]bool{}
	for _, u := range objects {
		if !isCRD(render.RefOf(u)) {
			continue
		}
		group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(u.Object, "spec", "names", "kind")
		scope, _, _ := unstructured.NestedString(u.Object, "spec", "scope")
		kinds[schema.GroupKind{Group: group, Kind: kind}] = scope == "Namespaced"
	}
	return kinds
}

func isCRD(ref render.Ref) bool {
	return ref.Group == "apiextensions.k8s.io" && ref.Kind == "CustomResourceDefinition"
}

func isNamespace(ref render.Ref) bool { return ref.Group == "" && ref.Kind == "Namespace" }

// arrivals are the names of the namespaces among the targets.
func arrivals(targets []target) map[string]bool {
	names := map[string]bool{}
	for _, t := range targets {
		if isNamespace(t.ref) {
			names[t.ref.Name] = true
		}
	}
	return names
}

func objectsOf(targets []target) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, len(targets))
	for i, t := range targets {
		out[i] = t.object
	}
	return out
}

// rank is the stage of a kind: what others need comes first, what watches over others last.
func rank(ref render.Ref) int {
	if ref.Kind == "PersistentVolumeClaim" { // before what mounts it, and deleted after it
		ref.Kind = "ConfigMap"
	}
	for i, kind := range ssa.ReconcileOrder.First {
		if ref.Kind == kind {
			return i - len(ssa.ReconcileOrder.First)
		}
	}
	for i, kind := range ssa.ReconcileOrder.Last {
		if ref.Kind == kind {
			return i + 1
		}
	}
	return 0
}

// compareRefs orders by stage, then by key.
func compareRefs(a, b render.Ref) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Key(), b.Key()))
}
