package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
)

// event is one change of an object of a managed kind.
type event struct {
	at       time.Time // when it arrived here
	resource schema.GroupVersionResource
	deleted  bool
	object   metav1.Object // *metav1.PartialObjectMetadata or *unstructured.Unstructured
}

// follower watches the managed kinds in the whole cluster with one watch each, and no cache.
type follower struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu  sync.Mutex
	err error // why a watch ended early
}

// watcher is a watch of one resource from now on.
type watcher func(context.Context, schema.GroupVersionResource) (watch.Interface, error)

// metadataOf watches no more than metadata.
func (c *cluster) metadataOf() (watcher, error) {
	client, err := metadata.NewForConfigAndClient(c.config, c.admin)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, resource schema.GroupVersionResource) (watch.Interface, error) {
		list, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return nil, err
		}
		return client.Resource(resource).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	}, nil
}

// wholeOf watches whole objects.
func wholeOf(client dynamic.Interface) watcher {
	return func(ctx context.Context, resource schema.GroupVersionResource) (watch.Interface, error) {
		list, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return nil, err
		}
		return client.Resource(resource).Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	}
}

// follow passes on every event from now on, of one kind in turn and of several at the same time. Stop it in any case.
func follow(ctx context.Context, open watcher, each func(event)) (*follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{cancel: cancel}
	for _, k := range managed {
		w, err := open(ctx, k.resource)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch %s: %w", k.resource.Resource, err), f.stop())
		}
		f.running.Go(func() {
			defer w.Stop()
			for e := range w.ResultChan() {
				object, known := e.Object.(metav1.Object)
				if !known {
					break
				}
				each(event{at: time.Now(), resource: k.resource, deleted: e.Type == watch.Deleted, object: object})
			}
			if ctx.Err() == nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.err = errors.Join(f.err, fmt.Errorf("the watch of %s ended early", k.resource.Resource))
			}
		})
	}
	return f, nil
}

// problem is why a watch ended before it was stopped: events may have been missed.
func (f *follower) problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// stop ends the watches and waits for them. Its error says that events may have been missed.
func (f *follower) stop() error {
	f.cancel()
	f.running.Wait()
	return f.problem()
}
