package policy

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/expression"
)

// class says which class the candidate has. Without one nothing can be judged.
func class(c Candidate, _ Facts, _ time.Time) Result {
	if c.ClassUnknown != "" {
		return Result{Answer: Deny, Reason: c.ClassUnknown, Hint: "correct the Estate's classification, in governance"}
	}
	return allow(fmt.Sprintf("class %q: %s", c.Class.Meta.Name, c.ClassWhy))
}

// Classify gives a candidate its class: the one of highest rank among the environment's, the release's and those of the
// estate's rules that hold for it. paths are the files that its landed changes alter. What cannot be told leaves the
// class unknown.
func (c *Candidate) Classify(set *declaration.Set, paths []string) {
	c.Class, c.ClassWhy, c.ClassUnknown = nil, "", ""
	consider := func(name, why string) {
		next := set.Classes[name]
		switch {
		case next == nil:
			c.ClassUnknown = fmt.Sprintf("class %q (%s) is not declared", name, why)
		case c.Class == nil || next.Spec.Rank > c.Class.Spec.Rank:
			c.Class, c.ClassWhy = next, why
		}
	}
	consider(c.Environment.Spec.Class, "of the environment")
	if about := c.Release.Declaration; about != nil && about.Class != "" {
		consider(about.Class, "of release.yaml")
	}
	if set.Estate == nil {
		return
	}
	vars := c.vars()
	vars.Paths, vars.Changes = paths, c.changes()
	for i := range set.Estate.Spec.Classification {
		rule := &set.Estate.Spec.Classification[i]
		holds, err := rule.Program.Eval(vars)
		switch {
		case err != nil:
			c.ClassUnknown = fmt.Sprintf("classification %q cannot be evaluated: %v", rule.Name, err)
		case holds:
			consider(rule.Class, fmt.Sprintf("classification %q", rule.Name))
		}
	}
}

// changes are the release diff as expressions see it.
func (c *Candidate) changes() []expression.ObjectChange {
	list := make([]expression.ObjectChange, len(c.Diff))
	for i, d := range c.Diff {
		list[i] = expression.ObjectChange{Action: d.Action, Group: d.Ref.Group, Kind: d.Ref.Kind, Namespace: d.Ref.Namespace, Name: d.Ref.Name}
		for _, f := range d.Fields {
			list[i].Fields = append(list[i].Fields, expression.FieldChange(f))
		}
	}
	return list
}

// vars are the variables that all expressions have.
func (c *Candidate) vars() *expression.Vars {
	s := c.Environment.Spec
	v := &expression.Vars{
		Environment: expression.Environment{
			Name: c.Environment.Meta.Name, Purpose: s.Purpose, Tenant: s.Tenant, Cluster: s.Cluster, Namespace: s.Namespace, Class: s.Class,
		},
		Tenant:  expression.Tenant{Name: declaration.DefaultTenant},
		Release: expression.Release{Images: c.Release.Images},
	}
	if c.Tenant != nil {
		v.Tenant = expression.Tenant{Name: c.Tenant.Meta.Name, Namespaces: c.Tenant.Spec.Namespaces}
	}
	if d := c.Release.Declaration; d != nil {
		v.Release.Version, v.Release.Migration, v.Release.Modules, v.Release.Change = d.Version, d.Migration, d.Modules, expression.Change(d.Change)
		v.Modules = d.Modules
	}
	return v
}
