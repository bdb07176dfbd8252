package apply

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/purser-gitops/purser/render"
)

// conflict is one field of ours that another field manager holds with another value.
type conflict struct {
	manager string
	field   string
}

var conflictManager = regexp.MustCompile(`^conflict with "((?:[^"\\]|\\.)*)"`)

// conflicts lists the fields an apply without force was refused for; nil when it failed for another reason.
func conflicts(err error) []conflict {
	status := statusOf(err)
	if status == nil || status.Details == nil {
		return nil
	}
	var list []conflict
	for _, cause := range status.Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		manager := "unknown"
		if m := conflictManager.FindStringSubmatch(cause.Message); m != nil {
			manager = m[1]
		}
		list = append(list, conflict{manager: manager, field: strings.TrimPrefix(cause.Field, ".")})
	}
	return list
}

// peopleTools are the field managers whose fields are taken over: what people do by hand.
var peopleTools = []string{"kubectl", "before-first-apply"}

// takeOver says whether fields of a manager are taken over: kubectl and its subcommands (kubectl-client-side-apply,
// kubectl-edit, …).
func takeOver(manager string) bool {
	for _, tool := range peopleTools {
		if manager == tool || strings.HasPrefix(manager, tool+"-") {
			return true
		}
	}
	return false
}

// migrates says whether ownership of a manager's fields moves to us, so that those which are not in Git disappear.
// "kubectl rollout restart" is excepted: removing its annotation would restart the pods once more.
func migrates(e metav1.ManagedFieldsEntry) bool {
	return e.Subresource == "" && takeOver(e.Manager) && e.Manager != "kubectl-rollout"
}

// judge decides over the fields that others hold. It returns what was drift or taken over, in words, or why it stalls.
// restores: the object was last applied by us with the very digest we apply now, or is known to have drifted since, so the
// fields were ours and whoever has them now took them: that is drift, and whoever comes back for them again is damped by
// our caller.
func judge(ref render.Ref, live *unstructured.Unstructured, list []conflict, restores bool) (string, *StalledError) {
	var taken, foreign []string
	managers := map[string]bool{}
	for _, c := range list {
		text := fmt.Sprintf("%s (%s)", c.field, c.manager)
		switch {
		case c.manager == fieldManager: // an admission webhook's change of what we sent counts as an update of ours
		case takeOver(c.manager), leftBehind(c), restores && !throughSubresource(live, c.manager):
			taken = append(taken, text)
		default:
			foreign = append(foreign, text)
			managers[c.manager] = true
		}
	}
	slices.Sort(taken)
	slices.Sort(foreign)
	if len(foreign) == 0 {
		return strings.Join(taken, ", "), nil
	}
	names := slices.Sorted(maps.Keys(managers))
	return "", &StalledError{
		What: fmt.Sprintf("%s: fields held by another manager: %s", ref, strings.Join(foreign, ", ")),
		Hint: fmt.Sprintf("let %s give the fields up, or remove them from the object in Git", strings.Join(names, ", ")),
	}
}

// leftBehind: the number of replicas was written by an autoscaler that is gone; where there is one we do not send it.
func leftBehind(c conflict) bool { return c.manager == hpaManager && c.field == "spec.replicas" }

// throughSubresource: the manager writes through a subresource, as autoscalers do, and not by hand. Writing a status says
// nothing about other fields.
func throughSubresource(live *unstructured.Unstructured, manager string) bool {
	for _, e := range live.GetManagedFields() {
		if e.Manager == manager && e.Subresource != "" && e.Subresource != "status" {
			return true
		}
	}
	return false
}

// migration is the JSON patch that moves ownership of people's fields to us, nil when there is nothing to move. It holds
// for exactly the resource version that was read.
func migration(live *unstructured.Unstructured) ([]byte, error) {
	var managers []ssa.FieldManager
	for _, e := range live.GetManagedFields() {
		if migrates(e) {
			managers = append(managers, ssa.FieldManager{Name: e.Manager, ExactMatch: true, OperationType: e.Operation})
		}
	}
	if len(managers) == 0 {
		return nil, nil
	}
	patches, err := ssa.PatchReplaceFieldsManagers(live, managers, fieldManager)
	if err != nil {
		return nil, fmt.Errorf("migrate field managers: %w", err)
	}
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	ops := []op{{Op: "replace", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()}}
	for _, p := range patches {
		ops = append(ops, op{Op: p.Operation, Path: p.Path, Value: p.Value})
	}
	return json.Marshal(ops)
}

// owned is the set of fields held by the managers that match.
func owned(u *unstructured.Unstructured, match func(metav1.ManagedFieldsEntry) bool) (*fieldpath.Set, error) {
	set := fieldpath.NewSet()
	for _, e := range u.GetManagedFields() {
		if e.FieldsV1 == nil || !match(e) {
			continue
		}
		s, err := ssa.FieldsToSet(*e.FieldsV1)
		if err != nil {
			return nil, fmt.Errorf("read managed fields of %s: %w", e.Manager, err)
		}
		set = set.Union(&s)
	}
	return set, nil
}

func isOurs(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == fieldManager && e.Subresource == ""
}

// hasManager says whether our field manager holds anything of the object.
func hasManager(u *unstructured.Unstructured) bool {
	for _, e := range u.GetManagedFields() {
		if e.Manager == fieldManager {
			return true
		}
	}
	return false
}
