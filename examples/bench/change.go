package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	changeSamples  = 12              // by default
	changePatience = 2 * time.Minute // until one change is applied, and again until it is live
	// stragglers is how long after a change is live requests are still counted as its own.
	stragglers = 1500 * time.Millisecond
)

// seed makes the choice of environments and edits the same in every run.
func seed() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// benchOneChange measures what a commit costs that changes one object of one environment.
func benchOneChange(ctx context.Context, s *session) (_ []figure, err error) {
	w, err := s.settled(ctx)
	if err != nil {
		return nil, err
	}
	bare, err := w.newBareClient(ctx)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	seen := newSightings()
	follower, err := follow(ctx, wholeOf(w.cluster.dynamic), seen.see)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, follower.stop()) }()
	var samples []changed
	var floor []float64
	random := seed()
	for range cmp.Or(s.samples, changeSamples) {
		took, err := bare.oneChange(ctx, seen)
		if err != nil {
			return nil, fmt.Errorf("floor: %w", err)
		}
		floor = append(floor, took.Seconds())
		c, err := w.oneChange(ctx, w.estate.places[random.IntN(len(w.estate.places))], seen)
		if err != nil {
			return nil, errors.Join(err, w.stuck(ctx))
		}
		samples = append(samples, c)
	}
	return changeFigures(samples, floor, s.environments), nil
}

// changed is what one change cost.
type changed struct {
	seconds  float64 // from the commit being visible to the change being in the cluster
	live     float64 // and to the release being live
	renders  float64
	requests requests // about managed kinds
	others   int      // objects of other environments that something happened to
}

// change pushes another value for the ConfigMap of an environment and tells the agent. It returns when the commit was
// visible.
func (w *world) change(ctx context.Context, p place) (visible time.Time, err error) {
	w.changes++
	if err := w.estate.change(p, w.changes); err != nil {
		return time.Time{}, err
	}
	if visible, err = w.estate.push(ctx, "Change "+p.environment); err != nil {
		return time.Time{}, err
	}
	return visible, w.agent.tell(ctx)
}

// oneChange pushes a change and follows it until it is live.
func (w *world) oneChange(ctx context.Context, p place, seen *sightings) (changed, error) {
	before, err := w.count(ctx)
	if err != nil {
		return changed{}, err
	}
	old, err := w.agent.environment(ctx, p.environment)
	if err != nil {
		return changed{}, err
	}
	if !old.settled() {
		return changed{}, fmt.Errorf("%s is not settled: %s", p.environment, old.Reason)
	}
	seen.count()
	key := objectKey{kindOf("ConfigMap").resource, p.namespace, kindOf("ConfigMap").name}
	value := strconv.Itoa(w.changes + 1)
	applied := seen.expect(key, func(e event) bool { return !e.deleted && dataOf(e, "changed") == value })
	visible, err := w.change(ctx, p)
	if err != nil {
		return changed{}, err
	}
	at, err := applied.wait(ctx, changePatience)
	if err != nil {
		return changed{}, fmt.Errorf("%s with the pushed value: %w", key, err)
	}
	live, err := w.awaitLater(ctx, p, old.Live.Release)
	if err != nil {
		return changed{}, err
	}
	pause(ctx, stragglers)
	after, err := w.count(ctx)
	if err != nil {
		return changed{}, err
	}
	c := changed{
		seconds: at.Sub(visible).Seconds(), live: live.Sub(visible).Seconds(),
		renders: after.renders - before.renders, requests: after.requests.since(before.requests).only(onManaged),
	}
	for k := range seen.count() {
		if k.namespace != p.namespace {
			c.others++
		}
	}
	w.say("a change of %s was applied after %.3f s, live after %.3f s: %g renders, %g requests: %s",
		p.environment, c.seconds, c.live, c.renders, c.requests.sum(), c.requests)
	return c, nil
}

// awaitLater waits until another release than the old one is live in an environment, and everything is published.
func (w *world) awaitLater(ctx context.Context, p place, old string) (time.Time, error) {
	var at time.Time
	err := until(ctx, changePatience, 20*time.Millisecond, func() error {
		e, err := w.agent.environment(ctx, p.environment)
		if err != nil {
			return err
		}
		if !e.settled() || e.Live.Release == old {
			return fmt.Errorf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
		}
		at = time.Now()
		return nil
	})
	if err != nil {
		return at, err
	}
	return at, until(ctx, changePatience, 100*time.Millisecond, func() error { return w.published(ctx) })
}

// counts are what the API server and the agent count.
type counts struct {
	requests requests
	renders  float64
}

func (w *world) count(ctx context.Context) (c counts, err error) {
	if c.renders, err = w.agent.metric(ctx, metricRenders); err != nil {
		return c, err
	}
	c.requests, err = w.cluster.countRequests(ctx)
	return c, err
}

// dataOf is a value of a ConfigMap.
func dataOf(e event, key string) string {
	value, _, _ := unstructured.NestedString(e.object.(*unstructured.Unstructured).Object, "data", key)
	return value
}

func changeFigures(samples []changed, floor []float64, environments int) []figure {
	var seconds, live, renders, sums []float64
	others := 0
	for _, c := range samples {
		seconds, live = append(seconds, c.seconds), append(live, c.live)
		renders, sums = append(renders, c.renders), append(sums, c.requests.sum())
		others += c.others
	}
	ordered := slices.SortedFunc(slices.Values(samples), func(a, b changed) int { return cmp.Compare(a.requests.sum(), b.requests.sum()) })
	middle := ordered[len(ordered)/2].requests
	n := len(samples)
	return []figure{
		cost("one_change_seconds", "s", median(seconds), median(floor), n, fmt.Sprintf(
			"1 ConfigMap of 1 of %d environments, from the commit being on the Git server to the change in the cluster; a signed webhook tells of it when the push ends, so no poll is waited for; worst %.3f s; live after %.3f s, worst %.3f s; "+
				"the floor is a bare client told in the same way: git fetch, git show, one server-side apply; worst %.3f s",
			environments, slices.Max(seconds), median(live), slices.Max(live), slices.Max(floor))),
		spare("one_change_renders", "renders", median(renders), 1, 1, n, fmt.Sprintf(
			"Kustomize builds until all of it was live, as the agent counts them; worst %g; the floor is the one that is needed", slices.Max(renders))),
		spare("one_change_requests", "requests", median(sums), 1, 1, n, fmt.Sprintf(
			"about the kinds that it manages, besides watches, until %s after all of it was live, as the API server counts them; worst %g; in the median sample %s; objects of other environments that were touched: %d; the floor is the one apply that is needed",
			stragglers, slices.Max(sums), middle, others)),
	}
}

// bareClient does for one object what an agent does at least: it fetches the commit and applies the object.
type bareClient struct {
	world  *world
	estate *generated
	clone  string
	place  place
	object *unstructured.Unstructured
	value  int
}

// newBareClient makes the same estate once more, in a repository that the agent does not know, and gives the client a
// namespace of its own.
func (w *world) newBareClient(ctx context.Context) (*bareClient, error) {
	repo, err := w.cluster.lab.CreateRepo(ctx, fmt.Sprintf("bare-%d", w.changes))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(w.dir, repo.Name)
	b := &bareClient{world: w, clone: filepath.Join(dir, "clone.git"), place: w.estate.places[0]}
	b.place.namespace = repo.Name
	if b.estate, err = newGenerated(ctx, filepath.Join(dir, "estate"), repo, append([]place{b.place}, w.estate.places[1:]...), calm); err != nil {
		return nil, err
	}
	if err := w.cluster.createNamespace(ctx, b.place.namespace); err != nil {
		return nil, err
	}
	objects, err := b.estate.objects(b.place)
	if err != nil {
		return nil, err
	}
	b.object = objects[slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "ConfigMap" })]
	return b, b.git(ctx, nil, "clone", "--quiet", "--bare", repo.URL, b.clone)
}

// oneChange pushes a change and makes it.
func (b *bareClient) oneChange(ctx context.Context, seen *sightings) (time.Duration, error) {
	b.value++
	value := strconv.Itoa(b.value)
	applied := seen.expect(keyOf(b.object), func(e event) bool { return !e.deleted && dataOf(e, "changed") == value })
	if err := b.estate.change(b.place, b.value); err != nil {
		return 0, err
	}
	visible, err := b.estate.push(ctx, "Change "+b.place.environment)
	if err != nil {
		return 0, err
	}
	var text []byte
	file := filepath.Join(overlayFolder, b.place.environment, "settings.yaml")
	if err := errors.Join(
		b.git(ctx, nil, "--git-dir", b.clone, "fetch", "--quiet", "origin", "main:main"),
		b.git(ctx, &text, "--git-dir", b.clone, "show", "main:"+file),
	); err != nil {
		return 0, err
	}
	if string(text) != fmt.Sprintf(settings, b.place.environment, b.value) {
		return 0, errors.New("the fetched file is not the pushed one")
	}
	if err := unstructured.SetNestedField(b.object.Object, value, "data", "changed"); err != nil {
		return 0, err
	}
	body, err := json.Marshal(b.object.Object)
	if err != nil {
		return 0, err
	}
	if err := b.world.cluster.applyOne(ctx, keyOf(b.object), body); err != nil {
		return 0, err
	}
	at, err := applied.wait(ctx, time.Minute)
	return at.Sub(visible), err
}

func (b *bareClient) git(ctx context.Context, out *[]byte, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("git %s: %w", args[0], err)
	}
	if out != nil {
		*out = text
	}
	return nil
}
