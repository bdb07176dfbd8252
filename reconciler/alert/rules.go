package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// Rule is one kind of trouble.
type Rule struct {
	Name     string        // label alertname, and the section of docs/alerts.md
	Severity Severity      // in production, and of what belongs to no environment
	After    time.Duration // how long the trouble lasts before the alert fires
	Summary  string
}

// The rules about environments.
var (
	ReviewOverdue = Rule{"PurserReviewOverdue", Critical, 0, "An override was not reviewed in time"}
	FreezeBreach  = Rule{"PurserFreezeBreach", Critical, 0, "A release went out against the calendar by an override"}
	Unhealthy     = Rule{"PurserEnvironmentUnhealthy", Critical, time.Minute, "What runs is not healthy"}
	Failing       = Rule{"PurserEnvironmentFailing", Warning, 5 * time.Minute, "Reconciliation fails"}
	Stalled       = Rule{"PurserEnvironmentStalled", Warning, time.Minute, "Reconciliation needs a person"}
	ReleaseDenied = Rule{"PurserReleaseDenied", Warning, time.Minute, "The newest release is denied"}
	// ApprovalWaiting is about governance as well.
	ApprovalWaiting = Rule{"PurserApprovalWaiting", Warning, 24 * time.Hour, "A change waits for approval"}
	DriftContested  = Rule{"PurserDriftContested", Warning, 0, "Somebody undoes each repair"}
	DriftUnrepaired = Rule{"PurserDriftUnrepaired", Warning, 2 * time.Minute, "Drift is not repaired"}
	Orphaned        = Rule{"PurserEnvironmentOrphaned", Warning, 0, "Objects are left of what is no longer declared"}
	Expired         = Rule{"PurserEnvironmentExpired", Warning, 0, "The declared end has passed"}
)

// The rules about the rest of the estate.
var (
	ClusterUnreachable = Rule{"PurserClusterUnreachable", Critical, time.Minute, "The Kubernetes API cannot be reached"}
	ClusterReplaced    = Rule{"PurserClusterReplaced", Critical, 0, "Another cluster answers"}
	SourceUnreachable  = Rule{"PurserSourceUnreachable", Warning, 5 * time.Minute, "A repository cannot be read"}
	GovernanceRejected = Rule{"PurserGovernanceRejected", Warning, time.Minute, "The newest declarations are not in force"}
	AuditUnreachable   = Rule{"PurserAuditUnreachable", Critical, 5 * time.Minute, "The audit remote takes no records"}
	AuditStalled       = Rule{"PurserAuditStalled", Critical, 0, "The audit log needs a person"}
	SpoolFull          = Rule{"PurserSpoolFull", Critical, 0, "Too many records wait for the audit remote"}
)

// Rules are all rules.
func Rules() []Rule {
	rules := []Rule{ClusterUnreachable, ClusterReplaced, SourceUnreachable, GovernanceRejected, AuditUnreachable, AuditStalled, SpoolFull}
	for _, r := range environmentRules {
		rules = append(rules, r.Rule)
	}
	return rules
}

// environmentRule finds its trouble in an environment.
type environmentRule struct {
	Rule
	find func(Environment, time.Time) Trouble
	// byCluster: where the cluster is in trouble, that explains it.
	byCluster bool
}

var environmentRules = []environmentRule{
	{Rule: ReviewOverdue, find: reviewOverdue},
	{Rule: FreezeBreach, find: freezeBreach},
	{Rule: Unhealthy, find: func(e Environment, _ time.Time) Trouble { return e.Ill }},
	{Rule: Failing, find: func(e Environment, _ time.Time) Trouble { return e.Failing }, byCluster: true},
	{Rule: Stalled, find: stalled, byCluster: true},
	{Rule: ReleaseDenied, find: releaseDenied},
	{Rule: ApprovalWaiting, find: func(e Environment, _ time.Time) Trouble { return waiting(e.Verdict, e.Proposed, e.Name) }},
	{Rule: DriftContested, find: func(e Environment, _ time.Time) Trouble { return e.Contested }},
	{Rule: DriftUnrepaired, find: func(e Environment, _ time.Time) Trouble { return e.Drift }, byCluster: true},
	{Rule: Orphaned, find: orphaned},
	{Rule: Expired, find: expired},
}

// reviewOverdue finds overrides that were used and that nobody else looked at in time.
func reviewOverdue(e Environment, now time.Time) Trouble {
	var late []policy.Override
	first := time.Time{}
	for _, o := range e.Overrides {
		if due := o.Due(); due != nil && !now.Before(*due) {
			late, first = append(late, o), earliest(first, *due)
		}
	}
	return ofOverrides(late, first, "the next release is denied until then")
}

// freezeBreach finds overrides of the calendar that were used, until somebody else has reviewed them.
func freezeBreach(e Environment, _ time.Time) Trouble {
	var open []policy.Override
	first := time.Time{}
	for _, o := range e.Overrides {
		if o.Used != nil && o.Reviewer == "" && slices.Contains(o.Opened, policy.GateCalendar) {
			open, first = append(open, o), earliest(first, *o.Used)
		}
	}
	return ofOverrides(open, first, "the alert ends with the review")
}

func ofOverrides(list []policy.Override, since time.Time, until string) Trouble {
	if len(list) == 0 {
		return Trouble{}
	}
	var why, remedy []string
	for _, o := range list {
		s := o.Statement
		why = append(why, fmt.Sprintf("%s overrode %s at %s (ticket %s): %s; a review was due by %s",
			s.Person, strings.Join(o.Opened, ", "), clock(*o.Used), s.Ticket, s.Reason, clock(o.Used.Add(policy.ReviewDue))))
		remedy = append(remedy, fmt.Sprintf("purser review %s, by somebody other than %s", s.ID, s.Person))
	}
	return Trouble{Since: since, Why: strings.Join(why, "\n"), Remedy: strings.Join(remedy, "; ") + "; " + until}
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// stalled leaves out what other rules say better: input that was refused, and what is not healthy.
func stalled(e Environment, _ time.Time) Trouble {
	if !e.Refused.Since.IsZero() || !e.Ill.Since.IsZero() {
		return Trouble{}
	}
	return e.Stalled
}

func releaseDenied(e Environment, _ time.Time) Trouble {
	if !e.Refused.Since.IsZero() {
		return e.Refused
	}
	if e.Proposed.IsZero() || e.Verdict == nil || e.Verdict.Answer != policy.Deny {
		return Trouble{}
	}
	return Trouble{Since: e.Judged, Why: strings.Join(e.Verdict.Reasons(), "\n"),
		Remedy: "purser explain " + e.Name + " tells who may act; or push a release that passes. What is live stays"}
}

// waiting finds what is offered and waits for people.
func waiting(v *policy.Verdict, since time.Time, name string) Trouble {
	if v == nil || since.IsZero() || v.Answer != policy.Wait || !v.WaitsFor(policy.GateApprovals) {
		return Trouble{}
	}
	return Trouble{Since: since, Why: strings.Join(v.Reasons(), "\n"),
		Remedy: "review its pull request, or purser approve " + name + "; or push what does not need it"}
}

func orphaned(e Environment, _ time.Time) Trouble {
	if e.Orphaned.IsZero() {
		return Trouble{}
	}
	return Trouble{Since: e.Orphaned, Why: fmt.Sprintf("the environment is not declared any more, and %d objects of it still run; nobody repairs or watches them", e.Objects),
		Remedy: "declare it again, or delete what is left by hand"}
}

func expired(e Environment, now time.Time) Trouble {
	if e.Expires.IsZero() || now.Before(e.Expires) {
		return Trouble{}
	}
	return Trouble{Since: e.Expires, Why: "it was to end at " + clock(e.Expires) + "; nothing is ended by itself",
		Remedy: "set spec.expires to a later time, or remove the environment"}
}
