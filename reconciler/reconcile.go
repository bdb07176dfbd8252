package reconciler

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// reconcile takes one environment as far as it goes now: propose → decide → deploy → observe. A stage that
// cannot go on does not stop the later ones: while a proposal is refused or waits, what is approved is still
// deployed, and what is live still repaired.
func (a *Agent) reconcile(ctx context.Context, env *declaration.Environment, tenant *declaration.Tenant) Outcome {
	ctx, cancel := context.WithTimeout(ctx, env.Spec.Reconcile.Timeout)
	defer cancel()
	outcome := a.propose(ctx, env)
	outcome = outcome.join(a.decide(ctx, env, tenant))
	outcome = outcome.join(a.deploy(ctx, env))
	outcome = outcome.join(a.observe(ctx, env))
	return outcome.join(a.edge(env))
}

// visit is what the queue of a cluster calls: it reconciles, remembers the outcome, and says when to come back.
func (a *Agent) visit(ctx context.Context, cluster, name string) time.Duration {
	env, tenant, ok := a.declared(name)
	if !ok || env.Spec.Cluster != cluster {
		return 0 // no longer declared, or another queue's now
	}
	if !a.take(name) {
		return retryFirst // the queue of the cluster where it was declared before is not done with it
	}
	defer a.leave(name)
	start := a.now()
	outcome := a.reconcile(ctx, env, tenant)
	if ctx.Err() != nil {
		return 0
	}
	changed := false
	var delay time.Duration
	a.note(name, func(o *observation) {
		delay = outcome.delay(o.failures, env.Spec.Reconcile.Interval)
		switch {
		case outcome.Untried: // as it was
		case outcome.Kind == Failed || outcome.Kind == Stalled:
			o.failures++
		default:
			o.failures = 0
		}
		if o.outcome.Kind != outcome.Kind || o.turned.IsZero() {
			o.turned = start
		}
		if o.outcome.Kind != outcome.Kind || o.outcome.Reason != outcome.Reason {
			changed = !o.since.IsZero() || outcome.Kind != Unchanged // after a start, all being as it was is no news
			o.since = start
		}
		o.outcome = outcome
	})
	if changed {
		a.logger.Info("reconciled", "environment", name, "outcome", outcome.Kind.String(), "reason", outcome.Reason, "hint", outcome.Hint)
	}
	a.metrics.reconciled(name, outcome, a.now().Sub(start))
	return delay
}

// unvisited is the outcome before the first visit.
var unvisited = Outcome{Kind: Waiting, Reason: "not looked at since the agent's start"}

// take claims an environment for one worker; false when another one has it.
func (a *Agent) take(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[name] {
		return false
	}
	a.busy[name] = true
	return true
}

func (a *Agent) leave(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, name)
}

// observation is what the agent knows of an environment without a record: it can be found out again.
type observation struct {
	rendered   *render.Release // by the last render, in outline
	aside      aside           // the proposed release, while it waits
	outcome    Outcome
	since      time.Time // of the outcome
	turned     time.Time // of the outcome's kind
	failures   int       // outcomes in a row that failed or stalled
	release    pause     // after an attempt to apply a release that failed
	repair     pause     // after a repair that failed
	comparedAt time.Time // last comparison of the target with the cluster
	healthAt   time.Time // last look at health
	offered    offered   // the newest proposed release that was judged
	abandoned  uint64    // the newest intent that the audit remote did not show
	moved      bool      // something changed since, says the watch
	report     health.Report
	unrecorded map[string]bool // keys of objects that were found to differ, and no record could be made of it
}

// pause follows an attempt that failed: only time, or somebody who asks for it, makes another one. Visits alone do not,
// for a watched object that changes all the time causes many.
type pause struct {
	of       string // release
	failures int
	at       time.Time
	length   time.Duration
	outcome  Outcome
	keys     map[string]bool // objects that failed; nil is all
	missing  map[string]bool // objects that were missing then, as the watch says
}

// left is how long the next attempt has to wait.
func (p pause) left(release string, now time.Time) time.Duration {
	if p.of != release {
		return 0
	}
	return remaining(p.at, now, p.length)
}

// except is the pause without the objects that were there when the attempt failed and have gone since: what kept them
// from being restored went with them.
func (p pause) except(missing map[string]bool) pause {
	p.keys = maps.Clone(p.keys)
	maps.DeleteFunc(p.keys, func(key string, _ bool) bool { return missing[key] && !p.missing[key] })
	return p
}

// again is the outcome of the attempt that failed, until it is time for the next.
func (p pause) again(left time.Duration) Outcome {
	o := p.outcome
	o.After, o.Untried = left, true
	return o
}

// after is the pause after one more attempt.
func (p pause) after(release string, outcome Outcome, keys, missing map[string]bool, interval time.Duration, now time.Time) pause {
	next := pause{of: release, at: now, outcome: outcome, keys: keys, missing: missing}
	if p.of == release {
		next.failures = p.failures + 1
	}
	next.length = outcome.delay(next.failures, interval)
	return next
}

// observation is a copy of what is known of an environment.
func (a *Agent) observation(name string) observation {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if o := a.observed[name]; o != nil {
		return *o
	}
	return observation{}
}

// forget drops what is known of an environment that is no longer declared.
func (a *Agent) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.observed, name)
	a.unclaim(name)
}

// note changes what is known of an environment.
func (a *Agent) note(name string, change func(*observation)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.observed[name]
	if o == nil {
		o = &observation{outcome: unvisited}
		a.observed[name] = o
	}
	change(o)
}

// remaining is how long until something done last at a time is to be done again; 0 is now. A clock that went
// back makes everything due: doing it once more is harmless, waiting for the future is not.
func remaining(last, now time.Time, every time.Duration) time.Duration {
	if last.IsZero() || now.Before(last) {
		return 0
	}
	return max(every-now.Sub(last), 0)
}

func joinLines(lines []string) string { return strings.Join(lines, "; ") }
