package alert

import (
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
)

// Estate is what is known of everything, as far as it may need attention.
type Estate struct {
	Environments []Environment
	Clusters     []Cluster
	Sources      []Source
	Governance   Governance
	Audit        Audit
}

// Environment is what is known of one environment.
type Environment struct {
	Name    string
	Purpose string // "" where it is not declared any more
	Tenant  string
	Cluster string
	Owners  []string // of the tenant

	Orphaned time.Time // since when it owns objects and is not declared; zero when it is
	Objects  int       // that it owns
	Expires  time.Time // zero: never

	Proposed time.Time // since when the newest release is offered, if it is not approved; else zero
	Verdict  *policy.Verdict
	Judged   time.Time // since when the verdict's answer is what it is
	Refused  Trouble   // input that could not become a release

	Stalled Trouble // needs a person to go on
	Failing Trouble // tries again without success
	Ill     Trouble // what runs is not healthy

	Drift     Trouble // that is not repaired
	Contested Trouble // drift that comes back after each repair

	Overrides []policy.Override
}

// Trouble is a condition that lasts.
type Trouble struct {
	Since  time.Time // zero: there is none
	Why    string
	Remedy string
}

// Cluster is what is known of one Kubernetes API.
type Cluster struct {
	Name        string
	Unreachable Trouble
	Replaced    Trouble // another cluster answers in its place
}

// Source is a repository.
type Source struct {
	Name        string
	Unreachable Trouble
}

// Governance is the declarations.
type Governance struct {
	Missing  Trouble // none are in force
	Refused  Trouble // the newest ones do not parse, or contradict what runs
	Proposed time.Time
	Verdict  *policy.Verdict // about what is proposed; nil when it is in force
	Judged   time.Time
}

// Audit is the evidence log.
type Audit struct {
	Unreachable Trouble // the remote takes no records
	Stalled     Trouble // nor will it before a person did something
	Full        Trouble // more records wait for it than are let
}

// Firing are the alerts that fire at a time, the worst first.
func (e Estate) Firing(now time.Time) []Alert {
	var firing []Alert
	down := map[string]bool{} // clusters that explain the trouble of their environments
	for _, c := range e.Clusters {
		alerts := e.ofCluster(c, now)
		down[c.Name] = len(alerts) > 0
		firing = append(firing, alerts...)
	}
	for _, env := range e.Environments {
		for _, r := range environmentRules {
			if r.byCluster && down[env.Cluster] {
				continue
			}
			if t := r.find(env, now); t.due(r.Rule, now) {
				firing = append(firing, env.alert(r.Rule, t))
			}
		}
	}
	for _, s := range e.Sources {
		firing = add(firing, SourceUnreachable, Labels{Source: s.Name}, s.Unreachable, now)
	}
	firing = add(firing, GovernanceRejected, Labels{}, e.Governance.rejected(), now)
	firing = add(firing, ApprovalWaiting, Labels{}, waiting(e.Governance.Verdict, e.Governance.Proposed, "governance"), now)
	firing = add(firing, AuditUnreachable, Labels{}, e.Audit.Unreachable, now)
	firing = add(firing, AuditStalled, Labels{}, e.Audit.Stalled, now)
	firing = add(firing, SpoolFull, Labels{}, e.Audit.Full, now)
	slices.SortFunc(firing, compare)
	return firing
}

// due reports whether a trouble has lasted as long as its rule asks for. What began in the future has not begun.
func (t Trouble) due(r Rule, now time.Time) bool {
	return !t.Since.IsZero() && now.Sub(t.Since) >= r.After
}

// add appends the alert of a rule that is not about one environment, if it is due.
func add(firing []Alert, r Rule, labels Labels, t Trouble, now time.Time) []Alert {
	if !t.due(r, now) {
		return firing
	}
	labels.Severity = r.Severity
	return append(firing, r.alert(labels, subject(labels), t))
}

// alert is what a rule says about an environment, to its tenant's owners.
func (e Environment) alert(r Rule, t Trouble) Alert {
	labels := Labels{
		Environment: e.Name, Tenant: e.Tenant, Cluster: e.Cluster,
		Severity: r.Severity.lowered(tier(e.Purpose)), Owner: strings.Join(e.Owners, ", "),
	}
	return r.alert(labels, subject(labels), t)
}

// subject names what an alert is about.
func subject(l Labels) string {
	switch {
	case l.Environment != "":
		return "environment " + l.Environment
	case l.Cluster != "":
		return "cluster " + l.Cluster
	case l.Source != "":
		return "source " + l.Source
	}
	return "the estate"
}

func (r Rule) alert(labels Labels, subject string, t Trouble) Alert {
	labels.Name = r.Name
	for _, value := range []*string{&labels.Environment, &labels.Tenant, &labels.Cluster, &labels.Source, &labels.Owner} {
		*value = bounded(*value, labelBytes)
	}
	why := bounded(t.Why, descriptionBytes)
	if t.Remedy != "" {
		why = bounded(why+"\nRemedy: "+t.Remedy, descriptionBytes)
	}
	return Alert{
		Labels: labels, Since: t.Since.Add(r.After),
		Summary: bounded(r.Summary+": "+subject, summaryBytes), Description: why,
	}
}

// tier is how many steps less an alert weighs than in production. A purpose that is not known weighs as much.
func tier(purpose string) int {
	switch purpose {
	case "preproduction", "staging", "uat", "training":
		return 1
	case "qa", "development":
		return 2
	}
	return 0
}

// ofCluster are the alerts about a cluster. They weigh as much as its most important environment lets them.
func (e Estate) ofCluster(c Cluster, now time.Time) []Alert {
	least := len(severities) - 1
	used := false
	for _, env := range e.Environments {
		if env.Cluster == c.Name {
			least, used = min(least, tier(env.Purpose)), true
		}
	}
	if !used {
		least = 0
	}
	var firing []Alert
	for _, found := range []struct {
		rule    Rule
		trouble Trouble
	}{{ClusterReplaced, c.Replaced}, {ClusterUnreachable, c.Unreachable}} {
		r := found.rule
		r.Severity = r.Severity.lowered(least)
		firing = add(firing, r, Labels{Cluster: c.Name}, found.trouble, now)
	}
	return firing
}

// rejected is why the newest declarations are not in force, if they will not be by themselves.
func (g Governance) rejected() Trouble {
	switch {
	case !g.Missing.Since.IsZero():
		return g.Missing
	case !g.Refused.Since.IsZero():
		return g.Refused
	case g.Verdict != nil && g.Verdict.Answer == policy.Deny:
		return Trouble{Since: g.Judged, Why: strings.Join(g.Verdict.Reasons(), "\n"), Remedy: "change the declarations, or have them approved; those in force stay"}
	}
	return Trouble{}
}
