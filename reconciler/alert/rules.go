package alert

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// rule is one kind of trouble, and finds it in what it is about.
type rule struct {
	name     string        // label alertname, and the section of docs/alerts.md
	severity Severity      // in production, and of what belongs to no environment
	after    time.Duration // how long the trouble lasts before the alert fires
	summary  string

	ofEstate      func(Estate) Trouble
	ofCluster     func(Cluster) Trouble
	ofSource      func(Source) Trouble
	ofEnvironment func(Environment, time.Time) Trouble
	byCluster     bool // where its cluster is in trouble, that explains an environment's
}

var rules = []rule{
	{name: "PurserClusterUnreachable", severity: Critical, after: time.Minute, summary: "The Kubernetes API cannot be reached",
		ofCluster: func(c Cluster) Trouble { return c.Unreachable }},
	{name: "PurserClusterReplaced", severity: Critical, summary: "Another cluster answers",
		ofCluster: func(c Cluster) Trouble { return c.Replaced }},
	{name: "PurserSourceUnreachable", severity: Warning, after: 5 * time.Minute, summary: "A repository cannot be read",
		ofSource: func(s Source) Trouble { return s.Unreachable }},
	{name: "PurserGovernanceRejected", severity: Warning, after: time.Minute, summary: "The newest declarations are not in force",
		ofEstate: func(e Estate) Trouble { return e.Governance.rejected() }},
	{name: "PurserAuditUnreachable", severity: Critical, after: 5 * time.Minute, summary: "The audit remote takes no records",
		ofEstate: func(e Estate) Trouble { return e.Audit.Unreachable }},
	{name: "PurserAuditStalled", severity: Critical, summary: "The audit log needs a person",
		ofEstate: func(e Estate) Trouble { return e.Audit.Stalled }},
	{name: "PurserSpoolFull", severity: Critical, summary: "Too many records wait for the audit remote",
		ofEstate: func(e Estate) Trouble { return e.Audit.Full }},
	{name: "PurserReviewOverdue", severity: Critical, summary: "An override was not reviewed in time", ofEnvironment: reviewOverdue},
	{name: "PurserFreezeBreach", severity: Critical, summary: "A release went out against the calendar by an override", ofEnvironment: freezeBreach},
	{name: "PurserEnvironmentUnhealthy", severity: Critical, after: time.Minute, summary: "What runs is not healthy",
		ofEnvironment: func(e Environment, _ time.Time) Trouble { return e.Ill }},
	{name: "PurserEnvironmentFailing", severity: Warning, after: 5 * time.Minute, summary: "Reconciliation fails",
		ofEnvironment: func(e Environment, _ time.Time) Trouble { return e.Failing }, byCluster: true},
	{name: "PurserEnvironmentStalled", severity: Warning, after: time.Minute, summary: "Reconciliation needs a person", ofEnvironment: stalled, byCluster: true},
	{name: "PurserReleaseDenied", severity: Warning, after: time.Minute, summary: "The newest release is denied", ofEnvironment: releaseDenied},
	{name: "PurserApprovalWaiting", severity: Warning, after: 24 * time.Hour, summary: "A change waits for approval",
		ofEstate:      func(e Estate) Trouble { return waiting(e.Governance.Verdict, e.Governance.Proposed, policy.Governance) },
		ofEnvironment: func(e Environment, _ time.Time) Trouble { return waiting(e.Verdict, e.Proposed, e.Name) }},
	{name: "PurserDriftContested", severity: Warning, summary: "Somebody undoes each repair",
		ofEnvironment: func(e Environment, _ time.Time) Trouble { return e.Contested }},
	{name: "PurserDriftUnrepaired", severity: Warning, after: 2 * time.Minute, summary: "Drift is not repaired",
		ofEnvironment: func(e Environment, _ time.Time) Trouble { return e.Drift }, byCluster: true},
	{name: "PurserBackupUnable", severity: Critical, after: time.Minute, summary: "Nothing is backed up",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Unable })},
	{name: "PurserBackupOverdue", severity: Critical, summary: "More would be lost than accepted",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Overdue })},
	{name: "PurserBackupDamaged", severity: Critical, summary: "The newest backup is damaged",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Damaged })},
	{name: "PurserDrillFailed", severity: Critical, summary: "A rehearsed restore failed",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.DrillFailed })},
	{name: "PurserBackupFailed", severity: Warning, after: 10 * time.Minute, summary: "Backups fail",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Failed })},
	{name: "PurserDrillOverdue", severity: Warning, summary: "No restore was rehearsed in time",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.DrillOverdue })},
	{name: "PurserBackupReplicaBehind", severity: Warning, summary: "A further store lacks backups",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Behind })},
	{name: "PurserBackupWorkFailing", severity: Warning, after: 2 * time.Hour, summary: "Backups are not verified, copied or cleared up",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Unproven })},
	{name: "PurserBackupDeletionOpen", severity: Warning, after: 2 * time.Hour, summary: "A deletion has no outcome",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Deletion })},
	{name: "PurserBackupRetentionBlocked", severity: Warning, summary: "Backups that nobody needs are kept",
		ofEnvironment: ofBackups(func(b Backups) Trouble { return b.Blocked })},
	{name: "PurserEnvironmentOrphaned", severity: Warning, summary: "Objects are left of what is no longer declared", ofEnvironment: orphaned},
	{name: "PurserEnvironmentExpired", severity: Warning, summary: "The declared end has passed", ofEnvironment: expired},
}

func ofBackups(which func(Backups) Trouble) func(Environment, time.Time) Trouble {
	return func(e Environment, _ time.Time) Trouble { return which(e.Backups) }
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
		Remedy: "declare it again, or delete what is left by hand: what the API server does not find any more is nobody's"}
}

func expired(e Environment, now time.Time) Trouble {
	if e.Expires.IsZero() || now.Before(e.Expires) {
		return Trouble{}
	}
	return Trouble{Since: e.Expires, Why: "it was to end at " + clock(e.Expires) + "; nothing is ended by itself",
		Remedy: "set spec.expires to a later time, or remove the environment"}
}
