package evidence

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestDecisionsAreEvaluatedAgain(t *testing.T) {
	f := newFixture(t)
	f.run()
	in := policy.Inputs{At: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC), Candidate: policy.Candidate{
		Environment: &declaration.Environment{Meta: declaration.Meta{Name: "dev"}},
		Release:     &render.Release{Digest: "sha256:bb"},
		Origin:      policy.OriginFirst,
		Class:       &declaration.ReleaseClass{Meta: declaration.Meta{Name: "low"}},
	}}
	honest := in.Evaluate()
	if honest.Answer != policy.Deny { // nothing is known of the log
		t.Fatalf("the verdict is %s", honest.Answer)
	}
	forged := policy.Verdict{Answer: policy.Allow}
	for _, g := range honest.Gates {
		g.Answer = policy.Allow
		forged.Gates = append(forged.Gates, g)
	}
	data, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := (&policy.Rules{Classes: map[string]*declaration.ReleaseClass{"low": in.Candidate.Class}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	from := []Blob{{Name: InputsBlob, Data: data}, {Name: RulesBlob, Data: rules}}
	environment := "dev"
	decide := func(key, to string, v policy.Verdict, from ...Blob) {
		t.Helper()
		r, err := f.log.Add(Draft{
			Type: TypeDecision, Environment: environment, Key: []string{key}, Predicate: Decision{To: to, Origin: policy.OriginFirst, Verdict: v},
			Blobs: from,
		})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(r.Index)
	}
	decide("1", "sha256:bb", honest, from...)
	if r := f.verify(f.clone(), VerifyOptions{}); r.ExitCode() != ExitComplete || r.Decisions != 1 {
		t.Fatalf("an honest decision: exit %d, %+v", r.ExitCode(), r)
	}
	decide("2", "sha256:bb", forged, from...)
	decide("3", "sha256:cc", honest, from...)
	decide("4", "sha256:bb", honest, from[0])
	decide("5", "sha256:bb", honest, from[0], Blob{Name: RulesBlob, Data: []byte(`{"Classes":{}}`)})
	environment = "qa"
	decide("6", "sha256:bb", honest, from...)
	r := f.verify(f.clone(), VerifyOptions{})
	if r.ExitCode() != ExitViolated || len(r.Problems) != 5 || r.Decisions != 4 || !strings.Contains(r.Problems[4].What, `about environment "dev", not "qa"`) ||
		!strings.Contains(r.Problems[0].What, "answered allow") || !strings.Contains(r.Problems[1].What, "are about release sha256:bb") ||
		!strings.Contains(r.Problems[2].What, "has no rules") || !strings.Contains(r.Problems[3].What, `do not have "low"`) {
		t.Errorf("exit %d: %+v", r.ExitCode(), r.Problems)
	}
}

// A decision about backups is evaluated again from what was known of them: an allow over a stale one is found. What other
// gates judged is not.
func TestBackupDecisionsAreEvaluatedAgain(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	class := &declaration.ReleaseClass{Meta: declaration.Meta{Name: "guarded"}, Spec: declaration.ReleaseClassSpec{
		Backup: declaration.BackupDemand{MaxAge: 24 * time.Hour, DrillMaxAge: 720 * time.Hour},
	}}
	known := func(snapshot time.Time) *policy.Backup {
		return &policy.Backup{
			Policy: "shop", RPO: 10 * time.Hour, RTO: 2 * time.Hour,
			Newest: &policy.BackupPoint{ID: "20261127T075900Z-dev-abcdefgh", Snapshot: snapshot, Verified: at, Level: "L1"},
			Drill:  &policy.Drill{ID: "20261126T075900Z-dev-abcdefgh", At: at.Add(-time.Hour), Passed: true, RTO: time.Hour},
			Store:  &policy.Probe{At: at},
		}
	}
	inputs := func(b *policy.Backup) policy.Inputs {
		return policy.Inputs{At: at, Candidate: policy.Candidate{
			Environment: &declaration.Environment{Meta: declaration.Meta{Name: "dev"}, Spec: declaration.EnvironmentSpec{Backup: "shop"}},
			Release:     &render.Release{Digest: "sha256:bb", Declaration: &declaration.Release{Version: "1", Migration: "additive"}},
			Origin:      policy.OriginFirst, Class: class,
		}, Facts: policy.Facts{Backup: b, Evidence: &policy.EvidenceFact{Reached: at, Limit: time.Hour, SpoolMax: 10}}}
	}
	good, stale := inputs(known(at.Add(-time.Hour))), inputs(known(at.Add(-11*time.Hour)))
	allowed, denied := good.Evaluate(), stale.Evaluate()
	if allowed.Answer != policy.Allow || !denied.Refused(policy.GateBackup) {
		t.Fatalf("%v; %v", allowed.Reasons(), denied.Reasons())
	}
	encode := func(in policy.Inputs) []byte {
		t.Helper()
		data, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	rules, err := (&policy.Rules{Classes: map[string]*declaration.ReleaseClass{"guarded": class}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		verdict   policy.Verdict
		inputs    []byte
		evaluated int
		says      string // "": nothing is found
	}{
		"good, of which nothing else is recorded": {allowed, encode(good), 1, "was not recorded of this environment"},
		"stale, and denied":                       {denied, encode(stale), 1, ""},
		"stale, and allowed":                      {allowed, encode(stale), 1, "gate backup answered allow"},
		"good, and denied":                        {denied, encode(good), 1, "gate backup answered deny"},
		"nothing known, and allowed":              {allowed, encode(inputs(nil)), 1, "gate backup answered allow"},
		"judged by earlier gates": {allowed, []byte(strings.Replace(string(encode(stale)), fmt.Sprintf(`"Gates":%d`, policy.GatesVersion), `"Gates":3`, 1)),
			0, ""},
		"with facts that there are not": {allowed, []byte(strings.Replace(string(encode(good)), `"level":"L1"`, `"level":"L1","checked":true`, 1)),
			0, "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run()
			r, err := f.log.Add(Draft{
				Type: TypeDecision, Environment: "dev", Key: []string{"1"}, Predicate: Decision{To: "sha256:bb", Origin: policy.OriginFirst, Verdict: test.verdict},
				Blobs: []Blob{{Name: InputsBlob, Data: test.inputs}, {Name: RulesBlob, Data: rules}},
			})
			if err != nil {
				t.Fatal(err)
			}
			f.wait(r.Index)
			report := f.verify(f.clone(), VerifyOptions{})
			found := ""
			for _, p := range report.Problems {
				found += p.What + "\n"
			}
			if report.Decisions != test.evaluated || (test.says == "") != (found == "") || !strings.Contains(found, test.says) {
				t.Errorf("exit %d, %d evaluated: %q; want …%s…", report.ExitCode(), report.Decisions, found, test.says)
			}
		})
	}
}

// An allow that needed approvals names their records. The same votes recorded of another environment, not recorded at all, or
// recorded and not named are found.
func TestAllowsNameTheirApprovals(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	in := policy.Inputs{At: at, Candidate: policy.Candidate{
		Environment: &declaration.Environment{Meta: declaration.Meta{Name: "dev"}},
		Release:     &render.Release{Digest: "sha256:bb"}, Approved: &render.Release{Digest: "sha256:aa"},
		Origin: policy.OriginGit,
		Class: &declaration.ReleaseClass{Meta: declaration.Meta{Name: "standard"}, Spec: declaration.ReleaseClassSpec{
			Approvals: []declaration.Approval{{Count: 2, Roles: []string{"dba"}}},
		}},
		History: policy.History{Landed: []policy.Landed{{
			Commit: "c1", Commits: []policy.Commit{{ID: "c1", Signer: "developer-1"}},
			Pull: &policy.Pull{Number: 3, Head: "c1", Reviews: []policy.Review{{ID: 4, Person: "dba-1", Approves: true, Covers: true, Head: "c1"}}},
		}}},
	}, Facts: policy.Facts{
		People: map[string]policy.Voter{"dba-1": {Roles: []string{"dba"}}, "dba-2": {Roles: []string{"dba"}}},
		Statements: []policy.Statement{{
			ID: "s1", Verb: policy.VerbApprove, Person: "dba-2", From: "sha256:aa", To: "sha256:bb", Expires: at.Add(time.Hour),
		}},
		Evidence: &policy.EvidenceFact{Reached: at, Limit: time.Hour, SpoolMax: 10},
	}}
	verdict := in.Evaluate()
	votes := in.Votes(verdict)
	if verdict.Answer != policy.Allow || len(votes) != 2 {
		t.Fatalf("%+v rests on %+v", verdict.Reasons(), votes)
	}
	data, err := in.Encode()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := (&policy.Rules{Classes: map[string]*declaration.ReleaseClass{"standard": in.Candidate.Class}, People: in.Facts.People}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		environments [2]string // of the two approvals; "" leaves one out
		names        int       // how many of them the decision names
		extra        uint64    // index that it names besides
		says         string
	}{
		"both":                   {environments: [2]string{"dev", "dev"}, names: 2},
		"one was never recorded": {environments: [2]string{"dev", ""}, names: 1, says: "names no record of that"},
		"one is not named":       {environments: [2]string{"dev", "dev"}, names: 1, says: "names no record of that"},
		"one is of another":      {environments: [2]string{"dev", "qa"}, names: 2, says: "none of this environment"},
		"one is no approval":     {environments: [2]string{"dev", "dev"}, names: 2, extra: 1 << 40, says: "none of this environment"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run()
			add := func(d Draft) uint64 {
				t.Helper()
				r, err := f.log.Add(d)
				if err != nil {
					t.Fatal(err)
				}
				return r.Index
			}
			var named []uint64
			for i, environment := range test.environments {
				if environment == "" {
					continue
				}
				index := add(Draft{Type: TypeApproval, Environment: environment, Key: []string{name, votes[i].Person}, Predicate: Approval{Vote: votes[i], Word: WordOf(votes[i]), To: "sha256:bb"}})
				if i < test.names {
					named = append(named, index)
				}
			}
			if test.extra != 0 {
				named = append(named, test.extra)
			}
			decide := func(key string) {
				f.wait(add(Draft{
					Type: TypeDecision, Environment: "dev", Key: []string{key},
					Predicate: Decision{To: "sha256:bb", Origin: policy.OriginGit, Verdict: verdict, Approvals: named},
					Blobs:     []Blob{{Name: InputsBlob, Data: data}, {Name: RulesBlob, Data: rules}},
				}))
			}
			decide("1")
			r := f.verify(f.clone(), VerifyOptions{})
			if test.says == "" && r.ExitCode() != ExitComplete || test.says != "" && (r.ExitCode() != ExitIncomplete || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, test.says)) {
				t.Errorf("exit %d: %+v", r.ExitCode(), r.Problems)
			}
			decide("2") // an approval lets one thing in
			if r := f.verify(f.clone(), VerifyOptions{}); r.ExitCode() != ExitIncomplete {
				t.Errorf("approvals that were used up: exit %d: %+v", r.ExitCode(), r.Problems)
			}
		})
	}
}
