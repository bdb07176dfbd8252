package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// decide asks the gates whether the proposed release may become the approved one. Only a changed answer is
// recorded; an allow moves the approved pointer, together with the bytes of the release.
func (a *Agent) decide(ctx context.Context, env *declaration.Environment, tenant *declaration.Tenant) Outcome {
	name := env.Meta.Name
	state := a.journal.environment(name)
	if state.Proposed == nil || state.Approved.is(state.Proposed.Release) {
		return Outcome{}
	}
	law := a.inForce()
	if law.Environments[name] != env {
		return Outcome{} // the governance changed meanwhile, and wakes all
	}
	candidate, err := a.candidate(ctx, law, env, tenant, state)
	if err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	a.note(name, func(o *observation) { o.offered = offeredAs(state.Proposed, candidate.Landed) })
	if b := candidate.Release.Binding; b.Cluster != env.Spec.Cluster || b.Namespace != env.Spec.Namespace {
		return Outcome{Kind: Stalled, Reason: "the proposed release was made for another place than the environment is declared in now",
			Hint: "push a commit that renders"}
	}
	facts := a.facts(law, env, state, candidate) // may wait for the cluster, so outside the lock
	cluster := a.clusters[env.Spec.Cluster]
	if err := a.restoreClaims(ctx, cluster); err != nil {
		return Outcome{Kind: Failed, Reason: err.Error()}
	}
	wanted := policy.Claimed(candidate.Release, env.Spec.Namespace, facts.Scopes)
	facts.Claims = a.claimedByOthers(env, wanted)
	now := a.now()
	verdict := policy.Evaluate(candidate, facts, now)
	if verdict.Answer == policy.Allow { // nobody else may claim the same; gates take their time, and are not asked in here
		cluster.deciding.Lock()
		defer cluster.deciding.Unlock()
		if claims := a.claimedByOthers(env, wanted); !maps.Equal(claims, facts.Claims) {
			return Outcome{Kind: Waiting, Reason: "another environment claimed an object of the release just now", After: time.Millisecond}
		}
	}
	if state.Verdict == nil || !state.Verdict.SameAnswers(verdict) {
		if err := a.recordDecision(env, state, law, policy.Inputs{Candidate: candidate, Facts: facts, At: now}, wanted, verdict); errors.Is(err, errMoved) {
			return Outcome{Kind: Waiting, Reason: "its backups were looked at just now", After: time.Millisecond}
		} else if err != nil {
			return Outcome{Kind: Failed, Reason: err.Error()}
		}
	}
	if verdict.Answer != policy.Allow {
		if err := a.putAside(name, candidate.Release); err != nil {
			return Outcome{Kind: Failed, Reason: err.Error()}
		}
	}
	outcome := outcomeOfVerdict(verdict, now)
	return outcome.join(a.sources[env.Spec.Source.Repository].askAgain(verdict))
}

// askAgain says when the forge is asked again about what it can still change: its notices may not come through, and
// right after a merge it may not know the pull request yet.
func (s *source) askAgain(v policy.Verdict) Outcome {
	if s.pulls == nil || !v.Refused(policy.GateApprovals, policy.GateSignatures) {
		return Outcome{}
	}
	return Outcome{After: s.pulls.Every()}
}

// recheck is how often a waiting verdict is asked again where nothing announces that its facts changed: the cluster or
// the audit remote is away. All others wake the environment: a statement, a notice of the forge, another environment.
const recheck = 2 * time.Second

func outcomeOfVerdict(v policy.Verdict, now time.Time) Outcome {
	if v.Answer == policy.Allow {
		return Outcome{Kind: Applied}
	}
	o := Outcome{Kind: Denied, Reason: joinLines(v.Reasons())}
	if v.Answer == policy.Wait {
		o.Kind = Waiting
	}
	if until := v.Until(); until != nil {
		o.After = max(until.Sub(now), time.Millisecond)
	} else if o.Kind == Waiting && v.WaitsFor(policy.GateIsolation, policy.GateEvidence) { // nothing tells when these can answer
		o.After = recheck
	}
	return o
}

// evidence reads the state of the log now.
func (a *Agent) evidence(now time.Time) *policy.EvidenceFact {
	fact := evidenceFact(a.journal.log.Status(), now)
	a.journal.read(func(s *State) { fact.Newest = s.At })
	return fact
}

// evidenceFact reads the state of the log. Without an error nothing speaks against the remote being in reach;
// whether it is shows when the next intent has to be seen there.
func evidenceFact(log evidence.Status, now time.Time) *policy.EvidenceFact {
	fact := &policy.EvidenceFact{Reached: now, Limit: evidenceLimit, Spooled: log.Spooled, SpoolMax: spoolLimit}
	if log.Err != nil {
		fact.Reached = log.LastPublish
	}
	var stalled *evidence.StalledError
	if errors.As(log.Err, &stalled) {
		fact.Problem = stalled.Error()
	}
	return fact
}

// spoolLimit is how many records may wait for the audit remote before nothing new is approved: half of what
// the spool can hold, so that repair and outcomes still find room.
const spoolLimit = 5_000

// scopes asks the cluster which kinds of a release are namespaced. Kinds it does not serve are left out.
func (c *cluster) scopes(release *render.Release) (map[string]bool, error) {
	scopes := map[string]bool{}
	for _, object := range release.Objects {
		ref := render.RefOf(object)
		if _, asked := scopes[policy.KindKey(ref)]; asked {
			continue
		}
		namespaced, err := c.Scope(ref)
		if err == nil {
			scopes[policy.KindKey(ref)] = namespaced
		} else if !errors.Is(err, apply.ErrNotServed) {
			return nil, err
		}
	}
	return scopes, nil
}

// evidenceLimit is how long the audit remote may be out of reach before nothing new is approved.
const evidenceLimit = 5 * time.Minute

// claimedByOthers says which of some objects belong to another environment of the same cluster: by what it has there, declared or
// not, or by what is approved for it.
func (a *Agent) claimedByOthers(env *declaration.Environment, wanted []render.Ref) map[string]string {
	claims := map[string]string{}
	others := func(owner string) bool {
		return owner != "" && owner != env.Meta.Name && a.law.Environments[owner] != nil
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.journal.read(func(s *State) {
		for _, ref := range wanted {
			key := ref.Key()
			owner := s.owner(env.Spec.Cluster, key)
			left := owner != "" && a.law.Environments[owner] == nil && owner != env.Spec.RenamedFrom
			if left || others(owner) {
				claims[key] = owner
			} else if owner := a.claims[claim{env.Spec.Cluster, key}]; others(owner) {
				claims[key] = owner
			}
		}
	})
	return claims
}

// claim is an object of a cluster.
type claim struct{ cluster, key string }

// claimFor notes what an approved release will own, until it does.
func (a *Agent) claimFor(env *declaration.Environment, wanted []render.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unclaim(env.Meta.Name)
	for _, ref := range wanted {
		a.claims[claim{env.Spec.Cluster, ref.Key()}] = env.Meta.Name
	}
}

// restoreClaims claims, once after a start, what the approved releases of a cluster will own that are not applied yet.
func (a *Agent) restoreClaims(ctx context.Context, c *cluster) error {
	c.restoring.Lock()
	defer c.restoring.Unlock()
	if c.restored {
		return nil
	}
	for _, name := range a.environments(func(e *declaration.Environment) bool { return e.Spec.Cluster == c.Name() }) {
		env, _, ok := a.declared(name)
		state := a.journal.environment(name)
		applied := state.Deployment.Phase == PhaseApplied || state.Deployment.Phase == PhaseLive
		if !ok || state.Approved == nil || applied && state.Deployment.Release == state.Approved.Release {
			continue
		}
		release, err := a.release(ctx, env, *state.Approved)
		if err != nil {
			a.logger.Warn("objects of an approved release are not claimed: it cannot be read", "environment", name, "error", err)
			continue
		}
		scopes, err := c.scopes(release)
		if err != nil {
			return fmt.Errorf("restore the claims of %q: %w", name, err)
		}
		a.claimFor(env, policy.Claimed(release, env.Spec.Namespace, scopes))
	}
	c.restored = true
	return nil
}

// unclaim drops the notes of an environment. The agent's lock is held.
func (a *Agent) unclaim(name string) {
	maps.DeleteFunc(a.claims, func(_ claim, owner string) bool { return owner == name })
}

// dependencyOf says whether an environment runs what is approved for it, healthy.
func dependencyOf(name string, e EnvironmentState) policy.Dependency {
	d := policy.Dependency{Name: name}
	switch {
	case e.Approved == nil:
		d.State = "without an approved release"
	case !e.Live.is(e.Approved.Release):
		d.State = "not live yet"
	case e.Health != nil && !wellEnough(health.Status(e.Health.To)):
		d.State = e.Health.To
	default:
		d.Ready = true
	}
	return d
}

// recordDecision writes down a verdict, with everything it follows from. An allow carries the release to the audit log
// first, so that a new machine can restore it from there alone.
func (a *Agent) recordDecision(env *declaration.Environment, state EnvironmentState, l *law, in policy.Inputs, wanted []render.Ref, v policy.Verdict) error {
	name, release := env.Meta.Name, in.Candidate.Release
	decision := evidence.Decision{
		To: release.Digest, Revision: state.Proposed.Revision, Origin: in.Candidate.Origin, Verdict: v, Governance: l.commit,
	}
	if c := in.Candidate.Class; c != nil {
		decision.Class = c.Meta.Name
	}
	if state.Approved != nil {
		decision.From = state.Approved.Release
	}
	var err error
	if decision.Approvals, err = a.recordApprovals(name, state.Approvals, decision, in.Votes(v)); err != nil {
		return err
	}
	if v.Answer == policy.Allow && in.Candidate.Leaves() {
		decision.Vetoes = state.besides(release.Digest)
	}
	inputs, err := in.Encode()
	if err != nil {
		return fmt.Errorf("encode the inputs of the decision: %w", err)
	}
	rules, err := l.rules()
	if err != nil {
		return fmt.Errorf("encode the rules of the decision: %w", err)
	}
	draft := ofRelease(evidence.TypeDecision, name, release.Digest, decision)
	draft.Blobs = []evidence.Blob{{Name: evidence.InputsBlob, Data: inputs}, {Name: evidence.RulesBlob, Data: rules}}
	if v.Answer == policy.Allow {
		kept, err := keep(name, keepApproved, release)
		if err != nil {
			return err
		}
		draft.Keep = kept
	}
	known := func(s *State) bool { // an allow rests on the last word about backups
		b, e := in.Facts.Backup, s.Environments[name]
		return v.Answer != policy.Allow || b == nil || b.In == "" || e != nil && holds(b, &e.Backups, in.At)
	}
	if _, err := a.journal.recordWhile(draft, known); err != nil {
		return err
	}
	if v.Answer == policy.Allow {
		a.claimFor(env, wanted)
		a.note(name, func(o *observation) { o.aside = aside{} })
	}
	a.at("decided")
	a.metrics.decided(name, v, max(in.At.Sub(state.Proposed.FirstAt), 0))
	a.logger.Info("decided", "environment", name, "release", release.Digest, "answer", v.Answer.String(), "reasons", v.Reasons())
	if v.Answer == policy.Allow {
		return a.supersede(name, state, release.Digest)
	}
	return nil
}

// besides are the approved and the live release, where they are another one than release.
func (e *EnvironmentState) besides(release string) []string {
	var others []string
	for _, p := range []*Pointer{e.Approved, e.Live} {
		if p != nil && p.Release != release && !slices.Contains(others, p.Release) {
			others = append(others, p.Release)
		}
	}
	return others
}

// supersede closes the account of a release that was approved and never became live.
func (a *Agent) supersede(name string, before EnvironmentState, by string) error {
	if before.Approved == nil || before.Live.is(before.Approved.Release) {
		return nil
	}
	draft := ofRelease(evidence.TypeSuperseded, name, before.Approved.Release, evidence.Superseded{Release: before.Approved.Release, By: by})
	if before.Deployment.Release == before.Approved.Release {
		draft.Deployment = before.Deployment.Number
	}
	_, err := a.journal.record(draft)
	return err
}
