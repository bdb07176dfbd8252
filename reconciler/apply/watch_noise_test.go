package apply

import (
	"fmt"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
)

// What others may write costs no request and is no suspicion; where health may have changed, that alone is said.
func TestNoiseIsNoSuspicion(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	web := deployment("web", "  replicas: 0")
	scaled := deployment("scaled", "  replicas: 1")
	hpa := autoscaler("scaled")
	release := configMap("a", "1") + web + scaled + hpa
	v.settle(release)
	// The autoscaler's first write takes the field over: that is looked at once.
	v.scale("scaled", 2)
	v.caughtUp(scaled)
	want(t, entriesOf(v.look(release, v.suspect())), map[string]string{"Deployment/scaled": Unchanged})
	v.quietNow("left to the autoscaler")
	v.caughtUp(web)
	v.forgetNotices()

	v.patchAs("controller", configMap("a", ""), `{"metadata":{"annotations":{"controller.example/seen":"yes"}}}`)
	v.patchAs("controller", configMap("a", ""), `{"data":{"injected":"1"}}`)
	v.caughtUp(configMap("a", ""))
	v.patchAs("deployer", web, `{"status":{"observedGeneration":1}}`, "status")
	v.patchAs("deployer", web, `{"status":{"conditions":[{"type":"Available","status":"False","reason":"Test"}]}}`, "status")
	v.caughtUp(web)
	v.eventually("status is told", func() bool { return v.told(StatusChanged) > 0 })
	v.patchAs("controller", web, `{"metadata":{"annotations":{"controller.example/seen":"yes"}}}`)
	v.patchAs("kubectl-rollout", web, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`)
	v.caughtUp(web)
	v.scale("scaled", 4)
	v.caughtUp(scaled)
	v.quietNow("noise")
	if n := v.told(Suspect); n != 0 {
		t.Errorf("%d suspicions", n)
	}
	if r := v.requests(); len(r) != 0 {
		t.Errorf("requests: %v", r)
	}
	if n := v.opened(""); n != 0 {
		t.Errorf("%d watches opened", n)
	}
	v.patchAs("kubectl-scale", web, `{"spec":{"replicas":3}}`, "scale")
	p := v.look(release, v.suspect())
	want(t, entriesOf(p), map[string]string{"Deployment/web": Configured})
	if by := entry(t, p, "Deployment/web").By; len(by) != 1 || by[0].Manager != "kubectl-scale" || by[0].Subresource != "scale" {
		t.Errorf("attributed to %+v", by)
	}
}

// Whatever comes first, event or answer: our own write is no suspicion.
func TestOwnWritesAreNoSuspicion(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	const environments, objects = 20, 10
	type env struct {
		d   Desired
		inv Inventory
	}
	list := make([]*env, environments)
	for i := range list {
		list[i] = &env{d: v.desired}
		list[i].d.Environment = fmt.Sprintf("%s-%d", v.ns, i)
	}
	for _, value := range []string{"1", "2", "3"} {
		var all sync.WaitGroup
		for i, e := range list {
			all.Go(func() {
				text := ""
				for n := range objects {
					text += configMap(fmt.Sprintf("own-%d-%d", i, n), value)
				}
				d := e.d
				d.Objects = docs(t, text)
				d.Digests, d.Inventory = digests(d.Objects), e.inv
				p, err := v.client.Plan(t.Context(), d)
				if err != nil {
					t.Error(err)
					return
				}
				refs := []render.Ref{}
				for _, entry := range p.Entries {
					refs = append(refs, entry.Ref)
				}
				v.w.Cover(d.Environment, v.ns, refs)
				changes, err := v.client.Apply(t.Context(), p)
				if err != nil {
					t.Error(err)
				}
				e.inv = e.inv.Merge(changes)
			})
		}
		all.Wait()
		for _, e := range list {
			for _, it := range e.inv {
				v.eventually("vouched for", func() bool { return v.w.vouches(e.d.Environment, it.Ref, it.Digest) })
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, n := range v.notices {
		if n[Suspect] > 0 {
			t.Errorf("%s: %d suspicions", name, n[Suspect])
		}
	}
}

// The mark of an object is the same whether it comes as metadata from a watch or whole in an answer.
func TestMarkIsTheSameFromBothSides(t *testing.T) {
	t.Parallel()
	v, _ := newWatched(t, reader, WatchOptions{})
	release := `---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {"example.org/x": y}, finalizers: ["example.org/f"]}
data: {"key": "<&>", "a.b_c-d": "2"}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: http, port: 80}, {name: ws, port: 81, protocol: TCP}], selector: {app: web}}
` + deployment("web", "  replicas: 0")
	v.apply(release)
	client, err := v.admin.metadataClient("")
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range v.inventory {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion(it.Ref), "kind": it.Ref.Kind, "metadata": map[string]any{"name": it.Ref.Name}}}
		mapping, err := v.admin.mapping(it.Ref)
		if err != nil {
			t.Fatal(err)
		}
		v.eventually("both sides show the same state", func() bool {
			meta, err := client.Resource(mapping.Resource).Namespace(v.ns).Get(t.Context(), it.Ref.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			whole, err := v.at(u).Get(t.Context(), it.Ref.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if meta.GetResourceVersion() != whole.GetResourceVersion() {
				return false
			}
			if markOf(meta) != markOf(whole) {
				t.Errorf("%s: marks differ", it.Ref)
			}
			return true
		})
	}
	v.patchAs("cleaner", configMap("a", ""), `{"metadata":{"finalizers":null}}`)
}

func apiVersion(ref render.Ref) string {
	if ref.Group == "" {
		return ref.Version
	}
	return ref.Group + "/" + ref.Version
}
