package declaration

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/purser-gitops/purser/sources/expression"
)

// rulesOfEstate judges what the Estate refers to.
func (c *check) rulesOfEstate(e *Estate, doc *document) {
	c.roles(doc, "spec.governance.approvals", e.Spec.Governance.Approvals)
	c.class(doc.mark("spec.defaults.class"), e.Spec.Defaults.Class)
	if name := e.Spec.Defaults.Calendar; name != "" {
		c.calendarNamed(doc.mark("spec.defaults.calendar"), name)
	}
	if name := e.Spec.Defaults.Backup; name != "" {
		c.backupPolicyNamed(doc.mark("spec.defaults.backup"), name)
	}
	names := make([]string, len(e.Spec.Classification))
	for i, rule := range e.Spec.Classification {
		names[i] = rule.Name
		e.Spec.Classification[i].Program = c.expression(doc, fmt.Sprintf("spec.classification[%d].expression", i), expression.Classification, rule.Expression)
		c.class(doc.mark(fmt.Sprintf("spec.classification[%d].class", i)), rule.Class)
	}
	c.distinct(doc, "spec.classification", "classification", names)
}

// policies judges what the policies refer to.
func (c *check) policies() {
	for _, name := range slices.Sorted(maps.Keys(c.set.Policies)) {
		p, doc := c.set.Policies[name], c.doc["Policy "+name]
		c.matches(p, doc)
		names := make([]string, len(p.Spec.Rules))
		objects := false
		for i, rule := range p.Spec.Rules {
			names[i] = rule.Name
			p.Spec.Rules[i].Program = c.expression(doc, fmt.Sprintf("spec.rules[%d].expression", i), rule.kind(), rule.Expression)
			objects = objects || rule.Scope != ScopeRelease
		}
		c.distinct(doc, "spec.rules", "rule", names)
		if len(names) > 0 && !objects && len(p.Spec.Match.Kinds) > 0 && !doc.broken {
			c.g.errs.add(doc.mark("spec.match.kinds"), fmt.Sprintf("kinds have no effect in policy %q", name), "all its rules are about the release as a whole", `remove "kinds:", or give a rule the scope object`)
		}
	}
}

// expression compiles the text that the document has at path, and reports what is wrong with it.
func (c *check) expression(doc *document, path string, kind expression.Kind, text string) *expression.Program {
	if doc.exprs[path] == nil || text == "" {
		return nil // reported by the decoder
	}
	program, err := expression.CompileRule(kind, text)
	var problems expression.Errors
	switch {
	case err == nil:
		return program
	case !errors.As(err, &problems):
		c.g.errs.add(doc.mark(path), "expression cannot be used", err.Error(), "correct it")
	}
	for _, p := range problems {
		c.g.errs.add(doc.within(path, p.Line, p.Column), "expression is not valid", p.Why, p.Remedy)
	}
	return nil
}

// matches refuses selectors of a policy that name what there is not, or exclude each other.
func (c *check) matches(p *Policy, doc *document) {
	m := p.Spec.Match
	for i, name := range m.Tenants {
		if name != "" && name != DefaultTenant && c.set.Tenants[name] == nil && c.g.complete {
			c.unknown(doc.mark(fmt.Sprintf("spec.match.tenants[%d]", i)), "tenant", name, slices.Sorted(maps.Keys(c.set.Tenants)))
		}
	}
	for i, name := range m.Environments {
		e := c.set.Environments[name]
		at := doc.mark(fmt.Sprintf("spec.match.environments[%d]", i))
		switch {
		case e == nil && name != "" && c.g.complete:
			c.unknown(at, "environment", name, slices.Sorted(maps.Keys(c.set.Environments)))
		case e != nil && !doc.broken && !c.doc["Environment "+name].broken && !m.MatchesEnvironment(e):
			c.g.errs.add(at, fmt.Sprintf("policy %q never matches environment %q", p.Meta.Name, name),
				fmt.Sprintf("its purpose is %s and its tenant %q, and every part of match must fit", e.Spec.Purpose, e.Spec.Tenant), "correct purposes or tenants, or remove the environment")
		}
	}
}
