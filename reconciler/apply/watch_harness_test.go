package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/render"
)

// reader is an agent that may also list and watch the kinds of these tests in the whole cluster, Secrets excepted.
var reader = lab.Identity{User: "purser-reader"}

// watched is a site whose cluster is watched.
type watched struct {
	*site
	w *Watcher

	mu      sync.Mutex
	notices map[string]map[Notice]int // by environment
	watches []string                  // "user path" of requests to watch
	others  []string                  // "method path" of all other requests to objects, as the tenant
	begun   int                       // of all requests
}

// newWatched watches the site's cluster as the identity, through a proxy that notes requests.
func newWatched(t *testing.T, as lab.Identity, o WatchOptions) (*watched, *lab.Proxy) {
	v := &watched{site: newSite(t), notices: map[string]map[Notice]int{}}
	v.grantReader()
	return v, v.watchAs(as, o)
}

func (v *watched) watchAs(as lab.Identity, o WatchOptions) *lab.Proxy {
	v.t.Helper()
	p, kubeconfig, err := v.lab.APIProxy(as, v.note)
	if err != nil {
		v.t.Fatal(err)
	}
	cfg, err := RESTConfig(kubeconfig, "", false)
	if err != nil {
		v.t.Fatal(err)
	}
	v.cluster = open(v.t, cfg, Options{})
	v.client = v.tenant(v.cluster)
	v.run(o)
	v.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			v.t.Error(err)
		}
	})
	return p
}

// run makes the watcher of the site's cluster and runs it until the test ends.
func (v *watched) run(o WatchOptions) {
	o.Notify = func(env string, n Notice) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.notices[env] == nil {
			v.notices[env] = map[Notice]int{}
		}
		v.notices[env][n]++
	}
	if o.retry == 0 {
		o.retry = 20 * time.Millisecond
	}
	w := v.cluster.NewWatcher(o)
	v.w = w
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	v.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				v.t.Errorf("watcher: %v", err)
			}
		case <-time.After(labtest.Patience):
			v.t.Error("watcher does not end")
		}
	})
}

func (v *watched) note(r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begun++
	user := r.Header.Get("Impersonate-User")
	if r.URL.Query().Get("watch") == "true" {
		v.watches = append(v.watches, user+" "+r.URL.Path)
	} else if user != "" {
		v.others = append(v.others, r.Method+" "+r.URL.Path)
	}
}

func (v *watched) grantReader() {
	for _, doc := range docs(v.t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: purser-reader-test}
rules:
- {apiGroups: [""], resources: [users], verbs: [impersonate]}
- {apiGroups: [""], resources: [configmaps, services, serviceaccounts, namespaces], verbs: [list, watch]}
- {apiGroups: [""], resources: [namespaces], resourceNames: [kube-system], verbs: [get]}
- {apiGroups: [apps], resources: [deployments], verbs: [list, watch]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, watch]}
- {apiGroups: [watch.example], resources: ["*"], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: purser-reader-test}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: purser-reader-test}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: purser-reader}]
`) {
		_, err := v.at(doc).Create(v.t.Context(), doc, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			v.t.Fatalf("create %s: %v", render.RefOf(doc), err)
		}
	}
}

// cover covers the inventory.
func (v *watched) cover() {
	v.w.Cover(v.ns, v.ns, refsOf(v.inventory))
}

func refsOf(inv Inventory) []render.Ref {
	refs := make([]render.Ref, len(inv))
	for i, it := range inv {
		refs[i] = it.Ref
	}
	return refs
}

// settle applies a release, covers it and waits until the watcher vouches for all of it.
func (v *watched) settle(release string) {
	v.t.Helper()
	v.apply(release)
	v.cover()
	v.vouched()
}

func (v *watched) vouched() {
	v.t.Helper()
	labtest.Eventually(v.t, "watcher vouches for everything", func(context.Context) error {
		for _, it := range v.inventory {
			if !v.w.vouches(v.ns, it.Ref, it.Digest) {
				return fmt.Errorf("not for %s; unwatched: %v; suspects: %v", it.Ref, v.w.Unwatched(), v.w.Suspects(v.ns))
			}
		}
		return nil
	})
}

// caughtUp waits until the watcher has seen the live state of an object.
func (v *watched) caughtUp(object string) {
	v.t.Helper()
	labtest.Eventually(v.t, "watcher has seen the live state", func(context.Context) error {
		live := v.live(object)
		v.w.mu.Lock()
		defer v.w.mu.Unlock()
		for _, o := range v.w.environments[v.ns].objects {
			if o.ref.Kind != live.GetKind() || o.ref.Name != live.GetName() {
				continue
			}
			if s := v.w.streamOf(o); s != nil && s.seen[o.name()].version == live.GetResourceVersion() {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// suspect waits for suspects and returns their names.
func (v *watched) suspect() map[string]bool {
	v.t.Helper()
	only := map[string]bool{}
	labtest.Eventually(v.t, "there is a suspect", func(context.Context) error {
		refs := v.w.Suspects(v.ns)
		for _, ref := range refs {
			only[ref.Key()] = true
		}
		if len(refs) == 0 || v.told(Suspect) == 0 {
			return fmt.Errorf("suspects %v, notices %d, unwatched %v", refs, v.told(Suspect), v.w.Unwatched())
		}
		return nil
	})
	return only
}

func (v *watched) told(n Notice) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.notices[v.ns][n]
}

func (v *watched) forgetNotices() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notices = map[string]map[Notice]int{}
	v.others = nil
	v.watches = nil
}

// requests are those the tenant made, watches and discovery excepted.
func (v *watched) requests() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.others...)
}

func (v *watched) opened(part string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, w := range v.watches {
		if strings.Contains(w, part) {
			n++
		}
	}
	return n
}

// look plans the suspects alone.
func (v *watched) look(release string, only map[string]bool) *Plan {
	v.t.Helper()
	d := v.with(release)
	d.Only = only
	p, err := v.client.Plan(v.t.Context(), d)
	if err != nil {
		v.t.Fatalf("plan: %v", err)
	}
	return p
}

// quietNow expects that nothing is suspected.
func (v *watched) quietNow(what string) {
	v.t.Helper()
	if refs := v.w.Suspects(v.ns); len(refs) > 0 {
		v.t.Errorf("%s: suspects %v", what, refs)
	}
}

func (v *watched) eventually(what string, done func() bool) {
	v.t.Helper()
	labtest.Eventually(v.t, what, func(context.Context) error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}
