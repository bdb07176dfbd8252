package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Apply carries a plan out: definitions and namespaces first, then stage by stage in the order of kinds, concurrently
// within a stage, deletions last and in the opposite order. It stops after the first stage in which something failed.
// The change set names every object of the plan, also with an error: what was not attempted is skipped with an error.
func (c *Client) Apply(ctx context.Context, p *Plan) (ChangeSet, error) {
	changes := make(ChangeSet, len(p.steps))
	for i, s := range p.steps {
		changes[i] = Change{Ref: s.ref, Action: Skipped, Digest: s.entry.Digest, Error: "not attempted"}
	}
	if p.client != c {
		return changes, errors.New("plan was made by another client")
	}
	if err := p.Err(); err != nil {
		return changes, fmt.Errorf("plan cannot be applied: %w", err)
	}
	var problems []error
	for first := 0; first < len(p.steps) && len(problems) == 0; {
		last := first + 1
		for last < len(p.steps) && sameStage(p.steps[first], p.steps[last]) {
			last++
		}
		problems = c.stage(ctx, p.steps[first:last], changes[first:last])
		first = last
	}
	return changes, joinProblems("apply "+p.Environment, problems)
}

// sameStage: both are applied, or deleted, at the same rank.
func sameStage(a, b *step) bool {
	return a.deletes == b.deletes && rank(a.ref) == rank(b.ref)
}

func (c *Client) stage(ctx context.Context, steps []*step, changes ChangeSet) []error {
	errs := c.each(ctx, len(steps), func(ctx context.Context, i int) error {
		var err error
		changes[i], err = c.carryOut(ctx, steps[i])
		return err
	})
	var problems []error
	for i, err := range errs {
		if err != nil {
			changes[i].Error = err.Error()
			problems = append(problems, err)
		}
		if change := changes[i]; change.Action != Unchanged {
			c.cluster.o.Logger.Debug("object "+change.Action, "environment", steps[i].env, "object", change.Ref.String(),
				"reason", change.Reason, "error", change.Error)
		}
	}
	return problems
}

// carryOut does one step. The change it returns holds also with an error.
func (c *Client) carryOut(ctx context.Context, s *step) (Change, error) {
	change := Change{Ref: s.ref, Action: s.entry.Action, Digest: s.entry.Digest, Reason: s.entry.Reason, Released: s.released}
	switch s.entry.Action {
	case Created, Configured:
		defer c.watcher().writes(s.env, s.ref)()
		err := c.write(ctx, s)
		if err == nil {
			err = c.settle(ctx, s.ref)
		}
		return change, err
	case Deleted:
		defer c.watcher().writes(s.env, s.ref)()
		released, err := c.prune(ctx, s)
		if err == nil {
			c.watcher().forget(s.env, s.ref)
		}
		if released != "" {
			change.Action, change.Released, change.Reason = Skipped, true, released
		}
		return change, err
	}
	return change, nil
}

// write applies one object, which must still be what the plan saw: the API server is told which version that was. When it
// has another one by now, the object is read again.
func (c *Client) write(ctx context.Context, s *step) error {
	if err := c.locate(ctx, s); err != nil {
		return err
	}
	err := c.writePlanned(ctx, s)
	if s.deferred && unserved(err) {
		err = c.writeSoon(ctx, s)
	}
	for i := 0; i < maxRereads && modified(err); i++ {
		err = c.writeOnce(ctx, s)
	}
	return err
}

// noVersion is a version that no object has. Applied with it an object is created, and one that exists is in conflict.
const noVersion = "1"

// writePlanned applies an object without reading it again.
func (c *Client) writePlanned(ctx context.Context, s *step) error {
	if s.live != nil {
		return c.writeOver(ctx, s, s.live, true)
	}
	object := s.object.DeepCopy()
	object.SetResourceVersion(noVersion)
	result, err := c.patch(ctx, s.target, object)
	if err == nil {
		c.wrote(s.target, result)
		return nil
	}
	if len(conflicts(err)) > 0 || refusesVersion(err) {
		return c.writeOnce(ctx, s)
	}
	return explain(c.call("patch", s.ref), err)
}

// refusesVersion: an API server that takes no version with an object that does not exist.
func refusesVersion(err error) bool {
	status := statusOf(err)
	return status != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) && strings.Contains(status.Message, "resourceVersion")
}

func (c *Client) wrote(t target, result *unstructured.Unstructured) {
	c.watcher().saw(t.env, t.ref, examination{live: result, digest: t.digest})
}

// writeSoon writes an object whose kind was just established: one of several API servers may not serve it yet.
func (c *Client) writeSoon(ctx context.Context, s *step) error {
	return poll(ctx, waitTimeout, "kind of "+s.ref.String(), func(ctx context.Context) (bool, error) {
		err := c.writeOnce(ctx, s)
		if unserved(err) {
			return false, nil
		}
		return err == nil, err
	})
}

func (c *Client) writeOnce(ctx context.Context, s *step) error {
	live, err := c.get(ctx, s.target)
	if err != nil {
		return err
	}
	if err := stillPlanned(s, live); err != nil {
		return err
	}
	if live == nil {
		result, _, err := c.send(ctx, s.target, nil, s.object)
		if err == nil {
			c.wrote(s.target, result)
		}
		return err
	}
	return c.writeOver(ctx, s, live, false)
}

// writeOver applies an object over its live state. exactly: only if that is the state still. Otherwise changes of what is
// not ours do not matter.
func (c *Client) writeOver(ctx context.Context, s *step, live *unstructured.Unstructured, exactly bool) error {
	live, err := c.migrate(ctx, s.target, live)
	if err != nil {
		return err
	}
	object := s.object.DeepCopy()
	if _, err := c.leaveReplicas(ctx, s.target, live, object); err != nil {
		return err
	}
	object.SetUID(live.GetUID())
	if exactly || live.GetLabels()[labelEnvironment] == "" {
		object.SetResourceVersion(live.GetResourceVersion())
	}
	result, _, err := c.send(ctx, s.target, live, object)
	if err == nil {
		c.wrote(s.target, result)
	}
	return err
}

// stillPlanned checks that an object is in the hands the plan saw it in.
func stillPlanned(s *step, live *unstructured.Unstructured) error {
	ref := s.ref
	if live == nil {
		if s.live != nil {
			return fmt.Errorf("%s was deleted since it was planned", ref)
		}
		return nil
	}
	if _, err := checkOwner(s.target, live); err != nil {
		return err
	}
	mine := live.GetLabels()[labelEnvironment] == s.env
	switch {
	case s.live == nil && !s.deferred && !mine:
		return fmt.Errorf("%s was created by somebody else since it was planned", ref)
	case s.live == nil:
		return nil
	case s.live.GetUID() != live.GetUID():
		return fmt.Errorf("%s was replaced since it was planned", ref)
	case s.live.GetLabels()[labelEnvironment] != live.GetLabels()[labelEnvironment] && !mine && !s.owned:
		return fmt.Errorf("%s lost its label %s since it was planned", ref, labelEnvironment)
	}
	return nil
}

// migrate moves ownership of people's fields to us and returns the object after it.
func (c *Client) migrate(ctx context.Context, t target, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	patch, err := migration(live)
	if err != nil || patch == nil {
		return live, err
	}
	after, err := c.resource(t.mapping, t.ref.Namespace).patch(ctx, t.ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return nil, explain(c.call("patch", t.ref), err)
	}
	return after, nil
}

// prune deletes one object after reading it again. It returns why it is released instead, "" when it is not.
func (c *Client) prune(ctx context.Context, s *step) (string, error) {
	if s.live == nil {
		return "", nil
	}
	var err error
	for range maxRereads {
		var released string
		released, err = c.pruneOnce(ctx, s)
		if !modified(err) {
			return released, err
		}
	}
	return "", err
}

func (c *Client) pruneOnce(ctx context.Context, s *step) (string, error) {
	ref := s.ref
	live, err := c.find(ctx, ref)
	if err != nil {
		return "", err
	}
	action, reason, released := doom(live, s.env)
	switch {
	case released:
		return reason, nil
	case live == nil:
		return "", nil
	case live.GetUID() != s.live.GetUID():
		return "", fmt.Errorf("%s was replaced since it was planned", ref)
	case action == Skipped:
		return "", fmt.Errorf("%s is not deleted: %s", ref, reason)
	case reason != "":
		return "", fmt.Errorf("%s %s", ref, reason)
	}
	if err := c.remove(ctx, s, live); err != nil {
		return "", err
	}
	return "", c.gone(ctx, s, live.GetUID())
}

// remove deletes exactly the object that was read. What it owns is collected in the background, so that nothing but the
// object's own finalizers can hold it.
func (c *Client) remove(ctx context.Context, s *step, live *unstructured.Unstructured) error {
	ref := s.ref
	mapping, err := c.cluster.servedMapping(ref)
	if err != nil {
		return explain(c.call("find", ref), err)
	}
	uid, version, policy := live.GetUID(), live.GetResourceVersion(), metav1.DeletePropagationBackground
	err = c.resource(mapping, ref.Namespace).delete(ctx, ref.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}, PropagationPolicy: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return explain(c.call("delete", ref), err)
}

// gone waits a moment for a deleted object to disappear: only then may it leave the inventory.
func (c *Client) gone(ctx context.Context, s *step, uid types.UID) error {
	var last *unstructured.Unstructured
	err := poll(ctx, goneTimeout, s.ref.String(), func(ctx context.Context) (bool, error) {
		live, err := c.find(ctx, s.ref)
		if err != nil {
			return false, err
		}
		last = live
		return live == nil || live.GetUID() != uid, nil
	})
	if err != nil && last != nil && ctx.Err() == nil {
		return fmt.Errorf("%s %s", s.ref, held(last))
	}
	return err
}
