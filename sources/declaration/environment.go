package declaration

import "time"

// What to do about drift.
const (
	DriftCorrect = "correct" // repair it
	DriftReport  = "report"  // only tell
)

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
	// Release class: what its releases have to pass, at least.
	Class string `json:"class,omitempty" jsonschema:"default=low,format=name"`
	// Calendar that says when releases may be approved. Without one: always.
	Calendar string `json:"calendar,omitempty" jsonschema:"format=name"`
	// BackupPolicy that says how it is backed up. Without one: not at all.
	Backup string `json:"backup,omitempty" jsonschema:"format=name"`
	// Environment in which its releases run first.
	Promotion Promotion `json:"promotion"`
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
	// Name that it had before. The objects of the environment of that name, which must not be declared any more, become its own.
	RenamedFrom string `json:"renamedFrom,omitempty" jsonschema:"format=name"`
	// When the environment is to end (RFC 3339). From then on it is shown as expired; nothing is ended by itself.
	Expires *time.Time `json:"expires,omitempty"`
}

// Promotion says where the same images must have run first. It is asked for where it is written, and where the class
// of the release demands it.
type Promotion struct {
	// Name of the Environment.
	From string `json:"from" jsonschema:"required,format=name"`
	// How long they must have been live and healthy there. The class may ask for longer.
	Soak time.Duration `json:"soak,omitempty" jsonschema:"minimum=0s"`
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
