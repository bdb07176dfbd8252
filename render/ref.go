package render

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Ref identifies one object. Version is carried but is no part of the identity:
// the same object can be written in several versions of its group.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// RefOf gives the reference of u.
func RefOf(u *unstructured.Unstructured) Ref {
	gvk := u.GroupVersionKind()
	return Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

// String gives "apps/Deployment north-dev/web".
func (r Ref) String() string {
	kind, name := r.Kind, r.Name
	if r.Group != "" {
		kind = r.Group + "/" + kind
	}
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	return kind + " " + name
}

// Key is the identity: group/kind/namespace/name, with empty parts kept.
func (r Ref) Key() string {
	return strings.Join([]string{r.Group, r.Kind, r.Namespace, r.Name}, "/")
}

func (r Ref) isSecret() bool { return r.Group == "" && r.Kind == "Secret" }
