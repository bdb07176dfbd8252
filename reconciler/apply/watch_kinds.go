package apply

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/purser-gitops/purser/render"
)

// kind is how the objects of one kind are watched: by one wide watch, or, where that is refused, by narrow ones.
type kind struct {
	gk      schema.GroupKind
	mapping *meta.RESTMapping
	err     error // why there is no mapping
	retry   time.Time
	pause   time.Duration

	wide   *stream // in the whole cluster, as the agent; nil for Secrets
	narrow map[place]*stream
}

// maxDenied is the longest pause before asking again for what was refused or is not served.
const maxDenied = 15 * time.Minute

// servedPause is the shortest time between two questions for a kind that is not served.
const servedPause = 5 * time.Second

// arrange starts the watches that are needed and ends the others. It returns when to look again.
func (w *Watcher) arrange(ctx context.Context) time.Duration {
	w.resolve(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := map[schema.GroupKind]map[place]bool{}
	declared := map[schema.GroupVersionKind]bool{}
	for n := range w.needs {
		if wanted[n.kind] == nil {
			wanted[n.kind] = map[place]bool{}
		}
		wanted[n.kind][n.place] = true
		declared[n.kind.WithVersion(n.version)] = true
	}
	next := w.o.silent / 4
	for gk, k := range w.kinds {
		places := wanted[gk]
		if len(places) == 0 {
			k.end()
			delete(w.kinds, gk)
			continue
		}
		if k.mapping == nil {
			next = min(next, max(k.retry.Sub(w.o.Now()), time.Millisecond))
			continue
		}
		if k.unserved() && !declared[k.mapping.GroupVersionKind] { // the version watched is gone, and another one is declared
			k.end()
			delete(w.kinds, gk)
			next = 0
			continue
		}
		w.arrangeKind(ctx, k, places)
	}
	w.listen()
	w.metrics.missing.Set(float64(len(w.unwatched())))
	return next
}

// arrangeKind gives a kind its wide watch, and narrow ones as long as that is refused.
func (w *Watcher) arrangeKind(ctx context.Context, k *kind, places map[place]bool) {
	secret := isSecret(render.Ref{Group: k.gk.Group, Kind: k.gk.Kind})
	if k.wide == nil && !secret {
		k.wide = w.start(ctx, k, place{})
	}
	if !secret && !k.wide.refused {
		places = nil
		if !k.wide.synced {
			return // narrow ones, if any, go on until it has taken over
		}
	}
	for p, s := range k.narrow {
		if !places[p] {
			s.cancel()
			delete(k.narrow, p)
		}
	}
	for p := range places {
		if k.narrow[p] == nil {
			k.narrow[p] = w.start(ctx, k, p)
		}
	}
}

// unserved says whether a watch of the kind found that there is no such resource.
func (k *kind) unserved() bool {
	return slices.ContainsFunc(k.all(), func(s *stream) bool { return s.unserved })
}

func (k *kind) end() {
	for _, s := range k.all() {
		s.cancel()
	}
}

// resolve finds the resources of kinds that are needed and not known yet. It may ask the API server.
func (w *Watcher) resolve(ctx context.Context) {
	for _, n := range w.unresolved() {
		if ctx.Err() != nil {
			return
		}
		mapping, err := w.cluster.servedMapping(render.Ref{Group: n.kind.Group, Kind: n.kind.Kind, Version: n.version})
		w.mu.Lock()
		k := w.kinds[n.kind]
		k.mapping = mapping
		if err != nil {
			k.mapping, k.err = nil, fmt.Errorf("find kind: %w", err)
			first, longest := w.o.retry, maxPause
			if meta.IsNoMatchError(err) {
				first, longest = w.o.denied, maxDenied
			}
			k.pause = min(max(2*k.pause, first), longest)
			k.retry = w.o.Now().Add(jittered(k.pause))
		} else {
			k.err = nil
		}
		w.mu.Unlock()
	}
}

// unresolved are needs of kinds whose resource is to be asked for now, one of each kind.
func (w *Watcher) unresolved() []need {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := map[schema.GroupKind]bool{}
	var list []need
	for n := range w.needs {
		k := w.kinds[n.kind]
		if k == nil {
			k = &kind{gk: n.kind, narrow: map[place]*stream{}}
			w.kinds[n.kind] = k
		}
		if k.mapping == nil && !asked[n.kind] && !w.o.Now().Before(k.retry) {
			asked[n.kind] = true
			list = append(list, n)
		}
	}
	return list
}

// served: an object of the kind was just read or written, so a kind that was not served is asked for again.
func (w *Watcher) served(ref render.Ref) {
	k := w.kinds[groupKind(ref)]
	if k == nil {
		return
	}
	now := w.o.Now()
	if k.err != nil && k.retry.Sub(now) > servedPause {
		k.retry, k.pause = now.Add(min(servedPause, w.o.denied)), 0
		w.rouse()
	}
	for _, s := range k.all() {
		if s.unserved {
			s.again()
		}
	}
}

// listen opens watches anew that have said nothing for long although the API server sends them bookmarks: the connection
// may be dead without anybody having said so.
func (w *Watcher) listen() {
	now := w.o.Now()
	for _, k := range w.kinds {
		for _, s := range k.all() {
			if s.open && s.bookmarked && now.Sub(s.heard) > w.o.silent {
				s.reopen()
			}
		}
	}
}

func (k *kind) all() []*stream {
	list := make([]*stream, 0, len(k.narrow)+1)
	if k.wide != nil {
		list = append(list, k.wide)
	}
	for _, s := range k.narrow {
		list = append(list, s)
	}
	return list
}

// streamOf is the watch that shows an object; nil when there is none that knows the state of its objects.
func (w *Watcher) streamOf(o *object) *stream {
	k := w.kinds[groupKind(o.ref)]
	if k == nil {
		return nil
	}
	if k.wide != nil && k.wide.synced && !k.wide.refused {
		return k.wide
	}
	if s := k.narrow[o.need().place]; s != nil && s.synced {
		return s
	}
	return nil
}

// metadataClient reads metadata as the agent, or as a tenant. Watches last, so its connection has no timeout.
func (c *Cluster) metadataClient(tenant string) (metadata.Interface, error) {
	cfg := c.configOf(tenant)
	cfg.Timeout = 0
	client, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare watches of cluster %s: %w", c.name, err)
	}
	return client, nil
}

// client is the metadata client of all watches of a tenant, or of the agent.
func (w *Watcher) client(tenant string) (metadata.Interface, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if client, ok := w.clients[tenant]; ok {
		return client, nil
	}
	client, err := w.cluster.metadataClient(tenant)
	if err == nil {
		w.clients[tenant] = client
	}
	return client, err
}

// jittered is between half and all of a pause, so that what failed together is not tried again together.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
