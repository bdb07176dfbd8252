package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/alert"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// What is wrong with backups, and since when, follows from the records; only what left none is remembered.
func TestBackupTroubles(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	at := func(d time.Duration) time.Time { return backupNoon.Add(d) }
	verify := upkeep.Job{Task: upkeep.Verify, Level: backup.L1, Store: "near"}.Run()
	for name, test := range map[string]struct {
		happened   func(*backupStory)
		unrecorded map[string]problem
		now        time.Duration
		want       string // troubles with the time since when there are any
		says       string
	}{
		"nothing yet":        {now: hour},
		"nothing at all":     {now: 3 * hour, want: "overdue 2h0m0s", says: "there is no verified backup; the RPO is 2h0m0s"},
		"no drill for long":  {now: 72 * hour, want: "overdue 2h0m0s, drill overdue 48h0m0s", says: "no drill ever passed; two lie 24h0m0s apart"},
		"made, not verified": {happened: func(k *backupStory) { k.made(at(hour)) }, now: 2*hour + time.Minute, want: "overdue 2h0m0s"},
		"verified":           {happened: func(k *backupStory) { k.looked(k.made(at(hour)), "near", backup.L1, at(hour)) }, now: 2 * hour},
		"merely looked at":   {happened: func(k *backupStory) { k.looked(k.made(at(hour)), "near", backup.L0, at(hour)) }, now: 3 * hour, want: "overdue 2h0m0s"},
		"older than the RPO": {happened: func(k *backupStory) { k.looked(k.made(at(hour)), "near", backup.L1, at(hour)) }, now: 4 * hour, want: "overdue 3h0m0s, behind 3h1m0s", says: "20261123T130000Z-shop-00000000, has what was committed before 2026-11-23T13:00:00Z: more than the RPO of 2h0m0s ago"},
		"verified elsewhere": {happened: func(k *backupStory) {
			k.copied(k.made(at(hour)), at(hour), at(hour))
			k.looked("20261123T130000Z-shop-00000000", "far", backup.L1, at(hour))
		}, now: 3 * hour, want: "overdue 2h0m0s"},
		"failed":            {happened: func(k *backupStory) { k.notMade(at(0)); k.notMade(at(5 * time.Minute)) }, now: hour, want: "failed 1m0s", says: "2 in a row; the last at 2026-11-23T12:06:00Z: no route to the database"},
		"failed, then made": {happened: func(k *backupStory) { k.notMade(at(0)); k.looked(k.made(at(hour)), "near", backup.L1, at(hour)) }, now: 2 * hour},
		"failed again":      {happened: func(k *backupStory) { k.notMade(at(0)); k.made(at(hour)); k.notMade(at(90 * time.Minute)) }, now: 100 * time.Minute, want: "failed 1h31m0s"},
		"not even tried":    {unrecorded: map[string]problem{"backup": {errors.New("no key"), at(hour)}}, now: 90 * time.Minute, want: "failed 1h0m0s", says: "no key"},
		"damaged":           {happened: func(k *backupStory) { k.looked(k.made(at(0)), "near", backup.L1, at(time.Minute), "a bit flipped") }, now: hour, want: "damaged 1m0s", says: "20261123T120000Z-shop-00000000 in store near at level L1: database: a bit flipped"},
		"damaged all along": {happened: func(k *backupStory) {
			id := k.made(at(0))
			k.looked(id, "near", backup.L1, at(time.Minute), "a")
			k.looked(id, "near", backup.L1, at(hour), "a")
		}, now: hour, want: "damaged 1m0s"},
		"damaged, then good": {happened: func(k *backupStory) {
			k.looked(k.made(at(0)), "near", backup.L1, at(0), "a")
			k.looked(k.made(at(hour)), "near", backup.L1, at(hour))
		}, now: hour},
		"good, then damaged": {happened: func(k *backupStory) {
			k.looked(k.made(at(0)), "near", backup.L1, at(0))
			k.looked(k.made(at(hour)), "near", backup.L1, at(hour), "a")
		}, now: hour, want: "damaged 1h0m0s"},
		"damaged, then mended": {happened: func(k *backupStory) {
			id := k.made(at(0))
			k.looked(id, "near", backup.L1, at(0), "a")
			k.looked(id, "near", backup.L1, at(hour))
		}, now: hour},
		"a damaged copy": {happened: func(k *backupStory) {
			id := k.made(at(0))
			k.looked(id, "near", backup.L1, at(0))
			k.copied(id, at(0), at(0))
			k.looked(id, "far", backup.L1, at(hour), "a")
		}, now: hour, want: "damaged 1h0m0s", says: "in store far"},
		"drill failed": {happened: func(k *backupStory) {
			k.drilled("id", at(0), true)
			k.drilled("id", at(time.Minute), false)
			k.drilled("id", at(hour), false)
		}, now: hour, want: "drill failed 1m0s", says: "the drill of 2026-11-23T13:00:00Z with backup id: no room on the disk"},
		"drill passed again": {happened: func(k *backupStory) { k.drilled("id", at(0), false); k.drilled("id", at(hour), true) }, now: hour},
		"drill too long ago": {happened: func(k *backupStory) {
			k.drilled("id", at(0), true)
			k.looked(k.made(at(49*hour)), "near", backup.L1, at(49*hour))
		}, now: 50 * hour, want: "drill overdue 48h0m0s", says: "no drill passed since 2026-11-23T12:00:00Z: more than 48h0m0s"},
		"copy waits": {happened: func(k *backupStory) { k.made(at(0)); k.looked(k.made(at(2*hour)), "near", backup.L1, at(2*hour)) }, now: 3 * hour, want: "behind 2h1m0s", says: "store far has no good backup"},
		"copied late": {happened: func(k *backupStory) {
			k.made(at(0))
			id := k.made(at(2 * hour))
			k.looked(id, "near", backup.L1, at(2*hour))
			k.copied(id, at(2*hour), at(4*hour))
		}, now: 4*hour - 1},
		"copy falls behind": {happened: func(k *backupStory) {
			k.copied(k.made(at(0)), at(0), at(0))
			k.made(at(hour))
			k.made(at(3 * hour))
			k.looked(k.made(at(4*hour)), "near", backup.L1, at(4*hour))
		}, now: 5 * hour, want: "behind 3h1m0s", says: "of 2026-11-23T12:00:00Z, and in near there is one of 2026-11-23T15:00:00Z"},
		"why it cannot copy": {happened: func(k *backupStory) { k.made(at(0)); k.looked(k.made(at(2*hour)), "near", backup.L1, at(2*hour)) }, unrecorded: map[string]problem{"replicate far": {errors.New("no such store"), at(3 * hour)}}, now: 3 * hour, want: "behind 2h1m0s, unproven 3h0m0s", says: "no such store"},
		"not verified": {happened: func(k *backupStory) {
			id := k.made(at(0))
			k.notLooked(id, "near", at(time.Minute))
			k.notLooked(id, "near", at(hour))
		}, now: hour, want: "unproven 1m0s", says: "verify L1 near: 2 failures in a row"},
		"then verified": {happened: func(k *backupStory) {
			id := k.made(at(0))
			k.notLooked(id, "near", at(0))
			k.looked(id, "near", backup.L1, at(hour))
		}, now: hour},
		"no key to verify":  {unrecorded: map[string]problem{verify: {errors.New("no key"), at(hour)}, "drill latest 0 5 * * *": {errors.New("no key"), at(0)}}, now: hour, want: "unproven 0s"},
		"not in the policy": {unrecorded: map[string]problem{"verify L1 elsewhere": {errors.New("no key"), at(hour)}}, now: hour},
		"retention blocked": {happened: func(k *backupStory) {
			k.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Blocked: []string{"the clocks differ"}})
		}, now: hour, want: "blocked 1h0m0s", says: "store near: the clocks differ"},
		"retention blocked in a store that the policy named once": {happened: func(k *backupStory) {
			k.fold(evidence.TypeRetention, evidence.Retention{Store: "gone", Phase: evidence.RetentionDone, Blocked: []string{"the clocks differ"}})
			k.fold(evidence.TypeRetention, evidence.Retention{Store: "gone", Phase: evidence.RetentionPlanned, At: at(0), Expire: []backup.Expiry{{ID: "old"}}})
		}, now: hour},
		"deletion broken off": {happened: func(k *backupStory) {
			k.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, At: at(0), Expire: []backup.Expiry{{ID: "old"}}})
		}, now: hour, want: "deletion 0s", says: "record 0 plans to delete 1 backups"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &backupStory{history: history{t: t}}
			if test.happened != nil {
				test.happened(k)
			}
			q := backupQuery{name: "shop", policy: shopPolicy(t), b: &k.b, unrecorded: test.unrecorded, first: beginnings{}, now: at(test.now), known: backupNoon}
			got := q.troubles()
			var list []string
			said := ""
			for _, trouble := range []struct {
				name string
				alert.Trouble
			}{
				{"unable", got.Unable}, {"overdue", got.Overdue}, {"failed", got.Failed}, {"damaged", got.Damaged}, {"drill failed", got.DrillFailed},
				{"drill overdue", got.DrillOverdue}, {"behind", got.Behind}, {"unproven", got.Unproven}, {"blocked", got.Blocked}, {"deletion", got.Deletion},
			} {
				if trouble.Since.IsZero() {
					continue
				}
				list, said = append(list, trouble.name+" "+trouble.Since.Sub(backupNoon).String()), said+trouble.Why+"\n"
				if trouble.Why == "" || trouble.Remedy == "" {
					t.Errorf("%s says %q, %q", trouble.name, trouble.Why, trouble.Remedy)
				}
			}
			if got := strings.Join(list, ", "); got != test.want || !strings.Contains(said, test.says) {
				t.Errorf("wrong is %q: %s\nwant %q: %s", got, said, test.want, test.says)
			}
		})
	}
}

// Where the configuration lacks what a policy needs nothing else is told, and nothing at all without a policy.
func TestBackupsThatTheAgentCannotMake(t *testing.T) {
	t.Parallel()
	a := newScene(t, nil).agent
	a.options.Registerer = prometheus.NewRegistry()
	var err error
	if a.backups, err = newBackups(a); err != nil {
		t.Fatal(err)
	}
	dev := *a.law.Environments["dev"]
	l := *a.law
	set := *l.Set
	set.Environments, set.BackupPolicies = map[string]*declaration.Environment{"dev": &dev}, map[string]*declaration.BackupPolicy{"shop": shopPolicy(t)}
	l.Set = &set
	q := backupQuery{name: "dev", b: &upkeep.Backups{}, first: beginnings{}, now: backupNoon}
	if got := a.backupTroubles(&l, q); got != (alert.Backups{}) {
		t.Errorf("without a policy: %+v", got)
	}
	dev.Spec.Backup = "shop"
	first := a.backupTroubles(&l, q)
	q.now = q.now.Add(100 * time.Hour)
	got := a.backupTroubles(&l, q)
	if got != first || !got.Unable.Since.Equal(backupNoon) || !strings.Contains(got.Unable.Why, "names no database") || got.Overdue != (alert.Trouble{}) {
		t.Errorf("without a database: %+v", got)
	}
}
