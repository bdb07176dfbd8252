package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
)

// idleStep is the time between two looks.
const idleStep = time.Second

// benchIdle measures what an agent costs while nothing happens, over a time that spans one full comparison of the
// whole estate. The comparison is told apart and not counted.
func benchIdle(ctx context.Context, s *session) (_ []figure, err error) {
	w, err := s.settled(ctx)
	if err != nil {
		return nil, err
	}
	// Otherwise its own requests would count. Without it nothing changes any more.
	if err := w.cluster.lab.StopServer(lab.ControllerManager); err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, w.cluster.lab.StartServer(context.WithoutCancel(ctx), lab.ControllerManager))
	}()
	bare, err := startBareWatcher(w.cluster.lab.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	calm := calmTime(s.environments)
	interval := 4 * calm
	if err := w.compareEvery(ctx, interval); err != nil {
		return nil, err
	}
	w.say("the estate is compared with the cluster every %s", interval)
	// The first comparison is of environments whose last one is longer ago than the new interval: at once.
	if _, err := w.awaitComparison(ctx, bare, calm); err != nil {
		return nil, err
	}
	seen, err := w.awaitComparison(ctx, bare, calm)
	if err != nil {
		return nil, err
	}
	return seen.figures(s.environments, calm)
}

// calmTime is how long nothing has to go on after the comparison, and half of it before. It leaves time between two
// comparisons, which take longer the more environments there are.
func calmTime(environments int) time.Duration {
	return min(max(time.Duration(environments)*time.Second/25, 2*time.Second), 20*time.Second).Round(time.Second)
}

// compareEvery pushes another interval of full comparisons.
func (w *world) compareEvery(ctx context.Context, interval time.Duration) error {
	if err := w.estate.compareEvery(interval); err != nil {
		return err
	}
	if _, err := w.estate.push(ctx, "Compare every "+interval.String()); err != nil {
		return err
	}
	return w.agent.tell(ctx)
}

// moment is what happened between two looks.
type moment struct {
	took      time.Duration
	requests  requests      // besides watches
	cpu, bare time.Duration // of the agent, and of a process that only watches
}

// comparing: a comparison asks what applying an object would do. Nothing else does while nothing changes.
func (m moment) comparing() bool { return m.requests.only(dryRuns).sum() > 0 }

// timeline is what was seen of one comparison and the quiet time before and after it.
type timeline struct {
	moments     []moment
	first, last int     // moments of the comparison
	reconciled  float64 // environments, in all of it
}

// awaitComparison looks until a comparison was seen, and calm after it.
func (w *world) awaitComparison(ctx context.Context, bare *bareWatcher, calm time.Duration) (timeline, error) {
	t := timeline{first: -1}
	reconciled, err := w.agent.metric(ctx, metricReconciled)
	if err != nil {
		return t, err
	}
	before, err := w.look(ctx, bare)
	if err != nil {
		return t, err
	}
	for deadline := before.at.Add(5 * time.Minute); ; {
		pause(ctx, idleStep)
		now, err := w.look(ctx, bare)
		if err != nil {
			return t, err
		}
		m := moment{
			took: now.at.Sub(before.at), cpu: now.cpu - before.cpu, bare: now.bare - before.bare,
			requests: now.requests.since(before.requests).only(besidesWatches),
		}
		before = now
		t.moments = append(t.moments, m)
		if m.comparing() {
			if t.first < 0 {
				t.first = len(t.moments) - 1
			}
			t.last = len(t.moments) - 1
		}
		if t.first >= 0 && time.Duration(len(t.moments)-1-t.last)*idleStep >= calm {
			break
		}
		if now.at.After(deadline) {
			return t, errors.New("no full comparison was seen within 5 minutes")
		}
	}
	after, err := w.agent.metric(ctx, metricReconciled)
	t.reconciled = after - reconciled
	return t, err
}

// looked is what there is to see at one moment.
type looked struct {
	at        time.Time
	requests  requests
	cpu, bare time.Duration
}

func (w *world) look(ctx context.Context, bare *bareWatcher) (l looked, err error) {
	if err := w.agent.alive(); err != nil {
		return l, err
	}
	if l.requests, err = w.cluster.countRequests(ctx); err != nil {
		return l, err
	}
	l.at = time.Now()
	if l.cpu, err = usedCPU(w.agent.pid()); err != nil {
		return l, err
	}
	l.bare, err = usedCPU(bare.cmd.Process.Pid)
	return l, err
}

// margin is how many moments beside the comparison are left out of the quiet time, because it may reach into them.
const margin = 1

func (t timeline) figures(environments int, calm time.Duration) ([]figure, error) {
	var quiet, comparison time.Duration
	var cpu, bare, comparisonCPU time.Duration
	outside, inside := requests{}, requests{}
	for i, m := range t.moments {
		if i >= t.first-margin && i <= t.last+margin {
			inside.add(m.requests)
			comparison, comparisonCPU = comparison+m.took, comparisonCPU+m.cpu
			continue
		}
		outside.add(m.requests)
		quiet, cpu, bare = quiet+m.took, cpu+m.cpu, bare+m.bare
	}
	if before := time.Duration(t.first-margin) * idleStep; before < calm/2 {
		return nil, fmt.Errorf("only %s were calm before the comparison", before)
	}
	if t.reconciled < float64(environments) {
		return nil, fmt.Errorf("only %g of %d environments were compared", t.reconciled, environments)
	}
	share := func(d time.Duration) float64 { return d.Seconds() / quiet.Seconds() }
	tick := share(clockTick)
	others := outside.only(ofControlPlane)
	own := outside.only(func(r request) bool { return !ofControlPlane(r) })
	about := fmt.Sprintf("%d environments, %.0f s with nothing going on around one full comparison (every %s; it took about %.0f s, %g requests: %s; %.2f CPU seconds)",
		environments, quiet.Seconds(), 4*calm, comparison.Seconds(), inside.sum(), inside, comparisonCPU.Seconds())
	return []figure{
		spare("idle_requests", "requests", own.sum(), 0, 1, 1, fmt.Sprintf(
			"%s; requests besides watches outside of the comparison: %s; the API server's own, which are not counted: %s; the controller manager is stopped; the floor is what watches alone need", about, own, others)),
		spare("idle_cpu_share", "cores", share(cpu), share(bare), tick, 1, fmt.Sprintf(
			"%s; CPU time of the process outside of the comparison by the time that passed; the floor is a process that holds one watch of each of the %d kinds; one tick of the clock is %.5f", about, len(managed), tick)),
	}, nil
}

// ofControlPlane: what the API server asks itself, without any client: it renews its lease and reads its own schema.
func ofControlPlane(r request) bool { return r.resource == "leases" || r.subresource == "openapi/v3" }
