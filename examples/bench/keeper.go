package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// bareNamespaces is the most namespaces of a bare keeper; each has one object of each kind.
const bareNamespaces = 100

// bareKeeper does the least that keeps objects as they are: it watches, and writes back what it sees changed, with one
// request each. It has no rights to check, no plan to make and nothing to write down.
type bareKeeper struct {
	cluster    *cluster
	namespaces []string

	mu       sync.Mutex
	kept     map[objectKey]*unstructured.Unstructured // as they are to be; nil after the end
	writing  map[objectKey]bool
	detected map[objectKey]time.Time // when a change was first seen
	problem  error
	writes   sync.WaitGroup
}

// newBareKeeper makes namespaces of its own and fills them with objects like the estate's, which bear no mark.
func (w *world) newBareKeeper(ctx context.Context) (*bareKeeper, error) {
	b := &bareKeeper{
		cluster: w.cluster, kept: map[objectKey]*unstructured.Unstructured{},
		writing: map[objectKey]bool{}, detected: map[objectKey]time.Time{},
	}
	for i, p := range w.estate.places {
		if i == bareNamespaces {
			break
		}
		namespace := fmt.Sprintf("bare-keeper-%d", i)
		b.namespaces = append(b.namespaces, namespace)
		if err := w.cluster.createNamespace(ctx, namespace); err != nil {
			return nil, err
		}
		objects, err := w.estate.objects(p)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			o.SetNamespace(namespace)
			body, err := json.Marshal(o.Object)
			if err != nil {
				return nil, err
			}
			if err := w.cluster.applyOne(ctx, keyOf(o), body); err != nil {
				return nil, err
			}
		}
	}
	return b, b.remember(ctx)
}

// remember waits until the controllers are done with the Deployments, and keeps every object as it is then.
func (b *bareKeeper) remember(ctx context.Context) error {
	return until(ctx, 2*time.Minute, 500*time.Millisecond, func() error {
		for _, namespace := range b.namespaces {
			for _, k := range managed {
				key := objectKey{k.resource, namespace, k.name}
				if b.kept[key] != nil {
					continue
				}
				o, err := b.cluster.dynamic.Resource(k.resource).Namespace(namespace).Get(ctx, k.name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); k.kind == "Deployment" && seen == 0 {
					return fmt.Errorf("%s is not seen by its controller yet", key)
				}
				b.kept[key] = o
			}
		}
		return nil
	})
}

// see writes an object back that is not as it is to be.
func (b *bareKeeper) see(ctx context.Context, e event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := e.key()
	kept := b.kept[key]
	if kept == nil {
		return
	}
	if !e.deleted && asBefore(e.object.(*unstructured.Unstructured), kept) {
		b.writing[key] = false
		return
	}
	if b.detected[key].IsZero() {
		b.detected[key] = e.at
	}
	if b.writing[key] {
		return
	}
	b.writing[key] = true
	b.writes.Go(func() {
		if err := b.write(ctx, key, kept, e.deleted); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.problem = errors.Join(b.problem, fmt.Errorf("write %s back: %w", key, err))
		}
	})
}

func (b *bareKeeper) write(ctx context.Context, key objectKey, kept *unstructured.Unstructured, create bool) error {
	objects := b.cluster.dynamic.Resource(key.resource).Namespace(key.namespace)
	o := kept.DeepCopy()
	o.SetResourceVersion("")
	o.SetManagedFields(nil)
	if !create {
		_, err := objects.Update(ctx, o, metav1.UpdateOptions{FieldManager: benchManager})
		if apierrors.IsConflict(err) { // a controller wrote at the same time
			_, err = objects.Update(ctx, o, metav1.UpdateOptions{FieldManager: benchManager})
		}
		return err
	}
	o.SetUID("")
	for _, given := range []string{"clusterIP", "clusterIPs"} {
		unstructured.RemoveNestedField(o.Object, "spec", given)
	}
	_, err := objects.Create(ctx, o, metav1.CreateOptions{FieldManager: benchManager})
	return err
}

// end lets go of the objects, and says of edits when they were seen.
func (b *bareKeeper) end(edits []made) error {
	b.mu.Lock()
	b.kept = nil
	for i := range edits {
		edits[i].detected = b.detected[edits[i].key]
	}
	b.mu.Unlock()
	b.writes.Wait()
	return b.problem
}
