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

	Backups Backups
}

// Backups is what is wrong with the backups of an environment.
type Backups struct {
	Unable  Trouble // the agent has no database or store for them
	Overdue Trouble // more would be lost than the policy accepts
	Failed  Trouble // the last attempt
	Damaged Trouble // the newest one that was looked at

	DrillFailed  Trouble // the last one
	DrillOverdue Trouble

	Behind   Trouble // a further store lacks too much
	Unproven Trouble // verifications, copies or deletions do not come about
	Blocked  Trouble // what is not needed any more is kept
	Deletion Trouble // what became of it is not known
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
	add := func(r rule, labels Labels, t Trouble) bool {
		due := t.due(r, now)
		if due {
			firing = append(firing, r.alert(labels, t))
		}
		return due
	}
	down := map[string]bool{} // clusters that explain the trouble of their environments
	for _, r := range rules {
		for _, c := range e.Clusters {
			if r.ofCluster != nil && add(r.lowered(e.tier(c)), Labels{Cluster: c.Name}, r.ofCluster(c)) {
				down[c.Name] = true
			}
		}
	}
	for _, r := range rules {
		for _, env := range e.Environments {
			if r.ofEnvironment != nil && !(r.byCluster && down[env.Cluster]) {
				add(r.lowered(tier(env.Purpose)), env.labels(), r.ofEnvironment(env, now))
			}
		}
		for _, s := range e.Sources {
			if r.ofSource != nil {
				add(r, Labels{Source: s.Name}, r.ofSource(s))
			}
		}
		if r.ofEstate != nil {
			add(r, Labels{}, r.ofEstate(e))
		}
	}
	slices.SortFunc(firing, compare)
	return firing
}

// due reports whether a trouble has lasted as long as its rule asks for. What began in the future has not begun.
func (t Trouble) due(r rule, now time.Time) bool {
	return !t.Since.IsZero() && now.Sub(t.Since) >= r.after
}

// labels are those of its alerts, which are its tenant's owners'.
func (e Environment) labels() Labels {
	return Labels{Environment: e.Name, Tenant: e.Tenant, Cluster: e.Cluster, Owner: strings.Join(e.Owners, ", ")}
}

// lowered is the rule about what matters some steps less than production.
func (r rule) lowered(steps int) rule {
	r.severity = r.severity.lowered(steps)
	return r
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

// alert is what a rule says.
func (r rule) alert(labels Labels, t Trouble) Alert {
	about := subject(labels)
	labels.Name, labels.Severity = r.name, r.severity
	for _, value := range []*string{&labels.Environment, &labels.Tenant, &labels.Cluster, &labels.Source, &labels.Owner} {
		*value = bounded(*value, labelBytes)
	}
	why := bounded(t.Why, descriptionBytes)
	if t.Remedy != "" {
		why = bounded(why+"\nRemedy: "+t.Remedy, descriptionBytes)
	}
	return Alert{
		Labels: labels, Since: t.Since.Add(r.after),
		Summary: bounded(r.summary+": "+about, summaryBytes), Description: why,
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

// tier is that of a cluster's most important environment.
func (e Estate) tier(c Cluster) int {
	least, used := len(severities)-1, false
	for _, env := range e.Environments {
		if env.Cluster == c.Name {
			least, used = min(least, tier(env.Purpose)), true
		}
	}
	if !used {
		return 0
	}
	return least
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
