package reconciler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Contest counts the repairs of one object in a row: each was undone by somebody within contestWindow. Where drift is
// only reported, it counts the reports.
type Contest struct {
	Repairs int       `json:"repairs"`
	At      time.Time `json:"at"`             // of the last one
	Since   time.Time `json:"since,omitzero"` // of the first one
}

// Two managers that want different things of one field would overwrite each other for ever. The first repairs are
// made at once; from then on each waits twice as long as the one before, and the object counts as contested.
const (
	contestFree   = 3 // repairs in a row that are made at once
	contestFirst  = 5 * time.Second
	contestLast   = 5 * time.Minute
	contestWindow = 10 * time.Minute // longer than contestLast, so that a fight stays one
)

// next is the count after one more repair.
func (c Contest) next(at time.Time) Contest {
	if c.over(at) {
		return Contest{Repairs: 1, At: at, Since: at}
	}
	return Contest{Repairs: c.Repairs + 1, At: at, Since: c.Since}
}

// over reports whether the last repair held so long that the next drift is another matter.
func (c Contest) over(now time.Time) bool { return now.Sub(c.At) > contestWindow }

func (c Contest) contested(now time.Time) bool { return !c.over(now) && c.Repairs >= contestFree }

// due is how long the next repair has to wait; 0 is now. A clock that went back makes it due.
func (c Contest) due(now time.Time) time.Duration {
	if !c.contested(now) {
		return 0
	}
	return remaining(c.At, now, min(contestFirst<<min(c.Repairs-contestFree, 16), contestLast))
}

// inspection is what of an environment is to be compared with the cluster now.
type inspection struct {
	only    map[string]bool // keys of objects; nil is all, empty is none
	missing map[string]bool // keys of the objects that are gone or have lost our label, as the watch says
	next    time.Duration   // when something is due that is not now
}

func (i inspection) all() bool   { return i.only == nil }
func (i inspection) empty() bool { return !i.all() && len(i.only) == 0 }

func (i inspection) found() string {
	if i.all() {
		return evidence.FoundByComparison
	}
	return evidence.FoundByWatch
}

// inspect decides what to compare: everything once the interval is over; before that what the watch suspects, and
// drift whose repair was put off until now. What waits for its time is not looked at again, whatever happens to it: known
// drift after a repair that failed, and what somebody keeps changing.
func inspect(e *EnvironmentState, suspects []render.Ref, correct bool, untilAll time.Duration, failed pause, left time.Duration, now time.Time) inspection {
	if untilAll <= 0 {
		return inspection{}
	}
	i := inspection{only: map[string]bool{}, next: untilAll}
	waits := map[string]bool{}
	for _, d := range e.Drift {
		key := d.Key()
		due := e.Contests[key].due(now)
		switch {
		case due > 0:
			waits[key] = true
			i.next = min(i.next, due)
		case correct && left == 0:
			i.only[key] = true
		}
	}
	for _, ref := range suspects {
		key := ref.Key()
		held := left > 0 && (failed.keys == nil || failed.keys[key])
		again := !correct && e.Contests[key].due(now) > 0 // nothing would be done about it but write it down once more
		if !waits[key] && !held && !again {
			i.only[key] = true
		}
	}
	return i
}

// retry has an attempt that failed tried again: what it found and could not record, and where nothing says what it was to
// look at, everything. A failure is over when an attempt succeeded, not when nothing is tried.
func (i *inspection) retry(seen *observation, release string, left time.Duration) {
	if left > 0 || i.all() {
		return
	}
	for key := range seen.unrecorded {
		i.only[key] = true
	}
	if i.empty() && seen.repair.of == release {
		i.only = nil
	}
}

// driftNews is what a comparison of some objects tells that was not known: what differs that did not, or in another way,
// and what does not differ any more.
func driftNews(known []evidence.Drifted, looked inspection, found []evidence.Drifted) (differ []evidence.Drifted, gone []render.Ref) {
	before, now := diffs(known), diffs(found)
	for _, d := range found {
		if before[d.Key()] != d.Diff {
			differ = append(differ, d)
		}
	}
	for _, d := range known {
		key := d.Key()
		if now[key] == "" && (looked.all() || looked.only[key]) {
			gone = append(gone, d.Ref)
		}
	}
	return differ, gone
}

// diffs gives the digests of differences by the keys of their objects.
func diffs(list []evidence.Drifted) map[string]string {
	m := make(map[string]string, len(list))
	for _, d := range list {
		m[d.Key()] = d.Diff
	}
	return m
}

// portions divides news so that each part fits well into a record.
func portions(differ []evidence.Drifted, gone []render.Ref) ([]evidence.Drift, error) {
	var parts []evidence.Drift
	size := portionBytes
	next := func(item any) (*evidence.Drift, error) {
		encoded, err := json.Marshal(item)
		if size += len(encoded); size > portionBytes {
			parts, size = append(parts, evidence.Drift{Objects: []evidence.Drifted{}}), len(encoded)
		}
		return &parts[len(parts)-1], err
	}
	for _, d := range differ {
		p, err := next(d)
		if err != nil {
			return nil, fmt.Errorf("encode drift of %s: %w", d.Ref, err)
		}
		p.Objects = append(p.Objects, d)
	}
	for _, ref := range gone {
		p, err := next(ref)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", ref, err)
		}
		p.Gone = append(p.Gone, ref)
	}
	return parts, nil
}

// withDrift is what is known to differ after a drift record, sorted by key.
func withDrift(known []evidence.Drifted, news evidence.Drift) []evidence.Drifted {
	told := map[string]bool{}
	for _, d := range news.Objects {
		told[d.Key()] = true
	}
	for _, ref := range news.Gone {
		told[ref.Key()] = true
	}
	after := slices.Clone(news.Objects)
	for _, d := range known {
		if !told[d.Key()] {
			after = append(after, d)
		}
	}
	slices.SortFunc(after, func(a, b evidence.Drifted) int { return cmp.Compare(a.Key(), b.Key()) })
	return after
}

// driftedOf describes the objects of a comparison that differ. A deletion that is still to be done is no drift.
func driftedOf(entries []apply.Entry, contests map[string]Contest, now time.Time) ([]evidence.Drifted, error) {
	list := []evidence.Drifted{}
	for _, entry := range entries {
		if entry.Action == apply.Deleted {
			continue
		}
		diff, err := json.Marshal(entry.Diff)
		if err != nil {
			return nil, fmt.Errorf("encode drift of %s: %w", entry.Ref, err)
		}
		if entry.Action == apply.Skipped {
			diff = []byte(entry.Reason)
		}
		sum := sha256.Sum256(append([]byte(entry.Action), diff...))
		d := evidence.Drifted{
			Ref: entry.Ref, Action: entry.Action, Diff: "sha256:" + hex.EncodeToString(sum[:]), Reason: shorten(entry.Reason, reasonBytes),
			User: evidence.Unattributed, Contested: contests[entry.Ref.Key()].contested(now),
		}
		for _, f := range entry.Diff[:min(len(entry.Diff), fieldsMax)] {
			d.Fields = append(d.Fields, shorten(f.Path, fieldBytes))
		}
		for _, w := range entry.By[:min(len(entry.By), fieldsMax)] {
			d.By = append(d.By, evidence.FieldWriter(w))
		}
		list = append(list, d)
	}
	return list, nil
}

// What a drift record repeats from its diff is bounded, so that it stays well below the size of a record.
const (
	portionBytes = 256 << 10 // of objects, or the one object that is larger
	fieldsMax    = 10        // paths of each object, and programs that wrote them
	fieldBytes   = 160       // of each path
	reasonBytes  = 512
)

func driftedKeys(known []evidence.Drifted) map[string]bool {
	keys := make(map[string]bool, len(known))
	for _, d := range known {
		keys[d.Key()] = true
	}
	return keys
}

// foldDrift takes what is new into what is known to differ. Where nothing is repaired, what is new counts as a round of a contest, so that a
// program that changes an object all the time fills no log.
func foldDrift(s *State, r evidence.Record, p evidence.Drift) {
	e := s.environment(r.Environment)
	if p.Policy != declaration.DriftCorrect {
		contests := lasting(e.Contests, r.Time)
		for _, d := range p.Objects {
			contests[d.Key()] = contests[d.Key()].next(r.Time)
		}
		e.Contests = contests
	}
	e.Drift, e.DriftRecord = withDrift(e.Drift, p), r.Index
	e.driftLasts(r.Time)
}

// driftLasts notes since when something is known to differ.
func (e *EnvironmentState) driftLasts(at time.Time) {
	if len(e.Drift) == 0 {
		e.DriftSince = time.Time{}
	} else if e.DriftSince.IsZero() {
		e.DriftSince = at
	}
}

// lasting copies the contests that are not over.
func lasting(contests map[string]Contest, now time.Time) map[string]Contest {
	left := map[string]Contest{}
	for key, c := range contests {
		if !c.over(now) {
			left[key] = c
		}
	}
	return left
}

// foldRepaired takes what a repair wrote out of the known drift, and counts it.
func foldRepaired(e *EnvironmentState, set apply.ChangeSet, at time.Time) {
	repaired := map[string]bool{}
	for _, c := range set {
		if c.Error == "" && (c.Action == apply.Created || c.Action == apply.Configured) {
			repaired[c.Ref.Key()] = true
		}
	}
	contests := lasting(e.Contests, at)
	e.Drift = slices.DeleteFunc(slices.Clone(e.Drift), func(d evidence.Drifted) bool {
		if !repaired[d.Key()] {
			return false
		}
		contests[d.Key()] = contests[d.Key()].next(at)
		return true
	})
	e.Contests = contests
	e.driftLasts(at)
}
