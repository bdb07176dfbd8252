package policy

import (
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Candidate is a release that asks to be approved for an environment.
type Candidate struct {
	Environment *declaration.Environment
	Tenant      *declaration.Tenant // nil: the tenant "default", which has its environments' own namespaces only
	Release     *render.Release
	Approved    *render.Release       // nil: there is none yet
	Diff        []render.ObjectChange // Approved → Release
	Restores    bool                  // Release is live, or was before what is live: the way back from Approved
}

// Facts are what the world said when it was last asked. The zero value knows nothing.
type Facts struct {
	// Scopes says of the kinds of the release, by group/Kind, whether they are namespaced. A kind that the
	// cluster does not serve is missing.
	Scopes map[string]bool
	// ScopesUnknown says why the cluster could not be asked; "" when it was.
	ScopesUnknown string
	// Claims maps the keys of objects that other environments of the same cluster own to their names.
	Claims map[string]string
	// Dependencies are the environments that this one waits for.
	Dependencies []Dependency
	// Evidence is the state of the audit log; nil is unknown.
	Evidence *EvidenceFact
}

// Dependency is an environment that must be live and healthy first.
type Dependency struct {
	Name  string
	Ready bool
	State string // what it is instead, for the reason
}

// EvidenceFact says how far the audit remote lags behind.
type EvidenceFact struct {
	Reached  time.Time     // when the audit remote was last known to hold all that was spooled, or answered
	Limit    time.Duration // how long it may be out of reach
	Spooled  int           // records that wait to be published
	SpoolMax int
	Problem  string // what stops publishing, empty when nothing does
}

// GateDependencies is the name of the gate that waits for other environments.
const GateDependencies = "dependencies"

// gates in the order in which people read them.
var gates = []struct {
	name string
	ask  func(Candidate, Facts, time.Time) Result
}{
	{"policy", isolation},
	{"claims", claims},
	{"prune", prune},
	{GateDependencies, dependencies},
	{"evidence", evidence},
}

// Evaluate asks every gate.
func Evaluate(c Candidate, f Facts, now time.Time) Verdict {
	v := Verdict{Gates: make([]Result, 0, len(gates))}
	for _, gate := range gates {
		r := gate.ask(c, f, now)
		r.Gate = gate.name
		v.Gates = append(v.Gates, r)
		v.Answer = max(v.Answer, r.Answer)
	}
	return v
}

func allow(reason string) Result { return Result{Answer: Allow, Reason: reason} }
