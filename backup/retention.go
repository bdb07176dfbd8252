package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

const (
	// maxSkew is by how much clocks may differ where something is deleted for its age.
	maxSkew = 5 * time.Minute
	// grace is how long after its generation a pack that no backup refers to is left alone, and after its beginning a half
	// backup: longer than any backup takes.
	grace = 7 * 24 * time.Hour
	// lockStep is by how much a lock has to end later before it is extended, if it is to be extended again anyway; half of the
	// least time that backups are kept, if that is less.
	lockStep = 24 * time.Hour
)

// Clocks are what two clocks show at the same time.
type Clocks struct {
	Here  time.Time
	Store time.Time // as [store.S3.Now] gives it
}

// A Decision says what becomes of a backup.
type Decision struct {
	ID      ID        `json:"id"`
	Keep    bool      `json:"keep"`
	Tiers   []Tier    `json:"tiers,omitempty"` // that keep it
	Reasons []string  `json:"reasons"`
	Until   time.Time `json:"until,omitzero"` // when it would be deleted at the earliest, as far as it is known; zero: not known
}

// An Extension is a lock that has to end later.
type Extension struct {
	Object store.Object `json:"object"`
	Until  time.Time    `json:"until"`
}

// An Expiry is what is deleted together, in this order: a backup's manifest first, so that no part of a backup is ever
// listed.
type Expiry struct {
	ID      ID             `json:"id,omitempty"` // empty for packs
	Objects []store.Object `json:"objects"`
}

// A RetentionPlan says what is kept and why, which locks to extend and what to delete.
type RetentionPlan struct {
	Environment string      `json:"environment"`
	At          time.Time   `json:"at"`
	Decisions   []Decision  `json:"decisions"`
	Extend      []Extension `json:"extend,omitempty"`
	Expire      []Expiry    `json:"expire,omitempty"`
	// Blocked says why nothing is deleted although some of it could be. Empty if nothing keeps it from being. The reasons stay
	// the same for as long as they hold.
	Blocked []string `json:"blocked,omitempty"`
	// Held says for which backups objects are kept that they may consist of, while the rest of the plan is carried out. The
	// reasons stay the same for as long as they hold.
	Held []string `json:"held,omitempty"`
	// Notes are about objects that belong to no backup.
	Notes []string `json:"notes,omitempty"`
}

// Lock is that of the objects of a backup which begins now: what it is kept for at least. Once it is verified, a plan
// extends it. The lock of packs is the same.
func (k Keep) Lock(now time.Time) store.Lock {
	if k.Retention.Lock == declaration.LockNone {
		return store.Lock{}
	}
	return store.Lock{Mode: store.Mode(k.Retention.Lock), Until: now.Add(k.Minimum)}
}

// Decide says what becomes of the backups of an environment. It deletes nothing that is newer than the newest verified
// backup, nor that one, nor one that a release refers to, nor a pack that a backup which is kept refers to. It deletes
// nothing at all while the clocks are in doubt.
//
// A backup with a problem counts for nothing, and is itself kept for as long as a good one in its place would be. While it is not
// known what it consists of, so is what may belong to it: everything below its own prefix, which is no other backup's; and all
// packs that were there when it began, since it can refer to no later ones.
func (k Keep) Decide(inv Inventory, clocks Clocks) RetentionPlan {
	now := clocks.Here
	p := RetentionPlan{Environment: inv.Environment, At: now.UTC()}
	backups := slices.Clone(inv.Backups)
	slices.SortFunc(backups, func(a, b Candidate) int { return strings.Compare(string(a.ID), string(b.ID)) })
	p.Blocked = doubts(backups, clocks)
	newest := -1 // verified
	for i, b := range backups {
		if b.good() {
			newest = i
		}
	}
	byTier := k.keepers(backups)
	for i, b := range backups {
		tiers := byTier[i]
		if b.Problem != "" {
			tiers = k.asGood(backups, i)
		}
		d := k.decide(b, i, newest, len(backups), tiers, now)
		if b.Problem != "" && d.Keep {
			p.Held = append(p.Held, b.trouble())
		}
		p.Decisions = append(p.Decisions, d)
	}
	k.settle(&p, inv, backups, newest, clocks)
	return p
}

// good says that a backup counts.
func (c Candidate) good() bool { return !c.Verified.IsZero() && !c.Failed && c.Problem == "" }

// unknown says that nobody knows what the backup consists of.
func (c Candidate) unknown() bool { return c.Problem != "" && len(c.Objects) == 0 }

// trouble says what is wrong with a backup that has a problem.
func (c Candidate) trouble() string {
	if c.unknown() {
		return fmt.Sprintf("what backup %s consists of is unknown: %s", c.ID, c.Problem)
	}
	return fmt.Sprintf("backup %s cannot be listed: %s", c.ID, c.Problem)
}

// everything is what is deleted with the backup, its manifest first.
func (c Candidate) everything() []store.Object { return append(slices.Clone(c.Objects), c.Rest...) }

// asGood finds the tiers that would keep the i-th backup if it were good. Whatever else has a problem does not count, so that no
// backup goes because of one that cannot be read.
func (k Keep) asGood(backups []Candidate, i int) []keeper {
	supposed := slices.Clone(backups)
	supposed[i].Problem, supposed[i].Failed, supposed[i].Verified = "", false, supposed[i].ID.Began()
	tiers := k.keepers(supposed)[i]
	for n := range tiers {
		tiers[n].reason = strings.Replace(tiers[n].reason, "first verified", "would be the first verified", 1)
	}
	return tiers
}

// doubts are reasons to delete nothing.
func doubts(backups []Candidate, clocks Clocks) []string {
	var blocked []string
	switch ahead := clocks.Store.Sub(clocks.Here); { // no exact figure: the reasons stay the same
	case ahead > maxSkew:
		blocked = append(blocked, fmt.Sprintf("the store's clock is more than %s ahead of this machine's: set the wrong one right", maxSkew))
	case ahead < -maxSkew:
		blocked = append(blocked, fmt.Sprintf("the store's clock is more than %s behind this machine's: set the wrong one right", maxSkew))
	}
	for _, b := range backups {
		began := b.ID.Began()
		switch {
		case began.IsZero():
			blocked = append(blocked, fmt.Sprintf("backup %.100q has no time", string(b.ID)))
		case began.After(clocks.Here.Add(maxSkew)):
			blocked = append(blocked, fmt.Sprintf("backup %s was begun at %s, which is yet to come: the clock was ahead then, or is behind now", b.ID, began.Format(time.RFC3339)))
		}
	}
	return blocked
}

// A keeper says that a tier keeps a backup.
type keeper struct {
	tier   Tier
	reason string
	until  time.Time
}

// keepers finds for each backup the tiers that keep it: of each period its first verified backup, of the last periods that
// have one.
func (k Keep) keepers(backups []Candidate) map[int][]keeper {
	found := map[int][]keeper{}
	for _, t := range k.tiers() {
		var firsts []int
		var last time.Time
		for i, b := range backups {
			if start := t.tier.start(b.ID.Began(), k.Zone); b.good() && (len(firsts) == 0 || start.After(last)) {
				firsts, last = append(firsts, i), start
			}
		}
		firsts = firsts[max(0, len(firsts)-t.count):]
		for n, i := range firsts {
			start := t.tier.start(backups[i].ID.Began(), k.Zone)
			found[i] = append(found[i], keeper{
				tier:   t.tier,
				reason: fmt.Sprintf("%s: first verified one of %s, %d of %d", t.tier, t.tier.label(start), len(firsts)-n, t.count),
				until:  t.tier.after(start, t.count), // when as many periods can have begun since
			})
		}
	}
	return found
}

// decide decides about one backup: the i-th of count.
func (k Keep) decide(b Candidate, i, newest, count int, tiers []keeper, now time.Time) Decision {
	d := Decision{ID: b.ID}
	keep := func(reason string) { d.Keep, d.Reasons = true, append(d.Reasons, reason) }
	for _, t := range tiers {
		d.Tiers = append(d.Tiers, t.tier)
		keep(t.reason)
		d.Until = later(d.Until, t.until)
	}
	for _, release := range b.Holds {
		keep("release " + release + " refers to it")
	}
	switch {
	case i == newest:
		keep("newest verified backup")
	case i > newest && i == count-1:
		keep("newest backup, not verified yet")
	case i > newest:
		keep("no newer backup is verified")
	}
	if least := b.ID.Began().Add(k.Minimum); now.Before(least) {
		keep("every backup is kept for " + k.Minimum.String())
		d.Until = later(d.Until, least)
	}
	for _, o := range b.everything() {
		if now.Before(o.LockedUntil) {
			keep("locked until " + o.LockedUntil.UTC().Format(time.RFC3339))
			d.Until = later(d.Until, o.LockedUntil)
			break
		}
	}
	if b.Problem != "" {
		d.Reasons = append(d.Reasons, b.trouble()+"; it is kept for as long as a good one in its place would be")
	}
	if len(b.Holds) > 0 || i >= newest {
		d.Until = time.Time{} // depends on others
	}
	if !d.Keep {
		switch {
		case b.Problem != "":
			d.Reasons = append(d.Reasons, "no tier would keep a good one")
		case b.Failed:
			d.Reasons = append(d.Reasons, "it failed its verification, and a newer one is verified")
		case !b.good():
			d.Reasons = append(d.Reasons, "it was never verified, and a newer one is")
		default:
			d.Reasons = append(d.Reasons, "no tier keeps it")
		}
	}
	return d
}

// settle turns decisions into locks to extend and objects to delete.
func (k Keep) settle(p *RetentionPlan, inv Inventory, backups []Candidate, newest int, clocks Clocks) {
	packs := map[string]need{} // of those that a backup refers to which is kept
	var latest time.Time       // when the last backup began of which it is unknown to what it refers
	held := false              // a pack is kept for nothing but what is unknown
	for i, b := range backups {
		d := p.Decisions[i]
		if !d.Keep {
			p.Expire = append(p.Expire, Expiry{ID: b.ID, Objects: b.everything()})
			continue
		}
		if b.unknown() {
			latest = later(latest, b.ID.Began())
		}
		n := k.need(b, d, i == newest, clocks.Here)
		for _, o := range b.Objects {
			p.extend(k, o, n, clocks)
		}
		for _, key := range b.Packs {
			packs[key] = packs[key].and(n)
		}
	}
	var gone []store.Object
	for _, o := range inv.Packs {
		n, referred := packs[o.Key]
		maybe := !latest.IsZero() && begunBy(inv.Environment, o, latest)
		if maybe {
			n = n.and(need{moving: clocks.Here.Add(k.Minimum)})
		}
		if referred || maybe {
			p.extend(k, o, n, clocks)
			delete(packs, o.Key)
			held = held || !referred && over(inv.Environment, o, clocks.Here)
		} else if over(inv.Environment, o, clocks.Here) {
			gone = append(gone, o)
		}
	}
	for _, key := range sortedKeys(packs) {
		p.Notes = append(p.Notes, fmt.Sprintf("pack %s is missing, and a backup refers to it", key))
	}
	for _, h := range inv.Halves {
		if clocks.Here.Sub(h.ID.Began()) > max(grace, k.Minimum) {
			p.Expire = append(p.Expire, Expiry(h))
			p.Notes = append(p.Notes, fmt.Sprintf("backup %s was broken off", h.ID))
		}
	}
	for _, o := range inv.Strange {
		p.Notes = append(p.Notes, fmt.Sprintf("object %s is none of a backup's, and left alone", o.Key))
	}
	if len(gone) > 0 {
		p.Expire = append(p.Expire, Expiry{Objects: gone})
	}
	switch {
	case len(p.Expire) == 0 && !held:
		p.Blocked, p.Held = nil, nil
	case len(p.Blocked) > 0:
		p.Expire = nil
	}
}

// A need is when a lock has to end at the earliest.
type need struct {
	fixed  time.Time // is not put off
	moving time.Time // is, so that the lock is extended again and again; in steps
}

func (n need) and(o need) need { return need{later(n.fixed, o.fixed), later(n.moving, o.moving)} }

// need is that of the objects of a backup: as long as it is kept for and, for one that is kept until others change that,
// always some time ahead; but never further ahead than the policy allows.
func (k Keep) need(b Candidate, d Decision, newest bool, now time.Time) need {
	n := need{fixed: b.ID.Began().Add(k.Minimum)}
	for _, t := range k.tiers() {
		if b.good() && slices.Contains(d.Tiers, t.tier) {
			n.fixed = later(n.fixed, t.tier.after(t.tier.start(b.ID.Began(), k.Zone), t.count))
		}
	}
	if newest || len(b.Holds) > 0 || b.Problem != "" {
		n.moving = now.Add(k.Minimum)
	}
	if furthest := now.AddDate(0, 0, k.LockDays); n.fixed.After(furthest) {
		n = need{moving: later(n.moving, furthest)}
	}
	return n
}

// extend notes that a lock has to end later.
func (p *RetentionPlan) extend(k Keep, o store.Object, n need, clocks Clocks) {
	if k.Retention.Lock == declaration.LockNone || clocks.Here.Sub(clocks.Store).Abs() > maxSkew {
		return
	}
	until := later(n.fixed, n.moving).UTC().Truncate(time.Second)
	due := o.LockedUntil.Before(n.fixed.Truncate(time.Second)) || n.moving.Sub(o.LockedUntil) >= min(lockStep, k.Minimum/2)
	if due && until.After(clocks.Here) && o.LockedUntil.Before(until) {
		p.Extend = append(p.Extend, Extension{Object: o, Until: until})
	}
}

// over says that a pack which no backup refers to can go: no backup that is being made can have begun it.
func over(environment string, o store.Object, now time.Time) bool {
	began, known := packMonth(environment, o)
	return known && now.After(began.AddDate(0, 1, 0).Add(grace)) && !now.Before(o.LockedUntil)
}

// begunBy says that a pack may have been there when a backup began.
func begunBy(environment string, o store.Object, backup time.Time) bool {
	began, known := packMonth(environment, o)
	return !known || !began.After(backup)
}

// packMonth is the beginning of a pack's generation.
func packMonth(environment string, o store.Object) (began time.Time, known bool) {
	generation, _, _ := strings.Cut(packName(environment, o.Key), "/")
	began, err := time.Parse("2006-01", generation)
	return began, err == nil
}
