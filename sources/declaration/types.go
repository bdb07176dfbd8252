package declaration

import (
	"fmt"
	"slices"

	"github.com/purser-gitops/purser/sources/identity"
)

// APIVersion is the only version of the declarations there is.
const APIVersion = "purser.dev/v1alpha1"

// Position is a place in a file. Lines and columns count from 1; 0 is unknown.
type Position struct {
	File   string
	Line   int
	Column int
}

// String gives file:line:column, without the parts that are unknown.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Meta names a declaration.
type Meta struct {
	// Name of the declaration, unique among those of its kind.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Free text. Recorded; not judged.
	Labels map[string]string `json:"labels,omitempty"`
}

// Set is everything a governance folder declares, by name, with defaults applied.
// Tenants holds "default" also where it is not declared, with the namespaces of
// its environments, if it has any; Classes holds "low" also where it is not.
type Set struct {
	Estate       *Estate // nil when there is none
	Clusters     map[string]*Cluster
	Tenants      map[string]*Tenant
	Environments map[string]*Environment
	Persons      map[string]*Person
	Classes      map[string]*ReleaseClass
	Calendars    map[string]*Calendar
	Policies     map[string]*Policy
	// BackupPolicies say how environments are backed up.
	BackupPolicies map[string]*BackupPolicy
	// Keyring knows the Persons by their keys, accounts and addresses.
	Keyring *identity.Keyring `json:"-"`
}

// Roles are those that people of the estate can hold.
func (s *Set) Roles() []string {
	if s.Estate == nil || len(s.Estate.Spec.Roles) == 0 {
		return slices.Clone(defaultRoles)
	}
	return s.Estate.Spec.Roles
}

// Known is what the agent offers and declarations may refer to. An empty list
// means that it is not known, as when files are checked without an agent: then
// any repository will do, and the declared clusters, if any.
type Known struct {
	Clusters, Sources []string
	Stores            []string // of backups; nil: not known; empty: the agent has none
	Cluster           string   // of Environments that name none; "" is the only one of Clusters
	Governance        Source   // Path is the governance folder and not used here
	Partial           bool     // the tree holds the declarations alone: paths of manifests are not looked up
}
