package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// maxRereads is how often an object that changes while it is planned or written is read again.
const maxRereads = 5

// planObject compares one object's live state with what applying it would make of it. With an error, too, the step says
// what differs, as far as that is known.
func (c *Client) planObject(ctx context.Context, t target) (*step, error) {
	s := newStep(t)
	switch {
	case s.trusted:
		s.entry.Action = Unchanged
		return s, nil
	case s.mapping == nil:
		s.entry.Action, s.entry.Reason, s.deferred = Created, kindComes, true
		return s, nil
	case !s.owned:
		if absent, err := c.planNew(ctx, s); absent || err != nil {
			return s, err
		}
	}
	for range maxRereads {
		stable, err := c.compare(ctx, s)
		if err != nil {
			return s, err
		}
		if stable {
			if s.entry.Action == Unchanged {
				s.object, s.live = nil, nil
			}
			return s, nil
		}
	}
	return s, fmt.Errorf("%s changes faster than it can be compared", t.ref)
}

// planNew finds out by the dry run alone that an object does not exist: what that makes has no version. It is false when
// the object exists, or may exist.
func (c *Client) planNew(ctx context.Context, s *step) (absent bool, err error) {
	result, err := c.patch(ctx, s.target, s.object, dryRun)
	switch {
	case err == nil && result.GetResourceVersion() == "":
		s.entry.Action = Created
		c.watcher().saw(s.env, s.ref, examination{})
		return true, nil
	case err == nil:
		return false, nil
	case statusOf(err) == nil, clusterWide(err):
		return false, explain(c.call("patch", s.ref), err)
	}
	if why := awaits(err, s.target); why != "" {
		s.entry.Action, s.entry.Reason, s.deferred = Created, why, true
		return true, nil
	}
	return false, nil // who owns it, and what is wrong, is found out by reading it
}

// compare fills in the step; it is false when the object changed between reading and dry run.
func (c *Client) compare(ctx context.Context, s *step) (stable bool, err error) {
	live, err := c.get(ctx, s.target)
	if err != nil {
		return false, err
	}
	stable, err = c.compareLive(ctx, s, live)
	if stuck(err) && live != nil {
		c.watcher().saw(s.env, s.ref, examination{live: live})
		if err := c.describe(ctx, s, live); err != nil {
			return false, err
		}
	}
	return stable, err
}

// describe says what of an object differs that cannot be brought to its desired state, and who wrote that.
func (c *Client) describe(ctx context.Context, s *step, live *unstructured.Unstructured) error {
	object := s.object.DeepCopy()
	if _, err := c.leaveReplicas(ctx, s.target, live, object); err != nil {
		return err
	}
	result, err := suppose(live, object)
	if err != nil {
		return fmt.Errorf("%s: %w", s.ref, err)
	}
	s.entry.Diff = diffObjects(s.ref, live, result)
	if s.entry.By, err = writers(live, result, s.entry.Diff); err != nil {
		return fmt.Errorf("%s: %w", s.ref, err)
	}
	return nil
}

// compareLive is compare with the live object, nil when there is none.
func (c *Client) compareLive(ctx context.Context, s *step, live *unstructured.Unstructured) (stable bool, err error) {
	adopted := ""
	if live != nil {
		if adopted, err = checkOwner(s.target, live); err != nil {
			return false, err
		}
	}
	try, err := c.rehearse(ctx, s.target, live)
	switch {
	case modified(err):
		return false, nil
	case err != nil:
		s.entry.Action, s.entry.Reason, s.deferred = Created, awaits(err, s.target), true
		if live != nil || s.entry.Reason == "" {
			return false, err
		}
		return true, nil
	}
	s.live = live
	if live == nil {
		s.entry.Action = Created
		c.watcher().saw(s.env, s.ref, examination{})
		return true, nil
	}
	loose, err := loosens(live, try.result)
	if err != nil {
		return false, fmt.Errorf("%s: %w", s.ref, err)
	}
	diff := diffObjects(s.ref, live, try.result)
	if len(diff) == 0 {
		s.entry.Action, s.entry.Diff, s.entry.Reason = Unchanged, nil, joinReasons(adopted, try.mixture())
		c.watcher().saw(s.env, s.ref, examination{live: live, digest: s.digest, loose: loose})
		return true, nil
	}
	if try.result.GetResourceVersion() != live.GetResourceVersion() {
		return false, nil
	}
	if s.entry.By, err = writers(live, try.result, diff); err != nil {
		return false, fmt.Errorf("%s: %w", s.ref, err)
	}
	s.entry.Action, s.entry.Diff, s.entry.Reason = Configured, diff, joinReasons(adopted, try.mixture(), try.taken, try.scaler)
	c.watcher().saw(s.env, s.ref, examination{live: live})
	return true, nil
}

// rehearsal is what a dry run of an object gave.
type rehearsal struct {
	result   *unstructured.Unstructured // what applying makes of the live object
	taken    string                     // which fields of others it takes back, in words
	scaler   string                     // who decides the number of replicas, in words
	supposed bool                       // the API server could not say it, so the result is our own reckoning
}

// mixture says in words what kept the API server from answering.
func (r rehearsal) mixture() string {
	if !r.supposed {
		return ""
	}
	return "it can be applied once people's fields are taken back"
}

// rehearse finds out what applying a target would make of its live object, nil when there is none.
func (c *Client) rehearse(ctx context.Context, t target, live *unstructured.Unstructured) (rehearsal, error) {
	object := t.object.DeepCopy()
	scaler, err := c.leaveReplicas(ctx, t, live, object)
	if err != nil {
		return rehearsal{}, err
	}
	r := rehearsal{scaler: scaler}
	r.result, r.taken, err = c.send(ctx, t, live, object, dryRun)
	switch {
	case err == nil && live != nil:
		if err := previewMigration(live, r.result); err != nil {
			return r, fmt.Errorf("%s: %w", t.ref, err)
		}
	case err != nil && refusesMixture(err, live):
		r.result, err = suppose(live, object)
		r.supposed = true
	}
	if r.taken != "" {
		r.taken = "takes back " + r.taken
	}
	return r, err
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

func joinReasons(reasons ...string) string {
	said := slices.DeleteFunc(reasons, func(r string) bool { return r == "" })
	return strings.Join(said, "; ")
}

const kindComes = "its kind comes with this plan"

// awaits says what of this plan a failed dry run has to wait for, "" when it failed for another reason. A kind may be
// missing although discovery knows it: its definition was deleted.
func awaits(err error, t target) string {
	if t.kindComes && unserved(err) {
		return kindComes
	}
	if status := statusOf(err); t.namespaceComes && apierrors.IsNotFound(err) && status.Details != nil && status.Details.Kind == "namespaces" {
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
//
// Who owns an object is what inventories say: anybody can write a label. A label speaks only where no inventory holds the
// object, for then it may be another agent's.
func checkOwner(t target, live *unstructured.Unstructured) (string, error) {
	if at := live.GetDeletionTimestamp(); at != nil {
		return "", fmt.Errorf("%s %w since %s, finalizers %v hold it", t.ref, errGoing, at.UTC().Format("15:04:05"), live.GetFinalizers())
	}
	label := live.GetLabels()[labelEnvironment]
	switch {
	case t.other != "":
		return "", belongsTo(t, t.other)
	case label == t.env:
		return "", nil
	case label == "" && (t.owned || hasManager(live)):
		return "takes back its label " + labelEnvironment, nil
	case label == "":
		return "adopted: it existed before and nobody owned it", nil
	case label == t.formerly:
		return "taken over from environment " + label, nil
	case t.owned:
		return fmt.Sprintf("takes back its label %s, which names %s: no inventory of that environment holds it", labelEnvironment, label), nil
	}
	return "", belongsTo(t, label)
}

func belongsTo(t target, owner string) error {
	return &StalledError{
		What: fmt.Sprintf("%s belongs to environment %s", t.ref, owner),
		Hint: fmt.Sprintf("remove it from one of %s and %s; to hand it over, take it out of the release of %s while its annotation %s is disabled, and then remove its label %s; if %s is the name that %s had before and this agent applied it, declare that (renamedFrom)",
			owner, t.env, owner, annotationPrune, labelEnvironment, owner, t.env)}
}

// send applies the object by server-side apply: without force first, and with force only where judge finds that all
// fields in conflict may be taken, and then only from the very object that was read. It returns the object as the API
// server made it, and what was taken.
func (c *Client) send(ctx context.Context, t target, live, object *unstructured.Unstructured, how ...applyOption) (
	result *unstructured.Unstructured, taken string, err error) {
	result, err = c.patch(ctx, t, object, how...)
	list := conflicts(err)
	if len(list) == 0 || live == nil {
		return result, "", explain(c.call("patch", t.ref), err)
	}
	// What the inventory does not know to be applied may be all the same: the outcome was lost.
	marked := live.GetLabels()[labelEnvironment] == t.env && live.GetAnnotations()[annotationDigest] == t.digest
	taken, stalled := judge(t.ref, live, list, t.restores || marked)
	if stalled != nil {
		stalled.Err = scrub(t.ref, err)
		return nil, "", stalled
	}
	object = object.DeepCopy()
	object.SetResourceVersion(live.GetResourceVersion())
	result, err = c.patch(ctx, t, object, append(how, force)...)
	return result, taken, explain(c.call("patch", t.ref), err)
}

// applyOption alters a server-side apply.
type applyOption func(*metav1.PatchOptions)

// dryRun has the API server say what an apply would do.
func dryRun(o *metav1.PatchOptions) { o.DryRun = []string{metav1.DryRunAll} }

// force takes fields over from other managers.
func force(o *metav1.PatchOptions) { o.Force = new(true) }

// patch is one server-side apply.
func (c *Client) patch(ctx context.Context, t target, object *unstructured.Unstructured, how ...applyOption) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t.ref, err)
	}
	o := metav1.PatchOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict}
	for _, option := range how {
		option(&o)
	}
	return c.resource(t.mapping, t.ref.Namespace).patch(ctx, t.ref.Name, types.ApplyPatchType, data, o)
}
