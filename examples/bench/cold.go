package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// floorWorkers are the degrees of concurrency of which the fastest is the floor.
var floorWorkers = []int{4, 8, 20}

// benchCold measures how long an agent takes from its start until a whole estate is applied to empty namespaces.
func benchCold(ctx context.Context, s *session) ([]figure, error) {
	floor, each, err := s.coldFloor(ctx)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	if err := s.discard(); err != nil {
		return nil, err
	}
	w, err := s.newWorld(ctx, s.environments)
	if err != nil {
		return nil, err
	}
	b, err := w.cold(ctx)
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	s.shared = w
	return []figure{cost("cold_apply", "s", b.applied.Seconds(), floor.Seconds(), 1, fmt.Sprintf(
		"%d environments of %d tenants, %d objects, from the start of the process to the last object; all live after %.1f s, which the controller manager's own limit of requests decides; "+
			"the floor is server-side apply of the same objects with client-go, one request each: %s",
		s.environments, s.tenants, len(managed)*s.environments, b.live.Seconds(), strings.Join(each, ", ")))}, nil
}

// coldFloor applies the same objects straight, in a cluster like the agent's, into fresh namespaces for each degree of
// concurrency.
func (s *session) coldFloor(ctx context.Context) (fastest time.Duration, each []string, err error) {
	inside := places(s.environments, s.tenants)
	var all []place
	for _, workers := range floorWorkers {
		for _, p := range inside {
			p.namespace += floorSuffix(workers)
			all = append(all, p)
		}
	}
	s.worlds++
	dir := filepath.Join(s.dir, fmt.Sprintf("world-%d", s.worlds))
	c, err := s.newCluster(ctx, filepath.Join(dir, "lab"), all)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	repo, err := c.lab.CreateRepo(ctx, "estate")
	if err != nil {
		return 0, nil, err
	}
	estate, err := newGenerated(ctx, filepath.Join(dir, "estate"), repo, inside, calm)
	if err != nil {
		return 0, nil, err
	}
	objects, err := estate.allObjects()
	if err != nil {
		return 0, nil, err
	}
	var took []time.Duration
	for _, workers := range floorWorkers {
		moved := make([]*unstructured.Unstructured, len(objects))
		for i, o := range objects {
			moved[i] = o.DeepCopy()
			moved[i].SetNamespace(o.GetNamespace() + floorSuffix(workers))
		}
		d, err := c.applyStraight(ctx, moved, workers)
		if err != nil {
			return 0, nil, fmt.Errorf("%d workers: %w", workers, err)
		}
		took = append(took, d)
		each = append(each, fmt.Sprintf("%.2f s over %d workers", d.Seconds(), workers))
		s.say("floor: %s", each[len(each)-1])
	}
	return slices.Min(took), each, nil
}

// floorSuffix tells the namespaces of one degree of concurrency from those of the others.
func floorSuffix(workers int) string { return fmt.Sprintf("-by-%d", workers) }

// applyStraight applies objects over some workers and says how long it was until the last was there, seen in the way
// in which the agent's are.
func (c *cluster) applyStraight(ctx context.Context, objects []*unstructured.Unstructured, workers int) (time.Duration, error) {
	bodies := make([][]byte, len(objects))
	for i, o := range objects {
		var err error
		if bodies[i], err = json.Marshal(o.Object); err != nil {
			return 0, err
		}
	}
	all := newArrivals(objects)
	watching, err := c.metadataOf()
	if err != nil {
		return 0, err
	}
	follower, err := follow(ctx, watching, all.see)
	if err != nil {
		return 0, err
	}
	defer follower.stop()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	start := time.Now()
	for i, o := range objects {
		group.Go(func() error { return c.applyOne(inner, keyOf(o), bodies[i]) })
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	last, err := all.wait(ctx, time.Minute, follower, func() error { return nil })
	if err != nil {
		return 0, err
	}
	return last.Sub(start), c.same(ctx, objects)
}

// applyOne is one server-side apply.
func (c *cluster) applyOne(ctx context.Context, key objectKey, body []byte) error {
	force := true
	_, err := c.dynamic.Resource(key.resource).Namespace(key.namespace).Patch(ctx, key.name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: benchManager, Force: &force})
	return err
}
