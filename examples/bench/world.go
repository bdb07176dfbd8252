package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// world is a cluster, a generated estate and the agent that keeps it.
type world struct {
	*session
	cluster *cluster
	estate  *generated
	agent   *agent
	audit   string // address of the audit remote
	changes int    // that were pushed so far
}

func (w *world) stop() error {
	if w == nil {
		return nil
	}
	err := w.agent.stop()
	if w.cluster != nil {
		err = errors.Join(err, w.cluster.stop())
	}
	return err
}

// began says how long after the agent's start a cold estate was applied, and live.
type began struct{ applied, live time.Duration }

// cold starts the agent and waits until the whole estate is applied, then until it is live. What is applied is
// compared with what Kustomize renders.
func (w *world) cold(ctx context.Context) (began, error) {
	objects, err := w.estate.allObjects()
	if err != nil {
		return began{}, err
	}
	all := newArrivals(objects)
	watching, err := w.cluster.metadataOf()
	if err != nil {
		return began{}, err
	}
	follower, err := follow(ctx, watching, all.see)
	if err != nil {
		return began{}, err
	}
	defer follower.stop()
	start := time.Now()
	if err := w.agent.start(); err != nil {
		return began{}, err
	}
	last, err := all.wait(ctx, w.coldPatience(), follower, w.agent.alive)
	if err != nil {
		return began{}, errors.Join(err, w.stuck(ctx))
	}
	b := began{applied: last.Sub(start)}
	if err := follower.stop(); err != nil {
		return b, err
	}
	w.say("%d objects were applied %.1f s after the agent's start", len(objects), b.applied.Seconds())
	if err := w.cluster.same(ctx, objects); err != nil {
		return b, err
	}
	if err := w.awaitLive(ctx); err != nil {
		return b, err
	}
	b.live = time.Since(start)
	w.say("all of it was live %.1f s after the agent's start", b.live.Seconds())
	return b, nil
}

// coldPatience is how long an estate may take to be applied, and again to be live.
func (w *world) coldPatience() time.Duration {
	return 2*time.Minute + time.Duration(len(w.estate.places))*time.Second/2
}

// awaitLive waits until what is approved is live everywhere. It asks seldom: the answer costs the agent something.
func (w *world) awaitLive(ctx context.Context) error {
	return until(ctx, w.coldPatience(), 2*time.Second, func() error { return w.live(ctx) })
}

// live says why something approved is not live yet.
func (w *world) live(ctx context.Context) error {
	if err := w.agent.alive(); err != nil {
		return err
	}
	status, err := w.agent.status(ctx)
	if err != nil {
		return err
	}
	settled, example := 0, ""
	for _, e := range status.Environments {
		if e.settled() {
			settled++
		} else {
			example = fmt.Sprintf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
		}
	}
	if settled < len(w.estate.places) {
		return fmt.Errorf("%d of %d environments are live; %s", settled, len(w.estate.places), example)
	}
	return nil
}

// stuck adds what the agent says to an error about something that did not happen.
func (w *world) stuck(ctx context.Context) error {
	if err := w.live(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("the agent's status: %w", err)
	}
	return nil
}

// quiet is how long nothing may happen before a world counts as settled.
const quiet = 2 * time.Second

// settle waits until every record is published and no environment is reconciled any more.
func (w *world) settle(ctx context.Context) error {
	last := -1.0
	return until(ctx, 2*time.Minute, quiet, func() error {
		if err := w.agent.alive(); err != nil {
			return err
		}
		if err := w.published(ctx); err != nil {
			return err
		}
		now, err := w.agent.metric(ctx, metricReconciled)
		if err != nil {
			return err
		}
		if before := last; now != before {
			last = now
			return fmt.Errorf("the agent is still busy: %g reconciliations after %g", now, before)
		}
		return nil
	})
}

// published is an error as long as records wait for the audit remote.
func (w *world) published(ctx context.Context) error {
	status, err := w.agent.status(ctx)
	if err == nil && status.Evidence.Spooled > 0 {
		err = fmt.Errorf("%d records wait to be published", status.Evidence.Spooled)
	}
	return err
}

// objectKey names an object of a managed kind.
type objectKey struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

func (k objectKey) String() string { return k.resource.Resource + " " + k.namespace + "/" + k.name }

func keyOf(o *unstructured.Unstructured) objectKey {
	return objectKey{kindOf(o.GetKind()).resource, o.GetNamespace(), o.GetName()}
}

func (e event) key() objectKey {
	return objectKey{e.resource, e.object.GetNamespace(), e.object.GetName()}
}

// arrivals waits for objects to appear.
type arrivals struct {
	mu      sync.Mutex
	missing map[objectKey]bool
	last    time.Time     // when the newest of them appeared
	all     chan struct{} // closed when nothing is missing
}

func newArrivals(objects []*unstructured.Unstructured) *arrivals {
	a := &arrivals{missing: make(map[objectKey]bool, len(objects)), all: make(chan struct{})}
	for _, o := range objects {
		a.missing[keyOf(o)] = true
	}
	return a
}

// see takes note of an event.
func (a *arrivals) see(e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := e.key()
	if !a.missing[key] || e.deleted {
		return
	}
	delete(a.missing, key)
	a.last = e.at
	if len(a.missing) == 0 {
		close(a.all)
	}
}

// wait returns when the last object appeared. It gives up when patience ends, or when something went wrong.
func (a *arrivals) wait(ctx context.Context, patience time.Duration, f *follower, wrong func() error) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-a.all:
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.last, nil
		case <-ticker.C:
			if err := errors.Join(f.problem(), wrong()); err != nil {
				return time.Time{}, err
			}
		case <-ctx.Done():
			a.mu.Lock()
			defer a.mu.Unlock()
			return time.Time{}, fmt.Errorf("%d objects are missing after %s", len(a.missing), patience)
		}
	}
}

// same is an error unless every object is there and says what is desired; it may say more.
func (c *cluster) same(ctx context.Context, objects []*unstructured.Unstructured) error {
	found := map[objectKey]*unstructured.Unstructured{}
	for _, k := range managed {
		list, err := c.dynamic.Resource(k.resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list %s: %w", k.resource.Resource, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			found[objectKey{k.resource, o.GetNamespace(), o.GetName()}] = o
		}
	}
	for _, want := range objects {
		key := keyOf(want)
		if live := found[key]; live == nil || !says(live.Object, want.Object) {
			return fmt.Errorf("%s is not as desired", key)
		}
	}
	return nil
}

// says reports whether live holds everything that want does.
func says(live, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, is := live.(map[string]any)
		if !is {
			return false
		}
		for key, value := range want {
			if !says(have[key], value) {
				return false
			}
		}
		return true
	case []any:
		have, is := live.([]any)
		if !is || len(have) != len(want) {
			return false
		}
		for i, value := range want {
			if !says(have[i], value) {
				return false
			}
		}
		return true
	}
	return live == want
}
