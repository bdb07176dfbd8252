package render

import (
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Namespaced says whether objects of a kind live in a namespace, as far as Kubernetes' own kinds go. Other
// kinds count as namespaced: only a cluster that serves them knows better.
func Namespaced(r Ref) (namespaced bool) {
	version := r.Version
	if r.Group != "" {
		version = r.Group + "/" + r.Version
	}
	shared(func() { // the schema is one of Kustomize's globals
		namespaced = !openapi.IsCertainlyClusterScoped(yaml.TypeMeta{APIVersion: version, Kind: r.Kind})
	})
	return namespaced
}
