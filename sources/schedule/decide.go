package schedule

import (
	"fmt"
	"time"
)

// State is what is known of the runs of one name.
type State struct {
	Begun    time.Time // of the last run; zero if there was none
	Ended    time.Time // of the last run; before Begun while one is under way
	Failures int       // runs that failed since the last that did not
	Wanted   string    // why somebody wants a run now; empty if nobody does
}

// Decision is what to do now.
type Decision struct {
	Start  bool
	Reason string    // a sentence for people
	Slot   time.Time // the start that this run is for; zero for one that is wanted or repeated
	Missed int       // further starts that this run is for, at most [MaxMissed]
	// Wake is when to ask again at the latest if nothing happens before; zero for never.
	Wake time.Time
}

// MaxMissed is how many missed starts are counted.
const MaxMissed = 1000

const (
	firstRetry = 5 * time.Minute
	lastRetry  = time.Hour
	// maxAhead is how far after now a time of the past may lie: clocks are set right by that much all the time.
	maxAhead = 5 * time.Minute
)

// Decide says whether a run of that name starts now. A run that is wanted starts in peak hours as well; one that failed is
// repeated after 5 minutes, and then after twice as long each time, up to an hour.
//
// A state with a time that lies more than 5 minutes after now comes from a clock that was or is wrong: when that run was,
// nobody knows, so it counts as none, and a run is due at once. It would not be until that time has come otherwise. Times that
// are ahead by less count as now. Whoever asks makes sure that nothing of that name is under way when it starts.
func (s *Schedule) Decide(name string, state State, now time.Time) Decision {
	if last := later(state.Begun, state.Ended); last.Sub(now) > maxAhead {
		why := "the last run is of " + stamp(last) + ", which is yet to come: a clock was or is wrong"
		if state.Wanted != "" {
			return Decision{Start: true, Reason: "wanted: " + state.Wanted, Wake: s.Next(name, now)}
		}
		return s.when(name, now, now, Decision{Reason: why})
	}
	begun, ended := earlier(state.Begun, now), earlier(state.Ended, now)
	running := state.Ended.Before(state.Begun)
	switch {
	case running:
		return Decision{Reason: "a run is under way since " + stamp(begun), Wake: s.Next(name, now)}
	case state.Wanted != "":
		return Decision{Start: true, Reason: "wanted: " + state.Wanted, Wake: s.Next(name, now)}
	case begun.IsZero():
		return s.when(name, now, now, Decision{Reason: "there was no run yet"})
	}
	slot := s.Next(name, ended)
	due := !slot.IsZero() && !slot.After(now)
	if state.Failures > 0 && !due {
		retry := ended.Add(Backoff(state.Failures))
		why := fmt.Sprintf("the last run failed (%d in a row)", state.Failures)
		if d := s.when(name, retry, now, Decision{Reason: why}); d.Start || slot.IsZero() || d.Wake.Before(slot) {
			return d
		}
	}
	if !due {
		reason := "the next start is " + stamp(slot)
		if slot.IsZero() {
			reason = "there is no further start"
		}
		return Decision{Reason: reason, Wake: slot}
	}
	d := Decision{Slot: slot, Reason: "it is time: " + stamp(slot)}
	for next := s.Next(name, slot); !next.IsZero() && !next.After(now) && d.Missed < MaxMissed; next = s.Next(name, next) {
		d.Missed++
	}
	if d.Missed > 0 {
		d.Reason = fmt.Sprintf("%d starts were missed since %s", d.Missed+1, stamp(slot))
	}
	return s.when(name, now, now, d)
}

// when starts d at a time, or later if that lies in peak hours.
func (s *Schedule) when(name string, at, now time.Time, d Decision) Decision {
	if at.Before(now) {
		at = now
	}
	free := s.Free(name, at)
	switch {
	case !free.After(now):
		d.Start, d.Wake = true, s.Next(name, now)
	case free.After(at):
		d.Reason, d.Wake = d.Reason+"; peak hours, so not before "+stamp(free), free
	default:
		d.Reason, d.Wake = d.Reason+"; again at "+stamp(free), free
	}
	if !d.Start {
		d.Slot, d.Missed = time.Time{}, 0
	}
	return d
}

// Backoff is how long after its last failure a run that failed so many times in a row is repeated.
func Backoff(failures int) time.Duration {
	wait := firstRetry
	for range min(failures-1, 10) {
		wait *= 2
	}
	return min(wait, lastRetry)
}

func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
