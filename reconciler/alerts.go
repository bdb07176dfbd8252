package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/alert"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// What needs attention is looked for after each record, but not more often than raiseGap, and at raiseEvery: time passes,
// and not all that fails is recorded.
const (
	raiseGap   = time.Second
	raiseEvery = 15 * time.Second
)

// raise keeps the alerts that fire up to date. It reads what others wrote down and makes none of them wait.
func (a *Agent) raise(ctx context.Context) error {
	first := beginnings{}
	ticker := time.NewTicker(raiseEvery)
	defer ticker.Stop()
	gap := time.NewTimer(0)
	defer gap.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gap.C:
		}
		now := a.now()
		a.alerts.Set(a.troubles(first, now).Firing(now))
		gap.Reset(raiseGap)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-a.recorded:
		}
	}
}

// signalAlerts has the alerts looked at soon.
func (a *Agent) signalAlerts() {
	select {
	case a.recorded <- struct{}{}:
	default: // it is known already
	}
}

// beginnings remembers since when conditions hold that no record tells of.
type beginnings map[string]time.Time

// since is when a condition that holds began to; zero when it does not hold.
func (b beginnings) since(what string, holds bool, now time.Time) time.Time {
	switch began, known := b[what]; {
	case !holds:
		delete(b, what)
		return time.Time{}
	case known:
		return began
	}
	b[what] = now
	return now
}

// trouble is a condition that no record tells of.
func (b beginnings) trouble(what string, err error, remedy string, now time.Time) alert.Trouble {
	since := b.since(what, err != nil, now)
	if err == nil {
		return alert.Trouble{}
	}
	return alert.Trouble{Since: since, Why: err.Error(), Remedy: remedy}
}

// troubles collects what may need attention.
func (a *Agent) troubles(first beginnings, now time.Time) alert.Estate {
	var governance Governance
	states := map[string]EnvironmentState{}
	a.journal.read(func(s *State) {
		governance = s.Governance
		for name, e := range s.Environments {
			states[name] = *e
		}
	})
	unrecorded := a.backups.unrecorded()
	e := alert.Estate{Audit: a.auditTroubles(first, now)}
	for _, name := range slices.Sorted(maps.Keys(a.clusters)) {
		e.Clusters = append(e.Clusters, a.clusterTroubles(name, first, now))
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(a.problems)) {
		if p := a.problems[name]; p.err != nil {
			e.Sources = append(e.Sources, alert.Source{Name: name, Unreachable: alert.Trouble{Since: p.since, Why: p.err.Error(),
				Remedy: "check the address, the credentials and the server; the last good state stays in force"}})
		}
	}
	e.Governance = governanceTroubles(governance, a.law != nil, first, now)
	if a.law == nil {
		return e // which environments there are is not known
	}
	for name, declared := range a.law.Environments {
		state := states[name]
		env := a.environmentTroubles(declared, state, first, now)
		env.Backups = a.backupTroubles(a.law, backupQuery{
			name: name, b: &state.Backups, unrecorded: unrecorded[name], first: first, now: now, known: governance.Since,
		})
		e.Environments = append(e.Environments, env)
	}
	for name, state := range states {
		if a.law.Environments[name] == nil && (len(state.Inventory) > 0 || len(state.Overrides) > 0) {
			e.Environments = append(e.Environments, a.leftBehind(name, state, governance.Since))
		}
	}
	return e
}

func (a *Agent) auditTroubles(first beginnings, now time.Time) alert.Audit {
	log := a.journal.log.Status()
	audit := alert.Audit{}
	var stalled *evidence.StalledError
	if errors.As(log.Err, &stalled) {
		o := outcomeOf(log.Err)
		audit.Stalled = alert.Trouble{Since: first.since("audit stalled", true, now), Why: o.Reason, Remedy: o.Hint}
	} else {
		first.since("audit stalled", false, now)
		audit.Unreachable = first.trouble("audit", log.Err,
			"bring the audit remote back; nothing new is approved meanwhile, repair goes on, and the records wait on the agent's disk", now)
		if !log.FailedAt.IsZero() {
			audit.Unreachable.Since = log.FailedAt
		}
	}
	var full error
	if log.Spooled >= spoolLimit {
		full = fmt.Errorf("%d records wait for the audit remote, and nothing new is approved from %d on", log.Spooled, spoolLimit)
	}
	audit.Full = first.trouble("spool", full, "bring the audit remote back, or find what makes so many records", now)
	return audit
}

func (a *Agent) clusterTroubles(name string, first beginnings, now time.Time) alert.Cluster {
	c := a.clusters[name]
	t := alert.Cluster{Name: name}
	if since, err := c.Unreachable(); err != nil {
		t.Unreachable = alert.Trouble{Since: since, Why: err.Error(),
			Remedy: "bring the API server back, or correct the agent's kubeconfig; nothing is changed or watched there meanwhile"}
	}
	stalled := c.replaced.Load()
	since := first.since("replaced "+name, stalled != nil, now)
	if stalled != nil {
		t.Replaced = alert.Trouble{Since: since, Why: stalled.What, Remedy: stalled.Hint}
	}
	return t
}

// governanceTroubles says why the newest declarations are not in force.
func governanceTroubles(g Governance, inForce bool, first beginnings, now time.Time) alert.Governance {
	t := alert.Governance{Verdict: g.Verdict, Proposed: g.ProposedAt, Judged: g.JudgedAt}
	if g.Refused != nil {
		t.Refused = alert.Trouble{Since: g.RefusedAt, Why: joinErrors(g.Refused), Remedy: "push declarations that are valid; those in force stay"}
	}
	if since := first.since("governance", !inForce, now); !inForce {
		t.Missing = alert.Trouble{Since: since, Why: errNoGovernance.Error(), Remedy: "see purser status, and governance.trust of the agent's configuration"}
		switch {
		case g.Refused != nil:
			t.Missing.Why = t.Refused.Why
		case g.Verdict != nil:
			t.Missing.Why = strings.Join(g.Verdict.Reasons(), "\n")
		}
	}
	return t
}

func joinErrors(r *evidence.Refused) string {
	return r.Revision.Revision + ": " + strings.Join(r.Errors, "\n")
}

// leftBehind is what may need attention of an environment that is not declared any more.
func (a *Agent) leftBehind(name string, state EnvironmentState, since time.Time) alert.Environment {
	env := alert.Environment{
		Name: name, Tenant: state.Place.Tenant, Cluster: state.Place.Cluster, Owners: a.owners(state.Place.Tenant),
		Overrides: state.Overrides, Objects: len(state.Inventory),
	}
	if env.Objects > 0 {
		env.Orphaned = since
	}
	return env
}

// owners of a tenant. The agent's lock is held.
func (a *Agent) owners(tenant string) []string {
	if t := a.law.Tenants[tenant]; t != nil {
		return t.Spec.Owners
	}
	return nil
}

// environmentTroubles is what may need attention of a declared environment. The agent's lock is held.
func (a *Agent) environmentTroubles(d *declaration.Environment, state EnvironmentState, first beginnings, now time.Time) alert.Environment {
	name := d.Meta.Name
	env := alert.Environment{
		Name: name, Purpose: d.Spec.Purpose, Tenant: tenantOf(d), Cluster: d.Spec.Cluster, Owners: a.owners(tenantOf(d)),
		Objects: len(state.Inventory), Verdict: state.Verdict, Judged: state.JudgedAt, Overrides: state.Overrides,
	}
	if d.Spec.Expires != nil {
		env.Expires = *d.Spec.Expires
	}
	if p := state.Proposed; p != nil && !state.Approved.is(p.Release) {
		env.Proposed = p.At
	}
	if state.Refused != nil {
		env.Refused = alert.Trouble{Since: state.RefusedAt, Why: joinErrors(state.Refused), Remedy: "push a commit that renders; what is live stays"}
	}
	o := a.observed[name]
	if o == nil {
		o = &observation{outcome: unvisited}
	}
	switch o.outcome.Kind {
	case Stalled:
		env.Stalled = alert.Trouble{Since: o.turned, Why: o.outcome.Reason, Remedy: o.outcome.Hint}
		if state.Blocked != nil {
			env.Stalled.Since = state.BlockedAt
		}
	case Failed:
		env.Failing = alert.Trouble{Since: o.turned, Why: o.outcome.Reason, Remedy: cmp.Or(o.outcome.Hint, "purser status tells more; it is tried again")}
		if state.Deployment.Phase == PhaseFailed {
			env.Failing.Since = state.Deployment.FailedAt
		}
	}
	var unknown error
	if a.clusters[d.Spec.Cluster] == nil {
		unknown = fmt.Errorf("its cluster %q is not in the agent's configuration", d.Spec.Cluster)
	}
	if t := first.trouble("cluster of "+name, unknown, "add it to the configuration, or declare the environment elsewhere", now); unknown != nil {
		env.Stalled = t
	}
	env.Ill = illness(state, o)
	env.Drift, env.Contested = driftTroubles(d, state, now)
	return env
}

// illness is what is recorded of the health of what runs. A release that still has time to get well is not ill.
func illness(state EnvironmentState, o *observation) alert.Trouble {
	h := state.Health
	if h == nil || wellEnough(health.Status(h.To)) || h.Release != state.Deployment.Release {
		return alert.Trouble{}
	}
	if state.Deployment.Phase != PhaseLive && o.outcome.Kind != Stalled {
		return alert.Trouble{}
	}
	why := fmt.Sprintf("%s since %s", h.To, state.HealthAt.UTC().Format(time.RFC3339))
	if h.Cause != "" {
		why += ", cause " + h.Cause
	}
	return alert.Trouble{Since: state.HealthAt, Why: why + ": " + cmp.Or(o.report.Message, h.Message),
		Remedy: "purser status tells what is not healthy; push a release that works, or purser rollback"}
}

// driftTroubles is drift that stays, and drift that comes back.
func driftTroubles(d *declaration.Environment, state EnvironmentState, now time.Time) (stays, comes alert.Trouble) {
	policy := policyOf(d)
	if policy == declaration.DriftCorrect {
		var keys []string
		for _, key := range slices.Sorted(maps.Keys(state.Contests)) {
			if c := state.Contests[key]; c.contested(now) {
				keys = append(keys, fmt.Sprintf("%s (%d repairs)", key, c.Repairs))
				if comes.Since.IsZero() || c.Since.Before(comes.Since) {
					comes.Since = c.Since
				}
			}
		}
		if len(keys) > 0 {
			comes.Why = "repaired again and again, and changed each time: " + some(keys)
			comes.Remedy = "let the other manager leave the fields alone, or remove them from the object in Git; the drift records name it"
		}
	}
	var names []string
	for _, drifted := range state.Drift {
		if policy == declaration.DriftCorrect && state.Contests[drifted.Key()].contested(now) {
			continue
		}
		names = append(names, drifted.Ref.String()+byWhom(drifted.By))
	}
	if len(names) == 0 {
		return stays, comes
	}
	stays = alert.Trouble{Since: state.DriftSince, Why: some(names) + " differ from what is approved"}
	switch policy {
	case declaration.DriftCorrect:
		stays.Remedy = "purser status tells why the repair does not succeed"
	case evidence.PolicySuspended:
		stays.Remedy = "the environment is suspended: set spec.reconcile.suspend to false, or undo the change by hand"
	default:
		stays.Remedy = "the environment only reports drift: undo the change by hand, or release it through Git"
	}
	return stays, comes
}
