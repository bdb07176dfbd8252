package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	watchTime   = 30 * time.Minute // a watch lasts so long, up to twice
	openTimeout = 2 * time.Minute  // for the first state of all objects
	maxPause    = 30 * time.Second // after a failure that goes away by itself
	maxRewatch  = 8 * time.Second  // between tries to go on with a watch while the API server is away
)

// stream is one watch that lasts: it is opened again whenever it ends. It is the store that its reflector fills.
type stream struct {
	w       *Watcher
	kind    *kind
	place   place
	client  metadata.ResourceInterface
	cancel  context.CancelFunc
	kick    chan struct{} // capacity 1: do not wait any longer
	listing sync.Mutex    // held by list, which the reflector leaves behind when the context ends
	failed  error         // of the request for the first state; the reflector's goroutine alone uses it

	// Below: guarded by the watcher's mutex.

	seen       map[types.NamespacedName]mark // all objects with our label
	version    string                        // up to which seen is complete
	synced     bool                          // seen has been loaded
	open       bool                          // a watch is established
	denied     time.Time                     // since when every try is forbidden
	refused    bool                          // it is, and for long enough to give the watch up for now
	unserved   bool                          // the last try found no such resource
	why        error                         // why it is not open
	heard      time.Time                     // of the last event or bookmark
	bookmarked bool                          // the API server sends bookmarks
	reopen     context.CancelFunc            // ends the try under way
	loaded     func()                        // the try under way has loaded its first state
}

// start makes the watch of a kind at a place. The caller holds the mutex.
func (w *Watcher) start(ctx context.Context, k *kind, p place) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{w: w, kind: k, place: p, cancel: cancel, kick: make(chan struct{}, 1), seen: map[types.NamespacedName]mark{}, reopen: func() {}, loaded: func() {}}
	w.streams.Go(func() {
		defer cancel()
		s.run(ctx)
	})
	return s
}

func (s *stream) String() string {
	what := s.kind.mapping.Resource.GroupResource().String()
	if s.place.namespace != "" {
		what += " in " + s.place.namespace
	}
	return what
}

// again ends a pause.
func (s *stream) again() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run opens the watch until the context ends.
func (s *stream) run(ctx context.Context) {
	client, err := s.w.client(s.place.tenant)
	if err != nil {
		s.ended(err)
		return
	}
	at := client.Resource(s.kind.mapping.Resource)
	s.client = at
	if s.place.namespace != "" {
		s.client = at.Namespace(s.place.namespace)
	}
	reflector := s.reflector()
	var pause time.Duration
	for {
		began := s.w.o.Now()
		err := s.try(ctx, reflector)
		if ctx.Err() != nil {
			s.listing.Lock()
			defer s.listing.Unlock()
			return
		}
		if s.w.o.Now().Sub(began) > 2*maxPause {
			pause = 0
		}
		pause = s.next(err, pause)
		timer := time.NewTimer(jittered(pause))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.kick:
			pause = 0
		}
		timer.Stop()
	}
}

// next notes why the watch ended and says how long to wait, given the last pause. An API server that has just started
// refuses what it permits a moment later, so a watch that was permitted before is first tried again soon.
func (s *stream) next(err error, last time.Duration) time.Duration {
	first, longest := s.w.o.retry, maxPause
	denied, unserved := apierrors.IsForbidden(err), apierrors.IsNotFound(err)
	now := s.w.o.Now()
	s.w.mu.Lock()
	if denied || unserved {
		longest = maxDenied
		if !s.synced {
			first = s.w.o.denied / 4
		}
	}
	if !denied {
		s.denied = time.Time{}
	} else if s.denied.IsZero() {
		s.denied = now
	}
	refused := denied && (!s.synced || now.Sub(s.denied) >= s.w.o.denied/2)
	changed := s.refused != refused
	s.open, s.refused, s.unserved = false, refused, unserved
	if refused {
		s.synced, s.seen = false, map[types.NamespacedName]mark{} // what was seen is of no more use
	}
	s.w.mu.Unlock()
	s.ended(err)
	if changed {
		s.w.rouse()
	}
	return min(max(2*last, first), longest)
}

// ended notes why there is no watch, and says it once.
func (s *stream) ended(err error) {
	if err == nil {
		err = errors.New("the watch ended")
	}
	s.w.mu.Lock()
	said := s.why != nil && s.why.Error() == err.Error()
	s.why = err
	s.w.mu.Unlock()
	if !said {
		s.w.o.Logger.Info("watch is down", "resource", s.String(), "tenant", s.place.tenant, "reason", err)
	}
}

// try loads the state of all objects and watches until that ends.
func (s *stream) try(ctx context.Context, r *cache.Reflector) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case s.w.opening <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	late := time.AfterFunc(openTimeout, cancel)
	loaded := sync.OnceFunc(func() {
		late.Stop()
		<-s.w.opening
	})
	defer loaded()
	s.w.mu.Lock()
	s.reopen, s.loaded, s.bookmarked = cancel, loaded, false
	s.w.mu.Unlock()
	return r.ListAndWatchWithContext(ctx)
}

// reflector loads and watches with client-go's own rules for what may be resumed and what must be loaded again.
func (s *stream) reflector() *cache.Reflector {
	lw := &cache.ListWatch{ListWithContextFunc: s.list, WatchFuncWithContext: s.watch}
	return cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, s, cache.ReflectorOptions{
		Name: s.w.cluster.name, MinWatchTimeout: watchTime,
		Backoff: &wait.Backoff{Duration: s.w.o.retry, Cap: maxRewatch, Steps: 8, Factor: 2, Jitter: 1},
	})
}

// list is used where the API server cannot stream the first state, or refuses to.
func (s *stream) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	s.listing.Lock()
	defer s.listing.Unlock()
	if s.failed != nil && !apierrors.IsInvalid(s.failed) && !apierrors.IsBadRequest(s.failed) {
		return nil, s.failed
	}
	ctx, cancel := context.WithTimeout(ctx, s.w.cluster.o.requestTimeout)
	defer cancel()
	o.LabelSelector = labelEnvironment
	return s.client.List(ctx, o)
}

// watch opens a watch. Where it is to load the first state its failure is kept for list, which the reflector tries next,
// and hidden, because the reflector would wait without regard to the context.
func (s *stream) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.LabelSelector = labelEnvironment
	first := o.SendInitialEvents != nil
	w, err := s.client.Watch(ctx, o)
	if first {
		s.failed = err
		if err != nil {
			return nil, fmt.Errorf("load: %v", err)
		}
	}
	if err != nil {
		return nil, err
	}
	if !first {
		s.w.metrics.restarts.Inc()
	}
	s.opened(first)
	return &tap{Interface: w, stop: sync.OnceFunc(s.closed)}, nil
}

// tap notices when a watch ends.
type tap struct {
	watch.Interface
	stop func()
}

func (t *tap) Stop() {
	t.stop()
	t.Interface.Stop()
}

// opened notes that a watch is established. An API server that streams the first state sends bookmarks too.
func (s *stream) opened(streams bool) {
	s.w.metrics.open.Inc()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.open, s.heard, s.bookmarked = true, s.w.o.Now(), s.bookmarked || streams
	if s.synced {
		s.permitted()
		s.why = nil
	}
}

// closed notes that a watch has ended.
func (s *stream) closed() {
	s.w.metrics.open.Dec()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.open, s.heard = false, s.w.o.Now()
}

// permitted takes back what was noted of refusals. The caller holds the mutex.
func (s *stream) permitted() {
	s.refused, s.unserved, s.denied = false, false, time.Time{}
}

// quiet keeps the reflector from writing to standard error: what matters is logged here.
func quiet(ctx context.Context) context.Context {
	return ctrllog.IntoContext(ctx, ctrllog.Log.WithSink(nil))
}
