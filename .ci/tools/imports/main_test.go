package main

import (
	"slices"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	path := func(names ...string) []string {
		for i := range names {
			names[i] = module + "/" + names[i]
		}
		return names
	}
	tests := []struct {
		name string
		pkg  goPackage
		want []string
	}{
		{"inward", goPackage{ImportPath: module + "/cmd/purser", Imports: append(path("reconciler", "sources"), "fmt")}, nil},
		{"leaf imports reconciler", goPackage{ImportPath: module + "/render", Imports: path("reconciler/apply")},
			[]string{"render must not import reconciler/apply"}},
		{"sub-package imports reconciler", goPackage{ImportPath: module + "/reconciler/apply", Imports: path("reconciler")},
			[]string{"reconciler/apply must not import reconciler"}},
		{"evidence imports policy", goPackage{ImportPath: module + "/reconciler/evidence", Imports: path("reconciler/policy")}, nil},
		{"policy imports evidence", goPackage{ImportPath: module + "/reconciler/policy", Imports: path("reconciler/evidence")},
			[]string{"reconciler/policy must not import reconciler/evidence"}},
		{"test uses the lab", goPackage{ImportPath: module + "/sources", TestImports: path("examples/lab/labtest"), XTestImports: path("sources")}, nil},
		{"product uses the lab", goPackage{ImportPath: module + "/sources", Imports: path("examples/lab")},
			[]string{"sources must not import examples/lab"}},
		{"no rule", goPackage{ImportPath: module + "/helpers"},
			[]string{"helpers: no rule says what it may import: add one to .ci/tools/imports"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := judge(test.pkg); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
