package reconciler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/render"
)

// Status is what people and programs read of an agent.
type Status struct {
	Governance *evidence.Revision `json:"governance,omitempty"` // approved commit
	Refused    *evidence.Refused  `json:"refused,omitempty"`    // newest governance commit that was refused
	// GovernanceProposed is the newest governance commit that could be approved and is not; nil when there is none.
	GovernanceProposed *evidence.Revision `json:"governanceProposed,omitempty"`
	// GovernanceVerdict is about the newest governance commit; nil when it is the approved one.
	GovernanceVerdict *policy.Verdict     `json:"governanceVerdict,omitempty"`
	Sources           []SourceStatus      `json:"sources"`
	Clusters          []ClusterStatus     `json:"clusters"`
	Evidence          EvidenceStatus      `json:"evidence"`
	Environments      []EnvironmentStatus `json:"environments"`
}

// SourceStatus is one repository.
type SourceStatus struct {
	Name    string    `json:"name"`
	Problem string    `json:"problem,omitempty"` // why the last poll failed; the last good state stays
	Since   time.Time `json:"since,omitzero"`    // of the problem
	// Branches are those that a forge was asked about: how it protects them.
	Branches []evidence.Protection `json:"branches,omitempty"`
}

// ClusterStatus is one cluster.
type ClusterStatus struct {
	Name    string    `json:"name"`
	Problem string    `json:"problem,omitempty"` // why its API does not answer
	Since   time.Time `json:"since,omitzero"`    // of the problem
	// What cannot be watched, and why: its drift is found at the interval only.
	Unwatched map[string]string `json:"unwatched,omitempty"`
}

// EvidenceStatus is the audit log.
type EvidenceStatus struct {
	Records   uint64    `json:"records"`
	Spooled   int       `json:"spooled"`   // records that wait to be published
	Published time.Time `json:"published"` // when the remote last took records in this run
	Problem   string    `json:"problem,omitempty"`
	Since     time.Time `json:"since,omitzero"` // of the problem
}

// EnvironmentStatus is one environment.
type EnvironmentStatus struct {
	Name      string `json:"name"`
	Purpose   string `json:"purpose,omitempty"`
	Tenant    string `json:"tenant,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Orphaned  bool   `json:"orphaned,omitempty"` // no longer declared; what it owns stays
	Suspended bool   `json:"suspended,omitempty"`
	Expired   bool   `json:"expired,omitempty"`

	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Since   time.Time `json:"since"`

	Proposed *Pointer          `json:"proposed,omitempty"`
	Approved *Pointer          `json:"approved,omitempty"`
	Live     *Pointer          `json:"live,omitempty"`
	Previous *Pointer          `json:"previous,omitempty"` // live before
	Verdict  *policy.Verdict   `json:"verdict,omitempty"`
	Refused  *evidence.Refused `json:"refused,omitempty"`
	Blocked  *evidence.Refused `json:"blocked,omitempty"`

	Hold      *policy.Hold           `json:"hold,omitempty"`
	Vetoes    map[string]policy.Veto `json:"vetoes,omitempty"`    // by release
	Overrides []policy.Override      `json:"overrides,omitempty"` // in force, or to be reviewed

	Deployment Deployment         `json:"deployment"`
	Inventory  []render.Ref       `json:"inventory"`
	Drift      []evidence.Drifted `json:"drift"` // what is known to differ from the target
	Health     health.Status      `json:"health"`
	HealthWhy  string             `json:"healthWhy,omitempty"`
	Cause      string             `json:"cause,omitempty"`

	// Backups are nil where none were ever made or tried. Locks and open deletions, which are long, only [Agent.BackupsOf] tells.
	Backups *upkeep.Backups `json:"backups,omitempty"`
}

// Status reads everything.
func (a *Agent) Status() Status {
	log := a.journal.log.Status()
	s := Status{Sources: []SourceStatus{}, Clusters: []ClusterStatus{}, Environments: []EnvironmentStatus{}, Evidence: EvidenceStatus{Records: log.Records, Spooled: log.Spooled, Published: log.LastPublish}}
	if log.Err != nil {
		s.Evidence.Problem, s.Evidence.Since = log.Err.Error(), log.FailedAt
	}
	states := map[string]EnvironmentState{}
	branches := map[string][]evidence.Protection{}
	a.journal.read(func(state *State) {
		g := state.Governance
		s.Governance, s.Refused, s.GovernanceProposed, s.GovernanceVerdict = g.Approved, g.Refused, g.Proposed, g.Verdict
		for name, e := range state.Environments {
			states[name] = *e
		}
		for _, key := range slices.Sorted(maps.Keys(state.Protections)) {
			p := state.Protections[key]
			branches[p.Source] = append(branches[p.Source], p)
		}
	})
	a.mu.RLock()
	defer a.mu.RUnlock()
	for name, p := range a.problems {
		source := SourceStatus{Name: name, Branches: branches[name]}
		if p.err != nil {
			source.Problem, source.Since = p.err.Error(), p.since
		}
		s.Sources = append(s.Sources, source)
	}
	for _, name := range slices.Sorted(maps.Keys(a.clusters)) {
		cluster := ClusterStatus{Name: name, Unwatched: a.clusters[name].watcher.Unwatched()}
		if since, err := a.clusters[name].Unreachable(); err != nil {
			cluster.Problem, cluster.Since = err.Error(), since
		}
		s.Clusters = append(s.Clusters, cluster)
	}
	slices.SortFunc(s.Sources, func(x, y SourceStatus) int { return cmp.Compare(x.Name, y.Name) })
	names := maps.Clone(states)
	if a.law != nil {
		for name := range a.law.Environments {
			names[name] = states[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s.Environments = append(s.Environments, a.environmentStatus(name, names[name]))
	}
	return s
}

// environmentStatus joins what is recorded, declared and observed. The agent's lock is held.
func (a *Agent) environmentStatus(name string, e EnvironmentState) EnvironmentStatus {
	s := EnvironmentStatus{
		Name: name, Proposed: e.Proposed, Approved: e.Approved, Live: e.Live, Previous: e.Previous, Verdict: e.Verdict,
		Refused: e.Refused, Blocked: e.Blocked, Hold: e.Hold, Vetoes: e.Vetoes, Overrides: e.Overrides, Deployment: e.Deployment,
		Inventory: []render.Ref{}, Drift: append([]evidence.Drifted{}, e.Drift...), Outcome: Waiting.String(), Health: health.Unknown,
	}
	if len(e.Backups.Runs) > 0 {
		e.Backups.Locks, e.Backups.Expiring = nil, nil
		s.Backups = &e.Backups
	}
	for _, item := range e.Inventory {
		s.Inventory = append(s.Inventory, item.Ref)
	}
	s.Orphaned = true
	if a.law != nil {
		if d := a.law.Environments[name]; d != nil {
			s.Orphaned = false
			s.Purpose, s.Tenant, s.Cluster, s.Namespace = d.Spec.Purpose, tenantOf(d), d.Spec.Cluster, d.Spec.Namespace
			s.Suspended = d.Spec.Reconcile.Suspend
			s.Expired = d.Spec.Expires != nil && !a.now().Before(*d.Spec.Expires)
		}
	}
	if !s.Orphaned && a.clusters[s.Cluster] == nil {
		s.Outcome, s.Reason = Stalled.String(), fmt.Sprintf("its cluster %q is not in the agent's configuration", s.Cluster)
	} else if o := a.observed[name]; o != nil {
		s.Outcome, s.Reason, s.Hint, s.Since = o.outcome.Kind.String(), o.outcome.Reason, o.outcome.Hint, o.since
		if o.report.Status != "" {
			s.Health, s.HealthWhy, s.Cause = o.report.Status, o.report.Message, string(o.report.Cause)
		}
	}
	return s
}

// Ready says why the agent is not ready to work; nil when it is.
func (a *Agent) Ready() error {
	if a.inForce() == nil {
		return errNoGovernance
	}
	return nil
}
