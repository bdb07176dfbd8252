package reconciler

import (
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
)

// Offers are the releases that were proposed since the approved one, oldest first, and the landed changes that they
// brought.
type Offers struct {
	Releases []string     `json:"releases,omitempty"`
	Landed   []SeenLanded `json:"landed,omitempty"`
}

// SeenLanded is a landed change as the agent first saw it.
type SeenLanded struct {
	Commit string    `json:"commit"`
	At     time.Time `json:"at"`
	Offer  int       `json:"offer"` // index of the first release that has it; all later ones have it, too
}

// offersMax bounds the releases that are remembered while none is approved.
const offersMax = 1000

// with adds a proposal. A history that was rewritten starts anew: its changes are others.
func (o Offers) with(p evidence.Change, at time.Time) Offers {
	known := map[string]SeenLanded{}
	for _, l := range o.Landed {
		known[l.Commit] = l
	}
	next := Offers{Releases: slices.Clone(o.Releases)}
	if len(next.Releases) >= offersMax || len(p.Landed) < len(o.Landed) {
		next.Releases, known = nil, map[string]SeenLanded{}
		for _, l := range o.Landed { // first sight is kept all the same
			known[l.Commit] = SeenLanded{Commit: l.Commit, At: l.At}
		}
	}
	next.Releases = append(next.Releases, p.To)
	for _, commit := range p.Landed {
		seen, before := known[commit]
		if !before {
			seen = SeenLanded{Commit: commit, At: at, Offer: len(next.Releases) - 1}
		}
		next.Landed = append(next.Landed, seen)
	}
	return next
}

// and joins what was offered before a release was approved and after it.
func (o Offers) and(later Offers) Offers {
	both := Offers{Releases: slices.Concat(o.Releases, later.Releases), Landed: slices.Clone(o.Landed)}
	for _, l := range later.Landed {
		l.Offer += len(o.Releases)
		both.Landed = append(both.Landed, l)
	}
	if cut := len(both.Releases) - offersMax; cut > 0 {
		both.Releases = both.Releases[cut:]
		for i := range both.Landed {
			both.Landed[i].Offer = max(both.Landed[i].Offer-cut, 0)
		}
	}
	both.Landed = both.Landed[max(len(both.Landed)-landedMax, 0):]
	return both
}

// commits are the landed changes.
func (o Offers) commits() []string {
	var list []string
	for _, l := range o.Landed {
		list = append(list, l.Commit)
	}
	return list
}

// releasesWith are the proposed releases that have a landed change.
func (o Offers) releasesWith(l SeenLanded) []string {
	return o.Releases[min(l.Offer, len(o.Releases)):]
}
