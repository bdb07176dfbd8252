package apply

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// endpoint is a kind and namespace on the API server, within the tenant's bound on requests in flight. Requests wait in the
// order in which they come, so a large plan does not hold up the tenant's others for longer than their share.
type endpoint struct {
	client *Client
	at     dynamic.ResourceInterface
}

func (c *Client) endpoint(gvr schema.GroupVersionResource, namespace string) endpoint {
	if namespace == "" {
		return endpoint{client: c, at: c.dyn.Resource(gvr)}
	}
	return endpoint{client: c, at: c.dyn.Resource(gvr).Namespace(namespace)}
}

func (e endpoint) get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	if err := e.client.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer e.client.slots.Release(1)
	return e.at.Get(ctx, name, metav1.GetOptions{})
}

func (e endpoint) patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions) (*unstructured.Unstructured, error) {
	if err := e.client.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer e.client.slots.Release(1)
	return e.at.Patch(ctx, name, pt, data, o)
}

func (e endpoint) delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	if err := e.client.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer e.client.slots.Release(1)
	return e.at.Delete(ctx, name, o)
}

func (e endpoint) list(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	if err := e.client.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer e.client.slots.Release(1)
	return e.at.List(ctx, o)
}
