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

// An allow that rests on backups names their records. Facts that no record bears out are found, though the gates allow with them.
func TestAllowsRestOnRecordedBackups(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	const (
		id, older = "20261127T075900Z-dev-abcdefgh", "20261126T215900Z-dev-abcdefgh"
		failed    = "20261127T080000Z-dev-failedxx"
		another   = "20261127T080000Z-dev-abcdqaqa" // recorded of qa
	)
	snapshot, verified, drilled := at.Add(-time.Hour), at.Add(-30*time.Minute), at.Add(-24*time.Hour)
	class := func(name string, asks declaration.BackupDemand) *declaration.ReleaseClass {
		return &declaration.ReleaseClass{Meta: declaration.Meta{Name: name}, Spec: declaration.ReleaseClassSpec{Backup: asks}}
	}
	guarded := class("guarded", declaration.BackupDemand{MaxAge: 24 * time.Hour, DrillMaxAge: 720 * time.Hour})
	lenient := class("lenient", declaration.BackupDemand{MaxAge: 24 * time.Hour})
	people := map[string]policy.Voter{"release-manager-1": {Roles: []string{policy.RoleReleaseManager}}}
	rules, err := (&policy.Rules{Classes: map[string]*declaration.ReleaseClass{"guarded": guarded, "lenient": lenient}, People: people}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.run()
	add := func(d Draft) Record {
		t.Helper()
		r, err := f.log.Add(d)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	keys := 0
	record := func(environment, kind string, predicate any) uint64 {
		keys++
		return add(Draft{Type: kind, Environment: environment, Key: []string{strconv.Itoa(keys)}, Predicate: predicate}).Index
	}
	made := func(environment string, id backup.ID, snapshot time.Time) {
		record(environment, TypeBackup, Backup{ID: id, Store: "main", Manifest: &store.Object{Key: string(id)}, Snapshot: snapshot})
	}
	look := func(level backup.Level, ended time.Time, found ...backup.Finding) uint64 {
		v := Verification{Store: "main", Passed: len(found) == 0}
		v.ID, v.Asked, v.Reached, v.Ended, v.Findings.Findings = id, level, level, ended, found
		return record("dev", TypeVerification, v)
	}
	drill := func(passed bool) uint64 {
		d := RestoreTest{Store: "main", Passed: passed}
		d.ID, d.Ended, d.RTO = older, drilled, time.Hour
		return record("dev", TypeRestoreTest, d)
	}
	made("dev", older, at.Add(-11*time.Hour))
	rehearsed := drill(true)
	drill(false)
	record("dev", TypeBackup, Backup{ID: failed, Store: "main", Snapshot: snapshot, Error: "the database is away"})
	made("dev", id, snapshot)
	made("qa", another, snapshot)
	look(backup.L0, verified.Add(-10*time.Minute))
	look(backup.L1, verified.Add(-5*time.Minute), backup.Finding{Level: backup.L1, Object: "database", What: "a bit flipped"})
	good := look(backup.L1, verified)
	facts := func() *policy.Backup {
		return &policy.Backup{
			Policy: "shop", RPO: 10 * time.Hour, RTO: 2 * time.Hour,
			Newest: &policy.BackupPoint{ID: id, Snapshot: snapshot, Verified: verified, Level: "L1", Record: good},
			Drill:  &policy.Drill{ID: older, At: drilled, Passed: true, RTO: time.Hour, Record: rehearsed},
		}
	}
	want := map[string][2]string{} // what is said of a decision, by its ID; first its name
	for name, test := range map[string]struct {
		change func(in *policy.Inputs, b *policy.Backup)
		says   string // "": nothing is found
	}{
		"as it was recorded":                      {func(*policy.Inputs, *policy.Backup) {}, ""},
		"a backup of another environment":         {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = another }, "was not recorded of this environment"},
		"a backup that was never made":            {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = "20261127T085900Z-dev-abcdefgh" }, "was not recorded of this environment"},
		"a backup that could not be made":         {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = failed }, "was not recorded of this environment"},
		"one that is older":                       {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.ID = older }, "which is of 2026-11-26T22:00:00Z"},
		"another snapshot":                        {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Snapshot = at }, "of 2026-11-27T09:00:00Z, which is of 2026-11-27T08:00:00Z"},
		"another verification":                    {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = at }, "there is no record of that"},
		"one that only looked":                    {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = verified.Add(-10 * time.Minute) }, "there is no record of that"},
		"one that found something":                {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Verified = verified.Add(-5 * time.Minute) }, "there is no record of that"},
		"the record of what found something":      {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Record-- }, "does not say that it is good"},
		"a record that is no verification":        {func(_ *policy.Inputs, b *policy.Backup) { b.Newest.Record = 0 }, "does not say that it is good"},
		"a drill that was never":                  {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.Record = 1 << 40 }, "which is none of this environment"},
		"a quicker drill":                         {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.RTO = time.Minute }, "which says something else"},
		"a later drill":                           {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.At = at }, "which says something else"},
		"a drill of another backup":               {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.ID = id }, "which says something else"},
		"a drill that failed, as one that passed": {func(_ *policy.Inputs, b *policy.Backup) { b.Drill.Record++ }, "which says something else"},
		"no drill, where none is asked for": {func(in *policy.Inputs, b *policy.Backup) {
			in.Candidate.Class, b.Drill = lenient, nil
		}, ""},
		"nothing, opened by an override": {func(in *policy.Inputs, b *policy.Backup) {
			b.Newest, b.Drill = nil, nil
			in.Facts.Overrides = []policy.Override{{Statement: policy.Statement{
				ID: "sha256:o", Verb: policy.VerbOverride, Person: "release-manager-1", Gates: []string{policy.GateBackup}, Expires: at.Add(time.Hour),
			}}}
		}, ""},
	} {
		b := facts()
		in := policy.Inputs{At: at, Candidate: policy.Candidate{
			Environment: &declaration.Environment{Meta: declaration.Meta{Name: "dev"}, Spec: declaration.EnvironmentSpec{Backup: "shop"}},
			Release:     &render.Release{Digest: "sha256:bb"}, Origin: policy.OriginFirst, Class: guarded,
		}, Facts: policy.Facts{People: people, Backup: b, Evidence: &policy.EvidenceFact{Reached: at, Limit: time.Hour, SpoolMax: 10}}}
		test.change(&in, b)
		verdict := in.Evaluate()
		if verdict.Answer != policy.Allow {
			t.Fatalf("%s: %v", name, verdict.Reasons())
		}
		data, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r := add(Draft{
			Type: TypeDecision, Environment: "dev", Key: []string{name}, Predicate: Decision{To: "sha256:bb", Origin: policy.OriginFirst, Verdict: verdict},
			Blobs: []Blob{{Name: InputsBlob, Data: data}, {Name: RulesBlob, Data: rules}},
		})
		want[r.ID] = [2]string{name, test.says}
		f.wait(r.Index)
	}
	report := f.verify(f.clone(), VerifyOptions{})
	if report.Decisions != len(want) {
		t.Errorf("%d of %d decisions were evaluated: %+v", report.Decisions, len(want), report.Problems)
	}
	for _, p := range report.Problems {
		w := want[p.ID]
		if w[1] == "" || !strings.Contains(p.What, w[1]) || p.Kind != Incomplete {
			t.Errorf("%s: %v: %s; want …%s…", w[0], p.Kind, p.What, w[1])
		}
		delete(want, p.ID)
	}
	for _, w := range want {
		if w[1] != "" {
			t.Errorf("%s: nothing is found; want …%s…", w[0], w[1])
		}
	}
}
