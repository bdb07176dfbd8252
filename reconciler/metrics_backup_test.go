package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/schedule"
)

// backupNoon is a time about which backups are made in tests.
var backupNoon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// shopPolicy backs up every hour to near, copies to far, and drills every day.
func shopPolicy(t *testing.T) *declaration.BackupPolicy {
	t.Helper()
	daily, err := schedule.Compile(schedule.Spec{Cron: "0 5 * * *", TimeZone: "UTC"})
	if err != nil {
		t.Fatal(err)
	}
	return &declaration.BackupPolicy{
		Meta: declaration.Meta{Name: "shop"},
		Spec: declaration.BackupPolicySpec{Store: "near", Replicas: []string{"far"}, RPO: 2 * time.Hour, RTO: time.Hour,
			Drills: []declaration.Drill{{Schedule: "0 5 * * *", Point: declaration.PointLatest}}},
		Schedules: declaration.BackupSchedules{Drills: []*schedule.Schedule{daily}},
	}
}

// backupStory folds what happened with backups, and counts it.
type backupStory struct {
	history
	b       upkeep.Backups
	metrics *backupMetrics // nil: nothing is counted
}

func (k *backupStory) fold(kind string, predicate any) {
	k.t.Helper()
	index := k.add(kind, "shop", 0, predicate)
	if err := k.b.Fold(k.records[index]); err != nil {
		k.t.Fatal(err)
	}
	if k.metrics != nil {
		k.metrics.recorded("shop", predicate)
	}
}

func manifestOf(id backup.ID) *store.Object {
	return &store.Object{Key: "shop/backups/" + string(id) + "/manifest.json", Version: "1"}
}

// made is a backup with a snapshot at that time, which is there a minute later.
func (k *backupStory) made(at time.Time) backup.ID {
	k.t.Helper()
	id := backup.ID(fmt.Sprintf("%s-shop-00000000", at.Format("20060102T150405Z")))
	k.fold(evidence.TypeBackup, evidence.Backup{
		ID: id, Store: "near", Manifest: manifestOf(id), Began: at, Snapshot: at, Ended: at.Add(time.Minute),
		Segments: []backup.Segment{{Name: "database", Took: 40 * time.Second}, {Name: "attachments", Took: 20 * time.Second}},
		Plain:    1000, Sealed: 300, Copied: 70, Lacks: 2,
	})
	return id
}

func (k *backupStory) notMade(at time.Time) {
	k.t.Helper()
	k.fold(evidence.TypeBackup, evidence.Backup{Store: "near", Began: at, Ended: at.Add(time.Minute), Error: "no route to the database"})
}

// looked is a verification that found so much.
func (k *backupStory) looked(id backup.ID, in string, level backup.Level, at time.Time, found ...string) {
	k.t.Helper()
	v := backup.Verification{ID: id, Asked: level, Reached: level, Began: at, Ended: at}
	for _, what := range found {
		v.Reached = ""
		v.Findings.Findings = append(v.Findings.Findings, backup.Finding{Level: backup.L1, Object: "database", What: what})
	}
	k.fold(evidence.TypeVerification, evidence.Verification{Store: in, Passed: len(found) == 0, Verification: v})
}

func (k *backupStory) notLooked(id backup.ID, in string, at time.Time) {
	k.t.Helper()
	k.fold(evidence.TypeVerification, evidence.Verification{Store: in, Verification: backup.Verification{
		ID: id, Asked: backup.L1, Began: at, Ended: at, Unfinished: "the store does not answer"}})
}

func (k *backupStory) copied(id backup.ID, snapshot, at time.Time) {
	k.t.Helper()
	k.fold(evidence.TypeReplication, evidence.Replication{ID: id, From: "near", To: "far", Manifest: manifestOf(id), Snapshot: snapshot, Began: at, Ended: at})
}

func (k *backupStory) drilled(id backup.ID, at time.Time, passed bool) {
	k.t.Helper()
	r := backup.DrillReport{ID: id, Point: declaration.PointLatest, Began: at.Add(-time.Hour), Ended: at, Snapshot: at.Add(-2 * time.Hour), RPO: time.Hour, WantRTO: time.Hour,
		Segments: []backup.Segment{{Name: "server", Took: 3 * time.Second}}}
	if passed {
		r.RTO = 30 * time.Minute
	} else {
		r.Unfinished = "no room on the disk"
	}
	k.fold(evidence.TypeRestoreTest, evidence.RestoreTest{Store: "near", Drill: "latest 0 5 * * *", Counts: true, Passed: passed, DrillReport: r})
}

// What the records say is shown, from the start of an agent on, and as long as the environment is declared.
func TestBackupMetrics(t *testing.T) {
	t.Parallel()
	k := &backupStory{history: history{t: t}}
	policy := shopPolicy(t)
	views := func() []backupView {
		return []backupView{{environment: "shop", policy: policy, backups: k.b, running: true}}
	}
	reg := prometheus.NewRegistry()
	m, err := newBackupMetrics(reg, func() []backupView { return views() })
	if err != nil {
		t.Fatal(err)
	}
	k.metrics = m
	shows := func(when, want string, names ...string) {
		t.Helper()
		var text strings.Builder
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, sample := range f.GetMetric() {
				var labels []string
				for _, l := range sample.GetLabel() {
					if l.GetName() != "environment" {
						labels = append(labels, l.GetName()+"="+l.GetValue())
					} else if l.GetValue() != "shop" {
						t.Errorf("%s is of environment %q", f.GetName(), l.GetValue())
					}
				}
				value := sample.GetGauge().GetValue() + sample.GetCounter().GetValue()
				if value != 0 {
					fmt.Fprintf(&text, "%s{%s} %.0f\n", strings.TrimPrefix(f.GetName(), "purser_"), strings.Join(labels, ","), value)
				}
			}
		}
		if got, want := text.String(), strings.ReplaceAll(strings.TrimPrefix(want, "\n"), "\t", ""); got != want {
			t.Errorf("%s: shown is\n%swant\n%s", when, got, want)
		}
	}
	shows("before the first backup", `
		backup_rpo_objective_seconds{} 7200
		backup_running{} 1
		drill_rto_objective_seconds{} 3600
		`)
	at := backupNoon
	k.notMade(at.Add(-time.Hour))
	first := k.made(at)
	k.looked(first, "near", backup.L2, at.Add(5*time.Minute))
	k.copied(first, at, at.Add(6*time.Minute))
	k.drilled(first, at.Add(10*time.Minute), true)
	second := k.made(at.Add(time.Hour))
	k.looked(second, "near", backup.L0, at.Add(62*time.Minute))
	k.notLooked(second, "near", at.Add(63*time.Minute))
	k.looked(second, "near", backup.L1, at.Add(64*time.Minute), "a bit flipped", "another one")
	k.drilled(first, at.Add(70*time.Minute), false)
	planned := evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, At: at, Expire: []backup.Expiry{{ID: "old"}}}
	k.fold(evidence.TypeRetention, planned)
	k.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Deleted: []store.Object{{Key: "a"}, {Key: "b"}}, Blocked: []string{"the clock is off"}})
	k.fold(evidence.TypeReplication, evidence.Replication{ID: first, From: "near", To: "gone", Manifest: manifestOf(first), Snapshot: at})
	k.fold(evidence.TypeRetention, evidence.Retention{Store: "gone", Phase: evidence.RetentionDone, Blocked: []string{"the policy does not name it any more"}})
	unix := func(d time.Duration) int64 { return at.Add(d).Unix() }
	shows("with a history", fmt.Sprintf(`
		backup_duration_seconds{segment=attachments} 20
		backup_duration_seconds{segment=database} 40
		backup_expired_objects_total{store=near} 2
		backup_findings{} 2
		backup_last_snapshot_timestamp_seconds{} %d
		backup_last_success_timestamp_seconds{} %d
		backup_last_verified_timestamp_seconds{level=L0} %d
		backup_last_verified_timestamp_seconds{level=L1} %d
		backup_last_verified_timestamp_seconds{level=L2} %d
		backup_missing_attachments{} 2
		backup_replicated_snapshot_timestamp_seconds{store=far} %d
		backup_retention_blocked{} 1
		backup_rpo_objective_seconds{} 7200
		backup_running{} 1
		backup_runs_total{outcome=failed} 1
		backup_runs_total{outcome=succeeded} 2
		backup_size_bytes{kind=new_attachments} 70
		backup_size_bytes{kind=plain} 1000
		backup_size_bytes{kind=sealed} 300
		backup_stored{store=far} 1
		backup_stored{store=near} 2
		backup_verifications_total{level=L0,outcome=passed} 1
		backup_verifications_total{level=L1,outcome=failed} 1
		backup_verifications_total{level=L1,outcome=unfinished} 1
		backup_verifications_total{level=L2,outcome=passed} 1
		backup_verified_snapshot_timestamp_seconds{} %d
		drill_last_end_timestamp_seconds{} %d
		drill_last_success_timestamp_seconds{} %d
		drill_rpo_seconds{} 3600
		drill_rto_objective_seconds{} 3600
		drill_runs_total{outcome=failed} 1
		drill_runs_total{outcome=passed} 1
		drill_segment_seconds{segment=server} 3
		`, unix(time.Hour), unix(61*time.Minute), unix(62*time.Minute), unix(5*time.Minute), unix(5*time.Minute), unix(0), unix(0),
		unix(70*time.Minute), unix(10*time.Minute)))
	k.fold(evidence.TypeRestoreTest, evidence.RestoreTest{Store: "near", Counts: true, Passed: true, DrillReport: backup.DrillReport{
		ID: first, Point: declaration.PointRandom, Began: at, Ended: at.Add(2 * time.Hour), Snapshot: at.Add(-24 * time.Hour), RPO: 24 * time.Hour, RTO: time.Hour,
	}})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "purser_drill_rpo_seconds" {
			t.Errorf("after a drill of another backup than the latest %s is %v", f.GetName(), f.GetMetric())
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("names: %v, %v", problems, err)
	}
	views = func() []backupView { return nil }
	m.forget("shop")
	shows("when it is declared no more", "\n")
}
