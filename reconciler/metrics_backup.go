package reconciler

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// backupMetrics shows the backups of the environments that name a policy. What is, is read from the records when somebody
// asks, so that nothing of an environment outlasts its declaration; what happens is counted from the start of the agent on.
// Nothing is shown of what never was.
type backupMetrics struct {
	views func() []backupView
	descs []*prometheus.Desc

	mu    sync.Mutex
	shown map[string]bool // environments that have counters

	lastSuccess, lastSnapshot, lastVerified, verifiedSnapshot *prometheus.Desc
	duration, size, findings, stored, missing, rpoObjective   *prometheus.Desc
	blocked, replicated, running                              *prometheus.Desc
	drillSuccess, drillEnd, drillRTO, drillRPO, rtoObjective  *prometheus.Desc
	drillSegment                                              *prometheus.Desc

	runs, verifications, expired, drills *prometheus.CounterVec
}

// backupView is what is known of the backups of one environment.
type backupView struct {
	environment string
	policy      *declaration.BackupPolicy
	backups     upkeep.Backups
	running     bool // a backup is being made
}

func newBackupMetrics(reg prometheus.Registerer, views func() []backupView) (*backupMetrics, error) {
	m := &backupMetrics{views: views}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc(name, help, append([]string{"environment"}, labels...), nil)
		m.descs = append(m.descs, d)
		return d
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"environment"}, labels...))
	}
	m.lastSuccess = gauge("purser_backup_last_success_timestamp_seconds", "End of the last backup that was made.")
	m.lastSnapshot = gauge("purser_backup_last_snapshot_timestamp_seconds", "What was committed before is in the last backup.")
	m.lastVerified = gauge("purser_backup_last_verified_timestamp_seconds", "When a backup in the policy's store last passed a verification at the level or a higher one.", "level")
	m.verifiedSnapshot = gauge("purser_backup_verified_snapshot_timestamp_seconds", "What was committed before is in the newest verified backup of the policy's store: what was written since would be lost.")
	m.duration = gauge("purser_backup_duration_seconds", "How long the parts of the last backup took.", "segment")
	m.size = gauge("purser_backup_size_bytes", "The last backup: plain was read, sealed was stored, new_attachments no earlier backup had.", "kind")
	m.findings = gauge("purser_backup_findings", "What the last verification found.")
	m.stored = gauge("purser_backup_stored", "Backups in the store, damaged ones included.", "store")
	m.missing = gauge("purser_backup_missing_attachments", "Contents of attachments that the filestore did not have at the last backup.")
	m.rpoObjective = gauge("purser_backup_rpo_objective_seconds", "Greatest loss of data that the policy accepts.")
	m.blocked = gauge("purser_backup_retention_blocked", "Stores in which something is kept that could be deleted.")
	m.replicated = gauge("purser_backup_replicated_snapshot_timestamp_seconds", "What was committed before is in the newest backup of a further store.", "store")
	m.running = gauge("purser_backup_running", "1 while a backup is being made.")
	m.drillSuccess = gauge("purser_drill_last_success_timestamp_seconds", "End of the last drill that passed.")
	m.drillEnd = gauge("purser_drill_last_end_timestamp_seconds", "End of the last drill.")
	m.drillRTO = gauge("purser_drill_rto_seconds", "Time to restore, measured by the last drill; nothing if that did not get to the end of its checks.")
	m.drillRPO = gauge("purser_drill_rpo_seconds", "Loss of data, measured by the last drill; nothing if that took another backup than the latest.")
	m.rtoObjective = gauge("purser_drill_rto_objective_seconds", "Longest time to restore that the policy accepts.")
	m.drillSegment = gauge("purser_drill_segment_seconds", "How long the parts of the last drill took.", "segment")

	m.runs = counter("purser_backup_runs_total", "Attempts to make a backup.", "outcome")
	m.verifications = counter("purser_backup_verifications_total", "Verifications; unfinished ones say nothing about the backup.", "level", "outcome")
	m.expired = counter("purser_backup_expired_objects_total", "Objects of backups that were deleted because nothing needs them any more.", "store")
	m.drills = counter("purser_drill_runs_total", "Rehearsed restores.", "outcome")
	if err := reg.Register(m); err != nil {
		return nil, fmt.Errorf("register metrics of backups: %w", err)
	}
	return m, nil
}

func (m *backupMetrics) counters() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.runs, m.verifications, m.expired, m.drills}
}

// Describe implements [prometheus.Collector].
func (m *backupMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
	for _, c := range m.counters() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (m *backupMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	shown := map[string]bool{}
	for _, v := range m.views() {
		s := sampler{ch: ch, environment: v.environment}
		m.made(s, v)
		m.kept(s, v)
		m.drilled(s, v)
		m.begin(v)
		shown[v.environment] = true
	}
	for environment := range m.shown {
		if !shown[environment] { // also what was begun while it was being forgotten
			m.forget(environment)
		}
	}
	m.shown = shown
	for _, c := range m.counters() {
		c.Collect(ch)
	}
}

// sampler gives values of one environment.
type sampler struct {
	ch          chan<- prometheus.Metric
	environment string
}

func (s sampler) value(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.environment}, labels...)...)
}

func (s sampler) time(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.value(d, float64(t.UnixMilli())/1000, labels...)
	}
}

// segments sums up parts of the same name.
func (s sampler) segments(d *prometheus.Desc, list []backup.Segment) {
	took := map[string]time.Duration{}
	for _, part := range list {
		took[part.Name] += part.Took
	}
	for name, t := range took {
		s.value(d, t.Seconds(), name)
	}
}

// made shows the last backup.
func (m *backupMetrics) made(s sampler, v backupView) {
	s.value(m.rpoObjective, v.policy.Spec.RPO.Seconds())
	s.value(m.running, oneIf(v.running))
	b := v.backups.Made
	if b == nil {
		return
	}
	s.time(m.lastSuccess, b.Ended)
	s.time(m.lastSnapshot, b.Snapshot)
	s.segments(m.duration, b.Segments)
	s.value(m.size, float64(b.Plain), "plain")
	s.value(m.size, float64(b.Sealed), "sealed")
	s.value(m.size, float64(b.Copied), "new_attachments")
	s.value(m.missing, float64(b.Lacks))
}

// levels are those at which the agent verifies.
var levels = []backup.Level{backup.L0, backup.L1, backup.L2}

// kept shows what is in the stores, and what is known of it.
func (m *backupMetrics) kept(s sampler, v backupView) {
	spec, b := v.policy.Spec, &v.backups
	var passed time.Time
	for i := range levels {
		level := levels[len(levels)-1-i] // who passes a level passes the lower ones
		if t := b.Runs[upkeep.Job{Task: upkeep.Verify, Level: level, Store: spec.Store}.Run()].Passed; t.After(passed) {
			passed = t
		}
		s.time(m.lastVerified, passed, string(level))
	}
	if c, found := b.Newest(spec.Store, upkeep.Copy.Good); found {
		s.time(m.verifiedSnapshot, c.Snapshot)
	}
	if l := b.Looked; l != nil {
		s.value(m.findings, float64(len(l.Findings.Findings)+l.Findings.Further))
	}
	stored := map[string]int{}
	for _, store := range spec.Replicas {
		if c, found := b.Newest(store, undamaged); found {
			s.time(m.replicated, c.Snapshot, store)
		}
	}
	for _, c := range b.Copies {
		stored[c.Store]++
	}
	blocked := 0
	for _, store := range spec.Stores() {
		s.value(m.stored, float64(stored[store]), store)
		if _, found := b.Blocked[store]; found {
			blocked++
		}
	}
	s.value(m.blocked, float64(blocked))
}

func undamaged(c upkeep.Copy) bool { return c.FailedAt == "" }

// drilled shows the last drill.
func (m *backupMetrics) drilled(s sampler, v backupView) {
	s.value(m.rtoObjective, v.policy.Spec.RTO.Seconds())
	s.time(m.drillSuccess, v.backups.DrillPassed)
	d := v.backups.Drilled
	if d == nil {
		return
	}
	s.time(m.drillEnd, d.Ended)
	if d.RTO > 0 {
		s.value(m.drillRTO, d.RTO.Seconds())
	}
	if !d.Snapshot.IsZero() && d.Point == declaration.PointLatest { // an older one says nothing of what would be lost
		s.value(m.drillRPO, max(d.RPO, 0).Seconds())
	}
	s.segments(m.drillSegment, d.Segments)
}

// Outcomes that are counted.
const (
	outcomeSucceeded  = "succeeded"
	outcomePassed     = "passed"
	outcomeFailed     = "failed"
	outcomeUnfinished = "unfinished"
)

// begin has counters at zero before something happens: a rise from nothing is not seen.
func (m *backupMetrics) begin(v backupView) {
	for _, outcome := range []string{outcomeSucceeded, outcomeFailed} {
		m.runs.WithLabelValues(v.environment, outcome)
	}
	for _, level := range levels {
		for _, outcome := range []string{outcomePassed, outcomeFailed, outcomeUnfinished} {
			m.verifications.WithLabelValues(v.environment, string(level), outcome)
		}
	}
	for _, store := range v.policy.Spec.Stores() {
		m.expired.WithLabelValues(v.environment, store)
	}
	for _, outcome := range []string{outcomePassed, outcomeFailed} {
		m.drills.WithLabelValues(v.environment, outcome)
	}
}

// recorded counts what a record tells.
func (m *backupMetrics) recorded(environment string, predicate any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown == nil {
		m.shown = map[string]bool{}
	}
	m.shown[environment] = true
	switch p := predicate.(type) {
	case evidence.Backup:
		m.runs.WithLabelValues(environment, outcomeIf(p.Manifest != nil, outcomeSucceeded)).Inc()
	case evidence.Verification:
		outcome := outcomeIf(p.Passed, outcomePassed)
		if p.Unfinished != "" && len(p.Findings.Findings) == 0 {
			outcome = outcomeUnfinished
		}
		m.verifications.WithLabelValues(environment, string(p.Asked), outcome).Inc()
	case evidence.RestoreTest:
		m.drills.WithLabelValues(environment, outcomeIf(p.Passed, outcomePassed)).Inc()
	case evidence.Retention:
		if len(p.Deleted) > 0 {
			m.expired.WithLabelValues(environment, p.Store).Add(float64(len(p.Deleted)))
		}
	}
}

func outcomeIf(well bool, outcome string) string {
	if well {
		return outcome
	}
	return outcomeFailed
}

// forget drops the counters of an environment that is no longer declared.
func (m *backupMetrics) forget(environment string) {
	for _, c := range m.counters() {
		c.DeletePartialMatch(prometheus.Labels{"environment": environment})
	}
}

// views are the environments in force whose backups are declared, whether or not the agent can make them.
func (b *backups) views() []backupView {
	l := b.agent.inForce()
	if l == nil {
		return nil
	}
	var list []backupView
	for name, env := range l.Environments {
		if policy := l.BackupPolicies[env.Spec.Backup]; policy != nil {
			list = append(list, backupView{environment: name, policy: policy, backups: b.agent.journal.environment(name).Backups})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range list {
		for _, lane := range upkeep.Lanes {
			if s := b.lanes[laneKey{list[i].environment, lane}]; s != nil && s.running == upkeep.TakeBackup {
				list[i].running = true
			}
		}
	}
	return list
}
