package apply

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// reasonAbsent marks the deletion of what is already gone.
const reasonAbsent = "already gone"

// noLongerDesired are the items of the inventory that no target stands for.
func noLongerDesired(d Desired, targets []target) []Item {
	wanted := make(map[string]bool, len(d.Objects))
	for _, t := range targets {
		wanted[t.ref.Key()] = true
	}
	for _, u := range d.Objects { // also those that could not be prepared
		ref := render.RefOf(u)
		wanted[ref.Key()] = true
		wanted[d.place(ref, true).Key()] = true
	}
	var gone []Item
	for _, it := range d.Inventory {
		if !wanted[it.Ref.Key()] && (d.Only == nil || d.Only[it.Ref.Key()]) {
			gone = append(gone, it)
		}
	}
	return gone
}

// planDeletion decides over one object that is in the inventory and no longer desired.
func (c *Client) planDeletion(ctx context.Context, it Item, d Desired) (*step, error) {
	s := newStep(target{ref: it.Ref, digest: it.Digest, env: d.Environment})
	s.deletes = true
	live, err := c.find(ctx, it.Ref)
	if err != nil {
		return nil, err
	}
	c.watcher().saw(d.Environment, it.Ref, examination{live: live})
	s.live = live
	s.entry.Action, s.entry.Reason, s.released = doom(live, d.Environment)
	if s.entry.Action != Deleted || s.entry.Reason != "" {
		return s, nil
	}
	if why := protected(live); why != "" {
		s.entry.Action, s.entry.Reason = Skipped, "protected: "+why
		if !d.KeepProtected {
			return s, &StalledError{
				What: fmt.Sprintf("%s is no longer in the release and is not deleted: %s", it.Ref, why),
				Hint: fmt.Sprintf("put it back, or keep it: remove its label %s and it leaves the inventory without being deleted", labelEnvironment)}
		}
	}
	return s, nil
}

// doom says what becomes of a live object that is no longer desired. A deletion with a reason is one there is nothing
// left to do about.
func doom(live *unstructured.Unstructured, env string) (action, reason string, released bool) {
	switch {
	case live == nil:
		return Deleted, reasonAbsent, false
	case live.GetLabels()[labelEnvironment] == "":
		return Skipped, "released: its label " + labelEnvironment + " was removed", true
	case live.GetLabels()[labelEnvironment] != env:
		return Skipped, "released: it belongs to environment " + live.GetLabels()[labelEnvironment], true
	case !hasManager(live):
		return Skipped, "released: field manager " + fieldManager + " holds nothing of it any more", true
	case live.GetDeletionTimestamp() != nil:
		return Deleted, held(live), false
	case strings.EqualFold(live.GetAnnotations()[annotationPrune], "disabled"):
		return Skipped, "annotation " + annotationPrune + " is disabled", false
	}
	return Deleted, "", false
}

func held(live *unstructured.Unstructured) string {
	return fmt.Sprintf("is being deleted, finalizers %v hold it", live.GetFinalizers())
}

// find reads an object of the inventory; nil when it, or its whole kind, is gone.
func (c *Client) find(ctx context.Context, ref render.Ref) (*unstructured.Unstructured, error) {
	mapping, err := c.cluster.servedMapping(ref)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(c.call("find", ref), err)
	}
	live, err := c.resource(mapping, ref.Namespace).get(ctx, ref.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(c.call("get", ref), err)
	}
	return live, nil
}

// dataGroups are API groups whose objects are databases, their backups or snapshots.
var dataGroups = map[string]bool{
	"postgresql.cnpg.io":                true,
	"barmancloud.cnpg.io":               true,
	"acid.zalan.do":                     true,
	"postgres-operator.crunchydata.com": true,
	"stackgres.io":                      true,
	"kubegres.reactive-tech.io":         true,
	"k8s.mariadb.com":                   true,
	"mysql.oracle.com":                  true,
	"pxc.percona.com":                   true,
	"pgv2.percona.com":                  true,
	"psmdb.percona.com":                 true,
	"mongodbcommunity.mongodb.com":      true,
	"redis.redis.opstreelabs.in":        true,
	"databases.spotahome.com":           true,
	"snapshot.storage.k8s.io":           true,
}

// protected says why an object is never deleted, "" when it may go.
func protected(u *unstructured.Unstructured) string {
	ref := render.RefOf(u)
	switch {
	case isNamespace(ref):
		return "everything in the namespace would go with it"
	case isCRD(ref):
		return "all objects of its kind would go with it, in every namespace"
	case ref.Group == "" && (ref.Kind == "PersistentVolumeClaim" || ref.Kind == "PersistentVolume"):
		return "it holds data"
	case dataGroups[ref.Group]:
		return "kinds of " + ref.Group + " hold data"
	case ref.Group == "apps" && ref.Kind == "StatefulSet":
		claims, _, _ := unstructured.NestedSlice(u.Object, "spec", "volumeClaimTemplates")
		if len(claims) > 0 {
			return "it serves data of its own volumes"
		}
	}
	return ""
}

// exceeds checks the limits over the deletions that would really happen.
func exceeds(p *Plan, d Desired) error {
	deletes := 0
	for _, e := range p.Entries {
		if e.Action == Deleted && e.Reason == "" {
			deletes++
		}
	}
	if deletes == 0 || !d.Limits.Exceeded(deletes, len(d.Inventory)) {
		return nil
	}
	return &LimitError{Deletes: deletes, Owned: len(d.Inventory), Limits: d.Limits}
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
