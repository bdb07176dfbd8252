package apply

import (
	"fmt"
	"slices"

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

// refusesMixture says whether a dry run may have failed only because people's fields stand beside ours in the result: two
// ports of one name, say. Applying first moves their fields to us, which no dry run can do beforehand.
func refusesMixture(err error, live *unstructured.Unstructured) bool {
	status := statusOf(err)
	return live != nil && status != nil && status.Reason == metav1.StatusReasonInvalid &&
		slices.ContainsFunc(live.GetManagedFields(), migrates)
}

// suppose gives what applying should make of a live object, where a dry run cannot say it: people's fields removed, ours
// laid over the rest. Defaults of what is added are missing in it.
func suppose(live, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	theirs, err := owned(live, migrates)
	if err != nil {
		return nil, err
	}
	others, err := owned(live, func(e metav1.ManagedFieldsEntry) bool { return !migrates(e) && !isOurs(e) })
	if err != nil {
		return nil, err
	}
	result := live.DeepCopy()
	theirs.Difference(others).Iterate(func(p fieldpath.Path) {
		if len(p) > 0 && !keeps(others, p) {
			removePath(result.Object, p)
		}
	})
	lay(object.DeepCopy().Object, result.Object)
	return result, nil
}

// lay puts values over those that are there. Lists of named things are laid over each other by name, others replaced.
func lay(over, onto map[string]any) {
	for key, value := range over {
		switch v := value.(type) {
		case map[string]any:
			if below, ok := onto[key].(map[string]any); ok {
				lay(v, below)
				continue
			}
		case []any:
			if below, ok := onto[key].([]any); ok {
				value = layList(v, below)
			}
		}
		onto[key] = value
	}
}

func layList(over, onto []any) []any {
	named, ok := byName(over)
	below, also := byName(onto)
	if !ok || !also {
		return over
	}
	list := make([]any, 0, len(over)+len(onto))
	for _, item := range onto {
		name := item.(map[string]any)["name"].(string)
		if _, again := named[name]; !again {
			list = append(list, item)
		}
	}
	for _, item := range over {
		if old, ok := below[item.(map[string]any)["name"].(string)].(map[string]any); ok {
			lay(item.(map[string]any), old)
			item = old
		}
		list = append(list, item)
	}
	return list
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
