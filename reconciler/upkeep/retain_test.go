package upkeep

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// A deletion that was broken off is finished where a manifest is gone already, and nothing else is deleted by an old plan.
func TestResume(t *testing.T) {
	clock := func() time.Time { return noon }
	opened, err := site.Open(declaration.AgentBackup{Stores: []declaration.AgentStore{{Name: "near", Directory: declaration.AgentDirectory{Path: t.TempDir()}}}}, t.TempDir(), clock, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	near, err := opened.Store("near")
	if err != nil {
		t.Fatal(err)
	}
	create := func(key string) store.Object {
		o, err := near.Create(t.Context(), key, strings.NewReader(key), store.Lock{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	half, whole := backup.ID("20261101T030000Z-shop-aaaaaaaa"), backup.ID("20261102T030000Z-shop-bbbbbbbb")
	plan := []backup.Expiry{
		{ID: half, Objects: []store.Object{create(backup.ManifestKey("shop", half)), create(backup.Key("shop", half, "database"))}},
		{ID: whole, Objects: []store.Object{create(backup.ManifestKey("shop", whole)), create(backup.Key("shop", whole, "database"))}},
		{Objects: []store.Object{create("shop/filestore/2026-08/pack"), create("shop/filestore/2026-08/gone")}},
	}
	expirer, _ := opened.Expirer("near")
	for _, o := range []store.Object{plan[0].Objects[0], plan[2].Objects[1]} { // and here the process died
		if err := expirer.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	h := &history{t: t}
	var extended []store.Object
	for _, o := range plan[2].Objects {
		o.LockedUntil = noon.Add(-time.Hour)
		extended = append(extended, o)
	}
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Extended: extended})
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, Expire: plan})
	w := &Worker{Site: opened, Now: clock}
	s := Subject{Environment: "shop", Policy: hourly(t), Backups: h.Backups}
	done, err := w.Resume(t.Context(), s, Job{Task: Retain, Store: "near"})
	if err != nil {
		t.Fatal(err)
	}
	if done.Plan == nil || *done.Plan != h.index || len(done.Deleted) != 3 {
		t.Errorf("the outcome is %+v", done)
	}
	for i, there := range [][]bool{{false, false}, {true, true}, {true, false}} {
		for j, want := range there {
			_, err := near.Stat(t.Context(), plan[i].Objects[j])
			if got := !errors.Is(err, store.ErrMissing); got != want {
				t.Errorf("%s is there: %v, want %v", plan[i].Objects[j].Key, got, want)
			}
		}
	}
	h.fold(evidence.TypeRetention, done)
	if len(h.Expiring) > 0 {
		t.Error("the plan is still open")
	}
	if locks := h.Locks["near"]; len(locks) != 1 || locks[plan[2].Objects[0].Key].IsZero() {
		t.Errorf("locks are known of %v", locks)
	}
}
