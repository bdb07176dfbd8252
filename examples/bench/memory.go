package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	memoryPushes   = 20               // after everything is live
	memoryInterval = 10 * time.Second // of full comparisons, set for the last part
	memoryStart    = 3 * time.Second  // how long an agent without environments runs before it is looked at
)

// benchMemory measures the most memory that an agent needs: for a cold estate, some pushes and one full comparison.
func benchMemory(ctx context.Context, s *session) ([]figure, error) {
	if err := s.discard(); err != nil {
		return nil, err
	}
	var empty float64
	peaks := map[int]float64{}
	for i, size := range s.sizes {
		w, err := s.newWorld(ctx, size)
		if err != nil {
			return nil, fmt.Errorf("%d environments: %w", size, err)
		}
		if i == 0 {
			empty, err = w.emptyPeak(ctx)
		}
		if err == nil {
			peaks[size], err = w.peak(ctx)
		}
		if err := errors.Join(err, w.stop()); err != nil {
			return nil, fmt.Errorf("%d environments: %w", size, err)
		}
		s.say("%d environments: %.1f MiB", size, peaks[size]/mebibyte)
	}
	return []figure{memoryFigure(s.environments, s.sizes, peaks, empty)}, nil
}

const mebibyte = 1 << 20

func memoryFigure(environments int, sizes []int, peaks map[int]float64, empty float64) figure {
	var each []string
	for i, size := range sizes {
		text := fmt.Sprintf("%.1f MiB at %d", peaks[size]/mebibyte, size)
		if i > 0 {
			before := sizes[i-1]
			text += fmt.Sprintf(" (%.1f KiB for each further environment)", (peaks[size]-peaks[before])/1024/float64(size-before))
		}
		each = append(each, text)
	}
	return cost("peak_rss_bytes", "B", peaks[environments], empty, 1, fmt.Sprintf(
		"most resident memory of the agent (VmHWM) at %d environments, through a cold start, %d pushes and one full comparison: %s; the floor is the same program without environments: %.1f MiB",
		environments, memoryPushes, strings.Join(each, ", "), empty/mebibyte))
}

// peak brings an agent through its work and returns the most memory that it had.
func (w *world) peak(ctx context.Context) (float64, error) {
	if _, err := w.cold(ctx); err != nil {
		return 0, err
	}
	if err := w.settle(ctx); err != nil {
		return 0, err
	}
	random := seed()
	for range min(memoryPushes, len(w.estate.places)) {
		p := w.estate.places[random.IntN(len(w.estate.places))]
		old, err := w.agent.environment(ctx, p.environment)
		if err != nil {
			return 0, err
		}
		if _, err := w.change(ctx, p); err != nil {
			return 0, err
		}
		if _, err := w.awaitLater(ctx, p, old.Live.Release); err != nil {
			return 0, err
		}
	}
	if err := w.comparedOnce(ctx); err != nil {
		return 0, err
	}
	return peakMemory(w.agent.pid())
}

// comparedOnce has the whole estate compared with the cluster: the last comparison is longer ago than the interval that
// it is given now. A comparison asks for every object what applying it would do.
func (w *world) comparedOnce(ctx context.Context) error {
	before, err := w.cluster.countRequests(ctx)
	if err != nil {
		return err
	}
	if err := w.compareEvery(ctx, memoryInterval); err != nil {
		return err
	}
	return until(ctx, 5*time.Minute, time.Second, func() error {
		now, err := w.cluster.countRequests(ctx)
		if err != nil {
			return err
		}
		asked, all := now.since(before).only(dryRuns).sum(), float64(len(managed)*len(w.estate.places))
		if asked < all {
			return fmt.Errorf("%g of %g objects were compared", asked, all)
		}
		return nil
	})
}

// emptyPeak is the most memory of an agent whose estate has no environments, in the same cluster.
func (w *world) emptyPeak(ctx context.Context) (_ float64, err error) {
	dir := filepath.Join(w.dir, "empty")
	estates, err := w.cluster.lab.CreateRepo(ctx, "empty")
	if err != nil {
		return 0, err
	}
	audit, err := w.cluster.lab.CreateRepo(ctx, "empty-audit")
	if err != nil {
		return 0, err
	}
	if _, err := newGenerated(ctx, filepath.Join(dir, "estate"), estates, nil, calm); err != nil {
		return 0, err
	}
	kubeconfig, err := w.cluster.agentKubeconfig()
	if err != nil {
		return 0, err
	}
	a, err := newAgent(ctx, filepath.Join(dir, "agent"), w.agent.purser, kubeconfig, estates.URL, audit.URL)
	if err != nil {
		return 0, err
	}
	if err := a.start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := until(ctx, time.Minute, 100*time.Millisecond, func() error { return a.ready(ctx) }); err != nil {
		return 0, errors.Join(err, errors.New(a.tail()))
	}
	pause(ctx, memoryStart)
	return peakMemory(a.pid())
}
