package apply

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/purser-gitops/purser/render"
)

// mark is what is kept of one state of an object.
//
// A foreign write of a field we own takes it out of our entry in managedFields and so alters ours; so do a people's tool
// that adds a field, a lost label or digest, and a deletion that has begun. Status, the replicas of an autoscaler, a
// rollout restart and what controllers annotate leave it alone.
type mark struct {
	ours    [16]byte
	rest    [16]byte // altered by any write except of status
	version string   // resourceVersion
}

func markOf(o metav1.Object) mark {
	var ours, rest []string
	held := false
	for _, e := range o.GetManagedFields() {
		if e.Subresource == "status" {
			continue
		}
		text := entryText(e)
		rest = append(rest, text)
		if isOurs(e) || migrates(e) {
			ours = append(ours, text)
			held = held || isOurs(e)
		}
	}
	id := fmt.Sprintf("%s %s %s %t", o.GetUID(), o.GetLabels()[labelEnvironment], o.GetAnnotations()[annotationDigest], o.GetDeletionTimestamp() != nil)
	version := fmt.Sprintf("%d %s", o.GetGeneration(), o.GetResourceVersion())
	ours, rest = append(ours, id), append(rest, id)
	if !held {
		ours = append(ours, version)
	}
	if o.GetGeneration() > 0 {
		rest = append(rest, fmt.Sprint(o.GetGeneration()))
	} else {
		rest = append(rest, version) // times are whole seconds, so two writes may look the same
	}
	return mark{ours: digestOf(ours), rest: digestOf(rest), version: o.GetResourceVersion()}
}

func digestOf(parts []string) [16]byte {
	slices.Sort(parts)
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	var out [16]byte
	copy(out[:], h.Sum(nil))
	return out
}

// entryText is an entry of managedFields as text. The API server writes the fields in an order of its own, and what passed
// through a decoded object is sorted, so both are brought into one order.
func entryText(e metav1.ManagedFieldsEntry) string {
	var fields []byte
	if e.FieldsV1 != nil {
		var tree any
		if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &tree); err == nil {
			fields, _ = json.Marshal(tree) // what was decoded can be encoded
		}
	}
	at := int64(0)
	if e.Time != nil {
		at = e.Time.Unix()
	}
	return fmt.Sprintf("%q %q %q %q %d %s", e.Manager, e.Operation, e.Subresource, e.APIVersion, at, fields)
}

// object is one object of one environment: what was examined of it last.
type object struct {
	env     *environment
	ref     render.Ref
	covered bool
	writing int // Apply is writing it: what is seen meanwhile is judged when its answer is known

	known    bool   // ever examined
	absent   bool   // did not exist when examined, or without our label, so that the watch does not show it
	digest   string // see examination
	loose    bool   // see examination
	examined mark
}

// examination is what Plan or Apply found out about an object.
type examination struct {
	live   *unstructured.Unstructured // nil: it does not exist
	digest string                     // what it is equal to; "" when it differs
	loose  bool                       // not all that is ours is held by us, so any change counts
}

func (o *object) need() need {
	return need{kind: groupKind(o.ref), place: place{o.ref.Namespace, o.env.tenant}, version: o.ref.Version}
}

func (o *object) name() types.NamespacedName {
	return types.NamespacedName{Namespace: o.ref.Namespace, Name: o.ref.Name}
}

// suspicious: the newest seen state is newer than what was examined, and not the same.
func (w *Watcher) suspicious(o *object) bool {
	s := w.streamOf(o)
	if !o.covered || !o.known || o.writing > 0 || s == nil {
		return false
	}
	seen, present := s.seen[o.name()]
	switch {
	case !present:
		return !o.absent && newer(s.version, o.examined.version) // events come in order: it was there, and is not
	case !newer(seen.version, o.examined.version):
		return false
	case o.absent, seen.ours != o.examined.ours:
		return true
	}
	return (o.loose || o.digest == "") && seen.rest != o.examined.rest
}

// newer compares resource versions. What cannot be compared is newer when it is different.
func newer(a, b string) bool {
	if a == "" || b == "" {
		return a != ""
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	if err != nil {
		return a != b
	}
	return order > 0
}

// saw notes what was found out about an object.
func (w *Watcher) saw(env string, ref render.Ref, x examination) {
	if w == nil {
		return
	}
	m := mark{}
	if x.live != nil {
		m = markOf(x.live)
	}
	w.mu.Lock()
	o := w.object(w.environment(env), ref.Key(), ref)
	o.known, o.digest, o.loose = true, x.digest, x.loose
	o.absent = x.live == nil || x.live.GetLabels()[labelEnvironment] == ""
	if x.live == nil {
		m.version = o.examined.version
		if s := w.streamOf(o); s != nil && newer(s.version, m.version) {
			m.version = s.version
		}
	}
	o.examined = m
	suspect := w.suspicious(o)
	if x.live != nil {
		w.served(ref)
	}
	w.mu.Unlock()
	if suspect {
		w.o.Notify(env, Suspect)
	}
}

// writes notes that an object is about to be written; the function it returns, that this has ended.
func (w *Watcher) writes(env string, ref render.Ref) func() {
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	o := w.object(w.environment(env), ref.Key(), ref)
	o.writing++
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		o.writing--
		suspect := w.suspicious(o)
		w.mu.Unlock()
		if suspect {
			w.o.Notify(env, Suspect)
		}
	}
}

// forget: the object is no longer the environment's.
func (w *Watcher) forget(env string, ref render.Ref) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.environments[env]
	if e == nil {
		return
	}
	if o := e.objects[ref.Key()]; o != nil {
		if w.uncover(o) {
			w.rouse()
		}
		o.writing = 0
		w.drop(o)
	}
}

// vouches: the object is watched now, was found equal to the digest, and has not changed since.
func (w *Watcher) vouches(env string, ref render.Ref, digest string) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.environments[env]
	if e == nil {
		return false
	}
	o := e.objects[ref.Key()]
	if o == nil || !o.covered || !o.known || o.absent || o.writing > 0 || digest == "" || o.digest != digest {
		return false
	}
	s := w.streamOf(o)
	return s != nil && s.open && !w.suspicious(o)
}
