package reconciler

import (
	"slices"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// soaksMax is how many releases of an environment are remembered for those that are promoted from it.
const soaksMax = 20

// soakLive opens the healthy time of the release that just became live.
func (e *EnvironmentState) soakLive(p evidence.Live, at time.Time) {
	e.soakEnds(at)
	soaks := slices.DeleteFunc(slices.Clone(e.Soaks), func(s policy.Soak) bool { return s.Release == p.Release })
	next := policy.Soak{Release: p.Release, Images: p.Images, Since: &at}
	for _, s := range e.Soaks {
		if s.Release == p.Release {
			next.Healthy, next.Ran = s.Healthy, s.Ran
		}
	}
	if e.Health != nil && e.Health.Release == p.Release {
		next = next.Saw(e.Health.Ran, at)
	}
	soaks = append(soaks, next)
	e.Soaks = soaks[max(len(soaks)-soaksMax, 0):]
}

// soakEnds adds up the healthy time that is going on, and ends it.
func (e *EnvironmentState) soakEnds(at time.Time) {
	if n := len(e.Soaks); n > 0 && e.Soaks[n-1].Since != nil {
		e.Soaks = slices.Clone(e.Soaks)
		last := &e.Soaks[n-1]
		last.Healthy, last.Since = last.Total(at), nil
	}
}

// soakHealth starts or ends the healthy time of what is live, and notes what of it was seen to run.
func (e *EnvironmentState) soakHealth(p evidence.Health, at time.Time) {
	well := wellEnough(health.Status(p.To))
	n := len(e.Soaks)
	if n == 0 || e.Soaks[n-1].Release != p.Release || !e.Live.is(p.Release) || e.Deployment.Phase != PhaseLive {
		return
	}
	e.Soaks = slices.Clone(e.Soaks)
	e.Soaks[n-1] = e.Soaks[n-1].Saw(p.Ran, at)
	if !well {
		e.soakEnds(at)
	} else if e.Soaks[n-1].Since == nil {
		e.Soaks[n-1].Since = &at
	}
}

// foldStart takes the time between two runs of the agent out of every healthy time: nobody looked.
func foldStart(s *State, r evidence.Record, _ evidence.Start) {
	for _, e := range s.Environments {
		if n := len(e.Soaks); n > 0 && e.Soaks[n-1].Since != nil {
			e.soakEnds(s.At)
			at := r.Time
			e.Soaks[n-1].Since = &at
		}
	}
}
