package upkeep

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// Backups is what the records say of the backups of one environment. Folding a record replaces what its slices, maps and
// pointers refer to and never alters it: a copy of the struct stays as it is.
type Backups struct {
	Copies []Copy `json:"copies,omitempty"` // that were not deleted, the oldest first
	// Locks are the ends of locks that were extended, by store and key.
	Locks map[string]map[string]time.Time `json:"locks,omitempty"`
	Runs  map[string]Run                  `json:"runs,omitempty"` // by what was done, see [Job.Run]
	// Expiring are plans to delete that have no outcome yet, by store.
	Expiring map[string]Expiring `json:"expiring,omitempty"`
	Blocked  map[string]string   `json:"blocked,omitempty"` // by store: why something is kept that could be deleted

	Made        *evidence.Backup       `json:"made,omitempty"`       // last backup that was made
	Failed      *evidence.Backup       `json:"failed,omitempty"`     // last attempt, if it failed
	Looked      *evidence.Verification `json:"looked,omitempty"`     // last verification, with its first finding only
	Drilled     *evidence.RestoreTest  `json:"drilled,omitempty"`    // last drill that counts and came to an end, or took longer than the RTO; with its first finding only
	DrilledAs   uint64                 `json:"drilledAs,omitempty"`  // index of its record
	DrilledOf   string                 `json:"drilledOf,omitempty"`  // address of the database that was restored
	DrillPassed time.Time              `json:"drillPassed,omitzero"` // end of the last drill that passed
	DrillFailed time.Time              `json:"drillFailed,omitzero"` // end of the first drill after that, if it did not pass
}

// A Copy is a backup in one store.
type Copy struct {
	ID       backup.ID    `json:"id"`
	Store    string       `json:"store"`
	Manifest store.Object `json:"manifest"`
	Made     time.Time    `json:"made"`
	Snapshot time.Time    `json:"snapshot"`
	Source   string       `json:"source,omitempty"`  // address of the database
	Release  string       `json:"release,omitempty"` // digest of the one that it was made for
	Record   uint64       `json:"record"`            // index of the record that it was made by

	Seen     time.Time    `json:"seen,omitzero"`      // when all of it was last found in the store
	Level    backup.Level `json:"level,omitempty"`    // highest that it passed since it last failed
	Verified time.Time    `json:"verified,omitzero"`  // when it last passed level 1 or higher, if it did not fail since
	FailedAt backup.Level `json:"failedAt,omitempty"` // highest level of what was last found; empty: nothing was
	Problem  string       `json:"problem,omitempty"`  // what that found first
	Found    time.Time    `json:"found,omitzero"`     // since when something is found
	Looked   uint64       `json:"looked,omitempty"`   // index of the record of the last verification that said something
}

// Good says that a copy was read to its end, and was what it should be.
func (c Copy) Good() bool { return !c.Verified.IsZero() && c.Undamaged() }

// Undamaged says that nothing was found, or that nobody looked.
func (c Copy) Undamaged() bool { return c.FailedAt == "" }

// clockSkew is how far in the future a backup may be, by clocks that are right.
const clockSkew = 5 * time.Minute

// Of keeps backups of one database.
func Of(source string, fits func(Copy) bool) func(Copy) bool {
	return func(c Copy) bool { return c.Source == source && fits(c) }
}

// Until leaves out backups of the future.
func Until(now time.Time, fits func(Copy) bool) func(Copy) bool {
	return func(c Copy) bool { return !c.Snapshot.After(now.Add(clockSkew)) && fits(c) }
}

// Run is how something went that is done again and again.
type Run struct {
	Begun    time.Time `json:"begun"`
	Ended    time.Time `json:"ended"`
	Failures int       `json:"failures,omitempty"` // in a row
	Failing  time.Time `json:"failing,omitzero"`   // end of the first of them
	Passed   time.Time `json:"passed,omitzero"`    // end of the last one that did what it is for, and found nothing
}

// Expiring is a plan to delete whose outcome is not recorded.
type Expiring struct {
	Record uint64          `json:"record"`
	At     time.Time       `json:"at"`
	Expire []backup.Expiry `json:"expire"`
}

// Deleting is the index of the record by which a copy is being deleted, 0 if it is not.
func (b *Backups) Deleting(c Copy) uint64 {
	e := b.Expiring[c.Store]
	for _, expiry := range e.Expire {
		if expiry.ID == c.ID {
			return e.Record
		}
	}
	return 0
}

// Fold adds one record of a backup, a verification, a restore test, a replication or a retention.
func (b *Backups) Fold(r evidence.Record) error {
	switch r.Type {
	case evidence.TypeBackup:
		return folding(r, b.foldBackup)
	case evidence.TypeVerification:
		return folding(r, b.foldVerification)
	case evidence.TypeRestoreTest:
		return folding(r, b.foldRestoreTest)
	case evidence.TypeReplication:
		return folding(r, b.foldReplication)
	case evidence.TypeRetention:
		return folding(r, b.foldRetention)
	}
	return fmt.Errorf("a record of type %q is about no backup", r.Type)
}

func folding[P any](r evidence.Record, fold func(evidence.Record, P)) error {
	var p P
	if err := json.Unmarshal(r.Predicate, &p); err != nil {
		return err
	}
	fold(r, p)
	return nil
}

func (b *Backups) foldBackup(r evidence.Record, p evidence.Backup) {
	b.ran(Job{Task: TakeBackup}.Run(), p.Began, p.Ended, p.Manifest == nil, p.Manifest != nil)
	if p.Manifest == nil {
		b.Failed = &p
		return
	}
	b.Made, b.Failed = &p, nil
	b.add(Copy{ID: p.ID, Store: p.Store, Manifest: *p.Manifest, Made: p.Ended, Snapshot: p.Snapshot, Source: p.Source, Release: p.Release, Record: r.Index})
}

func (b *Backups) foldVerification(r evidence.Record, p evidence.Verification) {
	newest, _ := b.Newest(p.Store, func(Copy) bool { return true })
	if !p.Ordered || p.ID == newest.ID { // that somebody looks at an old one does not stand in for what is due
		b.ran(Job{Task: Verify, Level: p.Asked, Store: p.Store}.Run(), p.Began, p.Ended, p.Unfinished != "", p.Passed)
	}
	looked := p
	looked.Findings = short(p.Findings)
	b.Looked = &looked
	b.change(p.ID, p.Store, func(c *Copy) {
		switch {
		case len(p.Findings.Findings) > 0:
			if c.FailedAt == "" {
				c.Found = p.Ended
			}
			c.Problem, c.Verified, c.Level, c.Looked = p.Findings.Findings[0].Object+": "+p.Findings.Findings[0].What, time.Time{}, "", r.Index
			for _, found := range p.Findings.Findings {
				c.FailedAt = max(c.FailedAt, found.Level, backup.L0)
			}
		case p.Reached == "":
		case p.Reached < c.FailedAt: // less was looked at than when something was found
			c.Seen = p.Ended
		default:
			c.FailedAt, c.Problem, c.Found, c.Seen, c.Looked, c.Level = "", "", time.Time{}, p.Ended, r.Index, max(c.Level, p.Reached)
			if p.Reached >= backup.L1 {
				c.Verified = p.Ended
			}
		}
	})
}

func (b *Backups) foldRestoreTest(r evidence.Record, p evidence.RestoreTest) {
	b.ran(Job{Task: Drill, Drill: p.Drill}.Run(), p.Began, p.Ended, p.Unfinished != "", p.Passed)
	if !p.Judges() {
		return
	}
	drilled := p
	drilled.Findings = short(p.Findings)
	of, _ := b.Copy(p.ID, p.Store)
	b.Drilled, b.DrilledAs, b.DrilledOf = &drilled, r.Index, of.Source
	switch {
	case p.Passed:
		b.DrillPassed, b.DrillFailed = p.Ended, time.Time{}
	case b.DrillFailed.IsZero():
		b.DrillFailed = p.Ended
	}
}

func (b *Backups) foldReplication(r evidence.Record, p evidence.Replication) {
	b.ran(Job{Task: Replicate, Store: p.To}.Run(), p.Began, p.Ended, p.Manifest == nil, p.Manifest != nil)
	if p.Manifest != nil {
		from, _ := b.Copy(p.ID, p.From)
		b.add(Copy{ID: p.ID, Store: p.To, Manifest: *p.Manifest, Made: p.Ended, Snapshot: p.Snapshot, Source: from.Source, Release: from.Release, Record: r.Index})
	}
}

func (b *Backups) foldRetention(r evidence.Record, p evidence.Retention) {
	expiring := maps.Clone(b.Expiring)
	if p.Phase == evidence.RetentionPlanned {
		if expiring == nil {
			expiring = map[string]Expiring{}
		}
		expiring[p.Store] = Expiring{Record: r.Index, At: p.At, Expire: p.Expire}
		b.Expiring = expiring
		return
	}
	if e, open := expiring[p.Store]; open && p.Plan != nil && *p.Plan == e.Record {
		delete(expiring, p.Store)
		b.Expiring = expiring
	}
	b.ran(Job{Task: Retain, Store: p.Store}.Run(), p.At, p.At, p.Error != "", p.Error == "")
	b.blocked(p)
	gone := map[string]bool{} // manifests
	locks := maps.Clone(b.Locks[p.Store])
	if locks == nil {
		locks = map[string]time.Time{}
	}
	for _, o := range p.Extended {
		locks[o.Key] = o.LockedUntil
	}
	for _, o := range p.Deleted {
		delete(locks, o.Key)
		gone[o.Key] = true
	}
	b.Locks = with(b.Locks, p.Store, locks)
	b.Copies = slices.DeleteFunc(slices.Clone(b.Copies), func(c Copy) bool { return c.Store == p.Store && gone[c.Manifest.Key] })
}

func (b *Backups) blocked(p evidence.Retention) {
	if len(p.Blocked) > 0 {
		b.Blocked = with(b.Blocked, p.Store, p.Blocked[0])
	} else if b.Blocked[p.Store] != "" {
		b.Blocked = maps.Clone(b.Blocked)
		delete(b.Blocked, p.Store)
	}
}

// ran notes how something went that is done again and again. It did not end before it began, whatever was done to the clock.
func (b *Backups) ran(what string, begun, ended time.Time, failed, passed bool) {
	ended = latest(begun, ended)
	last := b.Runs[what]
	next := Run{Begun: begun, Ended: ended, Passed: last.Passed}
	if failed {
		next.Failures, next.Failing = last.Failures+1, last.Failing
		if last.Failures == 0 {
			next.Failing = ended
		}
	}
	if passed {
		next.Passed = ended
	}
	b.Runs = with(b.Runs, what, next)
}

func (b *Backups) add(c Copy) {
	if i, found := b.find(c.ID, c.Store); found {
		b.Copies = slices.Clone(b.Copies)
		b.Copies[i] = c
	} else {
		b.Copies = slices.Insert(slices.Clone(b.Copies), i, c)
	}
}

func (b *Backups) change(id backup.ID, in string, do func(*Copy)) {
	if i, found := b.find(id, in); found {
		b.Copies = slices.Clone(b.Copies)
		do(&b.Copies[i])
	}
}

func (b *Backups) find(id backup.ID, in string) (int, bool) {
	return slices.BinarySearchFunc(b.Copies, Copy{ID: id, Store: in}, func(a, c Copy) int {
		return cmp.Or(cmp.Compare(a.ID, c.ID), cmp.Compare(a.Store, c.Store))
	})
}

// Copy is a backup in a store.
func (b *Backups) Copy(id backup.ID, in string) (Copy, bool) {
	i, found := b.find(id, in)
	if !found {
		return Copy{}, false
	}
	return b.Copies[i], true
}

// Newest is the newest backup in a store that fits; false if none does.
func (b *Backups) Newest(in string, fits func(Copy) bool) (Copy, bool) {
	for _, c := range slices.Backward(b.Copies) {
		if c.Store == in && fits(c) {
			return c, true
		}
	}
	return Copy{}, false
}

// with is a copy of a map with one more entry.
func with[K comparable, V any](m map[K]V, key K, value V) map[K]V {
	m = maps.Clone(m)
	if m == nil {
		m = map[K]V{}
	}
	m[key] = value
	return m
}

// short is the first finding, and how many more there were.
func short(f backup.Findings) backup.Findings {
	if len(f.Findings) == 0 {
		return backup.Findings{}
	}
	return backup.Findings{Findings: slices.Clone(f.Findings[:1]), Further: f.Further + len(f.Findings) - 1}
}
