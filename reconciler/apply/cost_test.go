package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// One changed object of four costs three requests when the watcher vouches for the others, and a created one two.
func TestCostOfAChange(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	rest := configMap("b", "1") + deployment("web", "  replicas: 0") + "---\n{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}\n"
	before, after := configMap("a", "1")+rest, configMap("a", "2")+rest
	v.apply(before)
	if got := verbs(v.requests()); !slices.Equal(got, []string{"PATCH 8"}) {
		t.Errorf("creation of four: %v", got)
	}
	v.cover()
	v.vouched()

	v.forgetNotices()
	v.desired.Trust = true
	want(t, v.apply(after), map[string]string{"ConfigMap/a": Configured, "ConfigMap/b": Unchanged, "Deployment/web": Unchanged, "Service/s": Unchanged})
	if got := verbs(v.requests()); !slices.Equal(got, []string{"GET 1", "PATCH 2"}) {
		t.Errorf("change of one: %v", got)
	}
	v.cover()
	v.vouched()

	v.forgetNotices()
	want(t, v.apply(after), map[string]string{"ConfigMap/a": Unchanged})
	if got := v.requests(); len(got) != 0 {
		t.Errorf("change of none: %v", got)
	}

	v.forgetNotices()
	want(t, v.apply(after+configMap("c", "1")), map[string]string{"ConfigMap/c": Created})
	if got := verbs(v.requests()); !slices.Equal(got, []string{"PATCH 2"}) {
		t.Errorf("creation of one: %v", got)
	}

	v.forgetNotices()
	v.desired.Trust = false
	v.unchanged(after + configMap("c", "1"))
	if got := verbs(v.requests()); !slices.Equal(got, []string{"GET 5", "PATCH 5"}) {
		t.Errorf("full comparison of five: %v", got)
	}
}

// verbs counts requests by method.
func verbs(requests []string) []string {
	counts := map[string]int{}
	for _, r := range requests {
		method, _, _ := strings.Cut(r, " ")
		counts[method]++
	}
	var out []string
	for m, n := range counts {
		out = append(out, fmt.Sprintf("%s %d", m, n))
	}
	slices.Sort(out)
	return out
}

// Nobody vouches for what drifted, what was never examined, what has another digest, and what is watched no longer.
func TestTrustHasLimits(t *testing.T) {
	t.Parallel()
	v, p := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1") + configMap("b", "1")
	v.settle(release)
	v.desired.Trust = true
	v.patchAs("lens", configMap("a", ""), `{"data":{"key":"2"}}`)
	v.suspect()
	want(t, entriesOf(v.plan(release)), map[string]string{"ConfigMap/a": Configured, "ConfigMap/b": Unchanged})
	want(t, entriesOf(v.plan(configMap("a", "1")+configMap("b", "2"))), map[string]string{"ConfigMap/a": Configured, "ConfigMap/b": Configured})
	v.apply(release)
	v.vouched()

	v.fault(p, lab.Fault{Mode: lab.Answer, Status: http.StatusServiceUnavailable, Match: isWatch})
	p.Cut()
	v.eventually("watch is down", func() bool { return !v.w.vouches(v.ns, v.inventory[0].Ref, v.inventory[0].Digest) })
	v.patchAs("lens", configMap("a", ""), `{"data":{"key":"2"}}`)
	want(t, entriesOf(v.plan(release)), map[string]string{"ConfigMap/a": Configured})
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	v.apply(release)
	v.vouched()
	v.w.Cover(v.ns, v.ns, nil)
	if v.w.vouches(v.ns, v.inventory[0].Ref, v.inventory[0].Digest) {
		t.Error("vouches for what is not covered")
	}
	v.eventually("watches end", func() bool {
		v.w.mu.Lock()
		defer v.w.mu.Unlock()
		return len(v.w.kinds) == 0 && len(v.w.environments) == 0 && len(v.w.index) == 0 && len(v.w.needs) == 0
	})
}

// A workload's digest does not say who decides its replicas: when an autoscaler goes, the workload is compared.
func TestTrustWhenAnAutoscalerGoes(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	web := deployment("web", "  replicas: 0")
	v.apply(web + autoscaler("web"))
	v.scale("web", 4)
	v.apply(web + autoscaler("web"))
	v.cover()
	v.vouched()
	v.desired.Trust = true
	want(t, entriesOf(v.plan(web+autoscaler("web"))), map[string]string{"Deployment/web": Unchanged, "HorizontalPodAutoscaler/web": Unchanged})
	v.forgetNotices()
	want(t, entriesOf(v.plan(web)), map[string]string{"HorizontalPodAutoscaler/web": Deleted})
	if !slices.ContainsFunc(v.requests(), func(r string) bool { return strings.HasPrefix(r, "PATCH ") && strings.HasSuffix(r, "/deployments/web") }) {
		t.Errorf("the workload was not compared: %v", v.requests())
	}
}

// A plan about some objects names those alone, and deletes none that is not among them.
func TestPlanOfSomeObjects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.apply(configMap("a", "1") + configMap("b", "1") + configMap("gone", "1"))
	d := s.with(configMap("a", "2") + configMap("b", "2"))
	d.Only = map[string]bool{s.inventory[1].Ref.Key(): true}
	p, err := s.client.Plan(t.Context(), d)
	if err != nil || len(p.Entries) != 1 || p.Entries[0].Ref.Name != "b" {
		t.Fatalf("plan: %v\n%s", err, show(p))
	}
	changes, err := s.client.Apply(t.Context(), p)
	if err != nil || len(changes) != 1 {
		t.Fatalf("apply: %v %v", changes, err)
	}
	d.Only = map[string]bool{}
	if p, err := s.client.Plan(t.Context(), d); err != nil || len(p.Entries) != 0 {
		t.Errorf("plan of nothing: %v\n%s", err, show(p))
	}
	d.Only = map[string]bool{s.inventory[2].Ref.Key(): true}
	if p, err := s.client.Plan(t.Context(), d); err != nil || len(p.Entries) != 1 || p.Entries[0].Action != Deleted {
		t.Errorf("plan of an object that is no longer desired: %v\n%s", err, show(p))
	}
}

// An object that somebody creates between plan and apply is not taken over unseen.
func TestCreatedByAnotherSinceThePlan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.plan(configMap("a", "1"))
	s.create(configMap("a", "theirs"))
	if _, err := s.client.Apply(t.Context(), p); err == nil || !strings.Contains(err.Error(), "created by somebody else") {
		t.Errorf("apply: %v", err)
	}
	if got := s.live(configMap("a", "")); got.GetLabels()[labelEnvironment] != "" {
		t.Errorf("object was taken: %v", got.GetLabels())
	}
}

// Custom resources obey the same rules for what does not exist.
func TestCreationOfACustomResource(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.everywhere()
	plural := "c" + strings.ReplaceAll(s.ns[len(s.ns)-6:], "-", "x")
	kind := strings.ToUpper(plural[:1]) + plural[1:]
	crd := definition(plural, kind, "cost.example", "Namespaced")
	object := fmt.Sprintf("---\napiVersion: cost.example/v1\nkind: %s\nmetadata: {name: one}\nspec: {size: 1}\n", kind)
	s.apply(crd)
	s.drop(docs(t, crd)[0])
	p := s.plan(crd + object)
	want(t, entriesOf(p), map[string]string{kind + "/one": Created})
	s.create(object)
	if _, err := s.client.Apply(t.Context(), p); err == nil || !strings.Contains(err.Error(), "created by somebody else") {
		t.Errorf("apply: %v", err)
	}
	want(t, s.apply(crd+object), map[string]string{kind + "/one": Configured})
}

// The requests of one tenant are bounded together, and a small plan does not wait for a large one to end.
func TestRequestsInFlightAreBounded(t *testing.T) {
	s := newSite(t)
	slow := &slowly{}
	cfg := s.cluster.cfg
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { slow.next = rt; return slow })
	s.cluster = open(t, cfg, Options{concurrency: 4})
	s.client = s.tenant(s.cluster)
	large := ""
	for i := range 200 {
		large += configMap(fmt.Sprintf("large-%d", i), "1")
	}
	var all sync.WaitGroup
	var largeDone atomic.Bool
	for range 3 {
		all.Go(func() {
			if _, err := s.client.Plan(t.Context(), s.with(large)); err != nil {
				t.Error(err)
			}
			largeDone.Store(true)
		})
	}
	labtest.Eventually(t, "large plans are under way", func(context.Context) error {
		if slow.count() < 8 {
			return errors.New("not yet")
		}
		return nil
	})
	if _, err := s.client.Plan(t.Context(), s.with(configMap("small", "1"))); err != nil {
		t.Error(err)
	}
	if largeDone.Load() {
		t.Error("the small plan waited for a large one")
	}
	all.Wait()
	if n := slow.peak(); n != 4 {
		t.Errorf("%d requests in flight, want 4", n)
	}
}

// slowly holds every request of a tenant for a moment and counts those under way.
type slowly struct {
	next http.RoundTripper
	mu   sync.Mutex
	now  int
	all  int
	most int
}

func (s *slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.now++
	s.all++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if r.Method == http.MethodPatch {
		time.Sleep(2 * time.Millisecond)
	}
	return s.next.RoundTrip(r)
}

// WrappedRoundTripper lets the connections behind it be closed.
func (s *slowly) WrappedRoundTripper() http.RoundTripper { return s.next }

func (s *slowly) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func (s *slowly) peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Many who ask for the cluster's UID cost one request, for half a minute; an error is not kept.
func TestUIDIsAskedForOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var asked atomic.Int64
	var now atomic.Int64
	p := s.behind(Options{Now: func() time.Time { return time.Unix(now.Load(), 0) }}, func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/namespaces/kube-system") {
			asked.Add(1)
		}
	})
	ask := func() (failed int64) {
		var all sync.WaitGroup
		var errs atomic.Int64
		for range 100 {
			all.Go(func() {
				if uid, err := s.cluster.UID(t.Context()); err != nil || uid == "" {
					errs.Add(1)
				}
			})
		}
		all.Wait()
		return errs.Load()
	}
	s.fault(p, lab.Fault{Mode: lab.Answer, Status: 500})
	if ask() != 100 {
		t.Error("an API server that fails has a UID")
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	for i, wanted := range []int64{1, 1, 2} {
		now.Store(int64(i) * 20)
		if i == 0 {
			asked.Store(0)
		}
		if n := ask(); n != 0 || asked.Load() != wanted {
			t.Errorf("at %d s: %d failures, asked %d times, want %d", now.Load(), n, asked.Load(), wanted)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	now.Store(1000)
	if _, err := s.cluster.UID(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := s.cluster.UID(t.Context()); err != nil {
		t.Errorf("after a cancelled caller: %v", err)
	}
}
