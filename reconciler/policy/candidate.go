package policy

import (
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Candidate is a release that asks to be approved for an environment, with the rules that hold for it: those of the
// approved governance, never of the change that is judged.
type Candidate struct {
	Environment *declaration.Environment
	Tenant      *declaration.Tenant // nil: the tenant "default", which has its environments' own namespaces only
	Release     *render.Release
	Approved    *render.Release       // nil: there is none yet
	Diff        []render.ObjectChange // Approved → Release

	Origin Origin
	History

	// Neighbours maps namespaces that the release touches to another environment that is declared there, or left objects there.
	Neighbours map[string]string

	Class    *declaration.ReleaseClass
	ClassWhy string // what gave it the class
	// ClassUnknown says why the class could not be computed; "" when it was.
	ClassUnknown string
	Calendar     *declaration.Calendar // nil: none
	Policies     []*declaration.Policy // those that match the environment
}

// History is what landed since what is approved, as far as the candidate reads it.
type History struct {
	Landed []Landed // oldest first
	// LandedUnknown says why it is not known what landed; statements can stand in for that.
	LandedUnknown string
	// Parts says, where LandedUnknown is set, who had a part in anything that is new, and PartsUnknown why somebody may be
	// missing there.
	Parts        []Part
	PartsUnknown string
}

// Origin says why there is a candidate.
type Origin string

// Origins of a release.
const (
	OriginGit        Origin = "git"        // landed changes since the approved release
	OriginGovernance Origin = "governance" // the environment's declaration changed
	OriginRenderer   Origin = "renderer"   // the same revision renders differently since an upgrade
	OriginRollback   Origin = "rollback"   // a release that was live before
	OriginFirst      Origin = "first"      // there is no approved release yet
)

// from is the digest of the approved release.
func (c Candidate) from() string {
	if c.Approved == nil {
		return ""
	}
	return c.Approved.Digest
}

// judgedByLanded reports whether each landed change can be judged on its own, against its own authors.
func (c Candidate) judgedByLanded() bool {
	return c.Origin == OriginGit && len(c.Landed) > 0 && c.LandedUnknown == ""
}

// noLanded says why statements about the whole release have to stand in for landed changes.
func (c Candidate) noLanded() string {
	switch {
	case c.LandedUnknown != "":
		return c.LandedUnknown
	case c.Origin == OriginFirst:
		return "it is the environment's first release"
	case c.Origin == OriginRenderer:
		return "a new version of Purser renders it differently"
	case c.Origin == OriginGovernance:
		return "its declaration changed"
	}
	return "no landed change explains it"
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

	People       map[string]Voter // by name
	Statements   []Statement      // about the environment
	Overrides    []Override       // of the environment
	Hold         *Hold            // nil: nobody holds it
	Veto         *Veto            // of the release; nil: none
	Caught       *Caught          // by a freeze; nil: none was
	Promotion    *Promotion       // nil: unknown
	Attestations []Attestation    // committed with the release
	Backup       *Backup          // nil: unknown
	Live         *Live            // nil: nothing is live
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
	Problem  string    // what stops publishing, empty when nothing does
	Newest   time.Time // of the newest record; a clock that shows less went back
}

// Names of gates that others speak of.
const (
	gateClass        = "class"
	GateSignatures   = "signatures"
	GateApprovals    = "approvals"
	GateCalendar     = "calendar"
	GateBackup       = "backup"
	GateIsolation    = "isolation"
	gateClaims       = "claims"
	GatePrune        = "prune"
	gateDependencies = "dependencies"
	gateVeto         = "veto"
	gateReview       = "review"
	GateEvidence     = "evidence"
)

// gate is one question.
type gate struct {
	name string
	ask  func(Candidate, Facts, time.Time) Result
}

// gates in the order in which people read them.
var gates = []gate{
	{gateClass, class},
	{GateSignatures, signatures},
	{GateApprovals, approvals},
	{"change", change},
	{"promotion", promotion},
	{GateCalendar, freezes},
	{"images", images},
	{"tests", tests},
	{GateBackup, backup},
	{"policy", rules},
	{GateIsolation, isolation},
	{gateClaims, claims},
	{GatePrune, prune},
	{gateDependencies, dependencies},
	{"health", liveHealth},
	{"pause", pause},
	{gateVeto, veto},
	{gateReview, review},
	{GateEvidence, evidence},
}

// Gates names the gates, in the order of a verdict.
func Gates() []string {
	names := make([]string, len(gates))
	for i, g := range gates {
		names[i] = g.name
	}
	return names
}

// Evaluate asks every gate. The same arguments give the same verdict, whenever and wherever.
func Evaluate(c Candidate, f Facts, now time.Time) Verdict {
	v := Verdict{Gates: make([]Result, 0, len(gates))}
	for _, gate := range gates {
		var r Result
		if c.ClassUnknown != "" && gate.name != gateClass {
			r = Result{Answer: Deny, Reason: "the class is unknown"}
		} else {
			r = gate.ask(c, f, now)
		}
		r.Gate = gate.name
		r = overridden(r, c, f, now)
		v.Gates = append(v.Gates, r)
		v.Answer = max(v.Answer, r.Answer)
	}
	return v
}

func allow(reason string) Result { return Result{Answer: Allow, Reason: reason} }
