package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/render"
)

// behind puts the site's client behind a fault proxy.
func (s *site) behind(o Options, onRequest func(*http.Request)) *lab.Proxy {
	s.t.Helper()
	p, kubeconfig, err := s.lab.APIProxy(agent, onRequest)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			s.t.Error(err)
		}
	})
	cfg, err := RESTConfig(kubeconfig, "", false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cluster = open(s.t, cfg, o)
	s.client = s.tenant(s.cluster)
	return p
}

func (s *site) fault(p *lab.Proxy, f lab.Fault) {
	s.t.Helper()
	if err := p.Set(f); err != nil {
		s.t.Fatal(err)
	}
}

// An API server that does not answer well is tried again, and never taken for an empty cluster.
func TestUnknownLiveStateIsAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.behind(Options{requestTimeout: 500 * time.Millisecond}, nil)
	s.apply(configMap("a", "1") + configMap("b", "1"))
	for name, f := range map[string]lab.Fault{
		"500":    {Mode: lab.Answer, Status: 500},
		"503":    {Mode: lab.Answer, Status: 503},
		"429":    {Mode: lab.Answer, Status: 429},
		"401":    {Mode: lab.Answer, Status: 401},
		"hang":   {Mode: lab.Hang},
		"refuse": {Mode: lab.Refuse},
		"cut":    {Mode: lab.CutBefore},
		"gets":   {Mode: lab.Answer, Status: 500, Match: func(r *http.Request) bool { return r.Method == http.MethodGet }},
	} {
		s.fault(p, f)
		start := time.Now()
		plan, err := s.client.Plan(t.Context(), s.with(configMap("a", "2")))
		if _, stalled := asStalled(err); err == nil || stalled {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		if changes, err := s.client.Apply(t.Context(), plan); err == nil {
			t.Errorf("%s: applied %v", name, changes)
		}
		if _, err := s.client.Live(t.Context(), []render.Ref{s.inventory[0].Ref}); err == nil {
			t.Errorf("%s: live state was read", name)
		}
		if err := p.Clear(); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s.apply(configMap("a", "2")+configMap("b", "1")), map[string]string{"ConfigMap/a": Configured, "ConfigMap/b": Unchanged})
}

// Cut in the middle of an apply: every object is accounted for, and what may exist is in the inventory.
func TestOutageInTheMiddleOfAnApply(t *testing.T) {
	s := newSite(t)
	p := s.behind(Options{requestTimeout: time.Second, concurrency: 1}, nil)
	release := configMap("a", "1") + configMap("b", "1") + configMap("c", "1") + deployment("web", "")
	plan := s.plan(release)
	// The API server does the second write, and its answer is lost.
	var writes atomic.Int64
	s.fault(p, lab.Fault{Mode: lab.CutAfter, Match: func(r *http.Request) bool {
		return r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && writes.Add(1) >= 2
	}})
	changes, err := s.client.Apply(t.Context(), plan)
	if _, stalled := asStalled(err); err == nil || stalled {
		t.Fatalf("apply: %v", err)
	}
	if len(changes) != 4 {
		t.Fatalf("changes: %v", changes)
	}
	inv := s.inventory.Merge(changes)
	for _, u := range docs(t, release) {
		if live, err := s.at(u).Get(t.Context(), u.GetName(), metav1.GetOptions{}); err == nil && !holds(inv, render.RefOf(live)) {
			t.Errorf("%s exists and is not in the inventory", u.GetName())
		}
	}
	want(t, actions(changes), map[string]string{"ConfigMap/a": Created, "ConfigMap/b": Created, "Deployment/web": Skipped})
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	s.inventory = inv
	s.apply(release)
	s.unchanged(release)
}

func TestCancelInTheMiddleOfAnApply(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writes atomic.Int64
	s.behind(Options{concurrency: 1}, func(r *http.Request) {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && writes.Add(1) == 2 {
			cancel()
		}
	})
	plan := s.plan(configMap("a", "1") + configMap("b", "1") + configMap("c", "1") + deployment("web", ""))
	changes, err := s.client.Apply(ctx, plan)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("apply: %v", err)
	}
	if len(changes) != 4 || changes[0].Error != "" || changes[1].Error == "" || changes[2].Error == "" || changes[3].Error == "" || changes[0].Action != Created {
		t.Errorf("changes: %+v", changes)
	}
	inv := s.inventory.Merge(changes)
	if !holds(inv, changes[0].Ref) || !holds(inv, changes[1].Ref) || holds(inv, changes[3].Ref) {
		t.Errorf("inventory: %v", inv)
	}
}

func TestExpiredCredentials(t *testing.T) {
	s := newSite(t)
	old := open(t, labtest.ConfigFor(t, s.lab, lab.Identity{User: agent.User, NotAfter: time.Now().Add(-time.Hour)}), Options{})
	_, err := s.tenant(old).Plan(t.Context(), s.with(configMap("a", "1")))
	if _, stalled := asStalled(err); err == nil || stalled {
		t.Fatalf("plan: %v", err)
	}
	wantText(t, "error", err.Error(), "credentials", "expired")
}

// An unchanged release costs one read and one dry run per object and asks for no kinds again.
func TestCostOfNoChange(t *testing.T) {
	s := newSite(t)
	var seen [3]atomic.Int64
	s.behind(Options{}, func(r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/namespaces/"):
			seen[0].Add(1)
		default:
			seen[1].Add(1)
		}
		if r.Header.Get("Impersonate-User") != userPrefix+s.ns && strings.Contains(r.URL.Path, "/namespaces/") {
			seen[2].Add(1)
		}
	})
	release := configMap("a", "1") + configMap("b", "1") + deployment("web", "  replicas: 2")
	s.apply(release)
	labtest.Eventually(t, "controller has seen the deployment", func(context.Context) error {
		if _, ok := s.live(deployment("web", "")).GetAnnotations()["deployment.kubernetes.io/revision"]; !ok {
			return errors.New("not yet")
		}
		return nil
	})
	s.unchanged(release)
	seen[0].Store(0)
	seen[1].Store(0)
	s.apply(release)
	if requests, discovery := seen[0].Load(), seen[1].Load(); requests != 6 || discovery != 0 {
		t.Errorf("no change costs %d requests and %d discoveries", requests, discovery)
	}
	if n := seen[2].Load(); n != 0 {
		t.Errorf("%d requests were not impersonated", n)
	}
}

// Somebody claims an object in the instant between our last look at it and its adoption.
func TestAdoptionIsOfTheObjectThatWasRead(t *testing.T) {
	s := newSite(t)
	s.create(configMap("a", "old"))
	var once atomic.Bool
	s.behind(Options{}, func(r *http.Request) {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && r.Header.Get("Content-Type") == "application/apply-patch+yaml" && once.CompareAndSwap(false, true) {
			s.patchAs("kubectl-label", configMap("a", ""), fmt.Sprintf(`{"metadata":{"labels":{%q:"other"}}}`, labelEnvironment))
		}
	})
	p := s.plan(configMap("a", "new"))
	_, err := s.client.Apply(t.Context(), p)
	if _, stalled := asStalled(err); !stalled || !once.Load() {
		t.Fatalf("apply: %v", err)
	}
	wantText(t, "error", err.Error(), "belongs to environment other")
	if got := s.live(configMap("a", "")); got.GetLabels()[labelEnvironment] != "other" {
		t.Errorf("object was taken: %v", got.GetLabels())
	}
}

// An autoscaler writes in the instant between our last look and a write with force: its number stays.
func TestForceIsForTheObjectThatWasRead(t *testing.T) {
	s := newSite(t)
	hpa := autoscaler("web")
	s.apply(deployment("web", "  replicas: 3\n  minReadySeconds: 1") + hpa)
	s.patchAs("lens", deployment("web", ""), `{"spec":{"minReadySeconds":7}}`)
	var once atomic.Bool
	s.behind(Options{}, func(r *http.Request) {
		if r.URL.Query().Get("dryRun") == "" && r.URL.Query().Get("force") == "true" && once.CompareAndSwap(false, true) {
			s.scale("web", 5)
		}
	})
	s.apply(deployment("web", "  replicas: 3\n  minReadySeconds: 1") + hpa)
	if n := s.replicas("web"); n != 5 || !once.Load() {
		t.Errorf("replicas are %d, written with force: %v", n, once.Load())
	}
}

// Somebody takes our label away in the instant between our last look and the deletion.
func TestDeletionIsOfTheObjectThatWasRead(t *testing.T) {
	s := newSite(t)
	s.apply(configMap("a", "1") + configMap("b", "1"))
	var once atomic.Bool
	s.behind(Options{}, func(r *http.Request) {
		if r.Method == http.MethodDelete && once.CompareAndSwap(false, true) {
			s.patchAs("kubectl-label", configMap("b", ""), fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, labelEnvironment))
		}
	})
	want(t, s.apply(configMap("a", "1")), map[string]string{"ConfigMap/b": Skipped})
	if s.live(configMap("b", "")) == nil || !once.Load() || len(s.inventory) != 1 {
		t.Errorf("object was deleted, inventory %v", s.inventory)
	}
}
