package landed

import (
	"path"
	"slices"

	"github.com/purser-gitops/purser/render"
)

// Reads are the paths that releases depend on; a directory stands for everything below it.
type Reads struct {
	paths map[string]bool
	above map[string]bool // the directories on the way there: a link or a submodule in their place leads elsewhere
}

// NewReads collects paths.
func NewReads(paths ...string) Reads {
	r := Reads{map[string]bool{}, map[string]bool{}}
	for _, p := range paths {
		r.paths[p] = true
		for p = path.Dir(p); p != "." && !r.above[p]; p = path.Dir(p) {
			r.above[p] = true
		}
	}
	return r
}

// ReadsOf collects what any of some releases reads; a nil one reads nothing.
func ReadsOf(releases ...*render.Release) Reads {
	var paths []string
	for _, release := range releases {
		if release != nil {
			paths = append(paths, release.Inputs.Watched()...)
		}
	}
	return NewReads(paths...)
}

// Has reports whether a change of a file concerns them.
func (r Reads) Has(file string) bool {
	if r.above[file] {
		return true
	}
	for p := file; p != "."; p = path.Dir(p) {
		if r.paths[p] {
			return true
		}
	}
	return r.paths[""]
}

// differs are the paths whose change can have made the difference; everything where links lead there.
func differs(approved, next render.Inputs) Reads {
	paths := next.Differing(approved)
	if slices.ContainsFunc(slices.Concat(approved, next), render.Input.OverLinks) {
		paths = []string{""}
	}
	return NewReads(paths...)
}
