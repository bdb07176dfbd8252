package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// backedUp is a candidate of dev whose class asks for backups of the last day and drills of the last month, and which migrates
// the database, with facts by which it passes: the backup is an hour old, of which ten hours are allowed.
func backedUp() (Candidate, Facts) {
	c, f := candidate(object("v1", "ConfigMap", "", "a")), facts()
	c.Class.Spec.Backup = declaration.BackupDemand{MaxAge: 24 * time.Hour, DrillMaxAge: 720 * time.Hour}
	c.Environment.Spec.Backup = "shop"
	c.Release = &render.Release{Objects: c.Release.Objects, Declaration: &declaration.Release{Version: "1", Migration: "additive"}}
	f.Backup = &Backup{
		Policy: "shop", RPO: 10 * time.Hour, RTO: 2 * time.Hour,
		Newest: &BackupPoint{ID: "20261127T075900Z-dev-abcdefgh", Snapshot: now.Add(-time.Hour), Verified: now.Add(-30 * time.Minute), Level: "L1", Record: 41},
		Drill:  &Drill{ID: "20261126T075900Z-dev-abcdefgh", At: now.Add(-24 * time.Hour), Passed: true, RPO: time.Hour, RTO: 90 * time.Minute, Record: 40},
		Store:  &Probe{At: now.Add(-time.Minute)},
	}
	return c, f
}

func TestBackup(t *testing.T) {
	const newest, drill = "20261127T075900Z-dev-abcdefgh", "the last restore drill is of "
	for name, test := range map[string]struct {
		change func(c *Candidate, b *Backup)
		want   Answer
		says   string
		hint   string
	}{
		"all is well": {func(*Candidate, *Backup) {}, Allow, "is verified (L1) and may be 10h0m0s old; the restore drill of 2026-11-26T09:00:00Z took 1h30m0s of 2h0m0s; the store takes backups", ""},

		// By what is it judged, and what is known?
		"nobody asks":                {func(c *Candidate, b *Backup) { c.Class.Spec.Backup, *b = declaration.BackupDemand{}, Backup{} }, Allow, "asks for no backup", ""},
		"no policy":                  {func(c *Candidate, b *Backup) { c.Environment.Spec.Backup, b.Policy = "", "" }, Deny, "the environment has no BackupPolicy", "declare backup:"},
		"zero facts":                 {func(_ *Candidate, b *Backup) { *b = Backup{} }, Deny, `by BackupPolicy "", and that of the environment is "shop"`, "agent"},
		"facts of another policy":    {func(_ *Candidate, b *Backup) { b.Policy = "basic" }, Deny, `by BackupPolicy "basic", and that of the environment is "shop"`, "agent"},
		"facts of a former policy":   {func(c *Candidate, _ *Backup) { c.Environment.Spec.Backup = "" }, Deny, "has no BackupPolicy", "declare"},
		"no store is configured":     {func(_ *Candidate, b *Backup) { b.Problem = `store "main" is not configured` }, Deny, `store "main" is not configured`, "agent's configuration"},
		"no RPO":                     {func(_ *Candidate, b *Backup) { b.RPO = 0 }, Deny, "objectives", "log"},
		"no RTO":                     {func(_ *Candidate, b *Backup) { b.RTO = -1 }, Deny, "objectives", "log"},
		"a policy and no backup yet": {func(_ *Candidate, b *Backup) { *b = Backup{Policy: b.Policy, RPO: b.RPO, RTO: b.RTO} }, Deny, "there is no verified backup; no restore was rehearsed yet", "purser backup now dev; purser drill now dev"},

		// The newest good backup.
		"none":                        {func(_ *Candidate, b *Backup) { b.Newest = nil }, Deny, "there is no verified backup", "purser backup now dev"},
		"as old as the RPO":           {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.Add(-b.RPO) }, Allow, "", ""},
		"older than the RPO":          {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.Add(-b.RPO - 1) }, Deny, newest + `, is of 2026-11-26T22:59:59Z, and the RPO of BackupPolicy "shop" lets it be 10h0m0s old`, "purser backup now dev"},
		"older, and verified now":     {func(_ *Candidate, b *Backup) { b.Newest.Snapshot, b.Newest.Verified = now.Add(-11*time.Hour), now }, Deny, "2026-11-26T22:00:00Z", "purser backup now dev"},
		"as old as the class lets it": {func(c *Candidate, _ *Backup) { c.Class.Spec.Backup.MaxAge = time.Hour }, Allow, "may be 1h0m0s old", ""},
		"older than the class lets it": {func(c *Candidate, b *Backup) {
			c.Class.Spec.Backup.MaxAge = time.Hour
			b.Newest.Snapshot = now.Add(-time.Hour - 1)
		}, Deny, "the class lets it be 1h0m0s old", "purser backup now dev"},
		"the class lets it be older than the RPO": {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.Add(-11 * time.Hour) }, Deny, "RPO", "purser backup now dev"},
		"only drills are asked for, and it is old": {func(c *Candidate, b *Backup) {
			c.Class.Spec.Backup.MaxAge = 0
			b.Newest.Snapshot = now.Add(-11 * time.Hour)
		}, Deny, "RPO", "purser backup now dev"},
		"clocks differ a little":    {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.Add(clockSteps) }, Allow, "", ""},
		"of the future":             {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.Add(clockSteps + 1) }, Deny, "is of 2026-11-27T09:01:00Z, which is in the future", "set the clocks"},
		"of the far future":         {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = now.AddDate(400, 0, 0) }, Deny, "in the future", "set the clocks"},
		"of no time":                {func(_ *Candidate, b *Backup) { b.Newest.Snapshot = time.Time{} }, Deny, "unknown of when", "purser backup now dev"},
		"verified at no time":       {func(_ *Candidate, b *Backup) { b.Newest.Verified = time.Time{} }, Deny, "when it was verified", "purser backup now dev"},
		"only looked at":            {func(_ *Candidate, b *Backup) { b.Newest.Level = "L0" }, Deny, "level L0 was reached, L1 is asked for", "purser backup now dev"},
		"of no level":               {func(_ *Candidate, b *Backup) { b.Newest.Level = "" }, Deny, "level none", "purser backup now dev"},
		"restored and compared":     {func(_ *Candidate, b *Backup) { b.Newest.Level = "L2" }, Allow, "verified (L2)", ""},
		"with a finding":            {func(_ *Candidate, b *Backup) { b.Newest.Problem = "pack x: missing" }, Deny, "is not verified", "purser backup now dev"},
		"of another environment":    {func(_ *Candidate, b *Backup) { b.Newest.ID = "20261127T075900Z-prod-eu-abcdefgh" }, Deny, "is not of this environment", "purser backup now dev"},
		"of one whose name goes on": {func(_ *Candidate, b *Backup) { b.Newest.ID = "20261127T075900Z-dev-two-abcdefgh" }, Deny, "is not of this environment", "purser backup now dev"},
		"of one with such an end":   {func(_ *Candidate, b *Backup) { b.Newest.ID = "20261127T075900Z-my-dev-abcdefgh" }, Deny, "is not of this environment", "purser backup now dev"},
		"without an ID":             {func(_ *Candidate, b *Backup) { b.Newest.ID = "" }, Deny, "is not of this environment", "purser backup now dev"},
		"a newer one is not good": {func(_ *Candidate, b *Backup) {
			b.Failed = &BackupPoint{ID: "20261127T085900Z-dev-abcdefgh", Snapshot: now.Add(-time.Minute), Problem: "pack 2026-11/x: bytes differ"}
		}, Deny, "backup 20261127T085900Z-dev-abcdefgh is not good: pack 2026-11/x: bytes differ", "purser backup show dev 20261127T085900Z-dev-abcdefgh"},
		"a newer one of which nothing is known": {func(_ *Candidate, b *Backup) { b.Failed = &BackupPoint{} }, Deny, "its verification failed", "purser backup now dev"},

		// Drills.
		"drills are not asked for": {func(c *Candidate, b *Backup) { c.Class.Spec.Backup.DrillMaxAge, b.Drill = 0, nil }, Allow, "is verified", ""},
		"failed drills are not asked for": {func(c *Candidate, b *Backup) { c.Class.Spec.Backup.DrillMaxAge, b.Drill.Passed = 0, false },
			Allow, "is verified", ""},
		"no drill":                          {func(_ *Candidate, b *Backup) { b.Drill = nil }, Deny, "no restore was rehearsed yet", "purser drill now dev"},
		"as old as it may":                  {func(_ *Candidate, b *Backup) { b.Drill.At = now.Add(-720 * time.Hour) }, Allow, "", ""},
		"older than it may":                 {func(_ *Candidate, b *Backup) { b.Drill.At = now.Add(-720*time.Hour - 1) }, Deny, drill + "2026-10-28T08:59:59Z, and the class lets it be 720h0m0s old", "purser drill now dev"},
		"a drill a little ahead":            {func(_ *Candidate, b *Backup) { b.Drill.At = now.Add(clockSteps) }, Allow, "", ""},
		"a drill of the future":             {func(_ *Candidate, b *Backup) { b.Drill.At = now.Add(time.Hour) }, Deny, drill + "2026-11-27T10:00:00Z, which is in the future", "set the clock"},
		"a drill of no time":                {func(_ *Candidate, b *Backup) { b.Drill.At = time.Time{} }, Deny, "unknown when", "purser drill now dev"},
		"a drill that failed":               {func(_ *Candidate, b *Backup) { b.Drill.Passed, b.Drill.Problem = false, "row 7 lacks its file" }, Deny, "did not pass: row 7 lacks its file", "purser drill now dev"},
		"a drill that says both":            {func(_ *Candidate, b *Backup) { b.Drill.Problem = "row 7 lacks its file" }, Deny, "did not pass", "purser drill now dev"},
		"a drill without words":             {func(_ *Candidate, b *Backup) { b.Drill = &Drill{} }, Deny, "did not pass: its record says no more", "purser drill now dev"},
		"a drill as long as the RTO":        {func(_ *Candidate, b *Backup) { b.Drill.RTO = b.RTO }, Allow, "took 2h0m0s of 2h0m0s", ""},
		"a drill longer than the RTO":       {func(_ *Candidate, b *Backup) { b.Drill.RTO = b.RTO + time.Second }, Deny, `took 2h0m1s, and the RTO of BackupPolicy "shop" is 2h0m0s`, "make restores quicker"},
		"an RTO that got shorter since":     {func(_ *Candidate, b *Backup) { b.RTO = time.Hour }, Deny, "took 1h30m0s", "make restores quicker"},
		"a drill that took no time":         {func(_ *Candidate, b *Backup) { b.Drill.RTO = 0 }, Deny, "how long it took", "purser drill now dev"},
		"a drill of another environment":    {func(_ *Candidate, b *Backup) { b.Drill.ID = "20261126T075900Z-qa-abcdefgh" }, Deny, "not of this environment", "purser drill now dev"},
		"a drill of nothing":                {func(_ *Candidate, b *Backup) { b.Drill.ID = "" }, Deny, "not of this environment", "purser drill now dev"},
		"a failed drill of nothing":         {func(_ *Candidate, b *Backup) { b.Drill = &Drill{At: now, Problem: "no verified backup"} }, Deny, "did not pass: no verified backup", "purser drill now dev"},
		"neither a backup nor a good drill": {func(_ *Candidate, b *Backup) { b.Newest, b.Drill.Passed = nil, false }, Deny, "there is no verified backup; the restore drill", "purser backup now dev; look at it"},

		// Migrations.
		"no release.yaml":        {func(c *Candidate, b *Backup) { c.Release.Declaration, b.Store = nil, nil }, Allow, "is verified", ""},
		"no word of a migration": {func(c *Candidate, b *Backup) { c.Release.Declaration.Migration, b.Store = "", nil }, Allow, "is verified", ""},
		"no migration":           {func(c *Candidate, b *Backup) { c.Release.Declaration.Migration, b.Store = "none", nil }, Allow, "is verified", ""},
		"not asked":              {func(_ *Candidate, b *Backup) { b.Store = nil }, Wait, "migrates the database (additive), and the store was not asked yet", "agent"},
		"not asked, breaking": {func(c *Candidate, b *Backup) { c.Release.Declaration.Migration, b.Store = "breaking", nil },
			Wait, "(breaking)", "agent"},
		"not asked, of a kind that there is not yet": {func(c *Candidate, b *Backup) { c.Release.Declaration.Migration, b.Store = "odd", nil },
			Wait, "(odd)", "agent"},
		"asked five minutes ago":      {func(_ *Candidate, b *Backup) { b.Store.At = now.Add(-ProbeMaxAge) }, Allow, "takes backups (asked at 2026-11-27T08:55:00Z)", ""},
		"asked longer ago":            {func(_ *Candidate, b *Backup) { b.Store.At = now.Add(-ProbeMaxAge - 1) }, Wait, "last asked at 2026-11-27T08:54:59Z", "agent"},
		"asked a little ahead":        {func(_ *Candidate, b *Backup) { b.Store.At = now.Add(clockSteps) }, Allow, "", ""},
		"asked in the future":         {func(_ *Candidate, b *Backup) { b.Store.At = now.Add(clockSteps + 1) }, Wait, "last asked at 2026-11-27T09:01:00Z", "agent"},
		"asked at no time":            {func(_ *Candidate, b *Backup) { b.Store = &Probe{} }, Wait, "not asked yet", "agent"},
		"takes nothing":               {func(_ *Candidate, b *Backup) { b.Store.Problem = "403 AccessDenied" }, Deny, "takes no backup now", "bring the store back (403 AccessDenied)"},
		"took nothing, long ago":      {func(_ *Candidate, b *Backup) { b.Store = &Probe{At: now.Add(-time.Hour), Problem: "403"} }, Deny, "takes no backup now", "bring the store back (403)"},
		"not asked, and none is good": {func(_ *Candidate, b *Backup) { b.Newest, b.Store = nil, nil }, Deny, "there is no verified backup", "purser backup now dev"},
		"takes nothing, none is good": {func(_ *Candidate, b *Backup) { b.Newest, b.Store.Problem = nil, "403" }, Deny, "there is no verified backup; the release migrates", "bring the store back"},
		"a rollback, with old backups": {func(c *Candidate, b *Backup) { c.Origin, b.Newest.Snapshot = OriginRollback, now.Add(-11*time.Hour) },
			Deny, "RPO", "purser backup now dev"},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := backedUp()
			test.change(&c, f.Backup)
			r := backup(c, f, now)
			if r.Answer != test.want || !strings.Contains(r.Reason, test.says) || !strings.Contains(r.Hint, test.hint) {
				t.Errorf("%s: %s (%s)\nwant %s: …%s… (…%s…)", r.Answer, r.Reason, r.Hint, test.want, test.says, test.hint)
			}
			if (r.Answer != Allow) != (r.Hint != "") || r.Reason == "" {
				t.Errorf("%s: reason %q, hint %q", r.Answer, r.Reason, r.Hint)
			}
			if r.Until != nil && !r.Until.After(now) {
				t.Errorf("it would be asked again at once, for ever: until %s", r.Until)
			}
			again(t, c, f)
		})
	}
	c, f := backedUp()
	f.Backup = nil
	if r := backup(c, f, now); r.Answer != Deny || !strings.Contains(r.Reason, "unknown") || r.Hint == "" {
		t.Errorf("without facts: %+v", r)
	}
}

// again checks that a decision evaluates to the same from its record.
func again(t *testing.T, c Candidate, f Facts) {
	t.Helper()
	c.Class = &declaration.ReleaseClass{Meta: c.Class.Meta, Spec: c.Class.Spec}
	in := Inputs{Candidate: c, Facts: f, At: now}
	data, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := (&Rules{Classes: map[string]*declaration.ReleaseClass{c.Class.Meta.Name: c.Class}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := DecodeRules(text)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := rules.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(in.Evaluate())
	if err != nil {
		t.Fatal(err)
	}
	after, err := json.Marshal(recorded.Evaluate())
	if err != nil || string(before) != string(after) {
		t.Errorf("from its record the decision is another (%v):\n%s\n%s", err, before, after)
	}
}

func TestBackupUntil(t *testing.T) {
	soon, later := now.Add(10*time.Minute), now.Add(time.Hour)
	for name, test := range map[string]struct {
		change func(b *Backup)
		want   time.Time
	}{
		"a backup of the future":        {func(b *Backup) { b.Newest.Snapshot = later }, later},
		"a drill of the future":         {func(b *Backup) { b.Drill.At = soon }, soon},
		"both: not before the last":     {func(b *Backup) { b.Newest.Snapshot, b.Drill.At = soon, later }, later},
		"one with, one without a time":  {func(b *Backup) { b.Newest.Snapshot, b.Drill.Passed = soon, false }, time.Time{}},
		"one without, one with a time":  {func(b *Backup) { b.Newest, b.Drill.At = nil, soon }, time.Time{}},
		"a store that takes nothing":    {func(b *Backup) { b.Store.Problem = "403" }, now.Add(4 * time.Minute)},
		"a store that took nothing":     {func(b *Backup) { b.Store = &Probe{At: now.Add(-ProbeMaxAge), Problem: "403"} }, time.Time{}},
		"a store that was not asked":    {func(b *Backup) { b.Store = nil }, time.Time{}},
		"a backup that is too old":      {func(b *Backup) { b.Newest.Snapshot = now.Add(-11 * time.Hour) }, time.Time{}},
		"a backup that will be too old": {func(b *Backup) {}, time.Time{}},
	} {
		c, f := backedUp()
		test.change(f.Backup)
		var got time.Time
		if r := backup(c, f, now); r.Until != nil {
			got = *r.Until
		}
		if !got.Equal(test.want) {
			t.Errorf("%s: until %s, want %s", name, got, test.want)
		}
	}
}

// TestBackupReasonsDoNotAge: what is denied for the same reason later is not a new decision.
func TestBackupReasonsDoNotAge(t *testing.T) {
	for name, change := range map[string]func(b *Backup){
		"old":       func(b *Backup) { b.Newest.Snapshot = now.Add(-11 * time.Hour) },
		"future":    func(b *Backup) { b.Newest.Snapshot = now.AddDate(1, 0, 0) },
		"bad":       func(b *Backup) { b.Failed = &BackupPoint{ID: b.Newest.ID, Problem: "missing"} },
		"old drill": func(b *Backup) { b.Drill.At = now.AddDate(-1, 0, 0) },
		"bad drill": func(b *Backup) { b.Drill.Passed = false },
		"no store":  func(b *Backup) { b.Store.Problem = "read tcp 127.0.0.1:40001->127.0.0.1:9000: reset" },
	} {
		c, f := backedUp()
		change(f.Backup)
		first := Verdict{Answer: Deny, Gates: []Result{backup(c, f, now)}}
		f.Backup.Store = &Probe{At: f.Backup.Store.At.Add(3 * time.Minute), Problem: strings.Replace(f.Backup.Store.Problem, "40001", "40002", 1)} // asked again
		if next := (Verdict{Answer: Deny, Gates: []Result{backup(c, f, now.Add(3*time.Minute))}}); !first.SameAnswers(next) {
			t.Errorf("%s:\n%s\n%s", name, first.Gates[0].Reason, next.Gates[0].Reason)
		}
	}
}

func TestAsksStore(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *Candidate)
		want   bool
	}{
		"migration and demand": {func(*Candidate) {}, true},
		"drills only":          {func(c *Candidate) { c.Class.Spec.Backup.MaxAge = 0 }, true},
		"no demand":            {func(c *Candidate) { c.Class.Spec.Backup = declaration.BackupDemand{} }, false},
		"no migration":         {func(c *Candidate) { c.Release.Declaration.Migration = "none" }, false},
		"no release.yaml":      {func(c *Candidate) { c.Release.Declaration = nil }, false},
		"unknown class":        {func(c *Candidate) { c.Class, c.ClassUnknown = nil, "it is not declared" }, false},
	} {
		c, _ := backedUp()
		if test.change(&c); c.AsksStore() != test.want {
			t.Errorf("%s: %t", name, !test.want)
		}
	}
}

// TestBackupFacts pins the form of the facts: they are recorded.
func TestBackupFacts(t *testing.T) {
	_, f := backedUp()
	f.Backup.Failed = &BackupPoint{ID: "x", Problem: "missing"}
	data, err := json.Marshal(f.Backup)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"policy":"shop","rpoNanoseconds":36000000000000,"rtoNanoseconds":7200000000000,` +
		`"newest":{"id":"20261127T075900Z-dev-abcdefgh","snapshot":"2026-11-27T08:00:00Z","verified":"2026-11-27T08:30:00Z","level":"L1","record":41},` +
		`"failed":{"id":"x","snapshot":"0001-01-01T00:00:00Z","verified":"0001-01-01T00:00:00Z","level":"","problem":"missing","record":0},` +
		`"drill":{"id":"20261126T075900Z-dev-abcdefgh","at":"2026-11-26T09:00:00Z","passed":true,"rpoNanoseconds":3600000000000,"rtoNanoseconds":5400000000000,"record":40},` +
		`"store":{"at":"2026-11-27T08:59:00Z"}}`
	if string(data) != want {
		t.Errorf("%s\nwant\n%s", data, want)
	}
	var back Backup
	if err := json.Unmarshal(data, &back); err != nil || fmt.Sprint(*back.Newest, *back.Drill) != fmt.Sprint(*f.Backup.Newest, *f.Backup.Drill) {
		t.Errorf("%+v (%v)", back, err)
	}
}
