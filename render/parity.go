package render

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Compare shows how two environments differ: like [Diff], but the namespace of each environment counts as the
// same place, so that only differences of content are left.
func Compare(a, b *Release) ([]ObjectChange, error) {
	left, err := a.withoutNamespace()
	if err != nil {
		return nil, err
	}
	right, err := b.withoutNamespace()
	if err != nil {
		return nil, err
	}
	return Diff(left, right), nil
}

// withoutNamespace is the release with its objects taken out of the environment's own namespace. Their digests
// are of the content alone.
func (r *Release) withoutNamespace() (*Release, error) {
	moved := *r
	moved.Objects = nil
	moved.ObjectDigests = maps.Clone(r.ObjectDigests)
	for _, object := range r.Objects {
		if object.GetNamespace() == r.Binding.Namespace {
			object = object.DeepCopy()
			unstructured.RemoveNestedField(object.Object, "metadata", "namespace")
			digest, err := digestOf(object.Object)
			if err != nil {
				return nil, fmt.Errorf("compare %s: %w", RefOf(object), err)
			}
			moved.ObjectDigests[RefOf(object).Key()] = digest
		}
		moved.Objects = append(moved.Objects, object)
	}
	return &moved, nil
}
