package apply

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") == "true" }

// An edit and a deletion while the API server cannot be reached are found when it can, and a watch that was cut goes on
// where it was without loading everything again.
func TestDriftWhileTheWatchIsCut(t *testing.T) {
	t.Parallel()
	v, p := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1") + configMap("b", "1") + configMap("c", "1")
	v.settle(release)
	v.forgetNotices()
	v.fault(p, lab.Fault{Mode: lab.Refuse})
	v.eventually("nobody vouches", func() bool { return !v.w.vouches(v.ns, v.inventory[2].Ref, v.inventory[2].Digest) })
	v.patchAs("kubectl-edit", configMap("a", ""), `{"data":{"key":"2"}}`)
	if err := v.at(docs(t, configMap("b", ""))[0]).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	v.eventually("both are suspects", func() bool { return len(v.w.Suspects(v.ns)) == 2 })
	only := v.suspect()
	want(t, entriesOf(v.look(release, only)), map[string]string{"ConfigMap/a": Configured, "ConfigMap/b": Created})
	v.apply(release)
	v.vouched()
}

// 410 Gone, to a watch that wants to go on and to one that loads: everything is loaded again and compared.
func TestDriftBehindGone(t *testing.T) {
	t.Parallel()
	v, p := newWatched(t, reader, WatchOptions{})
	release := configMap("a", "1") + configMap("b", "1")
	v.settle(release)
	v.fault(p, lab.Fault{Mode: lab.Answer, Status: http.StatusGone, Match: isWatch})
	v.forgetNotices()
	p.Cut()
	v.patchAs("kubectl-edit", configMap("a", ""), `{"data":{"key":"2"}}`)
	if err := v.at(docs(t, configMap("b", ""))[0]).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v.eventually("watch was refused some times", func() bool { return v.opened("configmaps") >= 3 })
	if n := v.opened("configmaps"); n > 40 {
		t.Errorf("%d tries to watch: no back-off", n)
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	v.eventually("both are suspects", func() bool { return len(v.w.Suspects(v.ns)) == 2 })
	v.apply(release)
	v.vouched()
}

// An API server that cannot stream the first state is asked for a list instead.
func TestFirstStateByList(t *testing.T) {
	t.Parallel()
	v := &watched{site: newSite(t), notices: map[string]map[Notice]int{}}
	v.grantReader()
	p := v.watchAs(reader, WatchOptions{})
	var refused atomic.Bool
	v.fault(p, lab.Fault{Mode: lab.Answer, Status: http.StatusUnprocessableEntity, Match: func(r *http.Request) bool {
		streams := isWatch(r) && r.URL.Query().Get("sendInitialEvents") == "true"
		refused.Store(refused.Load() || streams)
		return streams
	}})
	release := configMap("a", "1")
	v.settle(release)
	v.patchAs("kubectl-edit", release, `{"data":{"key":"2"}}`)
	v.suspect()
	if !refused.Load() {
		t.Error("no watch asked for its first state")
	}
}

// A connection that is dead without anybody having said so is given up when bookmarks stay away.
func TestSilentWatchIsOpenedAnew(t *testing.T) {
	t.Parallel()
	v, p := newWatched(t, reader, WatchOptions{silent: 200 * time.Millisecond})
	release := configMap("a", "1")
	v.settle(release)
	v.fault(p, lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool { return isWatch(r) && strings.Contains(r.URL.Path, "configmaps") }})
	v.patchAs("kubectl-edit", release, `{"data":{"key":"2"}}`)
	before := v.opened("configmaps")
	v.eventually("watch is opened anew", func() bool { return v.opened("configmaps") > before })
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	v.suspect()
}

// The API server itself restarts, and objects change before the watch is back.
func TestDriftAcrossARestartOfTheAPIServer(t *testing.T) {
	t.Parallel()
	own := labtest.Start(t, lab.APIServer)
	v := &watched{site: siteIn(t, &own.Endpoints), notices: map[string]map[Notice]int{}}
	v.grantReader()
	v.cluster = open(t, labtest.ConfigFor(t, v.lab, reader), Options{})
	v.client = v.tenant(v.cluster)
	v.run(WatchOptions{})
	release := configMap("a", "1") + configMap("b", "1") + deployment("web", "  replicas: 0")
	v.settle(release)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := own.Restart(ctx, lab.APIServer); err != nil {
		t.Fatal(err)
	}
	v.patchAs("kubectl-edit", configMap("a", ""), `{"data":{"key":"2"}}`)
	if err := v.at(docs(t, configMap("b", ""))[0]).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v.eventually("both are suspects", func() bool { return len(v.w.Suspects(v.ns)) == 2 })
	v.apply(release)
	v.vouched()
}

// Nothing is permitted at first: it is said, and not asked for in a hurry. Once the tenant may watch it is watched by
// namespace, and once the agent may, in the whole cluster.
func TestRightsThatComeLater(t *testing.T) {
	t.Parallel()
	v := &watched{site: newSite(t), notices: map[string]map[Notice]int{}}
	v.grantReader()
	as := lab.Identity{User: "purser-" + v.ns}
	v.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: impersonate-%[1]s}
rules: [{apiGroups: [""], resources: [users], resourceNames: ["purser:tenant:%[1]s", "purser:tenant:lesser-%[1]s"], verbs: [impersonate]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: impersonate-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: impersonate-%[1]s}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: %[2]q}]
`, v.ns, as.User))
	v.watchAs(as, WatchOptions{denied: 300 * time.Millisecond})
	release := configMap("a", "1")
	v.apply(release)
	v.w.Cover(v.ns, "lesser-"+v.ns, refsOf(v.inventory))
	key := "configmaps in " + v.ns
	v.eventually("refusal is said", func() bool { return strings.Contains(v.w.Unwatched()[key], "cannot") })
	if n := v.opened("configmaps"); n > 10 {
		t.Errorf("asked %d times", n)
	}
	if len(v.w.Suspects(v.ns)) != 0 || v.w.vouches(v.ns, v.inventory[0].Ref, v.inventory[0].Digest) {
		t.Error("something is known of what is not watched")
	}
	v.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: lesser, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: "purser:tenant:lesser-%[1]s"}]
`, v.ns))
	v.vouched()
	if len(v.w.Unwatched()) != 0 {
		t.Errorf("unwatched: %v", v.w.Unwatched())
	}
	v.patchAs("lens", release, `{"data":{"key":"2"}}`)
	v.suspect()
	v.apply(release)
	v.create(fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reads-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: purser-reader-test}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: %[2]q}]
`, v.ns, as.User))
	v.eventually("one watch for the cluster takes over", func() bool {
		v.w.mu.Lock()
		defer v.w.mu.Unlock()
		for _, k := range v.w.kinds {
			if k.wide == nil || !k.wide.synced || len(k.narrow) > 0 {
				return false
			}
		}
		return true
	})
	v.vouched()
	v.patchAs("lens", release, `{"data":{"key":"3"}}`)
	v.suspect()
}

// Secrets are watched by namespace as the tenant, whatever the agent may do; everything else once for the cluster.
func TestSecretsAreWatchedAsTheTenant(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	secret := "---\n{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: hush-hush}}\n"
	release := configMap("a", "1") + secret
	v.settle(release)
	v.patchAs("lens", secret, `{"stringData":{"password":"other"}}`)
	v.suspect()
	p := v.plan(release)
	if by := entry(t, p, "Secret/s").By; len(by) != 1 || by[0].Manager != "lens" {
		t.Errorf("attributed to %+v", by)
	}
	if text := show(p); strings.Contains(text, "hush") || strings.Contains(text, "aHVzaC1odXNo") {
		t.Errorf("a Secret's value got out: %s", text)
	}
	for part, n := range map[string]int{
		"/secrets": 1,
		userPrefix + v.ns + " /api/v1/namespaces/" + v.ns + "/secrets": 1,
		"/configmaps":         1,
		" /api/v1/configmaps": 1,
	} {
		if got := v.opened(part); got != n {
			t.Errorf("%d watches of %q, want %d: %v", got, part, n, v.watches)
		}
	}
}

// A kind that goes away and comes back is watched again, and asked for in between without haste.
func TestKindThatGoesAndComesBack(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{denied: 500 * time.Millisecond})
	v.everywhere()
	plural := "w" + strings.ReplaceAll(v.ns[len(v.ns)-6:], "-", "x")
	kind := strings.ToUpper(plural[:1]) + plural[1:]
	crd := definition(plural, kind, "watch.example", "Namespaced")
	object := fmt.Sprintf("---\napiVersion: watch.example/v1\nkind: %s\nmetadata: {name: one}\nspec: {size: 1}\n", kind)
	v.settle(crd + object)
	v.patchAs("lens", object, `{"spec":{"size":2}}`)
	v.suspect()
	v.apply(crd + object)
	v.vouched()
	v.forgetNotices()
	name := plural + ".watch.example"
	if err := v.at(docs(t, crd)[0]).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v.eventually("both are suspects", func() bool { return len(v.w.Suspects(v.ns)) == 2 || v.told(Suspect) > 0 && len(v.w.Missing(v.ns)) > 0 })
	v.eventually("it is said", func() bool { return len(v.w.Unwatched()) > 0 })
	if n := v.opened(plural); n > 20 {
		t.Errorf("asked %d times", n)
	}
	v.eventually("definition is gone", func() bool { return v.live(crd) == nil })
	v.apply(crd + object)
	v.vouched()
	v.patchAs("lens", object, `{"spec":{"size":3}}`)
	v.suspect()
}
