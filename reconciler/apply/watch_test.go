package apply

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/purser-gitops/purser/render"
)

func TestNewerVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"10", "9", true}, {"9", "10", false}, {"9", "9", false}, {"9", "", true}, {"", "9", false}, {"", "", false},
		{"abc", "9", true}, {"abc", "abc", false},
	} {
		if got := newer(c.a, c.b); got != c.want {
			t.Errorf("newer(%q, %q) is %v", c.a, c.b, got)
		}
	}
}

// fixture is a watcher with one watch that has loaded nothing but what a test puts in.
func fixture(t *testing.T) (*Watcher, *stream, render.Ref, map[string]Notice) {
	c := &Cluster{name: "lab"}
	notices := map[string]Notice{}
	w := c.NewWatcher(WatchOptions{Notify: func(env string, n Notice) { notices[env] = n }})
	ref := render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "north-dev", Name: "a"}
	w.Cover("dev", "north", []render.Ref{ref})
	gk := w.environments["dev"].objects[ref.Key()].need().kind
	k := &kind{gk: gk, mapping: &meta.RESTMapping{Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}}, narrow: map[place]*stream{}}
	s := &stream{w: w, kind: k, seen: map[types.NamespacedName]mark{}, loaded: func() {}}
	k.wide = s
	w.kinds[gk] = k
	return w, s, ref, notices
}

func (w *Watcher) examined(ref render.Ref, version string) {
	o := w.environments["dev"].objects[ref.Key()]
	o.known, o.digest, o.examined = true, "sha256:1", mark{ours: [16]byte{1}, version: version}
}

func seenAs(ref render.Ref, sum byte, version string) sighting {
	return sighting{name: types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, mark: mark{ours: [16]byte{sum}, version: version}}
}

func TestSuspicion(t *testing.T) {
	for name, c := range map[string]struct {
		load    []any
		version string // of what is loaded
		events  func(s *stream, ref render.Ref)
		want    int
	}{
		"same":                      {load: []any{byte(1), "10"}, version: "20"},
		"same and newer":            {load: []any{byte(1), "15"}, version: "20"},
		"other and newer":           {load: []any{byte(2), "15"}, version: "20", want: 1},
		"other and older":           {load: []any{byte(2), "9"}, version: "20"},
		"missing":                   {version: "20", want: 1},
		"missing in an older state": {version: "9"},
		"late event": {load: []any{byte(1), "10"}, version: "10", events: func(s *stream, ref render.Ref) {
			_ = s.Update(seenAs(ref, 2, "9"))
		}},
		"deleted": {load: []any{byte(1), "10"}, version: "10", events: func(s *stream, ref render.Ref) {
			_ = s.Delete(seenAs(ref, 1, "11"))
		}, want: 1},
		"bookmark before it was made": {version: "5", events: func(s *stream, _ render.Ref) { _ = s.Bookmark("9") }},
		"bookmark after it was made":  {version: "5", events: func(s *stream, _ render.Ref) { _ = s.Bookmark("11") }, want: 1},
		"store set back": {load: []any{byte(1), "30"}, version: "40", events: func(s *stream, ref render.Ref) {
			_ = s.Replace([]any{seenAs(ref, 2, "4")}, "5")
		}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w, s, ref, notices := fixture(t)
			w.examined(ref, "10")
			var list []any
			if c.load != nil {
				list = append(list, seenAs(ref, c.load[0].(byte), c.load[1].(string)))
			}
			if err := s.Replace(list, c.version); err != nil {
				t.Fatal(err)
			}
			if c.events != nil {
				c.events(s, ref)
			}
			if got := w.Suspects("dev"); len(got) != c.want {
				t.Errorf("suspects: %v", got)
			}
			if _, told := notices["dev"]; told != (c.want > 0) && name != "bookmark after it was made" {
				t.Errorf("notices: %v", notices)
			}
		})
	}
}

// While it is written nothing is said of an object; what its answer does not explain is said afterwards.
func TestSuspicionWaitsForTheWriter(t *testing.T) {
	w, s, ref, notices := fixture(t)
	w.examined(ref, "10")
	if err := s.Replace([]any{seenAs(ref, 1, "10")}, "10"); err != nil {
		t.Fatal(err)
	}
	done := w.writes("dev", ref)
	_ = s.Update(seenAs(ref, 2, "12"))
	if len(notices) > 0 || len(w.Suspects("dev")) > 0 {
		t.Errorf("suspected while written: %v", notices)
	}
	done()
	if len(notices) != 1 || len(w.Suspects("dev")) != 1 {
		t.Errorf("a write without an answer is not looked at: %v", notices)
	}
}

func TestCoverIsByEnvironment(t *testing.T) {
	w, _, ref, _ := fixture(t)
	other := ref
	other.Name = "b"
	w.Cover("qa", "north", []render.Ref{ref, other})
	w.Cover("dev", "south", []render.Ref{ref})
	if len(w.needs) != 2 || len(w.index[ref.Key()]) != 2 {
		t.Errorf("needs %v, index %v", w.needs, w.index)
	}
	w.Cover("qa", "north", nil)
	w.Cover("dev", "south", nil)
	w.Cover("never", "south", nil)
	if len(w.needs)+len(w.index)+len(w.environments) != 0 {
		t.Errorf("left: %v %v %v", w.needs, w.index, w.environments)
	}
}
