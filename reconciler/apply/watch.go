package apply

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/purser-gitops/purser/render"
)

// Notice says why an environment should be looked at.
type Notice int

const (
	// Suspect: an object may have drifted, see Watcher.Suspects.
	Suspect Notice = iota
	// StatusChanged: an object with a status changed otherwise, so its health may have changed.
	StatusChanged
)

// WatchOptions of a Watcher.
type WatchOptions struct {
	Notify  func(environment string, n Notice) // must not block; may come more often than needed
	Now     func() time.Time                   // default: time.Now
	Logger  *slog.Logger                       // default: discards
	Metrics *WatchMetrics                      // default: not shown

	retry  time.Duration // first pause after a failure that goes away by itself; 500 ms
	denied time.Duration // first pause after a refusal; a minute
	silent time.Duration // a watch that was heard and says nothing for so long is opened anew; 5 minutes
}

// Watcher sees what happens to the objects of environments without asking for them: it watches their metadata and keeps of
// each a few digests, never the object. What Plan and Apply of the cluster's clients see is compared with it, so that only
// what changed since needs to be looked at. It is safe for concurrent use.
//
// Kinds other than Secret are watched in the whole cluster with the agent's own identity, where that may list and watch
// them, and otherwise by namespace as the tenant. Secrets are watched by namespace as the tenant always.
type Watcher struct {
	cluster *Cluster
	o       WatchOptions
	metrics clusterMetrics
	wake    chan struct{} // capacity 1: something to arrange
	opening chan struct{} // slots for watches that load their first state
	streams sync.WaitGroup

	mu           sync.Mutex
	environments map[string]*environment
	index        map[string][]*object // by Ref.Key()
	needs        map[need]int         // how many covered objects ask for it
	kinds        map[schema.GroupKind]*kind
	clients      map[string]metadata.Interface // by tenant; "" is the agent
}

// environment is what one environment owns and what was examined of it.
type environment struct {
	name    string
	tenant  string
	objects map[string]*object // by Ref.Key()
}

// need is something to watch: the objects of a kind in one place, for one tenant.
type need struct {
	kind schema.GroupKind
	place
	version string // of the kind, as declared
}

// place is where and as whom the objects of a kind are watched; without a namespace, those outside namespaces.
type place struct {
	namespace string
	tenant    string
}

// maxOpening bounds how many watches load their first state at the same time, so that a lost connection is no storm.
const maxOpening = 8

// NewWatcher makes the cluster's watcher; there is at most one. From now on the cluster's clients tell it what they saw.
func (c *Cluster) NewWatcher(o WatchOptions) *Watcher {
	if o.Notify == nil {
		o.Notify = func(string, Notice) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = newWatchMetrics()
	}
	if o.retry <= 0 {
		o.retry = 500 * time.Millisecond
	}
	if o.denied <= 0 {
		o.denied = time.Minute
	}
	if o.silent <= 0 {
		o.silent = 5 * time.Minute
	}
	w := &Watcher{
		cluster:      c,
		o:            o,
		metrics:      o.Metrics.of(c.name),
		wake:         make(chan struct{}, 1),
		opening:      make(chan struct{}, maxOpening),
		environments: map[string]*environment{},
		index:        map[string][]*object{},
		needs:        map[need]int{},
		kinds:        map[schema.GroupKind]*kind{},
		clients:      map[string]metadata.Interface{},
	}
	c.watch.Store(w)
	return w
}

// Run keeps the watches until the context ends, and returns when all of them have ended.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(quiet(ctx))
	defer w.streams.Wait()
	defer cancel()
	for {
		next := w.arrange(ctx)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-w.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (w *Watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Cover says which objects belong to an environment, in place of what was said before; nil ends it. It starts the watches
// that are missing, forgets what is no longer covered, and does not wait for anything.
func (w *Watcher) Cover(name, tenant string, refs []render.Ref) {
	w.mu.Lock()
	changed, suspect := w.cover(name, tenant, refs)
	w.mu.Unlock()
	if changed {
		w.rouse()
	}
	if suspect {
		w.o.Notify(name, Suspect)
	}
}

func (w *Watcher) cover(name, tenant string, refs []render.Ref) (changed, suspect bool) {
	e := w.environments[name]
	if e == nil && len(refs) == 0 {
		return false, false
	}
	if e == nil {
		e = w.environment(name)
	}
	if e.tenant != tenant {
		for _, o := range e.objects {
			changed = w.uncover(o) || changed
		}
		e.tenant = tenant
	}
	wanted := make(map[string]bool, len(refs))
	for _, ref := range refs {
		key := ref.Key()
		wanted[key] = true
		o := w.object(e, key, ref)
		if o.ref.Version != ref.Version {
			changed = w.uncover(o) || changed
			o.ref = ref
		}
		if !o.covered {
			o.covered = true
			n := o.need()
			w.needs[n]++
			changed = changed || w.needs[n] == 1
			suspect = w.suspicious(o) || suspect
		}
	}
	for key, o := range e.objects {
		if !wanted[key] {
			changed = w.uncover(o) || changed
			w.drop(o)
		}
	}
	if len(e.objects) == 0 {
		delete(w.environments, name)
	}
	return changed, suspect
}

// uncover ends the coverage of an object; true when nobody needs its watch any more.
func (w *Watcher) uncover(o *object) bool {
	if !o.covered {
		return false
	}
	o.covered = false
	n := o.need()
	w.needs[n]--
	if w.needs[n] > 0 {
		return false
	}
	delete(w.needs, n)
	return true
}

// drop forgets an object, unless it is being written: then its writer's note comes yet.
func (w *Watcher) drop(o *object) {
	if o.writing > 0 {
		return
	}
	key := o.ref.Key()
	delete(o.env.objects, key)
	rest := slices.DeleteFunc(w.index[key], func(x *object) bool { return x == o })
	if len(rest) == 0 {
		delete(w.index, key)
	} else {
		w.index[key] = rest
	}
}

func (w *Watcher) environment(name string) *environment {
	e := w.environments[name]
	if e == nil {
		e = &environment{name: name, objects: map[string]*object{}}
		w.environments[name] = e
	}
	return e
}

func (w *Watcher) object(e *environment, key string, ref render.Ref) *object {
	o := e.objects[key]
	if o == nil {
		o = &object{env: e, ref: ref}
		e.objects[key] = o
		w.index[key] = append(w.index[key], o)
	}
	return o
}

// Suspects are the covered objects whose newest seen state is not the one that was last examined, sorted by key. Examining
// them by Plan takes them off. Objects that were never examined are not among them.
func (w *Watcher) Suspects(environment string) []render.Ref {
	return w.list(environment, w.suspicious)
}

// Missing are the covered objects that, as the watch says, do not exist or have lost our label, sorted by key.
func (w *Watcher) Missing(environment string) []render.Ref {
	return w.list(environment, func(o *object) bool {
		s := w.streamOf(o)
		if !o.covered || s == nil {
			return false
		}
		_, present := s.seen[o.name()]
		return !present && (!o.known || o.absent || newer(s.version, o.examined.version))
	})
}

// Watches reports whether every covered object of an environment is under a watch that is up.
func (w *Watcher) Watches(environment string) bool {
	return len(w.list(environment, func(o *object) bool { return o.covered && w.streamOf(o) == nil })) == 0
}

func (w *Watcher) list(environment string, match func(*object) bool) []render.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	var refs []render.Ref
	if e := w.environments[environment]; e != nil {
		for _, o := range e.objects {
			if match(o) {
				refs = append(refs, o.ref)
			}
		}
	}
	slices.SortFunc(refs, func(a, b render.Ref) int { return strings.Compare(a.Key(), b.Key()) })
	return refs
}

// Unwatched says what cannot be watched now, such as "deployments.apps" or "secrets in north-dev", and why.
func (w *Watcher) Unwatched() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unwatched()
}

func (w *Watcher) unwatched() map[string]string {
	out := map[string]string{}
	for gk, k := range w.kinds {
		if k.err != nil {
			out[gk.String()] = k.err.Error()
			continue
		}
		if k.wide != nil && k.wide.why != nil && len(k.narrow) == 0 {
			out[k.wide.String()] = k.wide.why.Error()
		}
		for _, s := range k.narrow {
			if s.why != nil {
				out[s.String()] = s.why.Error()
			}
		}
	}
	return out
}
