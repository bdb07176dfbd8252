package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
)

const (
	renderSamples = 100 // by default; a sample is one pass over all environments
	cachedPasses  = 200 // passes that one sample of the cache takes, because one is too short for the clock
)

// benchRender measures how many environments of the sample estate are rendered a second, one after the other.
func benchRender(ctx context.Context, samples int) ([]figure, error) {
	samples = cmp.Or(samples, renderSamples)
	dir, err := os.MkdirTemp("", "purser-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	e, err := newEstate(ctx, filepath.Join(dir, "estate"))
	if err != nil {
		return nil, err
	}
	memory, err := e.inMemory()
	if err != nil {
		return nil, fmt.Errorf("read estate: %w", err)
	}
	warm := render.New(render.Options{})
	defer warm.Close()
	if err := e.sameAsKustomize(ctx, warm, memory); err != nil { // which also warms up the library and the cache
		return nil, err
	}
	main, err := e.tree("main")
	if err != nil {
		return nil, err
	}
	next, err := e.tree(neighbour)
	if err != nil {
		return nil, err
	}
	var cold, cached, floor []float64
	at, other := main, next
	renderCached := func() error {
		at, other = other, at
		return e.renderWith(ctx, warm, at)
	}
	for range samples {
		for _, m := range []struct {
			into *[]float64
			pass func() error
			runs int
		}{
			{&floor, func() error { return e.renderWithKustomize(memory) }, 1},
			{&cold, func() error { return e.renderCold(ctx) }, 1},
			{&cached, renderCached, cachedPasses},
		} {
			took, err := timed(m.runs, m.pass)
			if err != nil {
				return nil, err
			}
			*m.into = append(*m.into, float64(len(e.overlays)*m.runs)/took.Seconds())
		}
	}
	const byKustomize = "the floor is the kustomize library on an in-memory filesystem"
	return []figure{
		rate("render_cold_per_second", cold, floor, fmt.Sprintf("%d environments of the sample estate in turn, repository opened and every cache empty each time; %s", len(e.overlays), byKustomize)),
		rate("render_cached_per_second", cached, floor, fmt.Sprintf("the same with the cache, between two commits that differ in a file that no render reads; %s", byKustomize)),
	}, nil
}

// timed runs a pass several times and says how long that took.
func timed(runs int, pass func() error) (time.Duration, error) {
	start := time.Now()
	for range runs {
		if err := pass(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// renderCold renders every environment as an agent does that has just started.
func (e *estate) renderCold(ctx context.Context) error {
	tree, err := e.tree("main")
	if err != nil {
		return err
	}
	r := render.New(render.Options{})
	defer r.Close()
	return e.renderWith(ctx, r, tree)
}

func (e *estate) renderWith(ctx context.Context, r *render.Renderer, tree *sources.Tree) error {
	for _, dir := range e.overlays {
		if _, err := r.Render(ctx, tree, dir); err != nil {
			return err
		}
	}
	return nil
}

// renderWithKustomize renders every environment with the library alone.
func (e *estate) renderWithKustomize(memory filesys.FileSystem) error {
	for _, dir := range e.overlays {
		if _, err := kustomize(memory, dir); err != nil {
			return err
		}
	}
	return nil
}

// kustomize is "kustomize build" without the program around it.
func kustomize(files filesys.FileSystem, dir string) (resmap.ResMap, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // as the program does
	objects, err := krusty.MakeKustomizer(options).Run(files, "/"+dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", dir, err)
	}
	return objects, nil
}

// sameAsKustomize makes sure that both sides of the comparison do the same work.
func (e *estate) sameAsKustomize(ctx context.Context, r *render.Renderer, memory filesys.FileSystem) error {
	tree, err := e.tree("main")
	if err != nil {
		return err
	}
	for _, dir := range e.overlays {
		objects, err := kustomize(memory, dir)
		if err != nil {
			return err
		}
		want, err := objects.AsYaml()
		if err != nil {
			return fmt.Errorf("kustomize %s: %w", dir, err)
		}
		result, err := r.Render(ctx, tree, dir)
		if err != nil {
			return err
		}
		got, err := result.YAML()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s renders to something else than kustomize gives", dir)
		}
	}
	return nil
}
