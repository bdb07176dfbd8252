package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/expression"
)

// rules passes when every rule of the estate's policies holds. One that cannot be evaluated, or costs too much, does
// not.
func rules(c Candidate, _ Facts, _ time.Time) Result {
	var broken []string
	count := 0
	if len(c.Policies) > 0 {
		asked := c.questions()
		for _, p := range c.Policies {
			for i := range p.Spec.Rules {
				broken = append(broken, asked.breaches(p, &p.Spec.Rules[i])...)
				count++
			}
		}
	}
	if len(broken) > 0 {
		return Result{Answer: Deny, Reason: some(broken), Hint: "change the manifests, or the Policy, in governance"}
	}
	return allow(fmt.Sprintf("%d rules hold", count))
}

// questions is what rules are asked about.
type questions struct {
	vars    *expression.Vars
	objects []render.Ref
	before  map[string]map[string]any // objects of the approved release, by key
}

func (c *Candidate) questions() questions {
	q := questions{vars: c.vars(), before: map[string]map[string]any{}}
	for _, o := range c.Release.Objects {
		q.objects = append(q.objects, render.RefOf(o))
		q.vars.Objects = append(q.vars.Objects, o.Object)
	}
	if c.Approved != nil {
		for _, o := range c.Approved.Objects {
			q.before[render.RefOf(o).Key()] = o.Object
		}
	}
	return q
}

// breaches says where a rule does not hold.
func (q questions) breaches(p *declaration.Policy, rule *declaration.PolicyRule) []string {
	vars := *q.vars
	if rule.Scope == declaration.ScopeRelease {
		return breach(p, rule, "", &vars)
	}
	var broken []string
	for i, ref := range q.objects {
		if p.Spec.Match.MatchesKind(ref.Group, ref.Kind) {
			vars.Object, vars.OldObject = q.vars.Objects[i], q.before[ref.Key()]
			broken = append(broken, breach(p, rule, ref.String()+": ", &vars)...)
		}
	}
	return broken
}

// breach says that a rule does not hold; nothing when it does.
func breach(p *declaration.Policy, rule *declaration.PolicyRule, what string, vars *expression.Vars) []string {
	switch holds, err := rule.Program.Eval(vars); {
	case err != nil:
		return []string{fmt.Sprintf("%s%s/%s: %v", what, p.Meta.Name, rule.Name, err)}
	case !holds:
		return []string{fmt.Sprintf("%s%s (%s/%s)", what, rule.Message, p.Meta.Name, rule.Name)}
	}
	return nil
}
