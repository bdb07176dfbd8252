package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/purser-gitops/purser/backup/store"
)

// A Record is what the evidence log knows of a backup that has not been deleted.
type Record struct {
	ID       ID
	Manifest store.Object         // as [Write] returned it
	Locks    map[string]time.Time // ends of locks that were extended, by key
	Verified time.Time            // when it passed level 1; zero if it has not, or failed a later verification
	Failed   bool                 // the last verification found it wrong
	Holds    []string             // releases that refer to it
}

// A Candidate is a backup whose retention is to be decided.
type Candidate struct {
	ID       ID
	Problem  string         // why it is not known what it consists of; empty if that is known
	Recorded bool           // the evidence log knows it
	Objects  []store.Object // its own, the manifest first, with the locks that are known; nil if they are not known
	Rest     []store.Object // of a backup with a problem: what else is deleted with it, the manifest first
	Packs    []string       // keys of the packs that it refers to
	Verified time.Time      // as in [Record]
	Failed   bool
	Holds    []string
}

// Inventory is all there is of an environment in one store.
type Inventory struct {
	Environment string
	Backups     []Candidate
	Halves      []Half
	Packs       []store.Object // with the locks that are known
	Strange     []store.Object
}

// Survey reads what a store has of an environment, and compares it with the records. A recorded manifest is read by what is
// recorded of it; one that is hidden or replaced is a problem of its backup.
func Survey(ctx context.Context, s lister, environment string, records []Record) (Inventory, error) {
	l, err := List(ctx, s, environment)
	if err != nil {
		return Inventory{}, err
	}
	inv := Inventory{Environment: environment, Packs: l.Packs, Strange: l.Strange}
	known := map[ID]Record{}
	for _, r := range records {
		known[r.ID] = r
	}
	locks := map[string]time.Time{}
	intern := map[string]string{} // manifests name the same packs again and again
	add := func(c Candidate, m *Manifest, ref store.Object) {
		if m != nil {
			c.Objects = []store.Object{ref}
			for _, stream := range m.named() {
				c.Objects = append(c.Objects, stream.entry.Object)
			}
			for _, p := range m.Packs {
				key, ok := intern[p.Key]
				if !ok {
					key = p.Key
					intern[key] = key
				}
				c.Packs = append(c.Packs, key)
				locks[key] = later(locks[key], p.LockedUntil)
			}
		}
		inv.Backups = append(inv.Backups, c)
	}
	listed := map[ID]store.Object{}
	below := map[ID][]store.Object{}
	for _, b := range l.Backups {
		listed[b.ID], below[b.ID] = b.Ref, b.Objects
	}
	for _, h := range l.Halves {
		below[h.ID] = h.Objects
	}
	for _, r := range records {
		c := Candidate{ID: r.ID, Recorded: true, Verified: r.Verified, Failed: r.Failed, Holds: r.Holds}
		m, err := Open(ctx, s, environment, r.ID, r.Manifest)
		switch current, there := listed[r.ID]; {
		case err != nil && !damaged(err):
			return Inventory{}, err
		case err != nil:
			c.Problem = err.Error()
		case !there:
			c.Problem = "its manifest is hidden by a delete marker"
		case current.Version != r.Manifest.Version:
			c.Problem = fmt.Sprintf("version %s has taken the place of its manifest", current.Version)
		}
		if c.Problem != "" {
			c.Rest = rest(m, r.Manifest, listed[r.ID], below[r.ID])
		}
		add(c, m, r.Manifest)
		for key, until := range r.Locks {
			locks[key] = later(locks[key], until)
		}
	}
	unrecorded := Listing{Environment: environment}
	for _, b := range l.Backups {
		if _, ok := known[b.ID]; !ok {
			unrecorded.Backups = append(unrecorded.Backups, b)
		}
	}
	for f, err := range unrecorded.Read(ctx, s) {
		if err != nil {
			return Inventory{}, err
		}
		c := Candidate{ID: f.ID}
		if f.Manifest == nil {
			c.Problem, c.Rest = f.Problem.Error(), rest(nil, f.Ref, f.Ref, f.Objects)
		}
		add(c, f.Manifest, f.Ref)
	}
	for _, h := range l.Halves {
		if _, ok := known[h.ID]; !ok { // else its manifest is gone, which is told
			inv.Halves = append(inv.Halves, h)
		}
	}
	inv.lock(locks)
	return inv, nil
}

// lock notes locks that end later than is known of the objects themselves.
func (inv *Inventory) lock(locks map[string]time.Time) {
	all := [][]store.Object{inv.Packs}
	for _, b := range inv.Backups {
		all = append(all, b.Objects, b.Rest)
	}
	for _, objects := range all {
		for i, o := range objects {
			objects[i].LockedUntil = later(o.LockedUntil, locks[o.Key])
		}
	}
}

// rest is what there is of a backup with a problem besides what its manifest says, if that can be read: the manifest that is
// recorded, the one that is there, and what is below its prefix.
func rest(m *Manifest, recorded, current store.Object, below []store.Object) []store.Object {
	var all []store.Object
	if m == nil {
		all = append(all, recorded)
	}
	if current.Key != "" && current.Version != recorded.Version {
		all = append(all, current)
	}
	if m == nil {
		all = append(all, below...)
	}
	return all
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
