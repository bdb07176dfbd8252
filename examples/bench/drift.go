package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	driftEdits    = 200                    // by default
	driftPace     = 200 * time.Millisecond // from one edit to the next
	driftPatience = 30 * time.Second       // until an edit is undone
)

// benchDrift measures how soon manual edits of all kinds are detected and undone.
func benchDrift(ctx context.Context, s *session) (_ []figure, err error) {
	w, err := s.settled(ctx)
	if err != nil {
		return nil, err
	}
	count := cmp.Or(s.samples, driftEdits)
	bare, err := w.newBareKeeper(ctx)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	seen := newSightings()
	follower, err := follow(ctx, wholeOf(w.cluster.dynamic), func(e event) {
		seen.see(e)
		bare.see(ctx, e)
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, follower.stop()) }()
	floor, err := w.editAll(ctx, planEdits(seed(), unmarked(edits), count, bare.namespaces), seen)
	if err := errors.Join(bare.end(floor), err); err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	namespaces := make([]string, len(w.estate.places))
	for i, p := range w.estate.places {
		namespaces[i] = p.namespace
	}
	made, err := w.editAll(ctx, planEdits(seed(), edits, count, namespaces), seen)
	if err != nil {
		return nil, errors.Join(err, w.troubled(ctx))
	}
	if err := w.readDetections(ctx, made); err != nil {
		return nil, err
	}
	return driftFigures(made, floor, s.environments), nil
}

// troubled says what the agent says of the environments whose objects it could not restore.
func (w *world) troubled(ctx context.Context) error {
	status, err := w.agent.status(ctx)
	if err != nil {
		return err
	}
	var said []string
	for _, e := range status.Environments {
		if e.Reason != "" && len(said) < 5 {
			said = append(said, fmt.Sprintf("%s is %s: %s", e.Name, e.Outcome, e.Reason))
		}
	}
	return fmt.Errorf("the agent's status: %s%s", cmp.Or(strings.Join(said, "; "), "nothing is wrong"), w.agent.tail())
}

// made is an edit and what became of it.
type made struct {
	planned
	sent, answered     time.Time
	detected, repaired time.Time
}

// editAll makes edits at a steady pace, however long the repair of earlier ones takes, and waits until all are undone.
func (w *world) editAll(ctx context.Context, list []planned, seen *sightings) ([]made, error) {
	all, problems := make([]made, len(list)), make([]error, len(list))
	var open sync.WaitGroup
	defer open.Wait()
	for i, p := range list {
		objects := w.cluster.dynamic.Resource(p.key.resource).Namespace(p.key.namespace)
		before, err := objects.Get(ctx, p.key.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		repaired := seen.expect(p.key, undone(before))
		all[i] = made{planned: p, sent: time.Now()}
		if err := p.make(ctx, objects, before); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p.key, p.name, err)
		}
		all[i].answered = time.Now()
		open.Go(func() {
			all[i].repaired, problems[i] = repaired.wait(ctx, driftPatience)
			if problems[i] != nil {
				problems[i] = fmt.Errorf("%s: %s: not undone: %w", p.key, p.name, problems[i])
			}
		})
		pause(ctx, driftPace)
	}
	open.Wait()
	if failed := slices.DeleteFunc(problems, func(err error) bool { return err == nil }); len(failed) > 0 {
		return nil, fmt.Errorf("%d of %d edits were not undone: %w", len(failed), len(list), errors.Join(failed[:min(len(failed), 5)]...))
	}
	return all, nil
}

// undone looks for an object that is as before again after it was not. The API server tells of changes in order.
func undone(before *unstructured.Unstructured) func(event) bool {
	edited := false
	return func(e event) bool {
		if e.deleted || !asBefore(e.object.(*unstructured.Unstructured), before) {
			edited = true
			return false
		}
		return edited
	}
}

// record is the part of a record of the agent's that the benches read.
type record struct {
	Type        string    `json:"type"`
	Time        time.Time `json:"time"`
	Environment string    `json:"environment"`
	Predicate   struct {
		Purpose string     `json:"purpose"` // of a plan
		Items   []recorded `json:"items"`   // of a plan
		Objects []recorded `json:"objects"` // of drift
	} `json:"predicate"`
}

// recorded names an object.
type recorded struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// records clones the audit remote and reads all records, which also verifies them.
func (w *world) records(ctx context.Context) ([]record, error) {
	if err := until(ctx, time.Minute, 200*time.Millisecond, func() error { return w.published(ctx) }); err != nil {
		return nil, err
	}
	clone := filepath.Join(w.agent.dir, "audit.git")
	if err := os.RemoveAll(clone); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "git", "clone", "--quiet", "--mirror", w.audit, clone).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("clone the audit log: %w\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, w.agent.purser, "evidence", "log", "--repo", clone, "--keys", filepath.Join(w.agent.dir, "signing.pub"), "--output", "json")
	var problem strings.Builder
	cmd.Stderr = &problem
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("purser evidence log: %w\n%s", err, &problem)
	}
	var list []record
	return list, json.Unmarshal(text, &list)
}

// detects lists the objects of which a record says that they differ from what they should be: a record of drift, or
// the intent of a repair.
func (r record) detects() []recorded {
	switch {
	case r.Type == "drift":
		return r.Predicate.Objects
	case r.Type == "plan" && r.Predicate.Purpose == "repair":
		return r.Predicate.Items
	}
	return nil
}

// readDetections finds the first record after each edit that names its object.
func (w *world) readDetections(ctx context.Context, all []made) error {
	records, err := w.records(ctx)
	if err != nil {
		return err
	}
	edited := map[objectKey]*made{}
	for i := range all {
		edited[all[i].key] = &all[i]
	}
	for _, r := range records {
		for _, o := range r.detects() {
			e := edited[objectKey{kindOf(o.Kind).resource, o.Namespace, o.Name}]
			if e != nil && e.detected.IsZero() && r.Time.After(e.sent) {
				e.detected = r.Time
			}
		}
	}
	for _, e := range all {
		if e.detected.IsZero() {
			return fmt.Errorf("%s: %s: no record tells of it", e.key, e.name)
		}
	}
	return nil
}

func driftFigures(all, floor []made, environments int) []figure {
	detected, repaired := spans(all)
	detectedFloor, repairedFloor := spans(floor)
	slowest := map[string]float64{}
	for i, e := range all {
		slowest[e.name] = max(slowest[e.name], repaired[i])
	}
	names := slices.SortedFunc(maps.Keys(slowest), func(a, b string) int { return cmp.Compare(slowest[b], slowest[a]) })
	var worst []string
	for _, name := range names[:min(3, len(names))] {
		worst = append(worst, fmt.Sprintf("%s %.3f s", name, slowest[name]))
	}
	const p99, least = 0.99, 0.001 // s
	about := fmt.Sprintf("%d manual edits of %d kinds, each of another object, in random order over %d environments, one every %s", len(all), len(slowest), environments, driftPace)
	return []figure{
		spare("drift_detect_p99_seconds", "s", quantile(detected, p99), quantile(detectedFloor, p99), least, len(all), fmt.Sprintf(
			"%s; from the API server's answer to the time of the record that names the object; median %.3f s, worst %.3f s; the floor is the arrival of the event at a bare client that watches",
			about, median(detected), slices.Max(detected))),
		spare("drift_repair_p99_seconds", "s", quantile(repaired, p99), quantile(repairedFloor, p99), least, len(all), fmt.Sprintf(
			"%s; from the API server's answer until a watch shows the object as before; median %.3f s, worst %.3f s, slowest kinds: %s; the floor is a bare client that writes an object back, with one request, when it sees it changed",
			about, median(repaired), slices.Max(repaired), strings.Join(worst, ", "))),
	}
}

// spans are the times from the answers to the edits until they were detected and repaired, in seconds. A watch may be
// faster than the answer.
func spans(all []made) (detected, repaired []float64) {
	for _, e := range all {
		detected = append(detected, max(e.detected.Sub(e.answered).Seconds(), 0))
		repaired = append(repaired, max(e.repaired.Sub(e.answered).Seconds(), 0))
	}
	return detected, repaired
}
