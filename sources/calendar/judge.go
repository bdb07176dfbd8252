package calendar

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// searchSeconds is how far after an edge the next opening or closing is looked for: ten years.
const searchSeconds = 10 * 366 * 24 * 60 * 60

// judge answers for one class, or for all that the calendar does not name. Its freezes and windows are read under the
// calendar's lock.
type judge struct {
	freezes []*freeze // that hold for the class
	exempt  []*freeze // that do not
	windows []*window
	last    atomic.Pointer[segment] // of the latest answer
}

// segment is the time between two edges, with its answer.
type segment struct {
	from, until int64
	answer      Answer
}

// addJudges makes a judge for each class that the calendar names, and one for the rest.
func (c *Calendar) addJudges() {
	for _, f := range c.freezes {
		for _, class := range f.Exempt {
			c.judges[class] = nil
		}
	}
	for _, w := range c.windows {
		for _, class := range w.Classes {
			c.judges[class] = nil
		}
	}
	judgeOf := func(named func(classes []string) bool) *judge {
		j := &judge{}
		for _, f := range c.freezes {
			if named(f.Exempt) {
				j.exempt = append(j.exempt, f)
			} else {
				j.freezes = append(j.freezes, f)
			}
		}
		for _, w := range c.windows {
			if len(w.Classes) == 0 || named(w.Classes) {
				j.windows = append(j.windows, w)
			}
		}
		return j
	}
	for class := range c.judges {
		c.judges[class] = judgeOf(func(classes []string) bool { return slices.Contains(classes, class) })
	}
	c.other = judgeOf(func([]string) bool { return false })
}

// checkOpens refuses windows that never open because freezes cover all of them: nobody of their class could release.
func (c *Calendar) checkOpens(spec Spec, errs *Errors) {
	for i, w := range spec.Windows {
		classes := w.Classes
		if len(classes) == 0 {
			classes = []string{""} // no class has this name: any other
		}
		for _, class := range classes {
			j := c.judge(class)
			first := int64(forever)
			for _, w := range j.windows {
				first = min(first, w.startAfter(never))
			}
			if _, ok := j.nextOpen(first); ok {
				continue
			}
			who := fmt.Sprintf("class %q", class)
			if class == "" {
				who = "a class"
			}
			errs.add(fmt.Sprintf("windows[%d]", i), fmt.Sprintf("%s may never release", who), "freezes cover all of its windows", "move the window, or exempt the class from a freeze")
		}
	}
}

// edges gives the last edge at t or earlier, and the first after it.
func (j *judge) edges(t int64) (before, after int64) {
	before, after = never, forever
	add := func(o *occurrences) {
		b, a := o.edges(t)
		before, after = max(before, b), min(after, a)
	}
	for _, f := range j.freezes {
		add(f.occurrences)
	}
	for _, f := range j.exempt {
		add(f.occurrences)
	}
	for _, w := range j.windows {
		add(w.occurrences)
	}
	return before, after
}

// segment gives the answer at t and for how long it holds.
func (j *judge) segment(t int64, zone *time.Location) *segment {
	seg := &segment{}
	seg.from, seg.until = j.edges(t)
	a := &seg.answer
	for _, f := range j.exempt {
		if _, is := f.active(t); is {
			a.Exempt = append(a.Exempt, f.Name)
		}
	}
	if f := j.frozen(t); f != nil {
		a.By, a.InFlight = f.Name, Finish
		a.Reason = fmt.Sprintf("freeze %q is in force", f.Name)
		if f.Reason != "" {
			a.Reason += ": " + f.Reason
		}
	} else if w := j.window(t); w != nil {
		a.Open, a.By, a.Reason = true, w.Name, fmt.Sprintf("window %q is open", w.Name)
	} else if len(j.windows) > 0 {
		a.Reason = "no release window of this class is open"
	} else {
		a.Open, a.Reason = true, "no freeze is in force, and the class needs no release window"
	}
	if a.Open && len(a.Exempt) > 0 {
		a.Reason += "; the class is exempt from " + strings.Join(a.Exempt, ", ")
	}
	at := func(t int64, ok bool) *time.Time {
		if !ok {
			return nil
		}
		return new(time.Unix(t, 0).In(zone))
	}
	if f := j.holds(t); f != nil {
		a.InFlight, a.Holds = f.InFlight, f.Name
		a.HoldsUntil = at(j.holdsUntil(t))
	}
	if seg.until == forever {
		return seg
	}
	a.Until = at(seg.until, true)
	if a.Open {
		a.NextClose = at(j.nextClose(seg.until))
	} else {
		a.NextOpen = at(j.nextOpen(seg.until))
	}
	return seg
}

// frozen gives the freeze in force at t, of several the one that ends last; nil when there is none.
func (j *judge) frozen(t int64) *freeze {
	var last *freeze
	var end int64
	for _, f := range j.freezes {
		if s, is := f.active(t); is && (last == nil || s.end > end) {
			last, end = f, s.end
		}
	}
	return last
}

// holds gives the freeze in force at t with the strictest rule for rollouts under way, of several the one that ends last;
// nil when all of them let rollouts finish.
func (j *judge) holds(t int64) *freeze {
	strictness := []string{Finish, Pause, RollBack}
	var strictest *freeze
	rule, end := 0, int64(0)
	for _, f := range j.freezes {
		s, is := f.active(t)
		if strict := slices.Index(strictness, f.InFlight); is && strict > 0 && (strict > rule || strict == rule && s.end > end) {
			strictest, rule, end = f, strict, s.end
		}
	}
	return strictest
}

// holdsUntil gives the first time, at t or later, at which no freeze holds rollouts under way; false when none is found.
func (j *judge) holdsUntil(t int64) (int64, bool) {
	for limit := t + searchSeconds; t <= limit; {
		f := j.holds(t)
		if f == nil {
			return t, true
		}
		s, _ := f.active(t)
		t = s.end
	}
	return 0, false
}

// window gives the window that is open at t, of several the one that closes last; nil when there is none.
func (j *judge) window(t int64) *window {
	var last *window
	var end int64
	for _, w := range j.windows {
		if s, is := w.active(t); is && (last == nil || s.end > end) {
			last, end = w, s.end
		}
	}
	return last
}

// nextOpen gives the first time, at t or later, at which it is open; false when none is found.
func (j *judge) nextOpen(t int64) (int64, bool) {
	for limit := t + searchSeconds; t <= limit; {
		if f := j.frozen(t); f != nil {
			s, _ := f.active(t)
			t = s.end
			continue
		}
		if len(j.windows) == 0 || j.window(t) != nil {
			return t, true
		}
		next := int64(forever)
		for _, w := range j.windows {
			next = min(next, w.startAfter(t))
		}
		t = next
	}
	return 0, false
}

// nextClose gives the first time, at t or later, at which it is closed; false when none is found.
func (j *judge) nextClose(t int64) (int64, bool) {
	if j.frozen(t) != nil {
		return t, true
	}
	limit := t + searchSeconds
	closes := limit + 1
	for _, f := range j.freezes {
		closes = min(closes, f.startAfter(t))
	}
	if len(j.windows) == 0 {
		return closes, closes <= limit
	}
	for t < closes { // windows may follow each other without a gap
		w := j.window(t)
		if w == nil {
			return t, true
		}
		s, _ := w.active(t)
		t = s.end
	}
	return closes, closes <= limit
}
