package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/statement"
)

const (
	backupsYAML = `apiVersion: purser.dev/v1alpha1
kind: BackupPolicy
metadata: {name: %s}
spec: {schedule: "0 * * * *", timeZone: UTC, store: main, retention: {daily: 7}, rpo: %s, rto: 2h, verify: {l1: "30 * * * *"}, drills: [{schedule: "0 6 * * *"}]}
`
	checkedYAML = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: %s}
spec: {rank: %d, signatures: required, approvals: [{count: 1, roles: [release-manager]}], backup: {%s}, override: {gates: [%s]}}
`
	asksBackups = "maxAge: 24h, drillMaxAge: 720h"
)

// backedUpFiles declare that releases of dev and qa need backups. guarded is a class that asks for them, above standard.
func backedUpFiles() files {
	return files{
		"purser/backups/shop.yaml":     file(fmt.Sprintf(backupsYAML, "shop", "10h")),
		"purser/backups/lax.yaml":      file(fmt.Sprintf(backupsYAML, "lax", "8760h")),
		"purser/classes/standard.yaml": file(fmt.Sprintf(checkedYAML, "standard", 20, asksBackups, "backup, calendar")),
		"purser/classes/guarded.yaml":  file(fmt.Sprintf(checkedYAML, "guarded", 25, asksBackups, "calendar")),
		"purser/classes/high.yaml":     file(fmt.Sprintf(checkedYAML, "high", 30, asksBackups, "")),
		"purser/envs/dev.yaml":         file(envYAML("dev", "class: standard, backup: shop")),
		"purser/envs/qa.yaml":          file(envYAML("qa", "class: standard, backup: shop")),
	}
}

// backedUp is what is known of an environment whose backups are in order.
func backedUp(environment string, now time.Time) *policy.Backup {
	return &policy.Backup{
		Policy: "shop", RPO: 10 * time.Hour, RTO: 2 * time.Hour,
		Newest: &policy.BackupPoint{ID: "20261123T075900Z-" + environment + "-abcdefgh", Snapshot: now.Add(-time.Hour), Verified: now.Add(-30 * time.Minute), Level: "L1", Record: 7},
		Drill:  &policy.Drill{ID: "20261122T075900Z-" + environment + "-abcdefgh", At: now.Add(-24 * time.Hour), Passed: true, RPO: time.Hour, RTO: time.Hour, Record: 5},
	}
}

// releaseYAML is release.yaml of dev.
func releaseYAML(more string) files {
	return files{"apps/dev/release.yaml": file("apiVersion: purser.dev/v1alpha1\nkind: Release\nspec: {version: \"2\", " + more + "}\n")}
}

// offers lands a change of dev as developer-1, and has a release manager approve it.
func (s *scene) offers(changes files) {
	s.t.Helper()
	s.change(draft{key: "developer-1"}, two.with(changes))
	s.mustPropose()
	if refused := s.approves("release-manager-2"); refused != "" {
		s.t.Fatal(refused)
	}
}

// heldBy checks that one gate alone keeps dev's release back, with a reason and a remedy.
func (s *scene) heldBy(gate string, answer policy.Answer, reason, remedy string) {
	s.t.Helper()
	v := s.judge("dev")
	s.denied(v)
	for _, g := range v.Gates {
		switch {
		case g.Gate != gate:
			if g.Answer != policy.Allow {
				s.t.Errorf("another gate answers: %s: %s", g.Gate, g.Reason)
			}
		case g.Answer != answer || !strings.Contains(g.Reason, reason) || !strings.Contains(g.Hint, remedy):
			s.t.Errorf("%s: %s (%s)\nwant %s: …%s… (…%s…)", g.Answer, g.Reason, g.Hint, answer, reason, remedy)
		}
	}
}

// goes checks that dev's release goes.
func (s *scene) goes() policy.Verdict {
	s.t.Helper()
	v := s.judge("dev")
	if v.Answer != policy.Allow {
		s.t.Errorf("it is stuck:\n%s", gatesOf(v))
	}
	return v
}

// TestAdversaryBackups releases over backups that are not what the class asks for. Everything else is in order, and once the
// backups are, the same release goes.
func TestAdversaryBackups(t *testing.T) {
	t.Parallel()
	migrates := releaseYAML("migration: breaking")
	for name, attack := range map[string]struct {
		push   files
		do     func(s *scene, b *policy.Backup)
		answer policy.Answer
		reason string
		remedy string
	}{
		"a stale backup": {nil, func(_ *scene, b *policy.Backup) { b.Newest.Snapshot = b.Newest.Snapshot.Add(-10 * time.Hour) }, policy.Deny, `RPO of BackupPolicy "shop"`, "purser backup now dev"},
		"a stale backup, verified again": {nil, func(s *scene, b *policy.Backup) {
			b.Newest.Snapshot, b.Newest.Verified = s.clock.Add(-11*time.Hour), s.clock
		}, policy.Deny, "lets it be 10h0m0s old", "purser backup now dev"},
		"a backup that gets stale while it waits":    {nil, func(s *scene, _ *policy.Backup) { s.clock = s.clock.Add(9*time.Hour + time.Second); s.fresh() }, policy.Deny, "RPO", "purser backup now dev"},
		"a newest one that nobody verified":          {nil, func(_ *scene, b *policy.Backup) { b.Newest.Level, b.Newest.Verified = "", time.Time{} }, policy.Deny, "when it was verified", "purser backup now dev"},
		"a newest one that was only looked at":       {nil, func(_ *scene, b *policy.Backup) { b.Newest.Level = "L0" }, policy.Deny, "level L0 was reached, L1 is asked for", "purser backup now dev"},
		"none but unverified ones":                   {nil, func(_ *scene, b *policy.Backup) { b.Newest = nil }, policy.Deny, "there is no verified backup", "purser backup now dev"},
		"a bad one newer than the good one":          {nil, func(s *scene, b *policy.Backup) { b.Failed = bad("dev", s.clock.Add(-time.Minute)) }, policy.Deny, "is not good: pack 2026-11/x: its bytes differ", "purser backup show dev"},
		"a backup of the future":                     {nil, func(s *scene, b *policy.Backup) { b.Newest.Snapshot = s.clock.AddDate(1, 0, 0) }, policy.Deny, "in the future", "set the clocks"},
		"a backup of another environment":            {nil, func(s *scene, b *policy.Backup) { b.Newest = backedUp("qa", s.clock).Newest }, policy.Deny, "not of this environment", "purser backup now dev"},
		"all that is known of another environment":   {nil, func(s *scene, b *policy.Backup) { *b = *backedUp("qa", s.clock) }, policy.Deny, "not of this environment", "purser backup now dev"},
		"a backup of one whose name begins the same": {nil, func(s *scene, b *policy.Backup) { b.Newest = backedUp("dev-eu", s.clock).Newest }, policy.Deny, "not of this environment", "purser backup now dev"},
		"a drill of another environment":             {nil, func(s *scene, b *policy.Backup) { b.Drill = backedUp("qa", s.clock).Drill }, policy.Deny, "not of this environment", "purser drill now dev"},
		"a drill of long ago":                        {nil, func(s *scene, b *policy.Backup) { b.Drill.At = s.clock.AddDate(0, -2, 0) }, policy.Deny, "the class lets it be 720h0m0s old", "purser drill now dev"},
		"a drill of the future":                      {nil, func(s *scene, b *policy.Backup) { b.Drill.At = s.clock.AddDate(0, 2, 0) }, policy.Deny, "in the future", "set the clock"},
		"a drill that took too long":                 {nil, func(_ *scene, b *policy.Backup) { b.Drill.RTO = 3 * time.Hour }, policy.Deny, `took 3h0m0s, and the RTO of BackupPolicy "shop" is 2h0m0s`, "make restores quicker"},
		"a drill that failed": {nil, func(_ *scene, b *policy.Backup) {
			b.Drill.Passed, b.Drill.Problem = false, "table pos_order has fewer rows"
		}, policy.Deny, "did not pass: table pos_order has fewer rows", "purser drill now dev"},
		"no drill":    {nil, func(_ *scene, b *policy.Backup) { b.Drill = nil }, policy.Deny, "no restore was rehearsed yet", "purser drill now dev"},
		"no facts":    {nil, func(s *scene, _ *policy.Backup) { s.backups = nil }, policy.Deny, "the state of the environment's backups is unknown", "purser backup list dev"},
		"empty facts": {nil, func(_ *scene, b *policy.Backup) { *b = policy.Backup{} }, policy.Deny, `is by BackupPolicy ""`, "agent"},
		"no database is configured": {nil, func(_ *scene, b *policy.Backup) {
			*b = policy.Backup{Policy: "shop", Problem: "the agent has no database for it"}
		}, policy.Deny, "the agent has no database for it", "purser backup now dev"},
		"objectives of another policy":             {nil, func(_ *scene, b *policy.Backup) { b.Policy, b.RPO = "lax", 8760*time.Hour }, policy.Deny, `by BackupPolicy "lax", and that of the environment is "shop"`, "agent"},
		"no objectives":                            {nil, func(_ *scene, b *policy.Backup) { b.RPO, b.RTO = 0, 0 }, policy.Deny, "objectives", "log"},
		"a migration of which no store was asked":  {migrates, func(*scene, *policy.Backup) {}, policy.Wait, "migrates the database (breaking), and the store was not asked yet", "agent"},
		"a migration, and an answer of long ago":   {migrates, func(s *scene, b *policy.Backup) { b.Store = &policy.Probe{At: s.clock.Add(-6 * time.Minute)} }, policy.Wait, "last asked at", "agent"},
		"a migration, and an answer of the future": {migrates, func(s *scene, b *policy.Backup) { b.Store = &policy.Probe{At: s.clock.Add(6 * time.Minute)} }, policy.Wait, "last asked at", "agent"},
		"a migration, and a store that takes nothing": {migrates, func(s *scene, b *policy.Backup) {
			b.Store = &policy.Probe{At: s.clock, Problem: "put object: 403 AccessDenied"}
		}, policy.Deny, "takes no backup now", "bring the store back (put object: 403 AccessDenied)"},
		"an additive migration, and a stale backup": {releaseYAML("migration: additive"), func(s *scene, b *policy.Backup) {
			b.Newest.Snapshot, b.Store = s.clock.Add(-11*time.Hour), &policy.Probe{At: s.clock}
		}, policy.Deny, "RPO", "purser backup now dev"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, backedUpFiles())
			s.offers(attack.push)
			inOrder := func() {
				s.backups = map[string]*policy.Backup{"dev": backedUp("dev", s.clock), "qa": backedUp("qa", s.clock)}
				if attack.push != nil {
					s.backups["dev"].Store = &policy.Probe{At: s.clock.Add(-time.Minute)}
				}
			}
			inOrder()
			s.goes()
			s.backups["dev"].Store = nil
			attack.do(s, s.backups["dev"])
			s.heldBy(policy.GateBackup, attack.answer, attack.reason, attack.remedy)
			inOrder()
			s.goes()
		})
	}
}

// fresh has a release manager approve again what is proposed: approvals expire sooner than some backups.
func (s *scene) fresh() {
	s.t.Helper()
	if refused := s.approves("release-manager-2"); refused != "" {
		s.t.Fatal(refused)
	}
}

// bad is a backup that a verification found bad.
func bad(environment string, at time.Time) *policy.BackupPoint {
	return &policy.BackupPoint{ID: "20261123T085800Z-" + environment + "-abcdefgh", Snapshot: at, Verified: at, Level: "L0", Problem: "pack 2026-11/x: its bytes differ"}
}

// TestAdversaryBackupRules takes what asks for backups out of the declarations, in the push that profits from it. The release is
// judged by the declarations in force, under which the backup is too old.
func TestAdversaryBackupRules(t *testing.T) {
	t.Parallel()
	for name, amendment := range map[string]files{
		"the class asks for none":           {"purser/classes/standard.yaml": file(fmt.Sprintf(classYAML, "standard", 20, "required", 1))},
		"the class asks for an old one":     {"purser/classes/standard.yaml": file(fmt.Sprintf(checkedYAML, "standard", 20, "maxAge: 8760h", "backup"))},
		"the environment has none":          {"purser/envs/dev.yaml": file(envYAML("dev", "class: reviewed"))},
		"the environment has another class": {"purser/envs/dev.yaml": file(envYAML("dev", "class: low, backup: shop"))},
		"the environment has a lax policy":  {"purser/envs/dev.yaml": file(envYAML("dev", "class: standard, backup: lax"))},
		"the policy is lax":                 {"purser/backups/shop.yaml": file(fmt.Sprintf(backupsYAML, "shop", "8760h"))},
		"the policy is gone":                {"purser/backups/shop.yaml": {}, "purser/envs/dev.yaml": file(envYAML("dev", "class: low"))},
		"everybody may override":            {"purser/classes/standard.yaml": file(strings.Replace(fmt.Sprintf(checkedYAML, "standard", 20, asksBackups, "backup"), "rank: 20", "rank: 20, bots: true", 1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, backedUpFiles())
			s.backups = map[string]*policy.Backup{"dev": backedUp("dev", s.clock)}
			s.backups["dev"].Newest.Snapshot = s.clock.Add(-11 * time.Hour)
			before := s.files
			s.offers(amendment)
			if v, err := s.amendment(); err != nil {
				t.Fatal(err)
			} else {
				s.denied(v)
			}
			s.heldBy(policy.GateBackup, policy.Deny, "lets it be 10h0m0s old", "purser backup now dev")
			s.backups["dev"] = backedUp("dev", s.clock)
			s.recovers(before)
		})
	}
}

// TestAdversaryBackupClass is about releases whose class is not that of the environment: the highest one holds.
func TestAdversaryBackupClass(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env    string
		push   files
		known  bool // that backups are in order
		reason string
		remedy string
	}{
		"release.yaml raises it":                              {"class: reviewed, backup: shop", releaseYAML("class: guarded"), false, `class "guarded" asks for backups, and the state`, "purser backup list dev"},
		"release.yaml raises it, where there are no backups":  {"class: reviewed", releaseYAML("class: guarded"), true, `class "guarded" asks for backups, and the environment has no BackupPolicy`, "declare backup:"},
		"release.yaml lowers it":                              {"class: standard, backup: shop", releaseYAML("class: low"), false, `class "standard" asks for backups`, "purser backup list dev"},
		"a classification raises it":                          {"class: reviewed, backup: shop", files{"apps/dev/payments.yaml": file(mapYAML("payments", "two")), "apps/dev/kustomization.yaml": file("resources: [../../base, objects.yaml, payments.yaml]\n")}, false, `class "high" asks for backups`, "purser backup list dev"},
		"a class without backups asks for none, migrating it": {"class: reviewed, backup: shop", releaseYAML("migration: breaking"), false, "", ""},
		"raised, and all is well":                             {"class: reviewed, backup: shop", releaseYAML("class: guarded"), true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, backedUpFiles().with(files{"purser/envs/dev.yaml": file(envYAML("dev", test.env))}))
			if test.known {
				s.backups = map[string]*policy.Backup{"dev": backedUp("dev", s.clock)}
			}
			s.offers(test.push)
			if test.reason == "" {
				s.goes()
				return
			}
			s.heldBy(policy.GateBackup, policy.Deny, test.reason, test.remedy)
		})
	}
}

// TestAdversaryBackupOverride opens the gate by orders, of which one is as it should be.
func TestAdversaryBackupOverride(t *testing.T) {
	t.Parallel()
	order := func(gates ...string) statement.Statement {
		return statement.Statement{Verb: statement.Override, Environment: "dev", Gates: gates, Reason: "tills are down", Ticket: "INC-1"}
	}
	another := order("backup")
	another.Environment = "qa"
	stale := func(t *testing.T, push files) *scene {
		s := newScene(t, backedUpFiles())
		s.backups = map[string]*policy.Backup{"dev": backedUp("dev", s.clock)}
		s.backups["dev"].Newest.Snapshot = s.clock.Add(-11 * time.Hour)
		s.offers(push)
		return s
	}
	for name, attack := range map[string]struct {
		push files
		key  string
		said statement.Statement
	}{
		"of another gate":                        {nil, "release-manager-1", order("calendar")},
		"by a developer":                         {nil, "developer-2", order("backup")},
		"by a bot":                               {nil, "release-bot", order("backup")},
		"by nobody":                              {nil, "nobody", order("backup")},
		"with a revoked key":                     {nil, "release-manager-1/revoked", order("backup")},
		"of another environment":                 {nil, "release-manager-1", another},
		"for a class of which it opens no such":  {releaseYAML("class: guarded"), "release-manager-1", order("backup")},
		"for a class of which it opens nothing":  {releaseYAML("class: high"), "release-manager-1", order("backup", "calendar")},
		"of everything but this gate, in a rush": {nil, "release-manager-1", order("signatures", "approvals", "tests", "policy", "health", "calendar")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stale(t, attack.push)
			s.says(attack.key, attack.said)
			s.heldBy(policy.GateBackup, policy.Deny, "lets it be 10h0m0s old", "purser backup now dev")
		})
	}
	t.Run("of a release that was pushed over", func(t *testing.T) {
		t.Parallel()
		s := stale(t, nil)
		said := order("backup")
		said.To = s.agent.journal.environment("dev").Proposed.Release
		s.says("release-manager-1", said)
		s.goes()
		s.offers(three)
		s.heldBy(policy.GateBackup, policy.Deny, "is for another release", "purser backup now dev")
	})
	t.Run("by somebody who may", func(t *testing.T) {
		t.Parallel()
		s := stale(t, nil)
		if refused := s.says("release-manager-1", order("backup")); refused != "" {
			t.Fatal(refused)
		}
		v := s.goes()
		used := s.spend()
		if id := v.OverrideOf(policy.GateBackup); id == "" || id != used.Statement.ID {
			t.Errorf("the decision names %q, and %+v was used", id, used)
		}
		for _, g := range v.Gates {
			if g.Gate == policy.GateBackup && !(strings.Contains(g.Reason, "overridden by release-manager-1") && strings.Contains(g.Reason, "lets it be 10h0m0s old")) {
				t.Errorf("the record does not say what was overridden: %s", g.Reason)
			}
		}
		if due := s.agent.journal.environment("dev").Overrides; len(due) != 1 || due[0].Used == nil || due[0].Reviewer != "" {
			t.Errorf("nobody has to review it: %+v", due)
		}
	})
}

// ledger records what becomes of the backups of a scene, whose agent has the databases of dev and qa and two stores.
type ledger struct {
	*scene
	folder string // of the store main
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{newScene(t, backedUpFiles()), t.TempDir()}
	c := &l.agent.config.Backup
	c.Stores = []declaration.AgentStore{{Name: "main", Directory: declaration.AgentDirectory{Path: l.folder}}, {Name: "far", Directory: declaration.AgentDirectory{Path: t.TempDir()}}}
	for _, environment := range []string{"dev", "qa"} {
		c.Databases = append(c.Databases, declaration.AgentDatabase{
			Environment: environment, Host: "/run/postgresql", Port: 5432, User: "odoo", Database: environment, Filestore: "/srv/filestore/" + environment,
		})
	}
	l.open()
	l.made("dev", l.id("dev", 3), 3*time.Hour)
	l.looked("dev", l.id("dev", 3), "main", backup.L1, 2*time.Hour)
	l.made("dev", l.id("dev", 1), time.Hour)
	l.looked("dev", l.id("dev", 1), "main", backup.L0, 50*time.Minute)
	l.looked("dev", l.id("dev", 1), "main", backup.L1, 40*time.Minute)
	l.drilled(24*time.Hour, "")
	l.offers(nil)
	return l
}

// open has the agent take its configuration of backups.
func (l *ledger) open() {
	l.t.Helper()
	l.agent.options.Registerer = prometheus.NewRegistry()
	opened, err := newBackups(l.agent)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { opened.site.Close() })
	l.agent.backups = opened
}

// asks has the gates told what the records say.
func (l *ledger) asks() {
	l.backups = map[string]*policy.Backup{"dev": l.agent.backups.facts(l.law, l.law.Environments["dev"], false)}
}

// id names a backup of some hours ago.
func (l *ledger) id(environment string, hours int) backup.ID {
	return backup.ID(started.Add(-time.Duration(hours)*time.Hour).Format("20060102T150405Z") + "-" + environment + "-abcdefgh")
}

func (l *ledger) made(environment string, id backup.ID, ago time.Duration) {
	at := started.Add(-ago)
	l.fold(evidence.TypeBackup, environment, evidence.Backup{
		ID: id, Store: "main", Manifest: &store.Object{Key: backup.ManifestKey(environment, id)}, Began: at, Snapshot: at, Ended: at,
		Source: "/run/postgresql:5432/" + environment,
	})
}

func (l *ledger) looked(environment string, id backup.ID, in string, level backup.Level, ago time.Duration, found ...backup.Finding) {
	v := evidence.Verification{Store: in, Passed: len(found) == 0}
	v.ID, v.Asked, v.Began, v.Ended, v.Findings.Findings = id, level, started.Add(-ago), started.Add(-ago), found
	if v.Passed {
		v.Reached = level
	}
	l.fold(evidence.TypeVerification, environment, v)
}

func (l *ledger) drilled(ago time.Duration, unfinished string, found ...backup.Finding) {
	d := evidence.RestoreTest{Store: "main", Counts: true, Passed: unfinished == "" && len(found) == 0}
	d.ID, d.Ended, d.RTO, d.RPO, d.Unfinished, d.Findings.Findings = l.id("dev", 3), started.Add(-ago), time.Hour, time.Hour, unfinished, found
	d.Began, d.WantRTO = d.Ended.Add(-time.Hour), time.Hour
	l.fold(evidence.TypeRestoreTest, "dev", d)
}

// gone records that backups were deleted.
func (l *ledger) gone(ids ...backup.ID) {
	var deleted []store.Object
	for _, id := range ids {
		deleted = append(deleted, store.Object{Key: backup.ManifestKey("dev", id)})
	}
	l.fold(evidence.TypeRetention, "dev", evidence.Retention{Store: "main", Phase: evidence.RetentionDone, Deleted: deleted})
}

// TestAdversaryBackupRecords releases over backups of which the records say that they are not what the class asks for, whatever
// they said before, elsewhere, or of others.
func TestAdversaryBackupRecords(t *testing.T) {
	t.Parallel()
	flip := backup.Finding{Level: backup.L1, Object: "database", What: "its bytes differ", Remedy: "back up again"}
	none := "there is no verified backup"
	for name, attack := range map[string]struct {
		do     func(l *ledger)
		reason string // "": it goes
	}{
		"nothing":                   {func(*ledger) {}, ""},
		"read again, and found bad": {func(l *ledger) { l.looked("dev", l.id("dev", 1), "main", backup.L1, time.Minute, flip) }, "is not good: "},
		"found bad, and then looked at": {func(l *ledger) {
			l.looked("dev", l.id("dev", 1), "main", backup.L1, 2*time.Minute, flip)
			l.looked("dev", l.id("dev", 1), "main", backup.L0, time.Minute)
		}, "is not good: "},
		"found bad, and then read": {func(l *ledger) {
			l.looked("dev", l.id("dev", 1), "main", backup.L1, 2*time.Minute, flip)
			l.looked("dev", l.id("dev", 1), "main", backup.L1, time.Minute)
		}, ""},
		"found bad, and its copy is not": {func(l *ledger) {
			l.looked("dev", l.id("dev", 1), "main", backup.L1, 2*time.Minute, flip)
			l.copied(l.id("dev", 1))
			l.looked("dev", l.id("dev", 1), "far", backup.L1, time.Minute)
		}, "is not good: "},
		"an older one is found bad": {func(l *ledger) { l.looked("dev", l.id("dev", 3), "main", backup.L1, time.Minute, flip) }, ""},
		"its copy is found bad": {func(l *ledger) {
			l.copied(l.id("dev", 1))
			l.looked("dev", l.id("dev", 1), "far", backup.L1, time.Minute, flip)
		}, ""},
		"a newer one that nobody read": {func(l *ledger) {
			l.made("dev", l.id("dev", 0), time.Minute)
			l.looked("dev", l.id("dev", 0), "main", backup.L0, time.Minute)
		}, ""},
		"a newer one is found bad": {func(l *ledger) {
			l.made("dev", l.id("dev", 0), time.Minute)
			l.looked("dev", l.id("dev", 0), "main", backup.L0, time.Minute, flip)
		}, "is not good: "},
		"deleted": {func(l *ledger) { l.gone(l.id("dev", 1), l.id("dev", 3)) }, none},
		"only a copy elsewhere is left": {func(l *ledger) {
			l.copied(l.id("dev", 1))
			l.looked("dev", l.id("dev", 1), "far", backup.L2, time.Minute)
			l.gone(l.id("dev", 1), l.id("dev", 3))
		}, none},
		"only those of qa are good": {func(l *ledger) {
			l.gone(l.id("dev", 1), l.id("dev", 3))
			l.made("qa", l.id("qa", 1), time.Hour)
			l.looked("qa", l.id("qa", 1), "main", backup.L2, time.Minute)
		}, none},
		"those of qa, said to be of dev": {func(l *ledger) {
			l.gone(l.id("dev", 1), l.id("dev", 3))
			l.made("dev", l.id("qa", 1), time.Hour)
			l.looked("dev", l.id("qa", 1), "main", backup.L2, time.Minute)
		}, "is not of this environment"},
		"a verification of one that is not there": {func(l *ledger) {
			l.gone(l.id("dev", 1), l.id("dev", 3))
			l.looked("dev", l.id("dev", 1), "main", backup.L2, time.Minute)
		}, none},
		"the policy has another store now": {func(l *ledger) {
			l.enact(files{"purser/backups/shop.yaml": file(strings.Replace(fmt.Sprintf(backupsYAML, "shop", "10h"), "store: main", "store: far", 1))})
		}, none},
		"the policy allows less now": {func(l *ledger) {
			l.enact(files{"purser/backups/shop.yaml": file(strings.NewReplacer("rto: 2h", "rto: 30m").Replace(fmt.Sprintf(backupsYAML, "shop", "10h")))})
		}, "and the RTO of BackupPolicy"},
		"a drill that failed since":           {func(l *ledger) { l.drilled(time.Hour, "", flip) }, "did not pass: "},
		"a drill that was broken off since":   {func(l *ledger) { l.drilled(time.Hour, "the machine has no room") }, "did not pass: the machine has no room"},
		"a drill of long ago, told again":     {func(l *ledger) { l.drilled(31*24*time.Hour, "") }, "the class lets it be 720h0m0s old"},
		"the agent has no database of it":     {func(l *ledger) { l.agent.config.Backup.Databases = l.agent.config.Backup.Databases[1:]; l.open() }, `names no database of environment "dev"`},
		"another database than was backed up": {func(l *ledger) { l.agent.config.Backup.Databases[0].Database = "other"; l.open() }, none},
		"the agent has no such store":         {func(l *ledger) { l.agent.config.Backup.Stores = l.agent.config.Backup.Stores[1:]; l.open() }, "nothing is known of the environment's backups"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			attack.do(l)
			l.asks()
			if attack.reason == "" {
				l.goes()
				return
			}
			l.heldBy(policy.GateBackup, policy.Deny, attack.reason, "purser")
		})
	}
}

// copied records that a backup was copied to the second store.
func (l *ledger) copied(id backup.ID) {
	at := started.Add(-10 * time.Minute)
	l.fold(evidence.TypeReplication, "dev", evidence.Replication{
		ID: id, From: "main", To: "far", Manifest: &store.Object{Key: backup.ManifestKey("dev", id)}, Snapshot: at, Began: at, Ended: at,
	})
}
