package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

// A world is an environment's backups as they come and go.
type world struct {
	keep Keep
	inv  Inventory
	now  time.Time
}

// randomWorld has backups of all kinds.
func randomWorld(t *testing.T, seed uint64) world {
	r := rand.New(rand.NewPCG(seed, 7))
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"}
	locks := []string{declaration.LockNone, declaration.LockGovernance, declaration.LockCompliance}
	w := world{now: at(t, "2027-11-15T12:00:00Z"), inv: Inventory{Environment: "prod-eu"}, keep: Keep{Zone: zone(t, zones[r.IntN(len(zones))]), Retention: declaration.Retention{
		Minimum: time.Duration(1+r.IntN(100)) * time.Hour, Hourly: r.IntN(30), Daily: r.IntN(10), Weekly: r.IntN(5), Monthly: r.IntN(5), Yearly: r.IntN(3),
		Lock: locks[r.IntN(3)], LockDays: 5 + r.IntN(800)}}}
	span := time.Duration(1+r.IntN(1000)) * 24 * time.Hour
	names := map[string]bool{}
	for range r.IntN(60) {
		began := w.now.Add(-time.Duration(r.Int64N(int64(span)))).Truncate(time.Second)
		c := candidate(began, w.keep)
		for range r.IntN(4) {
			name := fmt.Sprintf("%s/p%d", Generation(began.AddDate(0, -r.IntN(2), 0)), r.IntN(6))
			names[name] = true
			c.Packs = append(c.Packs, PackKey("prod-eu", name))
		}
		switch r.IntN(8) {
		case 0:
			c.Failed = true
		case 1, 2:
			c.Verified = time.Time{}
		case 3:
			c.Holds = []string{"18.0.15"}
		case 4:
			for i := range c.Objects {
				c.Objects[i].LockedUntil = began.Add(time.Duration(r.IntN(900)) * 24 * time.Hour)
			}
		}
		switch r.IntN(150) {
		case 0:
			c.Problem, c.Rest, c.Objects, c.Packs = "its SHA-256 is another one", c.Objects, nil, nil
		case 1:
			c.Problem = "its manifest is hidden by a delete marker"
		}
		w.inv.Backups = append(w.inv.Backups, c)
	}
	for _, name := range append(sortedKeys(names), "2026-01/orphan") {
		w.inv.Packs = append(w.inv.Packs, pack(name, w.now.AddDate(0, 0, r.IntN(20)-15)))
	}
	return w
}

// What must hold of every plan, whatever there is.
func TestRetentionInvariants(t *testing.T) {
	t.Parallel()
	deletions := 0
	for seed := range uint64(200) {
		w := randomWorld(t, seed)
		p := w.keep.Decide(w.inv, together(w.now))
		gone := checkPlan(t, seed, w, p)
		deletions += len(gone)
		checkAsGood(t, seed, w, gone)
		if t.Failed() {
			t.Logf("policy %+v\n%s", w.keep, text(p))
			return
		}
		// Carried out, the plan leaves nothing that the next one deletes, and no lock that it extends.
		next := w
		next.inv = carryOut(w.inv, p)
		again := next.keep.Decide(next.inv, together(w.now))
		if len(again.Expire) > 0 || len(again.Extend) > 0 {
			t.Fatalf("seed %d: once more:\n%s\nafter\n%s", seed, text(again), text(p))
		}
	}
	if deletions < 1000 {
		t.Errorf("%d deletions say little", deletions)
	}
}

// checkPlan checks a plan against what it was made from, and returns the keys that it deletes.
func checkPlan(t *testing.T, seed uint64, w world, p RetentionPlan) map[string]bool {
	gone, keeps := map[string]bool{}, map[ID]bool{}
	for _, e := range p.Expire {
		for n, o := range e.Objects {
			gone[o.Key] = true
			if e.ID != "" && (o.Key == ManifestKey("prod-eu", e.ID)) != (n == 0) {
				t.Errorf("seed %d: the manifest of %s is not deleted first", seed, e.ID)
			}
			if w.now.Before(o.LockedUntil) {
				t.Errorf("seed %d: %s is locked and deleted", seed, o.Key)
			}
		}
	}
	for _, d := range p.Decisions {
		if keeps[d.ID] = d.Keep; len(d.Reasons) == 0 {
			t.Errorf("seed %d: no reason for %s", seed, d.ID)
		}
	}
	if len(p.Decisions) != len(w.inv.Backups) {
		t.Errorf("seed %d: %d decisions about %d backups", seed, len(p.Decisions), len(w.inv.Backups))
	}
	var newest ID
	for _, b := range w.inv.Backups {
		if b.good() {
			newest = max(newest, b.ID)
		}
	}
	extended := map[string]time.Time{}
	for _, e := range p.Extend {
		if extended[e.Object.Key] = e.Until; !e.Until.After(e.Object.LockedUntil) || e.Until.After(w.now.AddDate(0, 0, w.keep.LockDays)) {
			t.Errorf("seed %d: the lock of %s goes from %s to %s", seed, e.Object.Key, e.Object.LockedUntil, e.Until)
		}
	}
	for _, b := range w.inv.Backups {
		age := w.now.Sub(b.ID.Began())
		if must := b.ID >= newest || len(b.Holds) > 0 || age < w.keep.Minimum || firstOfPeriod(w, b); must && !keeps[b.ID] {
			t.Errorf("seed %d: %s is deleted", seed, b.ID)
		}
		if keeps[b.ID] {
			all := b.everything()
			for _, key := range append(slices.Clone(b.Packs), all[0].Key, all[1].Key) {
				if gone[key] {
					t.Errorf("seed %d: %s is kept and %s deleted", seed, b.ID, key)
				}
			}
			for _, o := range w.inv.Packs {
				if generation := strings.Split(o.Key, "/")[2]; b.unknown() && gone[o.Key] && generation <= Generation(b.ID.Began()) {
					t.Errorf("seed %d: %s is deleted, and %s may refer to it", seed, o.Key, b.ID)
				}
			}
		}
	}
	if w.keep.Retention.Lock != declaration.LockNone {
		checkPackLocks(t, seed, w, p, extended)
	} else if len(p.Extend) > 0 {
		t.Errorf("seed %d: locks are extended where there are none", seed)
	}
	return gone
}

// checkAsGood checks that nothing goes because a backup has a problem: all of it would go if each were good.
func checkAsGood(t *testing.T, seed uint64, w world, gone map[string]bool) {
	good := w
	good.inv.Backups = slices.Clone(w.inv.Backups)
	for i, b := range good.inv.Backups {
		if b.Problem != "" {
			b.Objects, b.Rest, b.Problem, b.Failed, b.Verified = b.everything(), nil, "", false, b.ID.Began()
			good.inv.Backups[i] = b
		}
	}
	would := map[string]bool{}
	for _, e := range good.keep.Decide(good.inv, together(w.now)).Expire {
		for _, o := range e.Objects {
			would[o.Key] = true
		}
	}
	for key := range gone {
		if !would[key] {
			t.Errorf("seed %d: %s goes, and would not if all backups were good", seed, key)
		}
	}
}

// checkPackLocks checks that packs are locked as long as any backup that refers to them.
func checkPackLocks(t *testing.T, seed uint64, w world, p RetentionPlan, extended map[string]time.Time) {
	locked := func(o store.Object) time.Time { return later(o.LockedUntil, extended[o.Key]) }
	for i, b := range w.inv.Backups {
		d := p.Decisions[slices.IndexFunc(p.Decisions, func(d Decision) bool { return d.ID == b.ID })]
		kept := d.Keep
		b.Holds = nil // what is kept for it has a lock that goes on in steps
		n := w.keep.need(b, d, false, w.now)
		needs := later(n.fixed, n.moving.Add(-lockStep))
		for _, o := range w.inv.Packs {
			if kept && slices.Contains(b.Packs, o.Key) && locked(o).Before(needs) && needs.After(w.now) {
				t.Errorf("seed %d: backup %d needs pack %s until %s, locked until %s", seed, i, o.Key, needs, locked(o))
			}
		}
	}
}

// firstOfPeriod finds in a simpler way whether a tier keeps b: it is verified, nothing verified is before it in its period,
// and fewer periods than the tier counts have anything verified after it.
func firstOfPeriod(w world, b Candidate) bool {
	if !b.good() {
		return false
	}
	counts := map[Tier]int{Hourly: w.keep.Hourly, Daily: w.keep.Daily, Weekly: w.keep.Weekly, Monthly: w.keep.Monthly, Yearly: w.keep.Yearly}
	label := func(tier Tier, id ID) string {
		local := id.Began().In(w.keep.Zone)
		switch tier {
		case Hourly:
			return local.Format("2006-01-02T15 -0700")
		case Daily:
			return local.Format("2006-01-02")
		case Weekly:
			year, week := local.ISOWeek()
			return fmt.Sprint(year, "-", week)
		case Monthly:
			return local.Format("2006-01")
		}
		return local.Format("2006")
	}
	for tier, count := range counts {
		first, laterOnes := true, map[string]bool{}
		for _, o := range w.inv.Backups {
			same := label(tier, o.ID) == label(tier, b.ID)
			if o.good() && o.ID < b.ID && same {
				first = false
			}
			if o.good() && o.ID > b.ID && !same {
				laterOnes[label(tier, o.ID)] = true
			}
		}
		if first && len(laterOnes) < count {
			return true
		}
	}
	return false
}

// carryOut does what the plan says.
func carryOut(inv Inventory, p RetentionPlan) Inventory {
	gone, locks := map[string]bool{}, map[string]time.Time{}
	for _, e := range p.Expire {
		for _, o := range e.Objects {
			gone[o.Key] = true
		}
	}
	for _, e := range p.Extend {
		locks[e.Object.Key] = e.Until
	}
	relock := func(list []store.Object) []store.Object {
		var left []store.Object
		for _, o := range list {
			if !gone[o.Key] {
				o.LockedUntil = later(o.LockedUntil, locks[o.Key])
				left = append(left, o)
			}
		}
		return left
	}
	out := Inventory{Environment: inv.Environment, Packs: relock(inv.Packs), Halves: inv.Halves}
	for _, b := range inv.Backups {
		if b.Objects, b.Rest = relock(b.Objects), relock(b.Rest); len(b.everything()) > 0 {
			out.Backups = append(out.Backups, b)
		}
	}
	return out
}

// Three years of backups every six hours, each verified half a day later, with a month in which there are none.
func TestRetentionOverYears(t *testing.T) {
	t.Parallel()
	k := Keep{Zone: zone(t, "Europe/Berlin"), Retention: declaration.Retention{Minimum: 72 * time.Hour, Hourly: 8, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3,
		Lock: declaration.LockCompliance, LockDays: 60}}
	inv := Inventory{Environment: "prod-eu"}
	begin := at(t, "2027-01-10T00:10:00Z")
	stopped := func(now time.Time) bool { return now.Month() == time.August && now.Year() == 2028 }
	most := 0
	for now := begin; now.Before(begin.AddDate(3, 0, 0)); now = now.Add(6 * time.Hour) {
		if !stopped(now) {
			c := candidate(now, k, Generation(now)+"/pack")
			c.Verified = time.Time{}
			inv.Backups = append(inv.Backups, c)
			if name := PackKey("prod-eu", Generation(now)+"/pack"); !slices.ContainsFunc(inv.Packs, func(o store.Object) bool { return o.Key == name }) {
				inv.Packs = append(inv.Packs, pack(Generation(now)+"/pack", k.Lock(now).Until))
			}
		}
		for i, b := range inv.Backups {
			if now.Sub(b.ID.Began()) >= 12*time.Hour && b.Verified.IsZero() {
				inv.Backups[i].Verified = now
			}
		}
		if now.Hour() != 18 {
			continue
		}
		p := k.Decide(inv, together(now.Add(time.Minute)))
		if len(p.Blocked) > 0 || len(p.Notes) > 0 {
			t.Fatalf("at %s:\n%s", now, text(p))
		}
		inv = carryOut(inv, p)
		most = max(most, len(inv.Backups))
		if now.Equal(at(t, "2028-08-31T18:10:00Z")) && len(inv.Backups) < 8+6+4+12 {
			t.Errorf("after a month without backups only %d are left", len(inv.Backups))
		}
	}
	// 3 days of 4, 7 days, 5 weeks, 12 months, 3 years, less what coincides.
	if got := len(inv.Backups); got < 30 || got > 42 || most > 48 {
		t.Errorf("%d backups are left, and there were %d at the most", got, most)
	}
	years := map[int]int{}
	for _, b := range inv.Backups {
		years[b.ID.Began().In(k.Zone).Year()]++
	}
	if years[2028] == 0 || years[2029] == 0 || years[2030] == 0 || years[2027] != 0 && years[2027] > 1 {
		t.Errorf("years: %v", years)
	}
	if len(inv.Packs) > 18 {
		t.Errorf("%d packs are left", len(inv.Packs))
	}
}
