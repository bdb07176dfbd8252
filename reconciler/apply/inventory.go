package apply

import (
	"slices"
	"strings"

	"github.com/purser-gitops/purser/render"
)

// The words of a change set.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
	Deleted    = "deleted"
	Skipped    = "skipped"
)

// Item is one object that an environment owns. Digest is that of the object as last applied; without one it was never
// applied for all we know, and may be somebody else's.
type Item struct {
	Ref    render.Ref `json:"ref"`
	Digest string     `json:"digest,omitempty"`
	// Tried are the digests that attempts since then may have applied or not, newest last, mostTried at most.
	Tried []string `json:"tried,omitempty"`
}

// mostTried bounds Item.Tried where release after release fails. Of an older attempt nothing is known any more.
const mostTried = 8

// Inventory lists the objects that an environment owns, sorted by key, each once.
type Inventory []Item

// Change says what was done to one object. An Error means that the action did not complete; whether it took effect
// may then be unknown.
type Change struct {
	Ref    render.Ref `json:"ref"`
	Action string     `json:"action"`
	Digest string     `json:"digest,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Error  string     `json:"error,omitempty"`
	// Released: the object is no longer ours (somebody removed our mark), so it leaves the inventory without being deleted.
	Released bool `json:"released,omitempty"`
}

// ChangeSet holds one Change per object of a plan.
type ChangeSet []Change

// Merge returns the inventory after a change set. What was created, configured or found unchanged is in it; so is what
// an attempt failed to create, because it may exist. An object leaves only when it was deleted without error or released.
func (inv Inventory) Merge(cs ChangeSet) Inventory {
	items := make(map[string]Item, len(inv)+len(cs))
	for _, it := range inv {
		items[it.Ref.Key()] = it
	}
	for _, c := range cs {
		key := c.Ref.Key()
		old := items[key]
		switch c.Action {
		case Created, Configured, Unchanged:
			if c.Error == "" {
				items[key] = Item{Ref: c.Ref, Digest: c.Digest}
			} else {
				items[key] = Item{Ref: c.Ref, Digest: old.Digest, Tried: old.tried(c.Digest)}
			}
		case Deleted:
			if c.Error == "" {
				delete(items, key)
			}
		case Skipped:
			if c.Released && c.Error == "" {
				delete(items, key)
			}
		}
	}
	out := make(Inventory, 0, len(items))
	for _, it := range items {
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b Item) int { return strings.Compare(a.Ref.Key(), b.Ref.Key()) })
	return out
}

// tried is Tried with one more digest.
func (it Item) tried(digest string) []string {
	if digest == "" || digest == it.Digest || slices.Contains(it.Tried, digest) {
		return it.Tried
	}
	list := append(slices.Clone(it.Tried), digest)
	return list[max(0, len(list)-mostTried):]
}
