package landed

import (
	"slices"
	"time"
)

// Offers are the releases that were proposed since the approved one, oldest first, and the landed changes that they
// brought.
type Offers struct {
	Releases []string `json:"releases,omitempty"`
	Landed   []Seen   `json:"landed,omitempty"`
	// Rewritten is when the branch last lost something that was there; zero: never. A pull request on top of what was lost
	// showed its reviewers less than it lands.
	Rewritten time.Time `json:"rewritten,omitzero"`
}

// Seen is a landed change as the agent first saw it.
type Seen struct {
	Commit string    `json:"commit"`
	At     time.Time `json:"at"`
	Offer  int       `json:"offer"` // index of the first release that has it; all later ones have it, too
}

// offersMax bounds the releases that are remembered while none is approved.
const offersMax = 1000

// With adds a proposed release with the landed changes that it brings. A history that was rewritten starts anew: its changes
// are others.
func (o Offers) With(release string, landed []string, at time.Time) Offers {
	known := map[string]Seen{}
	for _, l := range o.Landed {
		known[l.Commit] = l
	}
	next := Offers{Releases: slices.Clone(o.Releases), Rewritten: o.Rewritten}
	lost := slices.ContainsFunc(o.Landed, func(l Seen) bool { return !slices.Contains(landed, l.Commit) })
	if lost {
		next.Rewritten = at
	}
	if lost || len(next.Releases) >= offersMax {
		next.Releases, known = nil, map[string]Seen{}
		for _, l := range o.Landed { // first sight is kept all the same
			known[l.Commit] = Seen{Commit: l.Commit, At: l.At}
		}
	}
	next.Releases = append(next.Releases, release)
	for _, commit := range landed {
		seen, before := known[commit]
		if !before {
			seen = Seen{Commit: commit, At: at, Offer: len(next.Releases) - 1}
		}
		next.Landed = append(next.Landed, seen)
	}
	return next
}

// Approved is what is left once the last release was approved.
func (o Offers) Approved() Offers { return Offers{Rewritten: o.Rewritten} }

// And joins what was offered before a release was approved and after it.
func (o Offers) And(later Offers) Offers {
	both := Offers{Releases: slices.Concat(o.Releases, later.Releases), Landed: slices.Clone(o.Landed), Rewritten: later.Rewritten}
	if o.Rewritten.After(both.Rewritten) {
		both.Rewritten = o.Rewritten
	}
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

// Commits are the landed changes.
func (o Offers) Commits() []string {
	var list []string
	for _, l := range o.Landed {
		list = append(list, l.Commit)
	}
	return list
}

// ReleasesWith are the proposed releases that have a landed change.
func (o Offers) ReleasesWith(l Seen) []string {
	return o.Releases[min(l.Offer, len(o.Releases)):]
}
