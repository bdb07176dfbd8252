package apply

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// previewMigration removes from the result of a dry run what moving people's fields to us will remove: the dry run
// itself cannot show it, because the move is a write of its own. A field stays when we apply it or when a third manager
// holds it too.
func previewMigration(live, result *unstructured.Unstructured) error {
	theirs, err := owned(live, migrates)
	if err != nil {
		return err
	}
	if theirs.Empty() {
		return nil
	}
	kept, err := owned(result, func(e metav1.ManagedFieldsEntry) bool { return !migrates(e) })
	if err != nil {
		return err
	}
	theirs.Difference(kept).Iterate(func(p fieldpath.Path) {
		if len(p) > 0 && !keeps(kept, p) {
			removePath(result.Object, p)
		}
	})
	return nil
}

// keeps says whether the set holds the path or anything below it.
func keeps(set *fieldpath.Set, p fieldpath.Path) bool {
	if set.Has(p) {
		return true
	}
	for _, pe := range p {
		set = set.WithPrefix(pe)
		if set.Empty() {
			return false
		}
	}
	return true
}

// removePath takes one field or list element out, and what it leaves empty.
func removePath(node any, p fieldpath.Path) any {
	switch n := node.(type) {
	case map[string]any:
		if p[0].FieldName == nil {
			return n
		}
		key := *p[0].FieldName
		child, ok := n[key]
		if !ok {
			return n
		}
		if len(p) == 1 {
			delete(n, key)
			return n
		}
		n[key] = removePath(child, p[1:])
		if empty(n[key]) && !empty(child) {
			delete(n, key)
		}
		return n
	case []any:
		out := make([]any, 0, len(n))
		for i, item := range n {
			if !matches(p[0], i, item) {
				out = append(out, item)
				continue
			}
			if len(p) > 1 {
				out = append(out, removePath(item, p[1:]))
			}
		}
		return out
	}
	return node
}

func empty(v any) bool {
	switch n := v.(type) {
	case map[string]any:
		return len(n) == 0
	case []any:
		return len(n) == 0
	}
	return false
}

// matches says whether a path element names this element of a list: by its keys, its value or its place.
func matches(pe fieldpath.PathElement, i int, item any) bool {
	switch {
	case pe.Key != nil:
		m, ok := item.(map[string]any)
		if !ok {
			return false
		}
		for _, f := range *pe.Key {
			if fmt.Sprint(m[f.Name]) != fmt.Sprint(f.Value.Unstructured()) {
				return false
			}
		}
		return true
	case pe.Value != nil:
		return value.Equals(*pe.Value, value.NewValueInterface(item))
	case pe.Index != nil:
		return *pe.Index == i
	}
	return false
}
