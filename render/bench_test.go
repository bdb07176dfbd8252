package render

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// benchmarkEstate is an overlay of 30 objects over a base.
func benchmarkEstate() string {
	var b strings.Builder
	b.WriteString("-- README --\nx\n-- base/kustomization.yaml --\nresources:\n")
	for i := range 30 {
		fmt.Fprintf(&b, "- d%d.yaml\n", i)
	}
	for i := range 30 {
		fmt.Fprintf(&b, "-- base/d%d.yaml --\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d}\nspec:\n  selector: {matchLabels: {app: d%d}}\n  template:\n    metadata: {labels: {app: d%d}}\n    spec:\n      containers:\n      - {name: c, image: registry.example/c, envFrom: [{configMapRef: {name: settings}}]}\n", i, i, i, i)
	}
	b.WriteString("-- env/kustomization.yaml --\nresources: [../base]\nnamespace: north-dev\nnamePrefix: n-\nlabels: [{pairs: {team: retail}}]\nconfigMapGenerator: [{name: settings, literals: [a=b]}]\nimages: [{name: registry.example/c, newTag: '1'}]\n")
	return b.String()
}

func BenchmarkRender(b *testing.B) {
	dir := b.TempDir()
	writeFiles(b, dir, benchmarkEstate())
	tree := openTree(b, dir)
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("y\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	neighbour := openTree(b, dir)
	b.Run("cold", func(b *testing.B) {
		r := newRenderer(b, Options{CacheBytes: 1})
		for b.Loop() {
			if _, err := r.Render(b.Context(), tree, "env"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold-parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			r := New(Options{CacheBytes: 1})
			defer r.Close()
			for p.Next() {
				if _, err := r.Render(b.Context(), tree, "env"); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("cached-same-tree", func(b *testing.B) {
		r := newRenderer(b, Options{})
		for b.Loop() {
			if _, err := r.Render(b.Context(), tree, "env"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached-other-tree", func(b *testing.B) {
		r := newRenderer(b, Options{})
		for i := 0; b.Loop(); i++ {
			t := tree
			if i%2 == 1 {
				t = neighbour
			}
			if _, err := r.Render(b.Context(), t, "env"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("openapi", func(b *testing.B) {
		r := newRenderer(b, Options{CacheBytes: 1})
		t := openTree(b, corpus)
		for b.Loop() {
			if _, err := r.Render(b.Context(), t, "openapi"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNewRelease(b *testing.B) {
	res := mustRender(b, treeOf(b, benchmarkEstate()), "env")
	for b.Loop() {
		if _, err := NewRelease(res, nil, Binding{}); err != nil {
			b.Fatal(err)
		}
	}
}
