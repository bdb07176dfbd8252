package calendar

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Calendar answers for each class whether it may release. It is safe for concurrent use.
type Calendar struct {
	zone    *time.Location
	freezes []*freeze
	windows []*window
	judges  map[string]*judge // of the classes that the calendar names
	other   *judge            // of all others

	mu sync.Mutex // held while occurrences are read, which computes them
}

type freeze struct {
	Freeze
	*occurrences
}

type window struct {
	Window
	*occurrences
}

// Answer says whether a class may release at a time, why, and when that changes.
type Answer struct {
	Open   bool
	Reason string // a sentence for people
	By     string // name of the freeze or window that decides; empty when no window is open, or none is needed

	// InFlight is what happens to rollouts under way: Finish, Pause or RollBack, the strictest of the freezes in force
	// for the class. Empty when there is none.
	InFlight string
	// Holds names the freeze whose rule that is, where it is Pause or RollBack, and HoldsUntil is when neither is in
	// force any more; nil when that is not within ten years.
	Holds      string
	HoldsUntil *time.Time
	Exempt     []string // freezes in force that do not hold for the class; not to be changed

	// NextOpen is when a closed calendar opens, NextClose when an open one closes. Nil when that is not within ten years
	// after Until.
	NextOpen, NextClose *time.Time
	// Until is the next edge: before it, the answer stays the same. Nil when there is none.
	Until *time.Time
}

// Remaining is how long it stays open from now on; false when it is closed, or no end is known.
func (a Answer) Remaining(now time.Time) (time.Duration, bool) {
	if !a.Open || a.NextClose == nil {
		return 0, false
	}
	return a.NextClose.Sub(now), true
}

// At says whether a class may release now. Classes that the calendar does not name are judged like any other.
func (c *Calendar) At(class string, now time.Time) Answer {
	j := c.judge(class)
	t := now.Unix()
	seg := j.last.Load()
	if seg == nil || t < seg.from || t >= seg.until {
		c.mu.Lock()
		seg = j.segment(t, c.zone)
		c.mu.Unlock()
		j.last.Store(seg)
	}
	return seg.answer.clone()
}

func (c *Calendar) judge(class string) *judge {
	if j := c.judges[class]; j != nil {
		return j
	}
	return c.other
}

// clone keeps callers from changing each other's times.
func (a Answer) clone() Answer {
	for _, t := range []**time.Time{&a.NextOpen, &a.NextClose, &a.Until, &a.HoldsUntil} {
		if *t != nil {
			*t = new(**t)
		}
	}
	return a
}

// maxListed limits what Edges and Events give.
const maxListed = 10_000

// NextEdge gives the first time after now at which the answer for a class may change; false when there is none.
func (c *Calendar) NextEdge(class string, now time.Time) (time.Time, bool) {
	if until := c.At(class, now).Until; until != nil {
		return *until, true
	}
	return time.Time{}, false
}

// Event is one occurrence of a freeze or window.
type Event struct {
	Freeze     bool // else it is a window
	Name       string
	Reason     string   // of a freeze
	Classes    []string // of a window: those it is for (empty: all); of a freeze: those it exempts
	InFlight   string   // of a freeze
	Start, End time.Time
}

// Events gives what is in force at a time and what follows, n occurrences at most (and at most 10,000), by start.
func (c *Calendar) Events(from time.Time, n int) []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, maxListed)
	var events []Event
	list := func(o *occurrences, event Event) {
		t := from.Unix()
		for range n {
			i := o.at(t)
			if i == len(o.spans) {
				return
			}
			event.Start, event.End = time.Unix(o.spans[i].start, 0).In(c.zone), time.Unix(o.spans[i].end, 0).In(c.zone)
			events = append(events, event)
			t = o.spans[i].end
		}
	}
	for _, f := range c.freezes {
		list(f.occurrences, Event{Freeze: true, Name: f.Name, Reason: f.Reason, Classes: f.Exempt, InFlight: f.InFlight})
	}
	for _, w := range c.windows {
		list(w.occurrences, Event{Name: w.Name, Classes: w.Classes})
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Start.Unix(), b.Start.Unix()) })
	return events[:max(0, min(n, len(events)))]
}
