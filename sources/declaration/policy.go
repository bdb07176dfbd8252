package declaration

import (
	"fmt"

	"github.com/purser-gitops/purser/sources/expression"
)

// ScopeRelease has a [PolicyRule] asked about the release as a whole, not about each rendered object that the policy matches.
const ScopeRelease = "release"

// Policy is a set of rules that rendered objects have to keep. A rule that cannot be evaluated, or costs too much, is
// broken.
type Policy struct {
	Meta     Meta
	Spec     PolicySpec
	Position Position
}

// PolicySpec is the content of a [Policy].
type PolicySpec struct {
	// What the rules are about. Every part that is written must match; without any: everything.
	Match PolicyMatch `json:"match"`
	// What must hold.
	Rules []PolicyRule `json:"rules" jsonschema:"required,minItems=1"`
}

// PolicyMatch selects what a [Policy] is about.
type PolicyMatch struct {
	// Kinds of the objects that rules of scope object are asked about. Without this list: all of them.
	Kinds []GroupKindRule `json:"kinds,omitempty" jsonschema:"minItems=1"`
	// Purposes of environments.
	Purposes []string `json:"purposes,omitempty" jsonschema:"minItems=1,uniqueItems=true,enum=development,enum=qa,enum=uat,enum=staging,enum=preproduction,enum=production,enum=training,enum=peak"`
	// Tenants of environments.
	Tenants []string `json:"tenants,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// Names of environments.
	Environments []string `json:"environments,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
}

// PolicyRule is one thing that must hold.
type PolicyRule struct {
	// Name of the rule, unique in its policy.
	Name string `json:"name" jsonschema:"required,format=name"`
	// What it is asked about: each object, or the release as a whole.
	Scope string `json:"scope,omitempty" jsonschema:"enum=object,enum=release,default=object"`
	// CEL expression that is true when the rule is kept.
	Expression string `json:"expression" jsonschema:"required,format=cel"`
	// What people read when it is not kept.
	Message string `json:"message" jsonschema:"required"`

	Program *expression.Program `json:"-"` // Expression, ready to be asked
}

// MatchesEnvironment reports whether the rules are about releases of the environment.
func (m PolicyMatch) MatchesEnvironment(e *Environment) bool {
	return among(m.Purposes, e.Spec.Purpose) && among(m.Tenants, e.Spec.Tenant) && among(m.Environments, e.Meta.Name)
}

// MatchesKind reports whether rules of scope object are about objects of the kind.
func (m PolicyMatch) MatchesKind(group, kind string) bool {
	for _, k := range m.Kinds {
		if k.Group == group && (k.Kind == kind || k.Kind == "*") {
			return true
		}
	}
	return len(m.Kinds) == 0
}

// among reports whether the list has the name, or is empty and so has every name.
func among(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return len(list) == 0
}

// Compile makes the rules ready to be asked.
func (p *Policy) Compile() error {
	for i := range p.Spec.Rules {
		rule := &p.Spec.Rules[i]
		program, err := expression.CompileRule(rule.kind(), rule.Expression)
		if err != nil {
			return fmt.Errorf("rule %q of policy %q: %w", rule.Name, p.Meta.Name, err)
		}
		rule.Program = program
	}
	return nil
}

// kind is what the rule's expression is asked about.
func (r *PolicyRule) kind() expression.Kind {
	if r.Scope == ScopeRelease {
		return expression.ReleaseRule
	}
	return expression.ObjectRule
}
