package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/purser-gitops/purser/render"
)

// hpaManager is the field manager of the horizontal pod autoscaler's controller; it writes through the scale subresource.
const hpaManager = "kube-controller-manager"

// maxAutoscalers bounds how many autoscalers of one namespace are looked at.
const maxAutoscalers = 5000

var replicasPath = fieldpath.MakePathOrDie("spec", "replicas")

// autoscalers knows which workloads a HorizontalPodAutoscaler scales: those of the release, and, asked for only where a
// workload bears an autoscaler's traces, those in the cluster.
type autoscalers struct {
	desired map[string]bool // key of a workload → named by an autoscaler of the release

	mu   sync.Mutex
	live map[string]map[string]bool // namespace → keys of workloads; nil where it may not be listed
}

func newAutoscalers(d Desired) *autoscalers {
	return &autoscalers{desired: scaledBy(d.Objects, d.Namespace), live: map[string]map[string]bool{}}
}

// scaledBy gives the keys of the workloads that autoscalers among the objects name. namespace is that of objects without one.
func scaledBy(objects []*unstructured.Unstructured, namespace string) map[string]bool {
	keys := map[string]bool{}
	for _, u := range objects {
		target, ok, _ := unstructured.NestedStringMap(u.Object, "spec", "scaleTargetRef")
		if !ok || !isAutoscaler(render.RefOf(u)) {
			continue
		}
		gv, err := schema.ParseGroupVersion(target["apiVersion"])
		if err != nil {
			continue
		}
		ref := render.Ref{Group: gv.Group, Kind: target["kind"], Namespace: cmp.Or(u.GetNamespace(), namespace), Name: target["name"]}
		keys[ref.Key()] = true
	}
	return keys
}

func isAutoscaler(ref render.Ref) bool {
	return ref.Group == "autoscaling" && ref.Kind == "HorizontalPodAutoscaler"
}

// isLive says whether an autoscaler in the cluster scales the workload. Where autoscalers may not be listed the answer
// is yes: leaving replicas alone never takes a workload down.
func (a *autoscalers) isLive(ctx context.Context, c *Client, workload render.Ref) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys, asked := a.live[workload.Namespace]
	if !asked {
		var err error
		if keys, err = c.listAutoscalers(ctx, workload.Namespace); err != nil {
			return false, err
		}
		a.live[workload.Namespace] = keys
	}
	return keys == nil || keys[workload.Key()], nil
}

func (c *Client) listAutoscalers(ctx context.Context, namespace string) (map[string]bool, error) {
	gvr := schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	list, err := c.endpoint(gvr, namespace).list(ctx, metav1.ListOptions{Limit: maxAutoscalers})
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(c.call("list", render.Ref{Group: gvr.Group, Version: gvr.Version, Kind: "HorizontalPodAutoscaler", Namespace: namespace, Name: "*"}), err)
	}
	if list.GetContinue() != "" {
		return nil, errors.New("namespace " + namespace + " has too many autoscalers")
	}
	items := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		items[i] = &list.Items[i]
	}
	return scaledBy(items, namespace), nil
}

// leaveReplicas adapts spec.replicas of the object to apply where an autoscaler decides it, and says so in words.
// While we still hold the field, leaving it out would reset it to its default, so its live value is repeated; the
// autoscaler's next write takes the field over, and from then on it is left out. A new workload starts with what Git says.
func (c *Client) leaveReplicas(ctx context.Context, t target, live, object *unstructured.Unstructured) (string, error) {
	if live == nil {
		return "", nil
	}
	if _, ok, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", "replicas"); !ok {
		return "", nil
	}
	by, err := c.scaler(ctx, t, live, object)
	if err != nil || by == "" {
		return "", err
	}
	ours, err := owned(live, func(e metav1.ManagedFieldsEntry) bool { return isOurs(e) || migrates(e) })
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.ref, err)
	}
	if ours.Has(replicasPath) {
		replicas, _, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", "replicas")
		if err := unstructured.SetNestedField(object.Object, replicas, "spec", "replicas"); err != nil {
			return "", fmt.Errorf("%s: %w", t.ref, err)
		}
	} else {
		unstructured.RemoveNestedField(object.Object, "spec", "replicas")
	}
	return "spec.replicas is left to " + by, nil
}

// scaler names what decides the replicas of a live workload, "" when Git does.
func (c *Client) scaler(ctx context.Context, t target, live, object *unstructured.Unstructured) (string, error) {
	if t.scalers.desired[t.ref.Key()] {
		return "the HorizontalPodAutoscaler of the release", nil
	}
	if _, ok, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "replicas"); !ok {
		return "", nil
	}
	for _, e := range live.GetManagedFields() {
		if e.Subresource != "scale" || takeOver(e.Manager) || e.Manager == fieldManager || e.FieldsV1 == nil {
			continue
		}
		set, err := owned(live, func(x metav1.ManagedFieldsEntry) bool { return x.Manager == e.Manager && x.Subresource == "scale" })
		if err != nil {
			return "", fmt.Errorf("%s: %w", t.ref, err)
		}
		if !set.Has(replicasPath) {
			continue
		}
		if e.Manager != hpaManager {
			return "the autoscaler " + e.Manager, nil
		}
		if is, err := t.scalers.isLive(ctx, c, t.ref); err != nil || is {
			return "a HorizontalPodAutoscaler", err
		}
	}
	return "", nil
}
