package apply

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/fluxcd/pkg/ssa"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/purser-gitops/purser/render"
)

// FieldWriter is a field manager that wrote to an object, as managedFields tell it. It names a program, not a person.
type FieldWriter struct {
	Manager     string    `json:"manager"`
	Operation   string    `json:"operation"` // Apply or Update
	Subresource string    `json:"subresource,omitempty"`
	Time        time.Time `json:"time,omitzero"` // the API server keeps none for some subresources
}

// writers are those who hold fields of the live object that differ from what applying makes of it, newest first. When
// nobody else does, it is us: an admission webhook's change of what we sent counts as ours. When all that differs is
// missing in the live object it is nobody, for a removal leaves no trace. An object of which we hold nothing was made
// anew: by everybody who holds something of it.
func writers(live, result *unstructured.Unstructured, diff []render.FieldChange) ([]FieldWriter, error) {
	var others, ours []FieldWriter
	anew := !slices.ContainsFunc(live.GetManagedFields(), isOurs)
	for _, e := range live.GetManagedFields() {
		if e.FieldsV1 == nil || e.Subresource == "status" {
			continue
		}
		if isOurs(e) {
			ours = append(ours, writerOf(e))
			continue
		}
		set, err := ssa.FieldsToSet(*e.FieldsV1)
		if err != nil {
			return nil, fmt.Errorf("read managed fields of %s: %w", e.Manager, err)
		}
		if anew || holdsDifference(&set, live, result) {
			others = append(others, writerOf(e))
		}
	}
	if len(others) == 0 && slices.ContainsFunc(diff, func(f render.FieldChange) bool { return f.Old != nil }) {
		others = ours
	}
	slices.SortStableFunc(others, func(a, b FieldWriter) int { return b.Time.Compare(a.Time) })
	return others, nil
}

func writerOf(e metav1.ManagedFieldsEntry) FieldWriter {
	w := FieldWriter{Manager: e.Manager, Operation: string(e.Operation), Subresource: e.Subresource}
	if e.Time != nil {
		w.Time = e.Time.UTC()
	}
	return w
}

// holdsDifference says whether a field of the set differs between two states of an object.
func holdsDifference(set *fieldpath.Set, a, b *unstructured.Unstructured) bool {
	differs := false
	set.Leaves().Iterate(func(p fieldpath.Path) {
		differs = differs || !reflect.DeepEqual(lookup(a.Object, p), lookup(b.Object, p))
	})
	return differs
}

// lookup is the value at a path, nil when there is none.
func lookup(node any, p fieldpath.Path) any {
	if len(p) == 0 {
		return node
	}
	switch n := node.(type) {
	case map[string]any:
		if p[0].FieldName == nil {
			return nil
		}
		child, ok := n[*p[0].FieldName]
		if !ok {
			return nil
		}
		return lookup(child, p[1:])
	case []any:
		for i, item := range n {
			if matches(p[0], i, item) {
				return lookup(item, p[1:])
			}
		}
	}
	return nil
}
