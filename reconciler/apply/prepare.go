package apply

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/purser-gitops/purser/render"
)

// target is one desired object as it will be sent.
type target struct {
	ref            render.Ref
	object         *unstructured.Unstructured // ours to alter, marked, with its namespace; nil when it is trusted
	digest         string
	env            string
	kindComes      bool              // the release brings its kind
	namespaceComes bool              // the release brings its namespace
	owned          bool              // the inventory says that we applied it
	restores       bool              // it is owned, and what differs from what is to be applied now is drift
	other          string            // another environment that owns it, "" when none does
	formerly       string            // name that the environment had before, where it inherited the object; else ""
	trusted        bool              // known to be as desired
	mapping        *meta.RESTMapping // nil: its kind does not exist yet
	scalers        *autoscalers      // shared by all targets of a plan
}

// prepare copies, marks and places the desired objects, as far as the plan is about them. An object that cannot be sent
// at all is a problem.
func (c *Client) prepare(d Desired) ([]target, []error) {
	var targets []target
	var problems []error
	p := preparation{client: c, d: d, kinds: definedKinds(d.Objects), owned: map[string]string{}, seen: map[string]bool{}}
	for _, it := range d.Inventory {
		p.owned[it.Ref.Key()] = it.Digest
	}
	p.scaling = p.scalingChanges()
	for _, u := range d.Objects {
		t, wanted, err := p.target(u)
		switch {
		case err != nil:
			problems = append(problems, err)
		case wanted:
			targets = append(targets, t)
		}
	}
	brought := namespacesAmong(targets)
	scalers := newAutoscalers(d)
	for i := range targets {
		targets[i].namespaceComes = brought[targets[i].ref.Namespace]
		targets[i].scalers = scalers
	}
	return targets, problems
}

// preparation is what the objects of one plan share.
type preparation struct {
	client  *Client
	d       Desired
	kinds   map[schema.GroupKind]bool // that the release brings
	owned   map[string]string         // digest as last applied, by key; "" where applying it is not known to have succeeded
	seen    map[string]bool           // by key
	scaling bool                      // an autoscaler comes, changes or goes
}

// target prepares one object; it is not wanted when the plan is not about it.
func (p *preparation) target(u *unstructured.Unstructured) (t target, wanted bool, err error) {
	d, rendered := p.d, render.RefOf(u)
	if rendered.Name == "" {
		return t, false, &StalledError{What: rendered.String() + " has no name", Hint: "give it metadata.name; generateName has no place in Git"}
	}
	t = target{env: d.Environment}
	var namespaced bool
	if t.mapping, namespaced, err = p.findKind(rendered); err != nil {
		return t, false, err
	}
	_, t.kindComes = p.kinds[groupKind(rendered)]
	t.ref = d.place(rendered, namespaced)
	key := t.ref.Key()
	switch {
	case namespaced && t.ref.Namespace == "":
		return t, false, &StalledError{What: rendered.String() + " has no namespace", Hint: "give it one, or give the environment one"}
	case p.seen[key]:
		return t, false, &StalledError{What: t.ref.String() + " is in the release twice", Hint: "remove one of them"}
	}
	p.seen[key] = true
	if d.Only != nil && !d.Only[key] {
		return t, false, nil
	}
	if t.digest = d.Digests[rendered.Key()]; t.digest == "" {
		return t, false, fmt.Errorf("%s has no digest in its release", t.ref)
	}
	applied := p.owned[key]
	t.owned = applied != ""
	t.restores = t.owned && (applied == t.digest || d.Drifted[key])
	if d.Owner != nil {
		if owner := d.Owner(t.ref); owner == d.Environment {
			t.formerly = d.Formerly
		} else {
			t.other = owner
		}
	}
	if t.trusted = d.Trust && p.trusts(t, u); t.trusted {
		return t, true, nil
	}
	t.object = u.DeepCopy()
	t.object.SetNamespace(t.ref.Namespace)
	return t, true, dress(t)
}

// findKind gives the mapping of a kind, nil when it comes with the release, and says whether it lives in namespaces.
func (p *preparation) findKind(ref render.Ref) (mapping *meta.RESTMapping, namespaced bool, err error) {
	mapping, err = p.client.cluster.mapping(ref)
	if err == nil {
		return mapping, isNamespaced(mapping), nil
	}
	if namespaced, comes := p.kinds[groupKind(ref)]; comes && meta.IsNoMatchError(err) {
		return nil, namespaced, nil
	}
	return nil, false, explain(p.client.call("find", ref), err)
}

// place is the reference of an object in the cluster: one of a namespaced kind that names no namespace goes to the
// environment's.
func (d Desired) place(ref render.Ref, namespaced bool) render.Ref {
	switch {
	case !namespaced:
		ref.Namespace = ""
	case ref.Namespace == "":
		ref.Namespace = d.Namespace
	}
	return ref
}

// trusts says whether the watcher vouches for an object. Who decides the number of replicas is no part of a workload's own
// digest, so that is compared whenever autoscalers change.
func (p *preparation) trusts(t target, u *unstructured.Unstructured) bool {
	if p.scaling {
		if _, ok, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "replicas"); ok {
			return false
		}
	}
	return p.client.watcher().vouches(t.env, t.ref, t.digest)
}

// scalingChanges says whether an autoscaler of the release is not known to be as desired, or one that we own is not in it.
func (p *preparation) scalingChanges() bool {
	desired := map[string]bool{}
	for _, u := range p.d.Objects {
		rendered := render.RefOf(u)
		if !isAutoscaler(rendered) {
			continue
		}
		ref := p.d.place(rendered, true)
		desired[ref.Key()] = true
		if !p.client.watcher().vouches(p.d.Environment, ref, p.d.Digests[rendered.Key()]) {
			return true
		}
	}
	return slices.ContainsFunc(p.d.Inventory, func(it Item) bool { return isAutoscaler(it.Ref) && !desired[it.Ref.Key()] })
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

// namespacesAmong are the names of the namespaces among the targets.
func namespacesAmong(targets []target) map[string]bool {
	names := map[string]bool{}
	for _, t := range targets {
		if isNamespace(t.ref) {
			names[t.ref.Name] = true
		}
	}
	return names
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
