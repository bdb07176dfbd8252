package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// Verbs of statements that gates listen to.
const (
	VerbApprove       = "approve"
	VerbApproveDelete = "approve-delete"
	VerbOverride      = "override"
)

// Statement is what a person said about an environment, signed with a key that was valid when the agent first saw it and
// is not revoked now. Statements that were revoked are not among the facts.
type Statement struct {
	ID      string    `json:"id"`
	Verb    string    `json:"verb"`
	Person  string    `json:"person"`
	Key     string    `json:"key,omitempty"`  // fingerprint of the key that signed it
	From    string    `json:"from,omitempty"` // digest of the approved release that the person saw; "" is none
	To      string    `json:"to,omitempty"`   // digest of the release that the person means
	Class   string    `json:"class,omitempty"`
	Rank    int       `json:"rank,omitempty"` // of the class
	Gates   []string  `json:"gates,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Ticket  string    `json:"ticket,omitempty"`
	Expires time.Time `json:"expires"`
	Seen    time.Time `json:"seen"` // by the agent, first
}

// DeletionRoles may let a release delete more than the limits.
var DeletionRoles = []string{RoleReleaseManager, "dba"}

// MayOrder reports whether somebody may give orders about an environment.
func MayOrder(v Voter) bool { return !v.Bot && v.anyRole(declaration.OrderRoles) }

// neverOverridden are the gates that hold against everybody: without evidence nobody could review the override, and
// tenants, owners of objects and the right to sign are not the releasing person's to give.
var neverOverridden = []string{gateClass, GateIsolation, gateClaims, gateDependencies, gateReview, gateVeto, GateEvidence}

// MayDelete reports whether somebody may let a release delete more than the limits.
func MayDelete(v Voter) bool { return !v.Bot && v.anyRole(DeletionRoles) }

// MayOverride reports whether an override can name the gate, and if not, why.
func MayOverride(name string) error {
	switch {
	case !slices.Contains(Gates(), name):
		return fmt.Errorf("there is no gate %q", name)
	case slices.Contains(neverOverridden, name):
		return fmt.Errorf("gate %q cannot be overridden", name)
	}
	return nil
}

// overridden turns the answer of a gate into an allow, where somebody ordered it for this release and now.
func overridden(r Result, c Candidate, f Facts, now time.Time) Result {
	if r.Answer == Allow || slices.Contains(neverOverridden, r.Gate) {
		return r
	}
	s, not := Opens(f.Overrides, f.People, c.Class, r.Gate, c.Release.Digest, now)
	if s != nil {
		return Result{Gate: r.Gate, Answer: Allow, Override: s.ID,
			Reason: fmt.Sprintf("overridden by %s until %s (%s, %s); without that: %s", s.Person, s.Expires.UTC().Format(time.RFC3339), s.Ticket, s.Reason, r.Reason)}
	}
	if not != "" {
		r.Reason += "; " + not
	}
	return r
}

// Opens is the first order that opens a gate now for a release of a class; nil when there is none. not says why one that
// names the gate does not open it.
func Opens(orders []Override, people map[string]Voter, class *declaration.ReleaseClass, gate, release string, now time.Time) (s *Statement, not string) {
	for _, o := range orders {
		s := o.Statement
		switch {
		case !slices.Contains(s.Gates, gate) || !now.Before(s.Expires) || !MayOrder(people[s.Person]):
		case class == nil:
			not = fmt.Sprintf("the override %s does not count: the class is unknown", short(s.ID))
		case !class.LetsOverride(gate):
			not = fmt.Sprintf("the override %s does not count: for class %q nobody overrides this gate: its override.gates does not have it", short(s.ID), class.Meta.Name)
		case !o.isFor(release):
			not = fmt.Sprintf("the override %s is for another release", short(s.ID))
		default:
			return &s, ""
		}
	}
	return nil, not
}

// ReviewRoles are those of which whoever reviews an override holds one, by the class of the release that used it; nil is a
// class that is not declared any more.
func ReviewRoles(class *declaration.ReleaseClass) []string {
	if class != nil {
		return class.Reviewers()
	}
	return declaration.OrderRoles
}

// MayReview reports whether somebody may review an override that somebody else ordered.
func MayReview(v Voter, class *declaration.ReleaseClass) bool {
	return !v.Bot && v.anyRole(ReviewRoles(class))
}
