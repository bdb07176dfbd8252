package reconciler

import (
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// What the gates were told holds until something is recorded that they would be told otherwise.
func TestToldOfBackups(t *testing.T) {
	t.Parallel()
	at := backupNoon
	for name, test := range map[string]struct {
		then  func(k *backupStory, id backup.ID)
		holds bool
	}{
		"nothing more":    {func(*backupStory, backup.ID) {}, true},
		"looked at again": {func(k *backupStory, id backup.ID) { k.looked(id, "near", backup.L0, at.Add(time.Minute)) }, false},
		"damaged": {func(k *backupStory, id backup.ID) {
			k.looked(id, "near", backup.L1, at.Add(time.Minute), "a bit flipped")
		}, false},
		"damaged elsewhere": {func(k *backupStory, id backup.ID) {
			k.looked(id, "far", backup.L1, at.Add(time.Minute), "a bit flipped")
		}, true},
		"not looked at":       {func(k *backupStory, id backup.ID) { k.notLooked(id, "near", at.Add(time.Minute)) }, true},
		"another, unverified": {func(k *backupStory, _ backup.ID) { k.made(at.Add(time.Minute)) }, true},
		"another, verified": {func(k *backupStory, _ backup.ID) {
			k.looked(k.made(at.Add(time.Minute)), "near", backup.L1, at.Add(time.Minute))
		}, false},
		"another, damaged": {func(k *backupStory, _ backup.ID) {
			k.looked(k.made(at.Add(time.Minute)), "near", backup.L0, at.Add(time.Minute), "gone")
		}, false},
		"a drill":                      {func(k *backupStory, id backup.ID) { k.drilled(id, at.Add(time.Minute), true) }, false},
		"a drill, not carried through": {func(k *backupStory, id backup.ID) { k.drilled(id, at.Add(time.Minute), false) }, false},
	} {
		k := &backupStory{history: history{t: t}}
		id := k.made(at)
		k.looked(id, "near", backup.L1, at)
		k.copied(id, at, at)
		k.drilled(id, at, true)
		told := &policy.Backup{Policy: "shop", In: "near"}
		tell(told, &k.b, at.Add(time.Hour))
		if told.Newest == nil || told.Drill == nil {
			t.Fatalf("told is %+v", told)
		}
		test.then(k, id)
		if got := holds(told, &k.b, at.Add(2*time.Hour)); got != test.holds {
			t.Errorf("%s: it holds: %v", name, got)
		}
	}
}

// The status is asked for again and again: what is long and nobody reads there is left out of it, and the state keeps it.
func TestStatusWithoutLocks(t *testing.T) {
	t.Parallel()
	k := &backupStory{history: history{t: t}}
	k.made(backupNoon)
	k.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Extended: []store.Object{{Key: "pack"}}})
	k.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, Expire: []backup.Expiry{{ID: "old"}}})
	state := EnvironmentState{Backups: k.b}
	b := new(Agent).environmentStatus("shop", state).Backups
	if b == nil || len(b.Copies) != 1 || b.Locks != nil || b.Expiring != nil {
		t.Errorf("shown is %+v", b)
	}
	if len(state.Backups.Locks["near"]) != 1 || len(state.Backups.Expiring) != 1 {
		t.Errorf("left is %+v", state.Backups)
	}
}
