package upkeep

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

func recordOf(t *testing.T, kind string, index uint64, predicate any) evidence.Record {
	t.Helper()
	data, err := json.Marshal(predicate)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Record{Index: index, Type: kind, Predicate: data, Header: evidence.Header{Environment: "shop"}}
}

// What a verification found stays until one as thorough finds it no more.
func TestFoldVerification(t *testing.T) {
	flip := backup.Finding{Level: backup.L1, Object: "database", What: "a bit flipped"}
	lock := backup.Finding{Level: backup.L0, Object: "database", What: "its lock has ended"}
	type look struct {
		level backup.Level
		found []backup.Finding
	}
	for name, c := range map[string]struct {
		looks    []look
		good     bool
		level    backup.Level
		failedAt backup.Level
	}{
		"never looked at":                    {nil, false, "", ""},
		"there":                              {[]look{{backup.L0, nil}}, false, backup.L0, ""},
		"readable":                           {[]look{{backup.L0, nil}, {backup.L1, nil}}, true, backup.L1, ""},
		"restorable, then looked at":         {[]look{{backup.L2, nil}, {backup.L0, nil}}, true, backup.L2, ""},
		"damaged after it was good":          {[]look{{backup.L1, nil}, {backup.L1, []backup.Finding{flip}}}, false, "", backup.L1},
		"damaged, and merely there":          {[]look{{backup.L1, []backup.Finding{flip}}, {backup.L0, nil}}, false, "", backup.L1},
		"damaged, then readable":             {[]look{{backup.L1, []backup.Finding{flip}}, {backup.L1, nil}}, true, backup.L1, ""},
		"unlocked at a restore, then locked": {[]look{{backup.L2, []backup.Finding{lock}}, {backup.L0, nil}}, false, backup.L0, ""},
		"two findings, one of them mended":   {[]look{{backup.L2, []backup.Finding{lock, flip}}, {backup.L0, nil}}, false, "", backup.L1},
	} {
		t.Run(name, func(t *testing.T) {
			h := &history{t: t}
			id := h.made(noon)
			for i, l := range c.looks {
				h.looked(id, "near", l.level, noon.Add(time.Duration(i+1)*time.Hour), l.found...)
			}
			copied, _ := h.Copy(id, "near")
			if copied.Good() != c.good || copied.Level != c.level || copied.FailedAt != c.failedAt {
				t.Errorf("good %v, level %q, failed at %q; want %v, %q, %q", copied.Good(), copied.Level, copied.FailedAt, c.good, c.level, c.failedAt)
			}
		})
	}
}

// What was deleted is forgotten in the store that it was deleted in, with its locks; locks that were extended are known.
func TestFoldRetention(t *testing.T) {
	h := &history{t: t}
	first, second := h.made(noon), h.made(noon.Add(time.Hour))
	h.copied(first, noon.Add(2*time.Hour))
	gone, _ := h.Copy(first, "near")
	stays, _ := h.Copy(second, "near")
	until := noon.AddDate(1, 0, 0)
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Extended: []store.Object{
		{Key: gone.Manifest.Key, LockedUntil: until}, {Key: stays.Manifest.Key, LockedUntil: until}}})
	before := h.Backups
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionPlanned, Expire: []backup.Expiry{{ID: first}}})
	if _, open := h.Expiring["near"]; !open {
		t.Error("the plan is not open")
	}
	plan := h.index
	h.fold(evidence.TypeRetention, evidence.Retention{Store: "near", Phase: evidence.RetentionDone, Plan: &plan, Deleted: []store.Object{gone.Manifest}})
	if _, open := h.Expiring["near"]; open {
		t.Error("the plan is still open")
	}
	if _, found := h.Copy(first, "near"); found {
		t.Error("what was deleted is still known")
	}
	if _, found := h.Copy(first, "far"); !found {
		t.Error("the copy in the other store is forgotten")
	}
	if want := map[string]time.Time{stays.Manifest.Key: until}; !reflect.DeepEqual(h.Locks["near"], want) {
		t.Errorf("locks are %v, want %v", h.Locks["near"], want)
	}
	if _, found := before.Copy(first, "near"); !found || len(before.Locks["near"]) != 2 {
		t.Error("folding changed what was there before")
	}
}

// The state survives being written down.
func TestBackupsEncode(t *testing.T) {
	h := &history{t: t}
	id := h.made(noon)
	h.looked(id, "near", backup.L1, noon.Add(time.Hour), backup.Finding{Level: backup.L1, What: "x"}, backup.Finding{Level: backup.L1, What: "y"})
	h.drilled(noon.Add(2 * time.Hour))
	data, err := json.Marshal(h.Backups)
	if err != nil {
		t.Fatal(err)
	}
	var again Backups
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, h.Backups) {
		t.Errorf("%+v\nis not\n%+v", again, h.Backups)
	}
	if len(again.Looked.Findings.Findings) != 1 {
		t.Errorf("%d findings are kept", len(again.Looked.Findings.Findings))
	}
}
