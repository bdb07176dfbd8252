package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
)

const (
	renderSamples = 10 // by default, of all environments of the large estate
	samplePart    = 50 // so many environments of the large estate are one more sample of the sample estate, which is small
	cachedFactor  = 40 // how many more cached renders than others, which take so much longer
)

// What cmd/purser sets for the agent (see "purser run --help").
const (
	agentGCPercent   = 300
	agentMemoryLimit = 128 << 20 // bytes
)

// rates are samples of renders a second.
type rates struct{ floor, cold, cached []float64 }

// benchRender measures how many environments are rendered a second on all processors, until the digest of the release
// is known.
func benchRender(ctx context.Context, s *session) (_ []figure, err error) {
	samples := cmp.Or(s.samples, renderSamples)
	dir, err := os.MkdirTemp("", "purser-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// For the library, too.
	defer debug.SetGCPercent(debug.SetGCPercent(agentGCPercent))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(agentMemoryLimit))
	large, err := newLargeEstate(ctx, filepath.Join(dir, "large"), s.environments)
	if err != nil {
		return nil, err
	}
	cached := cachedFactor * s.environments
	of, err := large.measure(ctx, samples, cached)
	if err != nil {
		return nil, err
	}
	sample, err := newSampleEstate(ctx, filepath.Join(dir, "sample"))
	if err != nil {
		return nil, err
	}
	also, err := sample.measure(ctx, samples*max(s.environments/samplePart, 1), cached)
	if err != nil {
		return nil, err
	}
	side := func(value []float64) string {
		return fmt.Sprintf("the floor is the kustomize library alone on an in-memory filesystem; %d goroutines on each side; the %d environments of the sample estate: %.4g/s, floor %.4g/s",
			runtime.GOMAXPROCS(0), len(sample.environments), median(value), median(also.floor))
	}
	return []figure{
		rate("render_cold_per_second", of.cold, of.floor, fmt.Sprintf(
			"%d overlays of four objects on one base: repository opened, commit read from its pack, every cache empty, until the digest of each release is known; %s",
			len(large.environments), side(also.cold))),
		rate("render_cached_per_second", of.cached, of.floor, fmt.Sprintf(
			"the same environments asked for again after a push that changes none of them, each time another commit; %s", side(also.cached))),
	}, nil
}

// measure takes the samples of the three in turn, so that all meet the same disturbances. So many cached renders are one
// sample.
func (e *estate) measure(ctx context.Context, samples, cached int) (of rates, err error) {
	memory, err := e.inMemory()
	if err != nil {
		return of, fmt.Errorf("read estate: %w", err)
	}
	repo, err := e.open()
	if err != nil {
		return of, err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	warm := render.New(render.Options{})
	defer warm.Close()
	if err := e.sameAsKustomize(ctx, repo, warm, memory); err != nil { // which also warms up the library and the cache
		return of, err
	}
	push := 0
	for range samples {
		for _, m := range []struct {
			into *[]float64
			pass func() error
			runs int
		}{
			{&of.floor, func() error { return e.renderWithKustomize(memory) }, 1},
			{&of.cold, func() error { return e.renderCold(ctx) }, 1},
			{&of.cached, func() error { push++; return e.renderCached(ctx, repo, warm, push) }, max(cached/len(e.environments), 1)},
		} {
			took, err := timed(m.runs, m.pass)
			if err != nil {
				return of, err
			}
			*m.into = append(*m.into, float64(len(e.environments)*m.runs)/took.Seconds())
		}
	}
	return of, nil
}

// timed runs a pass several times and says how long that took. The garbage of what ran before is not its own.
func timed(runs int, pass func() error) (time.Duration, error) {
	runtime.GC()
	start := time.Now()
	for range runs {
		if err := pass(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// sideBySide does something for all environments, on as many goroutines as there are processors.
func (e *estate) sideBySide(do func(i int) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(e.environments) {
					return nil
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// renderCold makes the release of every environment as an agent does that has just started.
func (e *estate) renderCold(ctx context.Context) (err error) {
	repo, err := e.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	tree, err := repo.Tree(e.commits[0])
	if err != nil {
		return err
	}
	r := render.New(render.Options{})
	defer r.Close()
	decrypt := render.NewDecrypter("")
	return e.sideBySide(func(i int) error {
		_, err := reconciler.Build(ctx, r, decrypt, tree, e.environments[i])
		return err
	})
}

// renderCached asks for what every environment renders to after a neighbour's push.
func (e *estate) renderCached(ctx context.Context, repo *sources.Repository, r *render.Renderer, push int) error {
	commit := e.commits[1+push%pushes]
	return e.sideBySide(func(i int) error {
		tree, err := repo.Tree(commit)
		if err != nil {
			return err
		}
		_, err = r.Render(ctx, tree, e.environments[i].Spec.Source.Path)
		return err
	})
}

// renderWithKustomize renders every environment with the library alone.
func (e *estate) renderWithKustomize(memory filesys.FileSystem) error {
	return e.sideBySide(func(i int) error {
		_, err := kustomize(memory, e.environments[i].Spec.Source.Path)
		return err
	})
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
func (e *estate) sameAsKustomize(ctx context.Context, repo *sources.Repository, r *render.Renderer, memory filesys.FileSystem) error {
	tree, err := repo.Tree(e.commits[0])
	if err != nil {
		return err
	}
	return e.sideBySide(func(i int) error {
		dir := e.environments[i].Spec.Source.Path
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
		return nil
	})
}
