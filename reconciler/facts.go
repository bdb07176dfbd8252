package reconciler

import (
	"context"
	"fmt"
	"slices"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// candidate is what the gates judge, by the rules of the approved governance.
func (a *Agent) candidate(ctx context.Context, l *law, env *declaration.Environment, tenant *declaration.Tenant, state EnvironmentState) (policy.Candidate, error) {
	release, err := a.release(ctx, env, *state.Proposed)
	if err != nil {
		return policy.Candidate{}, fmt.Errorf("read the proposed release: %w", err)
	}
	approved, err := a.approvedRelease(ctx, env, state)
	if err != nil {
		return policy.Candidate{}, fmt.Errorf("read the approved release: %w", err)
	}
	c, err := l.draft(env, tenant, approved, release, originOf(state, approved, release), a.leftovers(env.Spec.Cluster, l.Set))
	if err != nil {
		return policy.Candidate{}, err
	}
	past, err := a.landedChanges(ctx, l, env, state, approved, release)
	if err != nil {
		return policy.Candidate{}, fmt.Errorf("read the landed changes: %w", err)
	}
	c.History = past.History
	c.Classify(l.Set, ChangedPaths(past.Paths, approved, release))
	return c, nil
}

// landedChanges are the landed changes since the approved release that alter what the environment reads.
func (a *Agent) landedChanges(ctx context.Context, l *law, env *declaration.Environment, state EnvironmentState, approved, release *render.Release) (landed.Past, error) {
	if state.Approved == nil {
		return landed.Past{}, nil
	}
	src := a.sources[env.Spec.Source.Repository]
	to, err := sources.ParseRevision(state.Proposed.Revision.Revision)
	if err != nil {
		return landed.Past{}, err
	}
	from, err := sources.ParseRevision(state.Approved.Revision.Revision)
	switch {
	case err != nil:
		return landed.Past{}, err
	case src == nil:
		return landed.Past{}, fmt.Errorf("source %q is not configured", env.Spec.Source.Repository)
	case state.Approved.Revision.Source != src.name:
		return landed.Unknown(fmt.Sprintf("the approved release came from source %q", state.Approved.Revision.Source)), nil
	}
	return src.landed.Release(ctx, l.Keyring, landed.Span{From: from, To: to, Offers: state.Offers}, approved, release)
}

// draft is a candidate before it is known what landed.
func (l *law) draft(env *declaration.Environment, tenant *declaration.Tenant, approved, release *render.Release, origin policy.Origin, left []policy.Leftover) (policy.Candidate, error) {
	c := policy.Candidate{
		Environment: env, Tenant: tenant, Release: release, Approved: approved, Diff: render.Diff(approved, release),
		Origin: origin, Policies: l.policies(env), Calendar: l.Calendars[env.Spec.Calendar],
	}
	if name := env.Spec.Calendar; name != "" && c.Calendar == nil {
		return policy.Candidate{}, fmt.Errorf("calendar %q of %q is not declared", name, env.Meta.Name)
	}
	c.FindNeighbours(l.Set, left)
	return c, nil
}

// ChangedPaths are those that classifications are asked about: what landed changes altered, and what the release reads and
// the approved one did not find there, however it got there.
func ChangedPaths(landed []string, approved, release *render.Release) []string {
	var before render.Inputs
	if approved != nil {
		before = approved.Inputs
	}
	paths := slices.Concat(landed, release.Inputs.Differing(before))
	slices.Sort(paths)
	return slices.Compact(paths)
}

// facts asks around for everything but the claims.
func (a *Agent) facts(l *law, env *declaration.Environment, state EnvironmentState, c policy.Candidate) policy.Facts {
	f := policy.Facts{
		People: l.people, Hold: state.Hold,
		Evidence: a.evidence(a.now()),
	}
	var err error
	if f.Scopes, err = a.clusters[env.Spec.Cluster].scopes(c.Release); err != nil {
		f.ScopesUnknown = err.Error()
	}
	for _, name := range env.Spec.DependsOn {
		f.Dependencies = append(f.Dependencies, dependencyOf(name, a.journal.environment(name)))
	}
	f.Statements = l.believed(state.Statements)
	f.Overrides = l.orders(state.Overrides)
	if c := state.Caught; c != nil && c.To != "" {
		f.Caught = &policy.Caught{Release: c.Release, Freeze: c.Freeze.Name, At: c.At}
	}
	if v, vetoed := state.Vetoes[c.Release.Digest]; vetoed {
		f.Veto = &v
	}
	f.Attestations = a.attestations(l, env, c.Release)
	if c.AsksBackups() {
		f.Backup = a.backups.facts(l, env, c.AsksStore())
	}
	if from := env.Spec.Promotion.From; from != "" {
		f.Promotion = &policy.Promotion{From: from, Soaks: a.journal.environment(from).Soaks}
	}
	if state.Live != nil {
		f.Live = &policy.Live{Healthy: true, State: string(health.Healthy)}
		if state.Health != nil && !wellEnough(health.Status(state.Health.To)) {
			f.Live = &policy.Live{State: state.Health.To}
		}
	}
	return f
}
