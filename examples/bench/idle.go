package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
)

// idleStep is the time between two looks.
const idleStep = time.Second

// benchIdle measures what an agent costs while nothing happens, over a time that spans one full comparison of the
// whole estate. The comparison is told apart and not counted. So are requests of others: the API server writes down whose
// each request is, only for this bench, since that costs it time. A sample is a look after the comparison.
func benchIdle(ctx context.Context, s *session) (_ []figure, err error) {
	w, err := s.settled(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.discard()) }() // it is not as the others need it any more
	// Otherwise its own work would disturb. Without it nothing changes any more.
	if err := w.cluster.lab.StopServer(lab.ControllerManager); err != nil {
		return nil, err
	}
	log, err := w.cluster.startAudit(ctx)
	if err != nil {
		return nil, fmt.Errorf("start audit log: %w", err)
	}
	defer func() { err = errors.Join(err, log.close()) }()
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	bare, err := startBareWatcher(w.cluster.lab.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	calm := cmp.Or(time.Duration(s.samples)*idleStep, calmTime(s.environments))
	interval := intervalFactor * calm
	o := &observer{world: w, log: log, bare: bare}
	if _, err := o.next(ctx); err != nil {
		return nil, err
	}
	if err := w.compareEvery(ctx, interval); err != nil {
		return nil, err
	}
	w.say("the estate is compared with the cluster every %s", interval)
	// The first comparison comes sooner, at once if the last one is longer ago than the new interval.
	if _, err := o.awaitComparison(ctx, calm); err != nil {
		return nil, err
	}
	seen, err := o.awaitComparison(ctx, calm)
	if err != nil {
		return nil, err
	}
	return idleFigures(seen, s.environments, calm)
}

// intervalFactor is how many times as long as the calm the interval of comparisons is: a loaded machine takes its time for a
// comparison.
const intervalFactor = 6

// calmTime is how long nothing has to go on after the comparison, and half of it before. Comparisons take longer the more
// environments there are.
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
	requests  requests      // besides watches, as the API server counts them
	audited   requests      // the same as it writes down whose they are
	cpu, bare time.Duration // of the agent, and of a process that only watches
}

// comparing: a comparison asks what applying an object would do. Nothing else does while nothing changes.
func (m moment) comparing() bool { return m.requests.only(dryRuns).sum() > 0 }

// observer looks at a world time and again.
type observer struct {
	*world
	log  *auditLog
	bare *bareWatcher
	last looked
}

// looked is what there is to see at one moment.
type looked struct {
	at        time.Time
	requests  requests // since the API server's start
	cpu, bare time.Duration
}

// next is what happened since the last look.
func (o *observer) next(ctx context.Context) (m moment, err error) {
	if err := o.agent.alive(); err != nil {
		return m, err
	}
	now := looked{at: time.Now()}
	if now.requests, err = o.cluster.countRequests(ctx); err != nil {
		return m, err
	}
	if m.audited, err = o.log.next(); err != nil {
		return m, err
	}
	if now.cpu, err = usedCPU(o.agent.pid()); err != nil {
		return m, err
	}
	if now.bare, err = usedCPU(o.bare.cmd.Process.Pid); err != nil {
		return m, err
	}
	m.requests = now.requests.since(o.last.requests).only(besidesWatches)
	m.took, m.cpu, m.bare = now.at.Sub(o.last.at), now.cpu-o.last.cpu, now.bare-o.last.bare
	o.last = now
	return m, nil
}

// awaitComparison looks until every object was compared, and calm after the last one.
func (o *observer) awaitComparison(ctx context.Context, calm time.Duration) ([]moment, error) {
	var seen []moment
	compared, last, all := 0.0, o.last.at, float64(len(managed)*len(o.estate.places))
	for compared < all || o.last.at.Sub(last) < calm {
		pause(ctx, idleStep)
		m, err := o.next(ctx)
		if err != nil {
			return nil, err
		}
		seen = append(seen, m)
		if m.comparing() {
			compared, last = compared+m.requests.only(dryRuns).sum(), o.last.at
		}
		if patience := intervalFactor*calm + 5*time.Minute; o.last.at.Sub(last) > patience {
			return nil, fmt.Errorf("%g of %g objects were compared, none within %s", compared, all, patience)
		}
	}
	return seen, nil
}

// spent is what a part of the time cost.
type spent struct {
	took, cpu, bare   time.Duration
	requests, audited requests
}

func (s *spent) add(m moment) {
	s.took, s.cpu, s.bare = s.took+m.took, s.cpu+m.cpu, s.bare+m.bare
	s.requests.add(m.requests)
	s.audited.add(m.audited)
}

// margin is how many moments beside a comparison are left out of the quiet time, because it may reach into them.
const margin = 1

func idleFigures(seen []moment, environments int, calm time.Duration) ([]figure, error) {
	quiet, comparing := spent{requests: requests{}, audited: requests{}}, spent{requests: requests{}, audited: requests{}}
	for i, m := range seen {
		if slices.ContainsFunc(seen[max(i-margin, 0):min(i+margin+1, len(seen))], moment.comparing) {
			comparing.add(m)
		} else {
			quiet.add(m)
		}
	}
	if quiet.took < calm*3/2 {
		return nil, fmt.Errorf("only %s of %s were calm", quiet.took, quiet.took+comparing.took)
	}
	share := func(d time.Duration) float64 { return d.Seconds() / quiet.took.Seconds() }
	tick := share(clockTick)
	own, others := quiet.audited.only(ofAgent), quiet.audited.only(ofOthers)
	about := fmt.Sprintf("%d environments, %.0f s with nothing going on around one full comparison (every %s; it took about %.0f s, %g requests: %s; %.2f CPU seconds)",
		environments, quiet.took.Seconds(), intervalFactor*calm, comparing.took.Seconds(), comparing.requests.sum(), comparing.requests, comparing.cpu.Seconds())
	return []figure{
		spare("idle_requests", "requests", own.sum(), 0, 1, 1, fmt.Sprintf(
			"%s; requests of the agent besides watches and outside of the comparison, by the audit log: %s; those of others, which are not counted: %s; the controller manager is stopped; the floor is what watches alone need", about, own, others)),
		spare("idle_cpu_share", "cores", share(quiet.cpu), share(quiet.bare), tick, 1, fmt.Sprintf(
			"%s; CPU time of the process outside of the comparison by the time that passed; the floor is a process that holds one watch of each of the %d kinds; one tick of the clock is %.5f", about, len(managed), tick)),
	}, nil
}
