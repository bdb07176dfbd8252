package alert

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/purser-gitops/purser/reconciler/policy"
)

var now = time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

func lasts(d time.Duration) Trouble {
	return Trouble{Since: ago(d), Why: "it broke", Remedy: "mend it"}
}

func verdict(answer policy.Answer, gate string) *policy.Verdict {
	return &policy.Verdict{Answer: answer, Gates: []policy.Result{{Gate: gate, Answer: answer, Reason: "because", Hint: "do it"}}}
}

// override was used some time ago.
func override(used time.Duration, reviewer string, opened ...string) policy.Override {
	at := ago(used)
	return policy.Override{Statement: policy.Statement{ID: "3f2a", Person: "release-manager-1", Reason: "orders are lost", Ticket: "ERP-9"},
		Used: &at, Opened: opened, Reviewer: reviewer}
}

func TestWhatFiresForAnEnvironment(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		env  Environment
		want string // names, with the time since when they fire as it was some time ago
		says string
	}{
		"nothing":                    {},
		"review not due yet":         {env: Environment{Overrides: []policy.Override{override(71*time.Hour, "", "approvals")}}},
		"review overdue":             {env: Environment{Overrides: []policy.Override{override(80*time.Hour, "", "approvals")}}, want: "PurserReviewOverdue 8h0m0s", says: "purser review 3f2a, by somebody other than release-manager-1"},
		"two of three overdue":       {env: Environment{Overrides: []policy.Override{override(80*time.Hour, ""), override(90*time.Hour, ""), override(day, "")}}, want: "PurserReviewOverdue 18h0m0s"},
		"reviewed":                   {env: Environment{Overrides: []policy.Override{override(80*time.Hour, "release-manager-2", "calendar")}}},
		"override not used":          {env: Environment{Overrides: []policy.Override{{Statement: policy.Statement{ID: "3f2a"}}}}},
		"breach of a freeze":         {env: Environment{Overrides: []policy.Override{override(time.Hour, "", "approvals", "calendar")}}, want: "PurserFreezeBreach 1h0m0s", says: "orders are lost"},
		"breach, overdue":            {env: Environment{Overrides: []policy.Override{override(73*time.Hour, "", "calendar")}}, want: "PurserFreezeBreach 73h0m0s, PurserReviewOverdue 1h0m0s"},
		"denied":                     {env: Environment{Name: "dev", Proposed: ago(2 * time.Hour), Judged: ago(time.Hour), Verdict: verdict(policy.Deny, "images")}, want: "PurserReleaseDenied 59m0s", says: "images: because (do it)\nRemedy: purser explain dev"},
		"denied just now":            {env: Environment{Proposed: ago(time.Second), Judged: ago(time.Second), Verdict: verdict(policy.Deny, "images")}},
		"denied, now approved":       {env: Environment{Judged: ago(time.Hour), Verdict: verdict(policy.Deny, "images")}},
		"refused input, and stalled": {env: Environment{Refused: lasts(time.Hour), Stalled: lasts(time.Hour)}, want: "PurserReleaseDenied 59m0s"},
		"waits for approval":         {env: Environment{Proposed: ago(30 * time.Hour), Verdict: verdict(policy.Wait, "approvals")}, want: "PurserApprovalWaiting 6h0m0s"},
		"waits not so long":          {env: Environment{Proposed: ago(23 * time.Hour), Verdict: verdict(policy.Wait, "approvals")}},
		"waits for a freeze":         {env: Environment{Proposed: ago(30 * day), Verdict: verdict(policy.Wait, "calendar")}},
		"stalled":                    {env: Environment{Stalled: lasts(time.Hour)}, want: "PurserEnvironmentStalled 59m0s", says: "it broke\nRemedy: mend it"},
		"fails":                      {env: Environment{Failing: lasts(time.Hour)}, want: "PurserEnvironmentFailing 55m0s"},
		"failed just now":            {env: Environment{Failing: lasts(time.Minute)}},
		"ill, so it stalls":          {env: Environment{Ill: lasts(time.Hour), Stalled: lasts(time.Hour)}, want: "PurserEnvironmentUnhealthy 59m0s"},
		"drift that stays":           {env: Environment{Drift: lasts(time.Hour)}, want: "PurserDriftUnrepaired 58m0s"},
		"drift under repair":         {env: Environment{Drift: lasts(time.Minute)}},
		"drift that comes back":      {env: Environment{Contested: lasts(time.Minute)}, want: "PurserDriftContested 1m0s"},
		"orphaned":                   {env: Environment{Orphaned: ago(time.Hour), Objects: 7}, want: "PurserEnvironmentOrphaned 1h0m0s", says: "7 objects"},
		"expired":                    {env: Environment{Expires: ago(time.Hour)}, want: "PurserEnvironmentExpired 1h0m0s"},
		"not expired":                {env: Environment{Expires: now.Add(time.Hour)}},
		"no database for backups":    {env: Environment{Backups: Backups{Unable: lasts(time.Hour)}}, want: "PurserBackupUnable 59m0s"},
		"backups too old, and fail":  {env: Environment{Backups: Backups{Overdue: lasts(time.Minute), Failed: lasts(time.Hour)}}, want: "PurserBackupOverdue 1m0s, PurserBackupFailed 50m0s"},
		"a backup is tried again":    {env: Environment{Backups: Backups{Failed: lasts(5 * time.Minute)}}},
		"damaged":                    {env: Environment{Backups: Backups{Damaged: lasts(time.Minute)}}, want: "PurserBackupDamaged 1m0s", says: "it broke"},
		"drills fail, and are late":  {env: Environment{Backups: Backups{DrillFailed: lasts(time.Minute), DrillOverdue: lasts(time.Hour)}}, want: "PurserDrillFailed 1m0s, PurserDrillOverdue 1h0m0s"},
		"a further store lacks them": {env: Environment{Backups: Backups{Behind: lasts(time.Minute)}}, want: "PurserBackupReplicaBehind 1m0s"},
		"nothing is verified":        {env: Environment{Backups: Backups{Unproven: lasts(3 * time.Hour)}}, want: "PurserBackupWorkFailing 1h0m0s"},
		"a store was away":           {env: Environment{Backups: Backups{Unproven: lasts(time.Hour), Deletion: lasts(time.Hour)}}},
		"a deletion is stuck":        {env: Environment{Backups: Backups{Deletion: lasts(3 * time.Hour), Blocked: lasts(time.Minute)}}, want: "PurserBackupDeletionOpen 1h0m0s, PurserBackupRetentionBlocked 1m0s"},
		"a clock that went back":     {env: Environment{Failing: lasts(-time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			test.env.Purpose = "production"
			e := Estate{Environments: []Environment{test.env}}
			firing := e.Firing(now)
			if got := names(firing); got != test.want {
				t.Fatalf("fires %q, want %q", got, test.want)
			}
			for _, a := range firing {
				if !strings.Contains(a.Description, test.says) || !strings.Contains(a.Description, "Remedy: ") || a.Summary == "" {
					t.Errorf("%s says %q: %q, want %q", a.Name, a.Summary, a.Description, test.says)
				}
			}
		})
	}
}

func names(firing []Alert) string {
	var list []string
	for _, a := range firing {
		list = append(list, a.Name+" "+now.Sub(a.Since).String())
	}
	return strings.Join(list, ", ")
}

func TestWhatFiresForTheEstate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		estate Estate
		want   string
	}{
		"a cluster is away": {Estate{
			Clusters: []Cluster{{Name: "shop", Unreachable: lasts(time.Hour)}},
			// The trouble of its environments is explained by it; that of the other cluster's is not, nor is an overdue review.
			Environments: []Environment{
				{Cluster: "shop", Failing: lasts(time.Hour), Drift: lasts(time.Hour), Stalled: lasts(time.Hour), Overrides: []policy.Override{override(73*time.Hour, "")}},
				{Cluster: "other", Failing: lasts(time.Hour)},
			}}, "PurserClusterUnreachable 59m0s, PurserReviewOverdue 1h0m0s, PurserEnvironmentFailing 55m0s"},
		"a cluster was replaced":      {Estate{Clusters: []Cluster{{Name: "shop", Replaced: lasts(time.Second)}}, Environments: []Environment{{Cluster: "shop", Stalled: lasts(time.Hour)}}}, "PurserClusterReplaced 1s"},
		"a source is away":            {Estate{Sources: []Source{{Name: "estate", Unreachable: lasts(time.Hour)}, {Name: "apps", Unreachable: lasts(time.Minute)}}}, "PurserSourceUnreachable 55m0s"},
		"broken declarations":         {Estate{Governance: Governance{Refused: lasts(time.Hour)}}, "PurserGovernanceRejected 59m0s"},
		"denied declarations":         {Estate{Governance: Governance{Verdict: verdict(policy.Deny, "approvals"), Judged: ago(time.Hour)}}, "PurserGovernanceRejected 59m0s"},
		"declarations in force":       {Estate{Governance: Governance{Verdict: verdict(policy.Allow, "approvals"), Judged: ago(time.Hour)}}, ""},
		"waiting declarations":        {Estate{Governance: Governance{Verdict: verdict(policy.Wait, "approvals"), Proposed: ago(25 * time.Hour)}}, "PurserApprovalWaiting 1h0m0s"},
		"no declarations":             {Estate{Governance: Governance{Missing: lasts(time.Hour)}}, "PurserGovernanceRejected 59m0s"},
		"the audit remote is away":    {Estate{Audit: Audit{Unreachable: lasts(time.Hour)}}, "PurserAuditUnreachable 55m0s"},
		"the audit remote is rewound": {Estate{Audit: Audit{Stalled: lasts(time.Second), Full: lasts(time.Second)}}, "PurserAuditStalled 1s, PurserSpoolFull 1s"},
	} {
		if got := names(test.estate.Firing(now)); got != test.want {
			t.Errorf("%s: fires %q, want %q", name, got, test.want)
		}
	}
}

func TestSeverityFollowsThePurpose(t *testing.T) {
	t.Parallel()
	for purpose, want := range map[string][2]Severity{
		"production": {Critical, Warning}, "peak": {Critical, Warning}, "": {Critical, Warning},
		"preproduction": {Warning, Info}, "staging": {Warning, Info}, "uat": {Warning, Info}, "training": {Warning, Info},
		"qa": {Info, Info}, "development": {Info, Info},
	} {
		e := Environment{Name: "it", Purpose: purpose, Cluster: "shop", Ill: lasts(time.Hour), Failing: lasts(time.Hour)}
		firing := Estate{Environments: []Environment{e}}.Firing(now)
		if len(firing) != 2 || firing[0].Severity != want[0] || firing[1].Severity != want[1] {
			t.Errorf("%q: %+v, want %v", purpose, firing, want)
		}
		down := Estate{Environments: []Environment{e}, Clusters: []Cluster{{Name: "shop", Unreachable: lasts(time.Hour)}}}.Firing(now)
		if i := slices.IndexFunc(down, func(a Alert) bool { return a.Cluster == "shop" && a.Environment == "" }); i < 0 || down[i].Severity != want[0] {
			t.Errorf("%q: its cluster is away: %+v, want %s", purpose, down, want[0])
		}
	}
}

func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 50_000)
	e := Environment{Name: long, Tenant: long, Cluster: long, Owners: []string{long}, Ill: Trouble{Since: ago(time.Hour), Why: long + "\xff", Remedy: long}}
	for _, a := range (Estate{Environments: []Environment{e}}).Firing(now) {
		for text, most := range map[string]int{a.Environment: labelBytes, a.Owner: labelBytes, a.Summary: summaryBytes, a.Description: descriptionBytes} {
			if len(text) > most || !utf8.ValidString(text) {
				t.Errorf("%d bytes of %d: %.20q", len(text), most, text)
			}
		}
	}
}

// Repetitions, resolution, and what is forgotten, in a time of its own.
func TestWhatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t.Output())
		o.URLs = []string{"http://alerts.example"}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		it, a := s.targets[0], sample("prod-eu", time.Now().Add(-time.Hour))
		expect := func(what string, want int, wait time.Duration) []entry {
			t.Helper()
			batch, left := s.due(it)
			if len(batch) != want || left != wait {
				t.Fatalf("%s: %d due, next in %s; want %d and %s", what, len(batch), left, want, wait)
			}
			return batch
		}
		expect("at first", 0, 0)
		s.Set([]Alert{a})
		s.heard(it, expect("it fires", 1, 0))
		expect("it was told", 0, resendEvery)
		later := a
		later.Since, later.Description = time.Now(), "another reason"
		time.Sleep(resendEvery / 2)
		s.Set([]Alert{later}) // it goes on
		expect("it is told", 0, resendEvery/2)
		time.Sleep(resendEvery / 2)
		batch := expect("it is repeated", 1, 0)
		if e := batch[0].alert; !e.Since.Equal(a.Since) || e.Description != "another reason" {
			t.Errorf("%+v", e)
		}
		s.heard(it, batch)
		s.Set(nil)
		batch = expect("it is resolved", 1, 0)
		if !batch[0].ended.Equal(time.Now()) {
			t.Errorf("it ended at %s", batch[0].ended)
		}
		s.heard(it, batch)
		expect("all is told", 0, 0)
		s.Set([]Alert{later})
		s.heard(it, expect("it fires again", 1, 0))
		s.Set(nil)
		time.Sleep(validFor) // nobody answers meanwhile
		s.Set(nil)
		expect("it ended by itself", 0, 0)
		if len(s.entries) != 0 || len(it.told) != 0 {
			t.Errorf("%d alerts and %d notes are kept", len(s.entries), len(it.told))
		}
	})
}

func TestTooManyAlertsLeaveTheWorst(t *testing.T) {
	t.Parallel()
	s, err := New(testOptions(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	firing := make([]Alert, alertsMost+5)
	for i := range firing {
		firing[i] = Alert{Labels: Labels{Name: "PurserEnvironmentFailing", Environment: string(rune('a'+i%26)) + time.Duration(i).String(), Severity: Info}}
	}
	firing[len(firing)-1].Severity = Critical
	s.Set(firing)
	if len(s.entries) != alertsMost || s.order[0].Severity != Critical {
		t.Errorf("%d are kept, the first is %s", len(s.entries), s.order[0].Severity)
	}
}

// The documentation has the table of the rules, and a section for each.
func TestRulesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| \\[`(Purser\\w+)`\\]\\(#(\\w+)\\) \\| (\\w+) \\| ([^|]+) \\|").FindAllStringSubmatch(string(text), -1)
	var want, got []string
	for _, r := range rules {
		after := "at once"
		if r.after > 0 {
			after = strings.NewReplacer("m0s", "m", "h0m0s", "h").Replace(r.after.String())
		}
		want = append(want, strings.Join([]string{r.name, strings.ToLower(r.name), string(r.severity), after}, " "))
		if !strings.Contains(string(text), "\n### "+r.name+"\n") {
			t.Errorf("docs/alerts.md has no section %s, which is its runbook", r.name)
		}
	}
	for _, d := range documented {
		got = append(got, strings.Join(d[1:], " "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("docs/alerts.md has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
