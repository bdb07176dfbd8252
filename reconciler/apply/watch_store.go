package apply

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/purser-gitops/purser/render"
)

var (
	_ cache.TransformingStore      = (*stream)(nil)
	_ cache.ReflectorBookmarkStore = (*stream)(nil)
)

// sighting is what is kept of an object that a watch shows.
type sighting struct {
	name   types.NamespacedName
	mark   mark
	status bool // somebody keeps a status
}

func reduce(obj any) (sighting, error) {
	switch o := obj.(type) {
	case sighting:
		return o, nil
	case *metav1.PartialObjectMetadata:
		x := sighting{name: types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, mark: markOf(o)}
		for _, e := range o.ManagedFields {
			x.status = x.status || e.Subresource == "status"
		}
		return x, nil
	}
	return sighting{}, fmt.Errorf("watch shows a %T", obj)
}

// Transformer reduces objects of the first state as they come.
func (s *stream) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return reduce(obj) }
}

// Add notes an object that appeared.
func (s *stream) Add(obj any) error { return s.event(obj, false) }

// Update notes a new state of an object.
func (s *stream) Update(obj any) error { return s.event(obj, false) }

// Delete notes that an object is gone, or has lost our label.
func (s *stream) Delete(obj any) error { return s.event(obj, true) }

func (s *stream) event(obj any, gone bool) error {
	x, err := reduce(obj)
	if err != nil {
		return err
	}
	s.w.metrics.events.WithLabelValues(s.kind.mapping.Resource.GroupResource().String()).Inc()
	s.w.mu.Lock()
	s.heard = s.w.o.Now()
	if gone {
		delete(s.seen, x.name)
	} else {
		s.seen[x.name] = x.mark
	}
	s.advance(x.mark.version)
	notices := map[string]Notice{}
	for _, o := range s.of(x.name) {
		s.note(notices, o, x.status && !gone && o.writing == 0 && newer(x.mark.version, o.examined.version))
	}
	s.w.mu.Unlock()
	s.w.tell(notices)
	return nil
}

// note says why the environment of an object should be looked at, if it should. A suspicion says more than a status.
func (s *stream) note(notices map[string]Notice, o *object, changed bool) {
	switch {
	case s.w.suspicious(o):
		notices[o.env.name] = Suspect
	case changed:
		if _, told := notices[o.env.name]; !told {
			notices[o.env.name] = StatusChanged
		}
	}
}

// Replace notes the state of all objects. What is missing in it is gone.
func (s *stream) Replace(list []any, version string) error {
	seen := make(map[types.NamespacedName]mark, len(list))
	status := map[types.NamespacedName]bool{}
	for _, obj := range list {
		x, err := reduce(obj)
		if err != nil {
			return err
		}
		seen[x.name] = x.mark
		if x.status {
			status[x.name] = true
		}
	}
	s.w.mu.Lock()
	back, before := newer(s.version, version), s.seen
	s.seen, s.version, s.synced, s.heard = seen, version, true, s.w.o.Now()
	s.permitted()
	if s.open {
		s.why = nil
	}
	s.loaded()
	notices := map[string]Notice{}
	for _, objects := range s.w.index {
		for _, o := range objects {
			if s.w.streamOf(o) != s {
				continue
			}
			if back {
				o.examined.version = "" // the API server's store was set back, so versions tell nothing
			}
			n := o.name()
			s.note(notices, o, status[n] && before[n].version != seen[n].version)
		}
	}
	s.w.mu.Unlock()
	s.w.o.Logger.Debug("watch is up", "resource", s.String(), "tenant", s.place.tenant, "objects", len(list))
	s.w.rouse()
	s.w.tell(notices)
	return nil
}

// Resync has no meaning here.
func (s *stream) Resync() error { return nil }

// Bookmark notes that nothing happened up to a version.
func (s *stream) Bookmark(version string) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.heard, s.bookmarked = s.w.o.Now(), true
	s.advance(version)
	return nil
}

func (s *stream) advance(version string) {
	if newer(version, s.version) {
		s.version = version
	}
}

// of are the objects of environments under a name, as far as this watch is the one that shows them.
func (s *stream) of(n types.NamespacedName) []*object {
	var list []*object
	for _, o := range s.w.index[render.Ref{Group: s.kind.gk.Group, Kind: s.kind.gk.Kind, Namespace: n.Namespace, Name: n.Name}.Key()] {
		if o.covered && s.w.streamOf(o) == s {
			list = append(list, o)
		}
	}
	return list
}

func (w *Watcher) tell(notices map[string]Notice) {
	for env, n := range notices {
		w.o.Notify(env, n)
	}
}
