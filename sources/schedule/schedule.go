package schedule

import (
	"iter"
	"time"

	"github.com/purser-gitops/purser/sources/calendar"
)

const (
	day = 24 * time.Hour
	// maxFold is more than clocks are ever set back.
	maxFold = 3 * time.Hour
	// longestPeak is how far peak hours that follow each other are looked along: longer ones have no end.
	longestPeak = 9 * day
)

// Next is the first start of that name after a time; zero if there is none within some years.
func (s *Schedule) Next(name string, after time.Time) time.Time {
	offset := s.Offset(name)
	base := s.nextBase(after.Add(-offset))
	if base.IsZero() {
		return base
	}
	return base.Add(offset)
}

// Free is when that name can start at the earliest from t on: t, or a time after the peak hours that it lies in.
func (s *Schedule) Free(name string, t time.Time) time.Time {
	for _, p := range s.peaks {
		if end := p.covers(s.zone, t, 0); !end.IsZero() {
			return s.free(t).Add(s.Offset(name))
		}
	}
	return t
}

// nextBase is the first start after a time, without offset.
func (s *Schedule) nextBase(after time.Time) time.Time {
	from := after
	if free := s.free(after); !free.Equal(after) {
		from = s.stretch(after).Add(-1) // a slot since the peak hours began is moved to their end
	}
	slot := s.nextSlot(from)
	if slot.IsZero() {
		return slot
	}
	return s.free(slot)
}

// nextSlot is the first slot after a time; zero if there is none.
func (s *Schedule) nextSlot(after time.Time) time.Time {
	wall := wallOf(after, s.zone)
	if s.hourly && clocksChange(s.zone, after) {
		wall = wall.Add(-maxFold)
	}
	var best time.Time
	for wall = s.cron.Next(wall); !wall.IsZero(); wall = s.cron.Next(wall) {
		earlier, later := calendar.Instants(s.zone, wall)
		if !best.IsZero() && !earlier.Before(best) {
			break
		}
		candidates := []time.Time{earlier}
		if s.hourly {
			candidates = append(candidates, later)
		}
		for _, t := range candidates {
			if t.After(after) && (best.IsZero() || t.Before(best)) {
				best = t
			}
		}
		if !best.IsZero() && !s.hourly {
			break // earlier instants are in the order of their wall times
		}
	}
	return best
}

// clocksChange reports whether they do about t.
func clocksChange(zone *time.Location, t time.Time) bool {
	_, before := t.Add(-maxFold).In(zone).Zone()
	_, at := t.In(zone).Zone()
	_, after := t.Add(maxFold).In(zone).Zone()
	return before != at || at != after
}

// wallOf is what clocks show at t, written as if it were UTC.
func wallOf(t time.Time, zone *time.Location) time.Time {
	l := t.In(zone)
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), time.UTC)
}

// free moves t to the end of the peak hours that a start of any offset could lie in; zero if they never end.
func (s *Schedule) free(t time.Time) time.Time {
	for limit := t.Add(longestPeak); t.Before(limit); {
		moved := false
		for _, p := range s.peaks {
			if end := p.covers(s.zone, t, s.jitter); !end.IsZero() {
				t, moved = end, true
			}
		}
		if !moved {
			return t
		}
	}
	return time.Time{}
}

// stretch is when the peak hours began, one after the other, that t lies in, widened by the jitter.
func (s *Schedule) stretch(t time.Time) time.Time {
	for moved := true; moved; {
		moved = false
		for _, p := range s.peaks {
			for start, end := range p.around(s.zone, t, s.jitter) {
				if start = start.Add(-s.jitter); start.Before(t) && !t.After(end) {
					t, moved = start, true
				}
			}
		}
	}
	return t
}

// covers is the end of the occurrence of p that t lies in, with the time before it; zero if there is none.
func (p peak) covers(zone *time.Location, t time.Time, before time.Duration) time.Time {
	for start, end := range p.around(zone, t, before) {
		if !t.Before(start.Add(-before)) && t.Before(end) {
			return end
		}
	}
	return time.Time{}
}

// around yields the occurrences of p that t can lie in or at the end of, with the time before them.
func (p peak) around(zone *time.Location, t time.Time, before time.Duration) iter.Seq2[time.Time, time.Time] {
	return func(yield func(start, end time.Time) bool) {
		wall := wallOf(t, zone)
		for n := -2; n <= 1; n++ {
			date := wall.Truncate(day).AddDate(0, 0, n)
			passed := wall.Sub(date)
			if !p.days[date.Weekday()] || passed < p.from-before-maxFold || passed > p.to+maxFold {
				continue
			}
			start, _ := calendar.Instants(zone, date.Add(p.from))
			_, end := calendar.Instants(zone, date.Add(p.to))
			if end.After(start) && !yield(start, end) {
				return
			}
		}
	}
}

// LongestGap is the longest time between two starts that follow each other, and the first of the two. It looks at a year,
// or at two starts if they lie further apart. It is the same for all names.
func (s *Schedule) LongestGap() (gap time.Duration, after time.Time) { return s.gap() }

func (s *Schedule) longestGap() (gap time.Duration, after time.Time) {
	last := s.nextBase(reference)
	for end := reference.AddDate(1, 0, 1); !last.IsZero(); {
		slot := s.nextSlot(last) // last lies in no peak hours
		if slot.IsZero() {
			break
		}
		next := s.free(slot)
		if d := next.Sub(last); d > gap {
			gap, after = d, last
		}
		if last.After(end) {
			break
		}
		last = next
	}
	return gap, after.In(s.zone)
}
