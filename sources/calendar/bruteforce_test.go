package calendar

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// clockWeek is a change of the clocks, or none, with the wall times around it that tests use.
type clockWeek struct {
	zone string
	day  string // wall date of the change
}

var weeks = []clockWeek{
	{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-10-25"},
	{"America/New_York", "2026-03-08"}, {"America/New_York", "2026-11-01"},
	{"Australia/Lord_Howe", "2026-04-05"}, {"Australia/Lord_Howe", "2026-10-04"}, // half an hour
	{"Africa/Cairo", "2026-04-24"}, {"Africa/Cairo", "2026-10-29"}, // at midnight
	{"Asia/Kolkata", "2026-03-29"}, // none
}

// minutes are all minutes of the week around a day, with what the clocks show.
func (w clockWeek) minutes(t *testing.T) (zone *time.Location, instants, walls []time.Time) {
	t.Helper()
	zone, err := time.LoadLocation(w.zone)
	if err != nil {
		t.Fatal(err)
	}
	day, err := time.ParseInLocation("2006-01-02", w.day, zone)
	if err != nil {
		t.Fatal(err)
	}
	for at := day.AddDate(0, 0, -4); at.Before(day.AddDate(0, 0, 4)); at = at.Add(time.Minute) {
		instants = append(instants, at)
		walls = append(walls, time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), 0, 0, time.UTC))
	}
	return zone, instants, walls
}

// reading gives the first and last instant at which the clocks show a wall time, else the first that is later than it.
func reading(instants, walls []time.Time, wall time.Time) (first, last time.Time) {
	for i := range instants {
		if walls[i].Equal(wall) {
			if first.IsZero() {
				first = instants[i]
			}
			last = instants[i]
		}
	}
	for i := 0; first.IsZero(); i++ {
		if walls[i].After(wall) {
			first, last = instants[i], instants[i]
		}
	}
	return first, last
}

// daily gives the spans of a daily freeze or window by looking at every minute.
func daily(instants, walls []time.Time, from, length time.Duration, freeze bool) (spans [][2]time.Time) {
	for day := walls[0].Truncate(24*time.Hour).AddDate(0, 0, 1); day.Before(walls[len(walls)-1].AddDate(0, 0, -2)); day = day.AddDate(0, 0, 1) {
		startFirst, startLast := reading(instants, walls, day.Add(from))
		endFirst, endLast := reading(instants, walls, day.Add(from+length))
		start, end := startFirst, endLast
		if !freeze {
			start, end = startLast, endFirst
			if !start.Before(end) {
				start = startFirst
			}
		}
		spans = append(spans, [2]time.Time{start, end})
	}
	return spans
}

func within(spans [][2]time.Time, at time.Time) bool {
	return slices.ContainsFunc(spans, func(s [2]time.Time) bool { return !at.Before(s[0]) && at.Before(s[1]) })
}

// TestEveryMinuteOfTheWeeksOfClockChanges compares every answer with one found by reading the clocks.
func TestEveryMinuteOfTheWeeksOfClockChanges(t *testing.T) {
	t.Parallel()
	for _, w := range weeks {
		t.Run(w.zone+" "+w.day, func(t *testing.T) {
			t.Parallel()
			zone, instants, walls := w.minutes(t)
			begin := walls[0].Truncate(24*time.Hour).AddDate(0, 0, 1)
			for from := time.Duration(0); from < 4*time.Hour; from += 65 * time.Minute {
				for _, length := range []time.Duration{20 * time.Minute, 45 * time.Minute, 3 * time.Hour, 24 * time.Hour} {
					start, end := begin.Add(from).Format(wallLayout), begin.Add(from+length).Format(wallLayout)
					c := compile(t, Spec{TimeZone: w.zone,
						Freezes: []Freeze{{Name: "f", Start: start, End: end, Repeat: "FREQ=DAILY", Exempt: []string{"windowed"}}},
						Windows: []Window{{Name: "w", Start: start, End: end, Repeat: "FREQ=DAILY", Classes: []string{"windowed"}}}})
					freezes, windows := daily(instants, walls, from, length, true), daily(instants, walls, from, length, false)
					for _, at := range instants[24*60 : len(instants)-3*24*60] {
						if got, want := c.At("any", at).Open, !within(freezes, at); got != want {
							t.Fatalf("freeze %s to %s: at %s open is %v, want %v", start, end, at.In(zone), got, want)
						}
						if got, want := c.At("windowed", at).Open, within(windows, at); got != want {
							t.Fatalf("window %s to %s: at %s open is %v, want %v", start, end, at.In(zone), got, want)
						}
					}
				}
			}
		})
	}
}

// rich is a calendar in which much overlaps.
func rich(zone, day string) Spec {
	return Spec{TimeZone: zone,
		Freezes: []Freeze{
			{Name: "long", Reason: "peak", Start: day + "T00:30", End: day + "T22:15", Exempt: []string{"emergency"}, InFlight: Pause},
			{Name: "short", Start: day + "T01:45", End: day + "T02:30", InFlight: RollBack},
			{Name: "nightly", Start: "2026-01-01T23:30", End: "2026-01-02T02:15", Repeat: "FREQ=DAILY;INTERVAL=2", Exempt: []string{"emergency", "standard"}},
		},
		Windows: []Window{
			{Name: "morning", Start: "2026-01-01T01:15", End: "2026-01-01T02:45", Repeat: "FREQ=DAILY", Classes: []string{"standard"}},
			{Name: "next", Start: "2026-01-01T02:45", End: "2026-01-01T06:00", Repeat: "FREQ=DAILY", Classes: []string{"standard", "high"}},
			{Name: "sunday", Start: "2026-01-04T00:00", End: "2026-01-05T00:00", Repeat: "FREQ=WEEKLY"},
		}}
}

// TestAnswersChangeOnlyAtEdges walks every minute: answers equal each other between edges, promised times hold, and the
// same question has the same answer in any order, on a fresh calendar as on one that was asked about the future.
func TestAnswersChangeOnlyAtEdges(t *testing.T) {
	t.Parallel()
	for _, w := range weeks {
		t.Run(w.zone+" "+w.day, func(t *testing.T) {
			t.Parallel()
			_, instants, _ := w.minutes(t)
			c, backwards := compile(t, rich(w.zone, w.day)), compile(t, rich(w.zone, w.day))
			for _, class := range []string{"standard", "high", "emergency", "unheard-of"} {
				walk(t, c, class, instants)
				for i := len(instants) - 1; i >= 0; i -= 7 {
					if a, b := describe(c.At(class, instants[i])), describe(backwards.At(class, instants[i])); a != b {
						t.Fatalf("%s at %s: asked backwards it is\n%s\nnot\n%s", class, instants[i], b, a)
					}
				}
			}
		})
	}
}

func walk(t *testing.T, c *Calendar, class string, instants []time.Time) {
	t.Helper()
	var edges []time.Time
	for at, more := c.NextEdge(class, instants[0].Add(-time.Minute)); more && len(edges) < 200; at, more = c.NextEdge(class, at) {
		edges = append(edges, at)
	}
	last := c.At(class, instants[0])
	for _, at := range instants[1:] {
		a := c.At(class, at)
		isEdge := slices.ContainsFunc(edges, at.Equal)
		if describe(a) != describe(last) && !isEdge {
			t.Fatalf("%s: the answer changes at %s, which is no edge:\n%s\n%s", class, at, describe(last), describe(a))
		}
		if a.Open != last.Open {
			promised := last.NextClose
			if a.Open {
				promised = last.NextOpen
			}
			if promised == nil || !promised.Equal(at) {
				t.Fatalf("%s: open becomes %v at %s, promised was %v", class, a.Open, at, promised)
			}
		}
		if last.Holds != "" && (a.Holds == "") != last.HoldsUntil.Equal(at) || a.Holds != "" && !a.HoldsUntil.After(at) {
			t.Fatalf("%s at %s: held until %v by %q before, now until %v by %q", class, at, last.HoldsUntil, last.Holds, a.HoldsUntil, a.Holds)
		}
		if isEdge != last.Until.Equal(at) {
			t.Fatalf("%s at %s: the answer before holds until %s", class, at, last.Until)
		}
		if !a.Until.After(at) || a.Open == (a.NextOpen != nil) || !a.Open == (a.NextClose != nil) {
			t.Fatalf("%s at %s: impossible answer %s", class, at, describe(a))
		}
		last = a
	}
}

func describe(a Answer) string {
	at := func(t *time.Time) string {
		if t == nil {
			return "never"
		}
		return t.Format(time.RFC3339)
	}
	return fmt.Sprintf("open=%v by=%q in flight=%q exempt=%q reason=%q opens=%s closes=%s until=%s",
		a.Open, a.By, a.InFlight, a.Exempt, a.Reason, at(a.NextOpen), at(a.NextClose), at(a.Until))
}

func compile(t testing.TB, spec Spec) *Calendar {
	t.Helper()
	c, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
