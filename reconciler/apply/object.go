package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/render"
)

// maxRereads is how often an object that changes while it is planned or written is read again.
const maxRereads = 5

// planObject compares one object's live state with what applying it would make of it.
func (c *Client) planObject(ctx context.Context, t target, brings map[string]bool, scales *autoscalers) (*step, error) {
	s := &step{entry: Entry{Ref: t.ref, Digest: t.digest}, object: t.object, env: t.env, drifted: t.drifted}
	switch {
	case t.trusted:
		s.entry.Action = Unchanged
		return s, nil
	case t.mapping == nil:
		s.entry.Action, s.entry.Reason, s.deferred = Created, kindComes, true
		return s, nil
	case !t.owned:
		if absent, err := c.planNew(ctx, t, s, brings); absent || err != nil {
			return s, err
		}
	}
	for range maxRereads {
		stable, err := c.compare(ctx, t, s, brings, scales)
		if err != nil {
			return nil, err
		}
		if stable {
			if s.entry.Action == Unchanged {
				s.object, s.live = nil, nil
			}
			return s, nil
		}
	}
	return nil, fmt.Errorf("%s changes faster than it can be compared", t.ref)
}

// planNew finds out by the dry run alone that an object does not exist: what that makes has no version. It is false when
// the object exists, or may exist.
func (c *Client) planNew(ctx context.Context, t target, s *step, brings map[string]bool) (absent bool, err error) {
	result, err := c.patch(ctx, t, t.object, false, true)
	switch {
	case err == nil && result.GetResourceVersion() == "":
		s.entry.Action = Created
		c.watcher().saw(t.env, t.ref, examination{})
		return true, nil
	case err == nil:
		return false, nil
	case statusOf(err) == nil, clusterWide(err):
		return false, explain(c.call("patch", t.ref), err)
	}
	if why := awaits(err, t, brings); why != "" {
		s.entry.Action, s.entry.Reason, s.deferred = Created, why, true
		return true, nil
	}
	return false, nil // who owns it, and what is wrong, is found out by reading it
}

// compare fills in the step; it is false when the object changed between reading and dry run.
func (c *Client) compare(ctx context.Context, t target, s *step, brings map[string]bool, scales *autoscalers) (bool, error) {
	live, err := c.get(ctx, t)
	if err != nil {
		return false, err
	}
	stable, err := c.compareLive(ctx, t, s, live, brings, scales)
	if stuck(err) && live != nil {
		c.watcher().saw(t.env, t.ref, examination{live: live})
	}
	return stable, err
}

func (c *Client) compareLive(ctx context.Context, t target, s *step, live *unstructured.Unstructured, brings map[string]bool, scales *autoscalers) (bool, error) {
	reasons := []string{}
	if live != nil {
		reason, err := checkOwner(t.ref, live, t.env)
		if err != nil {
			return false, err
		}
		reasons = append(reasons, reason)
	}
	object := t.object.DeepCopy()
	scale, err := c.leaveReplicas(ctx, scales, t.ref, live, object)
	if err != nil {
		return false, err
	}
	result, taken, err := c.send(ctx, t, live, object, true)
	supposed := false
	if err != nil && refusesMixture(err, live) {
		result, err = suppose(live, object)
		supposed = err == nil
		reasons = append(reasons, "it can be applied once people's fields are taken back")
	}
	switch {
	case modified(err):
		return false, nil
	case err != nil:
		s.entry.Action, s.entry.Reason, s.deferred = Created, awaits(err, t, brings), true
		if live != nil || s.entry.Reason == "" {
			return false, err
		}
		return true, nil
	}
	s.live = live
	if live == nil {
		s.entry.Action = Created
		c.watcher().saw(t.env, t.ref, examination{})
		return true, nil
	}
	loose, err := loosens(live, result)
	if err != nil {
		return false, fmt.Errorf("%s: %w", t.ref, err)
	}
	if !supposed {
		if err := previewMigration(live, result); err != nil {
			return false, fmt.Errorf("%s: %w", t.ref, err)
		}
	}
	diff := diffObjects(t.ref, live, result)
	if len(diff) > 0 && result.GetResourceVersion() != live.GetResourceVersion() {
		return false, nil
	}
	s.entry.Action, s.entry.Diff = Unchanged, nil
	if len(diff) > 0 {
		if s.entry.By, err = writers(live, result, diff); err != nil {
			return false, fmt.Errorf("%s: %w", t.ref, err)
		}
		s.entry.Action, s.entry.Diff = Configured, diff
		if taken != "" {
			reasons = append(reasons, "takes back "+taken)
		}
		reasons = append(reasons, scale)
		c.watcher().saw(t.env, t.ref, examination{live: live})
	} else {
		c.watcher().saw(t.env, t.ref, examination{live: live, digest: t.digest, loose: loose})
	}
	s.entry.Reason = joinReasons(reasons)
	return true, nil
}

// loosens says whether the live object has fields that we apply and do not hold: somebody wrote one and wrote it back.
func loosens(live, result *unstructured.Unstructured) (bool, error) {
	have, err := owned(live, isOurs)
	if err != nil {
		return false, err
	}
	want, err := owned(result, isOurs)
	if err != nil {
		return false, err
	}
	return !want.Difference(have).Empty(), nil
}

func joinReasons(reasons []string) string {
	var said []string
	for _, r := range reasons {
		if r != "" {
			said = append(said, r)
		}
	}
	return strings.Join(said, "; ")
}

const kindComes = "its kind comes with this plan"

// awaits says what of this plan a failed dry run has to wait for, "" when it failed for another reason. A kind may be
// missing although discovery knows it: its definition was deleted.
func awaits(err error, t target, brings map[string]bool) string {
	if t.comes && unserved(err) {
		return kindComes
	}
	if status := statusOf(err); brings[t.ref.Namespace] && apierrors.IsNotFound(err) && status.Details != nil && status.Details.Kind == "namespaces" {
		return "its namespace comes with this plan"
	}
	return ""
}

// modified: the object is no longer the one that was read.
func modified(err error) bool { return apierrors.IsConflict(err) && len(conflicts(err)) == 0 }

// get reads the live object, nil when it does not exist. Anything else that keeps it from being read is an error.
func (c *Client) get(ctx context.Context, t target) (*unstructured.Unstructured, error) {
	live, err := c.resource(t.mapping, t.ref.Namespace).get(ctx, t.ref.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(c.call("get", t.ref), err)
	}
	return live, nil
}

// errGoing marks an object that is on its way out.
var errGoing = errors.New("is being deleted")

// stuck: the object cannot be brought to its desired state before somebody changed it. Any such change shows in its watch.
func stuck(err error) bool {
	_, stalled := asStalled(err)
	return stalled || errors.Is(err, errGoing)
}

// checkOwner refuses an object of another environment and one that is going away. The reason says when it is adopted.
func checkOwner(ref render.Ref, live *unstructured.Unstructured, env string) (string, error) {
	if at := live.GetDeletionTimestamp(); at != nil {
		return "", fmt.Errorf("%s %w since %s, finalizers %v hold it", ref, errGoing, at.UTC().Format("15:04:05"), live.GetFinalizers())
	}
	switch owner := live.GetLabels()[labelEnvironment]; {
	case owner == env:
		return "", nil
	case owner == "" && hasManager(live):
		return "takes back its label " + labelEnvironment, nil
	case owner == "":
		return "adopted: it existed before and nobody owned it", nil
	default:
		return "", &StalledError{
			What: fmt.Sprintf("%s belongs to environment %s", ref, owner),
			Hint: fmt.Sprintf("remove it from one of %s and %s; to hand it over, remove its label %s first", owner, env, labelEnvironment)}
	}
}

// send applies the object by server-side apply: without force first, and with force only where judge finds that all
// fields in conflict may be taken, and then only from the very object that was read. It returns the object as the API
// server made it, and what was taken.
func (c *Client) send(ctx context.Context, t target, live, object *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, string, error) {
	result, err := c.patch(ctx, t, object, false, dryRun)
	list := conflicts(err)
	if len(list) == 0 || live == nil {
		return result, "", explain(c.call("patch", t.ref), err)
	}
	applied := live.GetAnnotations()[annotationDigest]
	same := live.GetLabels()[labelEnvironment] == t.env && (applied == t.digest || t.drifted != "" && applied == t.drifted)
	taken, stalled := judge(t.ref, live, list, same)
	if stalled != nil {
		stalled.Err = scrub(t.ref, err)
		return nil, "", stalled
	}
	object = object.DeepCopy()
	object.SetResourceVersion(live.GetResourceVersion())
	result, err = c.patch(ctx, t, object, true, dryRun)
	return result, taken, explain(c.call("patch", t.ref), err)
}

func (c *Client) patch(ctx context.Context, t target, object *unstructured.Unstructured, force, dryRun bool) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t.ref, err)
	}
	o := metav1.PatchOptions{FieldManager: fieldManager, Force: &force, FieldValidation: metav1.FieldValidationStrict}
	if dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return c.resource(t.mapping, t.ref.Namespace).patch(ctx, t.ref.Name, types.ApplyPatchType, data, o)
}
