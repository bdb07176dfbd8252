package render

import (
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// kustomizeGlobals guards the OpenAPI schema that Kustomize keeps in package
// variables of kyaml/openapi. Ordinary builds only read it and share the lock; a
// build that sets openapi or crds holds it alone. The lock is one for the
// process, as the variables are.
var (
	kustomizeGlobals sync.RWMutex
	primeOnce        sync.Once
)

// prime parses the builtin schema before any build, because Kustomize does so
// lazily, while other goroutines read.
func prime() {
	primeOnce.Do(func() {
		kustomizeGlobals.Lock()
		defer kustomizeGlobals.Unlock()
		openapi.Schema()
	})
}

// namespaced reports whether an object is of a kind of Kubernetes' own that is in a namespace.
func namespaced(o *unstructured.Unstructured) (is bool) {
	shared(func() {
		is, _ = openapi.IsNamespaceScoped(yaml.TypeMeta{APIVersion: o.GetAPIVersion(), Kind: o.GetKind()})
	})
	return is
}

// shared runs an ordinary build.
func shared(build func()) {
	prime()
	kustomizeGlobals.RLock()
	defer kustomizeGlobals.RUnlock()
	build()
}

// exclusive runs a build with the globals of a fresh process, and puts back what
// ordinary builds expect.
func exclusive(build func()) {
	prime()
	kustomizeGlobals.Lock()
	defer kustomizeGlobals.Unlock()
	defer openapi.Schema()
	defer openapi.ResetOpenAPI()
	openapi.ResetOpenAPI()
	build()
}
