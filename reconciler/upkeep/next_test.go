package upkeep

import (
	"fmt"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/schedule"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// hourly backs up at every full hour to "near", copies to "far", reads daily at 03:00, restores on Sundays and drills daily at 05:00.
func hourly(t *testing.T) *declaration.BackupPolicy {
	t.Helper()
	p := &declaration.BackupPolicy{Meta: declaration.Meta{Name: "shop"}, Spec: declaration.BackupPolicySpec{
		Schedule: "0 * * * *", TimeZone: "UTC", Store: "near", Replicas: []string{"far"},
		Drills: []declaration.Drill{{Schedule: "0 5 * * *", Point: declaration.PointLatest}},
	}}
	compile := func(cron string) *schedule.Schedule {
		s, err := schedule.Compile(schedule.Spec{Cron: cron, TimeZone: "UTC"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.Schedules = declaration.BackupSchedules{
		Backups: compile("0 * * * *"), L1: compile("0 3 * * *"), L2: compile("0 4 * * 0"), Drills: []*schedule.Schedule{compile("0 5 * * *")},
	}
	return p
}

// history folds what happened, as records would tell.
type history struct {
	t     *testing.T
	index uint64
	Backups
}

func (h *history) fold(kind string, predicate any) {
	h.t.Helper()
	h.index++
	if err := h.Fold(recordOf(h.t, kind, h.index, predicate)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) made(at time.Time) backup.ID {
	h.t.Helper()
	id := backup.ID(fmt.Sprintf("%s-shop-%08d", at.Format("20060102T150405Z"), h.index))
	h.fold(evidence.TypeBackup, evidence.Backup{ID: id, Store: "near", Began: at, Snapshot: at, Ended: at.Add(time.Minute),
		Manifest: &store.Object{Key: "shop/backups/" + string(id) + "/manifest.json", Version: "1"}})
	return id
}

func (h *history) looked(id backup.ID, in string, level backup.Level, at time.Time, found ...backup.Finding) {
	h.t.Helper()
	v := backup.Verification{ID: id, Asked: level, Reached: level, Began: at, Ended: at.Add(time.Minute)}
	if len(found) > 0 {
		v.Reached, v.Findings.Findings = "", found
	}
	h.fold(evidence.TypeVerification, evidence.Verification{Store: in, Passed: len(found) == 0, Verification: v})
}

func (h *history) copied(id backup.ID, at time.Time) {
	h.t.Helper()
	h.fold(evidence.TypeReplication, evidence.Replication{ID: id, From: "near", To: "far", Began: at, Snapshot: at, Ended: at.Add(time.Minute),
		Manifest: &store.Object{Key: "shop/backups/" + string(id) + "/manifest.json", Version: "7"}})
}

func (h *history) drilled(at time.Time) {
	h.t.Helper()
	h.fold(evidence.TypeRestoreTest, evidence.RestoreTest{Store: "near", Drill: "latest 0 5 * * *", Counts: true, Passed: true,
		DrillReport: backup.DrillReport{Began: at, Ended: at.Add(time.Minute)}})
}

func (h *history) kept(in string, at time.Time) {
	h.t.Helper()
	h.fold(evidence.TypeRetention, evidence.Retention{Store: in, Phase: evidence.RetentionDone, At: at})
}

// A clock that was ahead, or is set back during a run, puts nothing off for longer than a schedule would.
func TestNextAfterAWrongClock(t *testing.T) {
	p, ahead := hourly(t), noon.AddDate(1, 0, 0)
	h := &history{t: t}
	first := h.made(noon.Add(-time.Hour))
	h.fold(evidence.TypeBackup, evidence.Backup{Store: "near", Began: noon.Add(time.Minute), Ended: noon.Add(-time.Hour), Error: "no route"})
	if r := h.Runs["backup"]; !r.Ended.Equal(noon.Add(time.Minute)) || !r.Failing.Equal(r.Ended) {
		t.Errorf("a run that ended before it began: %+v", r)
	}
	if _, due, wake := Next(Taking, "shop", p, &h.Backups, nil, noon.Add(2*time.Minute)); due || !wake.Equal(noon.Add(6*time.Minute)) {
		t.Errorf("after it: %v, %s", due, wake)
	}
	next := func(at time.Time, quiet map[string]Run) (string, time.Time) {
		j, due, wake := Next(Proving, "shop", p, &h.Backups, quiet, at)
		if !due {
			return "", wake
		}
		return j.Run(), wake
	}
	for _, level := range []backup.Level{backup.L0, backup.L1, backup.L2} {
		h.looked(first, "near", level, noon.Add(-time.Minute))
	}
	h.drilled(noon.Add(-time.Minute))
	h.fold(evidence.TypeReplication, evidence.Replication{ID: first, From: "near", To: "far", Began: ahead, Ended: ahead, Error: "503"})
	if run, _ := next(noon, nil); run != "replicate far" {
		t.Errorf("a copy that failed in the future is not tried again: %q", run)
	}
	h.fold(evidence.TypeReplication, evidence.Replication{ID: first, From: "near", To: "far", Began: noon, Ended: noon, Error: "503"})
	h.kept("near", ahead)
	if run, _ := next(noon, nil); run != "retain near" {
		t.Errorf("what was kept in the future is not gone through: %q", run)
	}
	quiet := map[string]Run{"retain near": {Begun: noon, Ended: noon}}
	if run, wake := next(noon.Add(time.Second), quiet); run != "" || wake.After(noon.Add(time.Hour)) {
		t.Errorf("after a run that left no record: %q, %s", run, wake)
	}
	quiet["retain near"] = Run{Begun: ahead, Ended: ahead}
	h.kept("near", noon)
	if run, _ := next(noon.Add(time.Second), quiet); run != "" {
		t.Errorf("a run of the future that left no record counts before the one that did: %q", run)
	}
}

// What is due, one step of a day after the other.
func TestNext(t *testing.T) {
	minute := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	p := hourly(t)
	h := &history{t: t}
	quiet := map[string]Run{}
	want := func(lane Lane, at time.Time, job string) {
		t.Helper()
		j, due, wake := Next(lane, "shop", p, &h.Backups, quiet, at)
		got := fmt.Sprintf("nothing until %s", wake.Format("15:04"))
		if due {
			got = fmt.Sprintf("%s %s %s", j.Run(), j.Store, j.ID)
		} else if wake.IsZero() {
			got = "nothing"
		}
		if got != job {
			t.Errorf("at %s: %s, want %s", at.Format("15:04"), got, job)
		}
	}
	want(Taking, noon, "backup near ")
	want(Proving, noon, "nothing")
	h.fold(evidence.TypeBackup, evidence.Backup{Store: "near", Began: noon, Ended: minute(1), Error: "no route"})
	want(Taking, minute(2), "nothing until 12:06") // tried again, and sooner than by schedule
	want(Taking, minute(6), "backup near ")
	first := h.made(minute(6))
	want(Taking, minute(8), "nothing until 13:00")

	want(Proving, minute(8), "verify L0 near near "+string(first))
	h.looked(first, "near", backup.L0, minute(8))
	want(Proving, minute(10), "verify L1 near near "+string(first)) // never done before
	h.looked(first, "near", backup.L1, minute(10))
	want(Proving, minute(12), "replicate far far "+string(first))
	h.fold(evidence.TypeReplication, evidence.Replication{ID: first, From: "near", To: "far", Began: minute(12), Ended: minute(13), Error: "503"})
	want(Proving, minute(14), "retain near near ")
	h.kept("near", minute(14))
	quiet["retain near"] = Run{Begun: minute(14), Ended: minute(14)}
	want(Proving, minute(15), "verify L2 near near "+string(first))
	h.looked(first, "near", backup.L2, minute(15))
	want(Proving, minute(17), "drill latest 0 5 * * * near ")
	h.drilled(minute(17))
	want(Proving, minute(18), "replicate far far "+string(first))
	h.copied(first, minute(18))
	want(Proving, minute(20), "verify L0 far far "+string(first))
	h.looked(first, "far", backup.L0, minute(20))
	want(Proving, minute(22), "verify L1 far far "+string(first))
	h.looked(first, "far", backup.L1, minute(22))
	want(Proving, minute(24), "retain near near ") // it was verified at level 2 since
	quiet["retain near"] = Run{Begun: minute(24), Ended: minute(24)}
	want(Proving, minute(25), "retain far far ")
	quiet["retain far"] = Run{Begun: minute(25), Ended: minute(25)}
	want(Proving, minute(26), "nothing until 03:00")

	// One that is found to be bad is neither copied nor verified again, and not used for a drill.
	second := h.made(minute(61))
	h.looked(second, "near", backup.L0, minute(63), backup.Finding{Level: backup.L0, Object: "x", What: "it is gone"})
	want(Proving, minute(64), "retain near near ")
	quiet["retain near"] = Run{Begun: minute(64), Ended: minute(64)}
	want(Proving, minute(65), "nothing until 03:00")
	want(Proving, noon.Add(15*time.Hour), "verify L1 near near "+string(first))
	if c, _ := h.Newest("near", Copy.Good); c.ID != first {
		t.Errorf("newest good one is %s", c.ID)
	}
}

// A deletion that was broken off is gone on with before anything else is planned.
func TestNextBrokenDeletion(t *testing.T) {
	p, h := hourly(t), &history{t: t}
	id := h.made(noon)
	h.looked(id, "near", backup.L1, noon.Add(time.Minute))
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, At: noon, Expire: []backup.Expiry{{ID: id}}})
	p.Spec.Replicas = nil
	j, due, _ := Next(Proving, "shop", p, &h.Backups, nil, noon.Add(time.Hour))
	if !due || j.Task != Retain || j.Reason != "a deletion was broken off" {
		t.Errorf("next is %+v, %v", j, due)
	}
}

// What somebody orders beside what is due takes the place of nothing.
func TestNextOrdered(t *testing.T) {
	p, h := hourly(t), &history{t: t}
	p.Spec.Replicas = nil
	old := h.made(noon.Add(-48 * time.Hour))
	h.looked(old, "near", backup.L1, noon.Add(-47*time.Hour))
	young := h.made(noon)
	h.looked(young, "near", backup.L0, noon.Add(time.Minute))
	h.fold(evidence.TypeVerification, evidence.Verification{Cause: evidence.Cause{Ordered: true}, Store: "near", Passed: true,
		Verification: backup.Verification{ID: old, Asked: backup.L1, Reached: backup.L1, Began: noon, Ended: noon.Add(2 * time.Minute)}})
	j, due, _ := Next(Proving, "shop", p, &h.Backups, nil, noon.Add(3*time.Minute))
	if !due || j.Level != backup.L1 || j.ID != young {
		t.Errorf("due is %v, %+v; want the newest to be read", due, j)
	}
	h.drilled(noon.Add(4 * time.Minute))
	h.fold(evidence.TypeRestoreTest, evidence.RestoreTest{Store: "near", DrillReport: backup.DrillReport{ID: old, Began: noon, Ended: noon.Add(5 * time.Minute)}})
	h.fold(evidence.TypeRestoreTest, evidence.RestoreTest{Store: "near", Counts: true,
		DrillReport: backup.DrillReport{Unfinished: "no room", Began: noon, Ended: noon.Add(6 * time.Minute)}})
	if d := h.Drilled; d == nil || !d.Passed || !h.DrillFailed.IsZero() {
		t.Errorf("the last drill is %+v, failed since %s", d, h.DrillFailed)
	}
}

// What a clock that was ahead has made hides nothing, and is not looked at before its time.
func TestNextFutureBackup(t *testing.T) {
	p, h := hourly(t), &history{t: t}
	p.Spec.Replicas = nil
	h.made(noon.AddDate(1, 0, 0))
	real := h.made(noon)
	j, due, _ := Next(Proving, "shop", p, &h.Backups, nil, noon.Add(time.Minute))
	if !due || j.ID != real {
		t.Errorf("due is %v, %+v; want %s", due, j, real)
	}
	h.looked(real, "near", backup.L1, noon.Add(time.Minute))
	if c, found := h.Newest("near", Until(noon.Add(time.Hour), Copy.Good)); !found || c.ID != real {
		t.Errorf("the newest good one is %+v", c)
	}
}

// A backup that is damaged lends nothing to the next one, nor does one whose replica is: packs are shared.
func TestPrevious(t *testing.T) {
	p, h := hourly(t), &history{t: t}
	s := func() Subject { return Subject{Policy: p, Backups: h.Backups} }
	if s().previous("near") != nil {
		t.Error("there is none yet")
	}
	first := h.made(noon)
	h.copied(first, noon)
	if e := s().previous("near"); e == nil || e.ID != first {
		t.Errorf("previous is %+v", e)
	}
	flip := backup.Finding{Level: backup.L1, Object: "pack", What: "a bit flipped"}
	h.looked(first, "far", backup.L1, noon, flip)
	if s().previous("near") != nil || s().previous("far") != nil {
		t.Error("a damaged replica lends its packs")
	}
	second := h.made(noon.Add(time.Hour))
	h.copied(second, noon.Add(time.Hour))
	if e := s().previous("near"); e == nil || e.ID != second {
		t.Errorf("previous is %+v", e)
	}
	h.looked(second, "near", backup.L1, noon.Add(2*time.Hour), flip)
	if s().previous("near") != nil {
		t.Error("a damaged backup lends its packs")
	}
}

// A copy is told to be on its way out from the plan to the outcome.
func TestDeleting(t *testing.T) {
	h := &history{t: t}
	first := h.made(noon)
	c, _ := h.Copy(first, "near")
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "far", Phase: evidence.RetentionPlanned, At: noon, Expire: []backup.Expiry{{ID: first}}})
	if record := h.Deleting(c); record != 0 {
		t.Errorf("what another store deletes: record %d", record)
	}
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, At: noon, Expire: []backup.Expiry{{ID: first}}})
	if record := h.Deleting(c); record == 0 || record != h.Expiring["near"].Record {
		t.Errorf("it is being deleted by record %d", record)
	}
}
