package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/purser-gitops/purser/render"
)

// pollStep is the first pause between two looks at something that is about to be ready; it doubles up to pollMax.
const (
	pollStep = 50 * time.Millisecond
	pollMax  = time.Second
)

// waitTimeout is how long a definition is given to be established, a namespace to be active, and a kind to be served.
const waitTimeout = time.Minute

// goneTimeout is how long a deleted object is given to disappear; controllers of the cluster's own finalizers are quick.
const goneTimeout = 5 * time.Second

// poll looks until done, within a timeout.
func poll(ctx context.Context, timeout time.Duration, what string, look func(context.Context) (bool, error)) error {
	deadline, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	backoff := wait.Backoff{Duration: pollStep, Factor: 2, Steps: 1 << 20, Cap: pollMax}
	for {
		done, err := look(deadline)
		if done {
			return nil
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		timer := time.NewTimer(backoff.Step())
		select {
		case <-timer.C:
		case <-deadline.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", what, ctx.Err())
			}
			return fmt.Errorf("wait for %s: not ready after %s", what, timeout)
		}
	}
}

// settle waits until later stages can build on what was just applied: a definition is established, a namespace active.
func (c *Client) settle(ctx context.Context, ref render.Ref) error {
	if !isCRD(ref) && !isNamespace(ref) {
		return nil
	}
	return poll(ctx, waitTimeout, ref.String(), func(ctx context.Context) (bool, error) {
		live, err := c.find(ctx, ref)
		if err != nil || live == nil {
			return false, err
		}
		if isNamespace(ref) {
			phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
			return phase == "Active", nil
		}
		return established(ref, live)
	})
}

// established says whether a definition is in force. One whose names are taken never will be.
func established(ref render.Ref, crd *unstructured.Unstructured) (bool, error) {
	list, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	done := false
	for _, v := range list {
		cond, _ := v.(map[string]any)
		switch {
		case cond["type"] == "Established":
			done = cond["status"] == "True"
		case cond["type"] == "NamesAccepted" && cond["status"] == "False":
			return false, &StalledError{What: fmt.Sprintf("%s: names are not accepted: %v", ref, cond["message"]), Hint: "choose other names, or remove the other definition"}
		}
	}
	return done, nil
}

// locate gives a step the mapping of its object, waiting for a kind that comes with the plan to be served.
func (c *Client) locate(ctx context.Context, s *step) error {
	return poll(ctx, waitTimeout, "kind of "+s.ref.String(), func(context.Context) (bool, error) {
		mapping, err := c.cluster.mapping(s.ref)
		if err == nil {
			s.mapping = mapping
			return true, nil
		}
		if s.deferred && meta.IsNoMatchError(err) {
			return false, nil
		}
		return false, explain(c.call("find", s.ref), err)
	})
}
