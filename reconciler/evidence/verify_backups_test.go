package evidence

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// backupLog is a log in which backups are recorded, and releases that rest on them.
type backupLog struct {
	*fixture
	at            time.Time
	strict, loose *declaration.ReleaseClass // the former asks for drills as well
	rules         []byte
	people        map[string]policy.Voter
	keys          int
	want          map[string][2]string // what is said of a decision, by its ID; first its name
}

func newBackupLog(t *testing.T) *backupLog {
	t.Helper()
	class := func(name string, asks declaration.BackupDemand) *declaration.ReleaseClass {
		return &declaration.ReleaseClass{Meta: declaration.Meta{Name: name}, Spec: declaration.ReleaseClassSpec{Backup: asks}}
	}
	l := &backupLog{
		fixture: newFixture(t), at: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC), want: map[string][2]string{},
		strict: class("strict", declaration.BackupDemand{MaxAge: 24 * time.Hour, DrillMaxAge: 720 * time.Hour}),
		loose:  class("loose", declaration.BackupDemand{MaxAge: 24 * time.Hour}),
		people: map[string]policy.Voter{"release-manager-1": {Roles: []string{policy.RoleReleaseManager}}},
	}
	var err error
	l.rules, err = (&policy.Rules{Classes: map[string]*declaration.ReleaseClass{"strict": l.strict, "loose": l.loose}, People: l.people}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	l.run()
	return l
}

func (l *backupLog) record(environment, kind string, predicate any, blobs ...Blob) Record {
	l.t.Helper()
	l.keys++
	r, err := l.log.Add(Draft{Type: kind, Environment: environment, Key: []string{strconv.Itoa(l.keys)}, Predicate: predicate, Blobs: blobs})
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *backupLog) made(environment string, id backup.ID, snapshot time.Time) {
	l.t.Helper()
	l.record(environment, TypeBackup, Backup{ID: id, Store: "main", Manifest: &store.Object{Key: string(id)}, Snapshot: snapshot})
}

func (l *backupLog) look(environment string, id backup.ID, in string, level backup.Level, ended time.Time, found ...backup.Finding) uint64 {
	l.t.Helper()
	v := Verification{Store: in, Passed: len(found) == 0}
	v.ID, v.Asked, v.Reached, v.Ended, v.Findings.Findings = id, level, level, ended, found
	return l.record(environment, TypeVerification, v).Index
}

func (l *backupLog) drill(environment string, change func(*RestoreTest)) uint64 {
	l.t.Helper()
	d := RestoreTest{Store: "main", Passed: true, Counts: true}
	d.ID, d.Began, d.Ended, d.RTO, d.WantRTO = idOf(environment, l.at.Add(-11*time.Hour)), l.at.Add(-25*time.Hour), l.at.Add(-24*time.Hour), time.Hour, 2*time.Hour
	change(&d)
	return l.record(environment, TypeRestoreTest, d).Index
}

func idOf(environment string, at time.Time) backup.ID {
	return backup.ID(at.Format("20060102T150405Z") + "-" + environment + "-abcdefgh")
}

// begun records what an allow can rest on: a backup that was read to its end half an hour ago, and a drill.
func (l *backupLog) begun(environment string) (id backup.ID, facts *policy.Backup) {
	l.t.Helper()
	snapshot, verified := l.at.Add(-time.Hour), l.at.Add(-30*time.Minute)
	id = idOf(environment, snapshot)
	l.made(environment, idOf(environment, l.at.Add(-11*time.Hour)), l.at.Add(-11*time.Hour))
	l.made(environment, id, snapshot)
	drill := l.drill(environment, func(*RestoreTest) {})
	l.look(environment, id, "main", backup.L0, verified.Add(-10*time.Minute))
	l.look(environment, id, "main", backup.L1, verified.Add(-5*time.Minute), backup.Finding{Level: backup.L1, Object: "database", What: "a bit flipped"})
	good := l.look(environment, id, "main", backup.L1, verified)
	return id, &policy.Backup{
		Policy: "shop", In: "main", RPO: 10 * time.Hour, RTO: 2 * time.Hour,
		Newest: &policy.BackupPoint{ID: string(id), Snapshot: snapshot, Verified: verified, Level: "L1", Record: good},
		Drill:  &policy.Drill{ID: string(idOf(environment, l.at.Add(-11*time.Hour))), At: l.at.Add(-24 * time.Hour), Passed: true, RTO: time.Hour, Record: drill},
	}
}

// allowed records a release that the gates let in with these facts.
func (l *backupLog) allowed(name, environment string, b *policy.Backup, change func(*policy.Inputs, *policy.Backup), says string) {
	l.t.Helper()
	told := *b
	newest, drill := *b.Newest, *b.Drill
	told.Newest, told.Drill = &newest, &drill
	in := policy.Inputs{At: l.at, Candidate: policy.Candidate{
		Environment: &declaration.Environment{Meta: declaration.Meta{Name: environment}, Spec: declaration.EnvironmentSpec{Backup: "shop"}},
		Release:     &render.Release{Digest: "sha256:bb"}, Origin: policy.OriginFirst, Class: l.strict,
	}, Facts: policy.Facts{People: l.people, Backup: &told, Evidence: &policy.EvidenceFact{Reached: l.at, Limit: time.Hour, SpoolMax: 10}}}
	change(&in, &told)
	verdict := in.Evaluate()
	if verdict.Answer != policy.Allow {
		l.t.Fatalf("%s: %v", name, verdict.Reasons())
	}
	data, err := in.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	r := l.record(environment, TypeDecision, Decision{To: "sha256:bb", Origin: policy.OriginFirst, Verdict: verdict},
		Blob{Name: InputsBlob, Data: data}, Blob{Name: RulesBlob, Data: l.rules})
	l.want[r.ID] = [2]string{name, says}
	l.wait(r.Index)
}

// judged verifies the log.
func (l *backupLog) judged() {
	l.t.Helper()
	report := l.verify(l.clone(), VerifyOptions{})
	if report.Decisions != len(l.want) {
		l.t.Errorf("%d of %d decisions were evaluated: %+v", report.Decisions, len(l.want), report.Problems)
	}
	for _, p := range report.Problems {
		w := l.want[p.ID]
		if w[1] == "" || !strings.Contains(p.What, w[1]) || p.Kind != Incomplete {
			l.t.Errorf("%s: %v: %s; want …%s…", w[0], p.Kind, p.What, w[1])
		}
		delete(l.want, p.ID)
	}
	for _, w := range l.want {
		if w[1] != "" {
			l.t.Errorf("%s: nothing is found; want …%s…", w[0], w[1])
		}
	}
}

// An allow that rests on backups names their records. Facts that no record bears out are found, though the gates allow with them.
func TestAllowsRestOnRecordedBackups(t *testing.T) {
	l := newBackupLog(t)
	id, facts := l.begun("dev")
	at, verified, older := l.at, facts.Newest.Verified, string(idOf("dev", l.at.Add(-11*time.Hour)))
	failed, another := string(idOf("dev", at.Add(-10*time.Minute))), string(idOf("dev", at.Add(-20*time.Minute)))
	l.record("dev", TypeBackup, Backup{ID: backup.ID(failed), Store: "main", Snapshot: at, Error: "the database is away"})
	l.made("qa", backup.ID(another), facts.Newest.Snapshot)
	for name, test := range map[string]struct {
		change func(in *policy.Inputs, b *policy.Backup)
		says   string // "": nothing is found
	}{
		"as it was recorded":                 {func(*policy.Inputs, *policy.Backup) {}, ""},
		"a backup of another environment":    {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = another }, "was not recorded of this environment"},
		"a backup that was never made":       {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = string(idOf("dev", at)) }, "was not recorded of this environment"},
		"a backup that could not be made":    {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = failed }, "was not recorded of this environment"},
		"one in another store":               {func(_ *policy.Inputs, b *policy.Backup) { b.In = "far" }, `was not recorded of this environment in store "far"`},
		"one in a store that is not said":    {func(_ *policy.Inputs, b *policy.Backup) { b.In = "" }, `was not recorded of this environment in store ""`},
		"one that is older":                  {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = older }, "which is of 2026-11-26T22:00:00Z"},
		"another snapshot":                   {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Snapshot = at }, "of 2026-11-27T09:00:00Z, which is of 2026-11-27T08:00:00Z"},
		"another verification":               {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = at }, "there is no record of that"},
		"one that only looked":               {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = verified.Add(-10 * time.Minute) }, "there is no record of that"},
		"one that found something":           {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = verified.Add(-5 * time.Minute) }, "there is no record of that"},
		"the record of what found something": {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Record-- }, "and the last one is in record"},
		"a record that is no verification":   {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Record = 0 }, "and the last one is in record"},
		"a drill that was never":             {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.Record = 1 << 40 }, "and the last one that counts is in record"},
		"a quicker drill":                    {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.RTO = time.Minute }, "which says something else"},
		"a later drill":                      {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.At = at }, "which says something else"},
		"a drill of another backup":          {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.ID = string(id) }, "which says something else"},
		"no drill, where none is asked for": {func(in *policy.Inputs, b *policy.Backup) {
			in.Candidate.Class, b.Drill = l.loose, nil
		}, ""},
		"nothing, opened by an override": {func(in *policy.Inputs, b *policy.Backup) {
			b.Newest, b.Drill = nil, nil
			in.Facts.Overrides = []policy.Override{{Statement: policy.Statement{
				ID: "sha256:o", Verb: policy.VerbOverride, Person: "release-manager-1", Gates: []string{policy.GateBackup}, Expires: at.Add(time.Hour),
			}}}
		}, ""},
	} {
		l.allowed(name, "dev", facts, test.change, test.says)
	}
	l.judged()
}

// What an allow rests on was the last word on it when that was recorded.
func TestAllowsRestOnTheLastWord(t *testing.T) {
	l := newBackupLog(t)
	flipped := backup.Finding{Level: backup.L1, Object: "database", What: "a bit flipped"}
	gone := backup.Finding{Level: backup.L0, Object: "database", What: "it is gone"}
	ended := l.at.Add(-10 * time.Minute)
	newer := l.at.Add(-20 * time.Minute) // snapshot
	for environment, test := range map[string]struct {
		then func(environment string, id backup.ID, b *policy.Backup)
		says string // "": nothing is found
	}{
		"as-it-was":  {func(string, backup.ID, *policy.Backup) {}, ""},
		"damaged":    {func(e string, id backup.ID, _ *policy.Backup) { l.look(e, id, "main", backup.L1, ended, flipped) }, "the last verification of that, in record"},
		"gone-since": {func(e string, id backup.ID, _ *policy.Backup) { l.look(e, id, "main", backup.L0, ended, gone) }, "found something"},
		"looks-well": {func(e string, id backup.ID, _ *policy.Backup) { // at less than what was found
			l.look(e, id, "main", backup.L1, ended, flipped)
			l.look(e, id, "main", backup.L0, ended)
		}, "found something"},
		"read-again": {func(e string, id backup.ID, b *policy.Backup) {
			l.look(e, id, "main", backup.L1, ended.Add(-time.Minute), flipped)
			b.Newest.Verified, b.Newest.Record = ended, l.look(e, id, "main", backup.L1, ended)
		}, ""},
		"seen-again": {func(e string, id backup.ID, b *policy.Backup) {
			b.Newest.Record = l.look(e, id, "main", backup.L0, ended)
		}, ""},
		"seen-unsaid": {func(e string, id backup.ID, _ *policy.Backup) { l.look(e, id, "main", backup.L0, ended) }, "and the last one is in record"},
		"unfinished":  {func(e string, id backup.ID, _ *policy.Backup) { l.look(e, id, "main", "", ended) }, ""},
		"elsewhere":   {func(e string, id backup.ID, _ *policy.Backup) { l.look(e, id, "far", backup.L1, ended, flipped) }, ""},
		"only-there": {func(e string, id backup.ID, b *policy.Backup) {
			l.look(e, id, "main", backup.L1, ended, flipped)
			b.Newest.Verified, b.Newest.Record = ended, l.look(e, id, "far", backup.L1, ended)
		}, "found something"},
		"replica": {func(e string, id backup.ID, b *policy.Backup) { // the policy writes to another store by now
			l.record(e, TypeReplication, Replication{ID: id, From: "main", To: "far", Manifest: &store.Object{Key: string(id)}, Snapshot: b.Newest.Snapshot})
			b.In, b.Newest.Verified, b.Newest.Record = "far", ended, l.look(e, id, "far", backup.L1, ended)
		}, ""},
		"newer-damaged": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.made(e, idOf(e, newer), newer)
			l.look(e, idOf(e, newer), "main", backup.L0, ended, gone)
		}, "it passes over backup"},
		"newer-damaged-there": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.made(e, idOf(e, newer), newer)
			l.look(e, idOf(e, newer), "far", backup.L0, ended, gone)
		}, ""},
		"newer-deleted": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.made(e, idOf(e, newer), newer)
			l.look(e, idOf(e, newer), "main", backup.L0, ended, gone)
			l.record(e, TypeRetention, Retention{Store: "main", Phase: RetentionDone, Deleted: []store.Object{{Key: string(idOf(e, newer))}}})
		}, ""},
		"older-damaged": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.look(e, idOf(e, l.at.Add(-11*time.Hour)), "main", backup.L0, ended, gone)
		}, ""},
		"deleted": {func(e string, id backup.ID, _ *policy.Backup) {
			l.record(e, TypeRetention, Retention{Store: "main", Phase: RetentionDone, Deleted: []store.Object{{Key: string(id)}}})
		}, "or was deleted"},
		"drill-failed": {func(e string, _ backup.ID, _ *policy.Backup) { l.drill(e, func(d *RestoreTest) { d.Passed = false }) }, "and the last one that counts is in record"},
		"drill-hung": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.drill(e, func(d *RestoreTest) { d.Passed, d.Unfinished, d.WantRTO = false, "it hung", time.Hour })
		}, "and the last one that counts is in record"},
		"drill-stopped": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.drill(e, func(d *RestoreTest) { d.Passed, d.Unfinished = false, "the agent stopped" })
		}, ""},
		"drill-of-other": {func(e string, _ backup.ID, _ *policy.Backup) {
			l.drill(e, func(d *RestoreTest) { d.Passed, d.Counts = false, false })
		}, ""},
		"drill-as-passed": {func(e string, _ backup.ID, b *policy.Backup) {
			b.Drill.Record = l.drill(e, func(d *RestoreTest) { d.Passed = false })
		}, "which says something else"},
	} {
		id, facts := l.begun(environment)
		test.then(environment, id, facts)
		l.allowed(environment, environment, facts, func(*policy.Inputs, *policy.Backup) {}, test.says)
	}
	l.judged()
}
