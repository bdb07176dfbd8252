package reconciler

import (
	"context"
	"errors"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
)

// Explanation says of an environment's proposed release what each gate answers, and what the answers rest on.
type Explanation struct {
	Environment string          `json:"environment"`
	At          time.Time       `json:"at"`
	Governance  string          `json:"governance"` // commit whose rules are asked
	From        string          `json:"from,omitempty"`
	Proposed    *Pointer        `json:"proposed,omitempty"` // nil: nothing waits
	Origin      policy.Origin   `json:"origin,omitempty"`
	Class       string          `json:"class,omitempty"`
	ClassWhy    string          `json:"classWhy,omitempty"`
	Landed      []policy.Landed `json:"landed,omitempty"`
	// Changes are the difference from the approved release: the first [mostChanged] objects, of each the first
	// [mostFields] fields.
	Changes     []render.ObjectChange `json:"changes,omitempty"`
	MoreChanges int                   `json:"moreChanges,omitempty"` // objects beyond those in Changes
	Verdict     *policy.Verdict       `json:"verdict,omitempty"`
	Until       *time.Time            `json:"until,omitempty"` // when the answer may change by itself
	Statements  []policy.Statement    `json:"statements,omitempty"`
	Overrides   []policy.Override     `json:"overrides,omitempty"`
	// Protection is how the forge protects the environment's branch; nil where there is no forge, or it was not asked yet.
	Protection *evidence.Protection `json:"protection,omitempty"`
}

// ErrNotDeclared says that there is no such environment.
var ErrNotDeclared = errors.New("no such environment")

// Explain asks the gates about the proposed release of an environment, at some time, and records nothing.
func (a *Agent) Explain(ctx context.Context, name string, at time.Time) (Explanation, error) {
	l := a.inForce()
	if l == nil {
		return Explanation{}, errNoGovernance
	}
	env := l.Environments[name]
	if env == nil {
		return Explanation{}, ErrNotDeclared
	}
	state := a.journal.environment(name)
	e := Explanation{Environment: name, At: at, Governance: l.commit, Overrides: state.Overrides, Statements: state.Statements}
	e.Protection = a.protectionOf(env.Spec.Source.Repository, env.Spec.Source.Branch)
	if state.Approved != nil {
		e.From = state.Approved.Release
	}
	if state.Proposed == nil || e.From == state.Proposed.Release {
		return e, nil
	}
	candidate, err := a.candidate(ctx, l, env, l.Tenants[env.Spec.Tenant], state)
	if err != nil {
		return Explanation{}, err
	}
	facts := a.facts(l, env, state, candidate)
	facts.Evidence = a.evidence(at)
	if at.Before(a.now().Add(-time.Minute)) { // asked about the past: the clock did not go back
		facts.Evidence.Newest = time.Time{}
	}
	if err := a.restoreClaims(ctx, a.clusters[env.Spec.Cluster]); err != nil {
		return Explanation{}, err
	}
	facts.Claims = a.claimedByOthers(env, policy.Claimed(candidate.Release, env.Spec.Namespace, facts.Scopes))
	verdict := policy.Evaluate(candidate, facts, at)
	e.Proposed, e.Origin, e.Landed, e.Verdict, e.Until = state.Proposed, candidate.Origin, candidate.Landed, &verdict, verdict.Until()
	e.Changes, e.MoreChanges = bounded(candidate.Diff)
	e.ClassWhy = candidate.ClassWhy
	if candidate.Class != nil {
		e.Class = candidate.Class.Meta.Name
	}
	return e, nil
}

// Bounds on the release diff of an explanation.
const (
	mostChanged = 100 // objects
	mostFields  = 20  // of one object
)

// bounded cuts a release diff.
func bounded(diff []render.ObjectChange) (changes []render.ObjectChange, more int) {
	changes = render.Told(diff[:min(len(diff), mostChanged)])
	for i := range changes {
		if c := &changes[i]; len(c.Fields) > mostFields {
			c.More += len(c.Fields) - mostFields
			c.Fields = c.Fields[:mostFields]
		}
	}
	return changes, len(diff) - len(changes)
}
