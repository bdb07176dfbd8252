package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// offline judges a commit of a clone as far as that goes without an agent.
type offline struct {
	estate    estate
	ref, base string
}

// comparison is a commit that is judged by the declarations of another.
type comparison struct {
	base, head       *snapshot
	env              *declaration.Environment
	rules            *declaration.Set
	approved, change *render.Release
	notes            []string
	at               time.Time // that is asked about
}

// explain judges the release that the ref renders.
func (o *offline) explain(ctx context.Context, name string, at time.Time) (*judgement, error) {
	c, err := o.compare(ctx, name, at)
	if err != nil {
		return nil, err
	}
	_, governance, err := sources.LocalTree(o.estate.repo, o.base, sources.Limits{})
	if err != nil {
		return nil, err
	}
	_, head, err := sources.LocalTree(o.estate.repo, o.ref, sources.Limits{})
	if err != nil {
		return nil, err
	}
	j := &judgement{
		Environment: name, At: at, Governance: governance.Commit, Release: c.change.Digest, Revision: head.Commit,
		Changes: render.Told(render.Diff(c.approved, c.change)), Answer: policy.Allow.String(), Gates: []gateAnswer{}, Notes: c.notes,
	}
	if about := c.change.Declaration; about != nil {
		j.Version = about.Version
	}
	if c.approved != nil {
		j.From = c.approved.Digest
	}
	if j.From == j.Release {
		j.Notes = append(j.Notes, "the commit changes nothing of this environment's release")
		return j, nil
	}
	candidate, err := c.candidate(j.Changes)
	if err != nil {
		return nil, err
	}
	if j.ClassWhy = cmp.Or(candidate.ClassUnknown, candidate.ClassWhy); candidate.Class != nil && candidate.ClassUnknown == "" {
		j.Class = candidate.Class.Meta.Name
	}
	return j, c.ask(j, candidate, at)
}

// compare reads and renders both commits.
func (o *offline) compare(ctx context.Context, name string, at time.Time) (*comparison, error) {
	c := &comparison{at: at}
	var err error
	if c.base, err = o.estate.at(o.base); err != nil {
		return nil, fmt.Errorf("read the base %q: %w", o.base, hideErrors{err})
	}
	if c.head, err = o.estate.at(o.ref); err != nil {
		return nil, err
	}
	c.rules = c.base.set
	was, is := c.base.set.Environments[name], c.head.set.Environments[name]
	switch {
	case was == nil && is == nil:
		_, err := c.head.environment(name)
		return nil, err
	case was == nil:
		c.rules = c.head.set
		c.note("the environment is new: it is judged by the declarations of this commit, which governance has to approve first")
	case is == nil:
		c.note("the commit takes the environment out of the declarations; its objects stay where they are")
	case !reflect.DeepEqual(was.Spec, is.Spec):
		c.note("the environment's declaration changes as well; that holds once governance approves it")
	}
	if err := c.amendment(o.estate.path); err != nil {
		return nil, err
	}
	side := c.base
	if was == nil {
		side = c.head
	}
	if c.env, err = side.environment(name); err != nil {
		return nil, err
	}
	if why := unplaced(c.env); why != "" {
		c.note(why)
	}
	if c.change, err = c.head.build(ctx, c.env); err != nil {
		return nil, err
	}
	if was != nil {
		if c.approved, err = c.base.build(ctx, c.env); err != nil {
			c.approved = nil
			c.note(fmt.Sprintf("the base does not render, so that the commit is compared with nothing: %v", err))
		}
	}
	return c, nil
}

func (c *comparison) note(text string) { c.notes = append(c.notes, text) }

// amendment notes that declarations change, and who has to approve that.
func (c *comparison) amendment(dir string) error {
	paths, err := changedPaths(c.base.tree, c.head.tree, []string{dir})
	if err != nil || len(paths) == 0 {
		return err
	}
	var rules declaration.Governance
	if c.base.set.Estate != nil {
		rules = c.base.set.Estate.Spec.Governance
	}
	needs := "nobody has to approve that"
	if len(rules.Approvals) > 0 {
		needs = "that needs the approval of " + demanded(rules.Approvals, c.base.set, false, "", c.at)
	}
	c.note(fmt.Sprintf("it changes %d declarations; %s", len(paths), needs))
	return nil
}

// candidate is what the gates judge, by the rules of the base.
func (c *comparison) candidate(diff []render.ObjectChange) (policy.Candidate, error) {
	candidate := policy.Candidate{
		Environment: c.env, Tenant: c.rules.Tenants[c.env.Spec.Tenant], Release: c.change, Approved: c.approved, Diff: diff,
		Origin: policy.OriginGit, History: policy.History{LandedUnknown: "without an agent it is not known what landed"},
		Calendar: c.rules.Calendars[c.env.Spec.Calendar],
	}
	if c.approved == nil {
		candidate.Origin = policy.OriginFirst
	}
	for _, name := range slices.Sorted(maps.Keys(c.rules.Policies)) {
		if p := c.rules.Policies[name]; p.Spec.Match.MatchesEnvironment(c.env) {
			candidate.Policies = append(candidate.Policies, p)
		}
	}
	read := c.change.Inputs.Watched()
	if c.approved != nil {
		read = append(read, c.approved.Inputs.Watched()...)
	}
	paths, err := changedPaths(c.base.tree, c.head.tree, read)
	if err != nil {
		return candidate, err
	}
	candidate.FindNeighbours(c.rules, nil)
	candidate.Classify(c.rules, reconciler.ChangedPaths(paths, c.approved, c.change))
	return candidate, nil
}

// ask asks the gates, and leaves open what only the agent knows.
func (c *comparison) ask(j *judgement, candidate policy.Candidate, at time.Time) error {
	facts := policy.Facts{Scopes: scopes(c.change), People: map[string]policy.Voter{}}
	for name, p := range c.rules.Persons {
		facts.People[name] = policy.NewVoter(p)
	}
	kustomization, about, err := c.files()
	if err != nil {
		return err
	}
	worst := policy.Allow
	for _, r := range policy.Evaluate(candidate, facts, at).Gates {
		g := answerOf(r)
		if asks := c.asksAgent(r.Gate, candidate); asks != "" {
			j.Gates = append(j.Gates, gateAnswer{Gate: r.Gate, Answer: unknown, Reason: "unknown offline: " + asks})
			continue
		}
		if g.file = kustomization; r.Gate == "change" {
			g.file = about
		}
		worst = max(worst, r.Answer)
		if r.Answer != policy.Allow && r.Until != nil && (j.Until == nil || r.Until.Before(*j.Until)) {
			j.Until = r.Until
		}
		j.Gates = append(j.Gates, g)
	}
	j.Answer = worst.String()
	return nil
}

// files are the kustomization of the release, and its release.yaml or, without one, the kustomization again.
func (c *comparison) files() (kustomization, about string, err error) {
	dir := c.env.Spec.Source.Path
	entries, err := c.head.tree.ReadDir(dir)
	if err != nil {
		return "", "", err
	}
	for _, e := range entries {
		switch e.Name {
		case "kustomization.yaml", "kustomization.yml", "Kustomization":
			kustomization = path.Join(dir, e.Name)
		case declaration.ReleaseFile:
			about = path.Join(dir, e.Name)
		}
	}
	return kustomization, cmp.Or(about, kustomization), nil
}

// asksAgent says what a gate would have to ask the agent for; "" when it can answer without.
func (c *comparison) asksAgent(gate string, candidate policy.Candidate) string {
	if gate == "class" {
		return ""
	}
	if candidate.ClassUnknown != "" {
		return "the class is unknown"
	}
	class, env := candidate.Class.Spec, c.env.Spec
	switch gate {
	case "signatures":
		return when(class.Signatures == declaration.SignaturesRequired, "every commit must be signed by a known person")
	case "approvals":
		if len(class.Approvals) == 0 {
			return when(class.Signatures == declaration.SignaturesRequired, "who made it must be known")
		}
		return demanded(class.Approvals, c.rules, class.Bots, env.Source.Repository, c.at) + ", who had no part in it"
	case "promotion":
		soak := max(env.Promotion.Soak, class.Promotion.Soak)
		return when(env.Promotion.From != "", fmt.Sprintf("the same images must have been live and healthy in %q for %s", env.Promotion.From, soak))
	case "tests":
		return when(len(class.Tests) > 0, fmt.Sprintf("the class asks for %d attestations", len(class.Tests)))
	case "backup":
		if !candidate.AsksBackups() || env.Backup == "" { // then the gate can say no by itself
			return ""
		}
		return backupsAsked(class.Backup, c.rules.BackupPolicies[env.Backup], candidate.AsksStore())
	case "claims":
		return "no other environment may own one of its objects"
	case "prune":
		return when(candidate.Approved == nil && c.base.set.Environments[c.env.Meta.Name] != nil, "the base does not render")
	case "dependencies":
		return when(len(env.DependsOn) > 0, strings.Join(env.DependsOn, ", ")+" must be live and healthy")
	case "health":
		return when(class.LiveHealth == declaration.LiveHealthRequired, "what is live must be healthy")
	case "pause":
		return "somebody may have paused the environment"
	case "veto":
		return "the release may be vetoed"
	case "review":
		return "an override may wait for its review"
	case "evidence":
		return "the audit log must be within reach"
	}
	return ""
}

// backupsAsked says what a class asks of backups by a policy.
func backupsAsked(demand declaration.BackupDemand, p *declaration.BackupPolicy, store bool) string {
	if p == nil {
		return "the class asks for backups"
	}
	most := p.Spec.RPO
	if demand.MaxAge > 0 {
		most = min(most, demand.MaxAge)
	}
	asks := fmt.Sprintf("a verified backup must be at most %s old", most)
	if demand.DrillMaxAge > 0 {
		asks += fmt.Sprintf(", the last restore drill passed, at most %s ago and within %s", demand.DrillMaxAge, p.Spec.RTO)
	}
	if store {
		asks += ", and the store must take a backup now, since the release migrates the database"
	}
	return asks
}

func when(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

// demanded says whose approval is asked for of what a source has; "" is any source.
func demanded(demands []declaration.Approval, set *declaration.Set, bots bool, source string, at time.Time) string {
	var list []string
	for _, d := range demands {
		var people []string
		for _, name := range slices.Sorted(maps.Keys(set.Persons)) {
			p := set.Persons[name]
			if (bots || !p.Spec.Bot) && p.CanApproveAt(d, source, at) && slices.ContainsFunc(p.Spec.Roles, func(role string) bool { return slices.Contains(d.Roles, role) }) {
				people = append(people, name)
			}
		}
		roles := strings.Join(d.Roles, " or ")
		if d.Signed() {
			roles += ", by a signed statement"
		}
		list = append(list, fmt.Sprintf("%d of %s (%s)", d.Count, roles, cmp.Or(strings.Join(people, ", "), "nobody who could")))
	}
	return strings.Join(list, " and ")
}

// hideErrors keeps the places of errors in another commit from being taken for places in this one.
type hideErrors struct{ err error }

func (h hideErrors) Error() string { return h.err.Error() }
func (h hideErrors) Is(target error) bool {
	return target == fs.ErrNotExist && errors.Is(h.err, fs.ErrNotExist)
}
