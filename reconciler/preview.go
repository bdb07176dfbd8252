package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/answer"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
)

// shape finds out what a merge would touch. The merge is nil where there is none.
func (n *answers) shape(ctx context.Context, l *law, pr forge.OpenPullRequest, base string) (*answer.Preview, *sources.Merge, error) {
	p := &answer.Preview{Base: base, Head: pr.Head, Governance: l.commit, Judged: map[string]*answer.Judgement{}}
	m, err := n.repo.Merge(ctx, base, pr.Head, landed.AlteredMax)
	switch {
	case err != nil && passing(err):
		return nil, nil, err
	case err != nil:
		p.Problem, p.Blind = err.Error(), true
		return p, nil, nil
	case m.Tree == nil:
		p.Problem = fmt.Sprintf("%s changed %s as well since the two parted", pr.Base, strings.Join(m.Conflicts, ", "))
	}
	if n.source == n.agent.config.Governance.Source && pr.Base == n.agent.config.Governance.Branch {
		governed := landed.NewReads(n.agent.config.Governance.Path)
		p.Declares = slices.DeleteFunc(slices.Clone(m.Own), func(path string) bool { return !governed.Has(path) })
	}
	for _, name := range n.environments(pr.Base) {
		env, seen := l.Environments[name], n.agent.observation(name)
		if env == nil || n.agent.clusters[env.Spec.Cluster] == nil {
			continue
		}
		if seen.rendered == nil && seen.since.IsZero() {
			p.Unseen++
			continue
		}
		if !touches(m, env, seen.rendered) {
			continue
		}
		if len(p.Affected) == answer.MostPreviewed {
			p.More++
		} else {
			p.Affected = append(p.Affected, name)
		}
	}
	return p, m, nil
}

// touches reports whether a merge may change an environment's release; rendered is the last that rendered, nil if none
// did.
func touches(m *sources.Merge, env *declaration.Environment, rendered *render.Release) bool {
	if rendered != nil && m.Tree != nil {
		return !rendered.StillCurrent(m.Tree, env.Spec.Source.Path)
	}
	own := landed.NewReads(env.Spec.Source.Path)
	return slices.ContainsFunc(m.Own, landed.ReadsOf(rendered).Has) || slices.ContainsFunc(m.Own, own.Has)
}

// environments lists those of the source that follow a branch, sorted.
func (n *answers) environments(branch string) []string {
	return n.agent.environments(func(e *declaration.Environment) bool {
		return e.Spec.Source.Repository == n.source && (branch == "" || e.Spec.Source.Branch == branch)
	})
}

// judge asks the gates about one environment.
func (n *answers) judge(ctx context.Context, l *law, name string, m *sources.Merge, p *answer.Preview, one *landed.Merge) (*answer.Judgement, error) {
	a, env := n.agent, l.Environments[name]
	ctx, cancel := context.WithTimeout(ctx, previewTimeout)
	defer cancel()
	state := a.journal.environment(name)
	from, broken, err := n.before(ctx, env, state, p.Base)
	if err != nil {
		return nil, err
	}
	release, err := Build(ctx, n.renderer, a.decrypt, m.Tree, env)
	if err != nil {
		if passing(err) {
			return nil, err
		}
		refused := messages(err)
		return &answer.Judgement{Refused: refused, Same: slices.Equal(refused, broken)}, nil
	}
	if from != nil && from.Digest == release.Digest {
		return &answer.Judgement{Same: true}, nil
	}
	j := &answer.Judgement{}
	if state.Approved == nil {
		from = nil
	} else if from == nil { // it may be what makes the branch render again
		if from, err = a.approvedRelease(ctx, env, state); err != nil {
			return nil, err
		}
	} else if from.Digest != state.Approved.Release {
		j.Earlier = "what landed before is not approved yet"
		if v := state.Verdict; v != nil && v.Answer != policy.Allow {
			j.Earlier += ": " + joinLines(v.Reasons())
		}
	}
	c, err := l.draft(env, l.Tenants[env.Spec.Tenant], from, release, originOf(state, from, release), a.leftovers(env.Spec.Cluster, l.Set))
	if err != nil {
		return nil, err
	}
	past, err := one.Release(l.Keyring, from, release, state.Offers, a.now())
	if err != nil {
		return nil, err
	}
	c.History = past.History
	c.Classify(l.Set, ChangedPaths(past.Paths, from, release))
	facts := a.facts(l, env, state, c)
	facts.Attestations = a.attestationsIn(l, n.repo, m.Tree, nil, env, release)
	if err := a.restoreClaims(ctx, a.clusters[env.Spec.Cluster]); err != nil {
		return nil, err
	}
	facts.Claims = a.claimedByOthers(env, policy.Claimed(release, env.Spec.Namespace, facts.Scopes))
	now := a.now() // not before the facts
	verdict := policy.Evaluate(c, facts, now)
	j.Verdict, j.ClassWhy = &verdict, c.ClassWhy
	j.Changes, j.Diff = answer.Diff(render.Told(c.Diff), len(p.Affected))
	if c.Class != nil {
		j.Class = c.Class.Meta.Name
	}
	j.Until = holdsUntil(verdict, now)
	if a.backups.asks(name) { // the answer of its store changes no record
		j.Until = sooner(j.Until, now.Add(recheck))
	}
	return j, nil
}

// sooner is the earlier of two times; a zero one is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// holdsUntil is until when a verdict holds by itself; zero is for ever.
func holdsUntil(v policy.Verdict, now time.Time) time.Time {
	if until := v.Until(); until != nil {
		return *until
	} else if v.WaitsFor(policy.GateIsolation, policy.GateEvidence) { // nothing tells when these can answer
		return now.Add(recheck)
	}
	return time.Time{}
}

// previewTimeout bounds what one environment costs.
const previewTimeout = 30 * time.Second

// before is the release that the base branch has. Where that does not render it is nil, and broken says why.
func (n *answers) before(ctx context.Context, env *declaration.Environment, state EnvironmentState, base string) (_ *render.Release, broken []string, err error) {
	tree, err := n.repo.Tree(base)
	if err != nil {
		return nil, nil, err
	}
	binding, err := bindingOf(env)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range []*Pointer{state.Proposed, state.Approved} {
		if p == nil {
			continue
		}
		release, err := n.agent.release(ctx, env, *p)
		if err == nil && release.StillCurrent(tree, env.Spec.Source.Path) && sameBinding(release.Binding, binding) {
			return release, nil, nil
		}
	}
	release, err := Build(ctx, n.renderer, n.agent.decrypt, tree, env)
	if err != nil && passing(err) {
		return nil, nil, err
	}
	if err != nil {
		return nil, messages(err), nil
	}
	return release, nil, nil
}

// judgeDeclarations asks the rules in force about the declarations that a merge would leave.
func (n *answers) judgeDeclarations(l *law, m *sources.Merge, pr forge.OpenPullRequest, one *landed.Merge) (*answer.Judgement, error) {
	a := n.agent
	set, err := declaration.Parse(m.Tree, a.config.Governance.Path, a.config.Known())
	var current Governance
	a.journal.read(func(s *State) {
		current = s.Governance
		if err == nil {
			err = errors.Join(lifecycle(set, s)...)
		}
	})
	if err != nil {
		if passing(err) {
			return nil, err
		}
		return &answer.Judgement{Refused: messages(err)}, nil
	}
	if current.Approved == nil {
		return nil, errNoGovernance
	}
	from, err := sources.ParseRevision(current.Approved.Revision)
	if err != nil {
		return nil, err
	}
	now := a.now()
	amendment := policy.Amendment{From: from.Commit, To: pr.Head, History: one.Files(l.Keyring, a.governanceReads(), pr.Head, current.Offers, now).History}
	verdict, _ := a.judgeAmendment(l, current, amendment, policy.Root{}, now)
	j := &answer.Judgement{Verdict: &verdict}
	if current.Verdict != nil && current.Verdict.Answer != policy.Allow {
		j.Earlier = "what landed before is not approved yet: " + joinLines(current.Verdict.Reasons())
	}
	j.Until = holdsUntil(verdict, now)
	return j, nil
}

// factsOf says, in short, what a verdict about an environment rests on besides the commits: the records of all that it
// asks about, and whether the audit log works.
func (n *answers) factsOf(l *law, name string, described string) string {
	a := n.agent
	status := a.journal.log.Status()
	parts := []string{l.commit, described, fmt.Sprint(status.Err != nil, status.Spooled >= spoolLimit)}
	names := []string{name}
	if env := l.Environments[name]; env != nil {
		names = append(append(names, env.Spec.DependsOn...), env.Spec.Promotion.From)
	}
	a.journal.read(func(s *State) {
		for _, name := range names {
			if name == policy.Governance {
				name = "" // of the estate as a whole
			}
			parts = append(parts, fmt.Sprint(s.recorded(name)))
		}
	})
	return strings.Join(parts, " ")
}
