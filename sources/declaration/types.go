package declaration

import (
	"fmt"
	"strings"
	"time"
)

// APIVersion is the only version of the declarations there is.
const APIVersion = "purser.dev/v1alpha1"

// What to do about drift.
const (
	DriftCorrect = "correct" // repair it
	DriftReport  = "report"  // only tell
)

// DefaultTenant is the tenant of an Environment that names none.
const DefaultTenant = "default"

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

// Estate says what holds for everything in the estate. There is at most one.
type Estate struct {
	Meta     Meta
	Spec     EstateSpec
	Position Position
}

// EstateSpec is the content of an [Estate].
type EstateSpec struct {
	// Values for every Environment that does not say otherwise.
	Defaults Defaults `json:"defaults"`
}

// Defaults are the parts of an [EnvironmentSpec] that an Estate can preset.
type Defaults struct {
	// How often and how long to reconcile.
	Reconcile Reconcile `json:"reconcile"`
	// What to do about drift: correct repairs it, report only tells.
	Drift string `json:"drift,omitempty" jsonschema:"enum=correct,enum=report,default=correct"`
	// How much a plan may delete without waiting for a person.
	Prune Prune `json:"prune"`
	// When an environment counts as healthy.
	Health Health `json:"health"`
}

// Cluster describes a cluster. The way in is the agent's own configuration.
type Cluster struct {
	Meta     Meta
	Spec     ClusterSpec
	Position Position
}

// ClusterSpec is the content of a [Cluster].
type ClusterSpec struct {
	// Where the cluster runs, as people of the estate call it. Recorded; not judged.
	Region string `json:"region,omitempty"`
	// Facts about the cluster. Recorded; not judged.
	Labels map[string]string `json:"labels,omitempty"`
}

// Tenant says what the environments of one owner may touch.
type Tenant struct {
	Meta     Meta
	Spec     TenantSpec
	Position Position
}

// TenantSpec is the content of a [Tenant].
type TenantSpec struct {
	// Namespaces the tenant may touch: exact names, or prefixes that end in *. No two tenants share a namespace.
	Namespaces []string `json:"namespaces" jsonschema:"required,minItems=1,uniqueItems=true,format=namespaces"`
	// Namespaced kinds it may touch. Without this list: all of them.
	Kinds []GroupKindRule `json:"kinds,omitempty" jsonschema:"minItems=1"`
	// Cluster-scoped kinds it may touch, Namespace included. Without this list: none.
	ClusterKinds []GroupKind `json:"clusterKinds,omitempty" jsonschema:"minItems=1"`
	// Who answers for the tenant, as text for people. Recorded; not judged.
	Owners []string `json:"owners,omitempty" jsonschema:"minItems=1,uniqueItems=true"`
}

// GroupKindRule selects kinds of the Kubernetes API.
type GroupKindRule struct {
	// API group, such as apps. Empty is the core group.
	Group string `json:"group,omitempty" jsonschema:"format=group"`
	// Kind, such as Deployment, or * for every kind of the group.
	Kind string `json:"kind" jsonschema:"required,format=kinds"`
}

// GroupKind names one kind of the Kubernetes API.
type GroupKind struct {
	// API group, such as rbac.authorization.k8s.io. Empty is the core group.
	Group string `json:"group,omitempty" jsonschema:"format=group"`
	// Kind, such as ClusterRole.
	Kind string `json:"kind" jsonschema:"required,format=kind"`
}

// AllowsNamespace reports whether the tenant may touch the namespace.
func (s TenantSpec) AllowsNamespace(namespace string) bool {
	for _, pattern := range s.Namespaces {
		prefix, open := strings.CutSuffix(pattern, "*")
		if pattern == namespace || open && strings.HasPrefix(namespace, prefix) {
			return true
		}
	}
	return false
}

// AllowsKind reports whether the tenant may touch objects of a namespaced kind.
func (s TenantSpec) AllowsKind(group, kind string) bool {
	for _, k := range s.Kinds {
		if k.Group == group && (k.Kind == kind || k.Kind == "*") {
			return true
		}
	}
	return len(s.Kinds) == 0
}

// AllowsClusterKind reports whether the tenant may touch objects of a
// cluster-scoped kind.
func (s TenantSpec) AllowsClusterKind(group, kind string) bool {
	for _, k := range s.ClusterKinds {
		if k.Group == group && k.Kind == kind {
			return true
		}
	}
	return false
}

// Environment is one running instance: what it runs, where, and how it is kept.
type Environment struct {
	Meta     Meta
	Spec     EnvironmentSpec
	Position Position
}

// EnvironmentSpec is the content of an [Environment].
type EnvironmentSpec struct {
	// What the environment is for.
	Purpose string `json:"purpose" jsonschema:"required,enum=development,enum=qa,enum=uat,enum=staging,enum=preproduction,enum=production,enum=training,enum=peak"`
	// Tenant it belongs to. Without one it belongs to the tenant "default", which may touch its environments' own namespaces only.
	Tenant string `json:"tenant,omitempty" jsonschema:"format=name"`
	// Cluster it runs on. May be left out when the agent knows exactly one.
	Cluster string `json:"cluster,omitempty" jsonschema:"format=name"`
	// Namespace of its objects.
	Namespace string `json:"namespace" jsonschema:"required,format=name"`
	// Where its manifests are.
	Source Source `json:"source" jsonschema:"required"`
	// Release class. Recorded; not judged: low is the only one there is.
	Class string `json:"class,omitempty" jsonschema:"enum=low,default=low"`
	// How often and how long to reconcile.
	Reconcile Reconcile `json:"reconcile"`
	// What to do about drift: correct repairs it, report only tells.
	Drift string `json:"drift,omitempty" jsonschema:"enum=correct,enum=report,default=correct"`
	// How much a plan may delete without waiting for a person.
	Prune Prune `json:"prune"`
	// When the environment counts as healthy.
	Health Health `json:"health"`
	// Environments that must be healthy first.
	DependsOn []string `json:"dependsOn,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// When the environment is to end (RFC 3339). From then on it is shown as expired; nothing is ended by itself.
	Expires *time.Time `json:"expires,omitempty"`
}

// Source names a folder of a branch of a repository.
type Source struct {
	// Name of the repository in the agent's configuration. Default: the governance repository.
	Repository string `json:"repository,omitempty" jsonschema:"format=name"`
	// Branch. Default: the governance branch.
	Branch string `json:"branch,omitempty" jsonschema:"format=branch"`
	// Folder of the kustomization, relative to the root of the repository.
	Path string `json:"path" jsonschema:"required,format=path"`
}

// Reconcile says how often and how long.
type Reconcile struct {
	// How often every object is compared with the cluster. Pushes are seen without it, and so is drift where watches work.
	Interval time.Duration `json:"interval" jsonschema:"default=10m,minimum=1s"`
	// Longest time one pass may take.
	Timeout time.Duration `json:"timeout" jsonschema:"default=5m,minimum=1s"`
	// Stop changing the cluster and keep observing it.
	Suspend bool `json:"suspend" jsonschema:"default=false"`
}

// Prune limits what a plan may delete. A plan that goes beyond either limit
// waits for a person.
type Prune struct {
	// Most deletions of one plan.
	MaxObjects int `json:"maxObjects" jsonschema:"default=10,minimum=0"`
	// Largest share of the environment's objects, 0 to 1, that one plan may delete.
	MaxShare float64 `json:"maxShare" jsonschema:"default=0.5,minimum=0,maximum=1"`
}

// Exceeded reports whether deleting some of an environment's objects goes beyond
// the limits. A share of a handful of objects says little, so a single object
// may always go while others stay: Kustomize's hashed ConfigMaps do so at every
// change.
func (p Prune) Exceeded(deleted, total int) bool {
	if deleted == 0 || deleted == 1 && total > 1 {
		return false
	}
	return deleted > p.MaxObjects || float64(deleted) > p.MaxShare*float64(total)
}

// Health says when an environment counts as healthy.
type Health struct {
	// How long objects and checks may take to become healthy after an apply.
	Timeout time.Duration `json:"timeout" jsonschema:"default=5m,minimum=1s"`
	// HTTP checks, beside the status of the objects.
	HTTP []HTTPCheck `json:"http,omitempty" jsonschema:"minItems=1"`
}

// HTTPCheck is one request and what its answer must be.
type HTTPCheck struct {
	// Name of the check, unique in its environment.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Address that is asked with GET.
	URL string `json:"url" jsonschema:"required,format=http"`
	// Expected status code.
	Status int `json:"status" jsonschema:"default=200,minimum=100,maximum=599"`
	// Regular expression (RE2) that the body must match. Without it any body will do.
	Body string `json:"body,omitempty" jsonschema:"format=regexp"`
	// Who has to look when the check fails.
	Cause string `json:"cause,omitempty" jsonschema:"enum=platform,enum=application,enum=external,default=application"`
	// Longest time one request may take.
	Timeout time.Duration `json:"timeout" jsonschema:"default=10s,minimum=1ms"`
}

// Release is release.yaml beside a kustomization: what people say about it.
type Release struct {
	Position `json:"-"`

	// Version of the release, as people call it.
	Version string `json:"version" jsonschema:"required"`
	// Why this release exists.
	Change Change `json:"change"`
	// What its migration does to the schema of the database. Recorded; not judged.
	Migration string `json:"migration,omitempty" jsonschema:"enum=none,enum=additive,enum=breaking,default=none"`
	// Release class. Recorded; not judged: low is the only one there is.
	Class string `json:"class,omitempty" jsonschema:"enum=low"`
}

// Change is why a [Release] exists.
type Change struct {
	// Ticket that asked for it.
	Ticket string `json:"ticket,omitempty"`
	// Reason in a sentence.
	Reason string `json:"reason,omitempty"`
	// Who notices, and what.
	Impact string `json:"impact,omitempty"`
	// How to go back.
	Rollback string `json:"rollback,omitempty"`
}

// Set is everything a governance folder declares, by name, with defaults applied.
// Tenants holds "default" also where it is not declared, with the namespaces of
// its environments, if it has any.
type Set struct {
	Estate       *Estate // nil when there is none
	Clusters     map[string]*Cluster
	Tenants      map[string]*Tenant
	Environments map[string]*Environment
}

// Known is what the agent offers and declarations may refer to. An empty list
// means that it is not known, as when files are checked without an agent: then
// any repository will do, and the declared clusters, if any.
type Known struct {
	Clusters, Sources []string
	Governance        Source // Path is the governance folder and not used here
	Partial           bool   // the tree holds the declarations alone: paths of manifests are not looked up
}
