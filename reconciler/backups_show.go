package reconciler

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// BackupStatus is what is known of the backups of one environment.
type BackupStatus struct {
	Environment string                `json:"environment"`
	Policy      string                `json:"policy,omitempty"`
	Store       string                `json:"store,omitempty"` // that the policy writes to
	Replicas    []string              `json:"replicas,omitempty"`
	RPO         time.Duration         `json:"rpoNanoseconds,omitempty"` // objectives
	RTO         time.Duration         `json:"rtoNanoseconds,omitempty"`
	Tolerate    *declaration.Tolerate `json:"tolerate,omitempty"`
	Problem     string                `json:"problem,omitempty"` // why no backups are made
	Backups     upkeep.Backups        `json:"backups"`
	// Retention says by store what becomes of each backup, as far as the records tell without asking the store.
	Retention map[string][]backup.Decision `json:"retention,omitempty"`
	Lanes     []LaneStatus                 `json:"lanes,omitempty"`
	Failing   map[string]string            `json:"failing,omitempty"` // why the last run of a kind left no record
}

// LaneStatus is what goes on with the backups of an environment, or comes next.
type LaneStatus struct {
	Lane     string         `json:"lane"`
	Running  upkeep.Task    `json:"running,omitempty"`
	Since    time.Time      `json:"since,omitzero"`
	Progress *OrderProgress `json:"progress,omitempty"`
	Orders   int            `json:"orders,omitempty"` // of people, that wait
	Next     *NextJob       `json:"next,omitempty"`   // nil: nothing by itself
}

// NextJob is what is due next by itself.
type NextJob struct {
	Task   upkeep.Task  `json:"task"`
	Store  string       `json:"store,omitempty"`
	ID     backup.ID    `json:"id,omitempty"`
	Level  backup.Level `json:"level,omitempty"`
	Point  string       `json:"point,omitempty"`
	Reason string       `json:"reason,omitempty"`
	At     time.Time    `json:"at"`
}

// BackupsOf says what is known of the backups of an environment; false if it is neither declared nor has any.
func (a *Agent) BackupsOf(name string) (BackupStatus, bool) {
	state := a.journal.environment(name)
	s := BackupStatus{Environment: name, Backups: state.Backups}
	l := a.inForce()
	declared := l != nil && l.Environments[name] != nil
	if !declared {
		s.Problem = "the environment is not declared"
		return s, len(state.Backups.Runs)+len(state.Backups.Copies) > 0
	}
	var spec declaration.BackupPolicySpec
	if policy := l.BackupPolicies[l.Environments[name].Spec.Backup]; policy != nil {
		spec = policy.Spec
		s.Policy, s.Store, s.Replicas, s.RPO, s.RTO, s.Tolerate = policy.Meta.Name, spec.Store, spec.Replicas, spec.RPO, spec.RTO, &spec.Tolerate
	}
	subject, err := a.backups.subject(l, name)
	if err != nil {
		s.Problem = err.Error()
		return s, true
	}
	s.Retention = map[string][]backup.Decision{}
	for _, in := range spec.Stores() {
		decisions, err := subject.Retained(in, a.now())
		if err != nil {
			s.Problem = err.Error()
			return s, true
		}
		s.Retention[in] = decisions
	}
	a.backups.show(&s, subject)
	return s, true
}

// show adds what goes on.
func (b *backups) show(s *BackupStatus, subject upkeep.Subject) {
	now := b.agent.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, lane := range upkeep.Lanes {
		l := b.lanes[laneKey{s.Environment, lane}]
		shown := LaneStatus{Lane: lane.String(), Next: next(lane, subject, b.quiet[s.Environment], now)}
		if l != nil {
			shown.Orders = len(l.orders)
			if l.running != "" {
				shown.Running, shown.Since, shown.Progress = l.running, l.since, &OrderProgress{l.running, l.progress}
			}
		}
		s.Lanes = append(s.Lanes, shown)
	}
	for run, p := range b.failed[s.Environment] {
		if s.Failing == nil {
			s.Failing = map[string]string{}
		}
		s.Failing[run] = p.err.Error()
	}
}

// next is what the lane does next by itself, nothing else happening; nil for nothing.
func next(lane upkeep.Lane, s upkeep.Subject, quiet map[string]upkeep.Run, now time.Time) *NextJob {
	job, due, at := upkeep.Next(lane, s.Environment, s.Policy, &s.Backups, quiet, now)
	if due {
		at = now
	} else if at.IsZero() {
		return nil
	} else if job, due, _ = upkeep.Next(lane, s.Environment, s.Policy, &s.Backups, quiet, at); !due {
		return nil
	}
	return &NextJob{Task: job.Task, Store: job.Store, ID: job.ID, Level: job.Level, Point: job.Point, Reason: job.Reason, At: at.UTC()}
}

// maxDrills bounds how many drills are listed, the newest.
const maxDrills = 500

// DrillsOf are the drills of an environment whose records are here, the oldest first; see [evidence.RestoreTest].
func (a *Agent) DrillsOf(ctx context.Context, name string) ([]OrderRecord, error) {
	list := []OrderRecord{}
	err := a.journal.log.Replay(func(r evidence.Record) error {
		if r.Type == evidence.TypeRestoreTest && r.Environment == name {
			list = append(list, orderRecord(r))
			list = list[max(0, len(list)-maxDrills):]
		}
		return ctx.Err()
	})
	return list, err
}

func (a *Agent) serveBackups(w http.ResponseWriter, _ *http.Request) {
	names := map[string]bool{}
	a.journal.read(func(s *State) {
		for name, e := range s.Environments {
			names[name] = len(e.Backups.Runs)+len(e.Backups.Copies) > 0
		}
	})
	if l := a.inForce(); l != nil {
		for name, env := range l.Environments {
			names[name] = names[name] || env.Spec.Backup != ""
		}
	}
	list := []BackupStatus{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if s, known := a.BackupsOf(name); known && names[name] {
			list = append(list, s)
		}
	}
	writeJSON(w, list)
}

func (a *Agent) serveBackupsOf(w http.ResponseWriter, r *http.Request) {
	s, known := a.BackupsOf(r.PathValue("name"))
	if !known {
		http.Error(w, "no such environment", http.StatusNotFound)
		return
	}
	writeJSON(w, s)
}

// serveDrills answers with all drills, or with the one whose record is asked for. One log is read at a time.
func (a *Agent) serveDrills(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), explainTimeout)
	defer cancel()
	select {
	case a.replaying <- struct{}{}:
		defer func() { <-a.replaying }()
	case <-ctx.Done():
		http.Error(w, "others are served", http.StatusServiceUnavailable)
		return
	}
	list, err := a.DrillsOf(ctx, r.PathValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if r.PathValue("record") == "" {
		writeJSON(w, list)
		return
	}
	for _, drill := range list {
		if strconv.FormatUint(drill.Index, 10) == r.PathValue("record") {
			writeJSON(w, drill)
			return
		}
	}
	http.Error(w, "no such drill", http.StatusNotFound)
}
