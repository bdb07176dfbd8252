package backup

import (
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// A Tier is a kind of period of which the first verified backup is kept.
type Tier string

// Tiers, from the shortest to the longest.
const (
	Hourly  Tier = "hourly"
	Daily   Tier = "daily"
	Weekly  Tier = "weekly"
	Monthly Tier = "monthly"
	Yearly  Tier = "yearly"
)

// Keep is how long backups are kept, and in which zone their periods begin.
type Keep struct {
	declaration.Retention
	Zone *time.Location
}

// tiers are those that keep anything, with the number of periods.
func (k Keep) tiers() []struct {
	tier  Tier
	count int
} {
	all := []struct {
		tier  Tier
		count int
	}{{Hourly, k.Hourly}, {Daily, k.Daily}, {Weekly, k.Weekly}, {Monthly, k.Monthly}, {Yearly, k.Yearly}}
	kept := all[:0]
	for _, t := range all {
		if t.count > 0 {
			kept = append(kept, t)
		}
	}
	return kept
}

// start is when the period of t began that a time lies in.
func (t Tier) start(at time.Time, zone *time.Location) time.Time {
	at = at.In(zone)
	if t == Hourly { // clocks may show an hour twice: these are two hours
		return at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
	}
	year, month, day := at.Date()
	switch t {
	case Weekly:
		day -= (int(at.Weekday()) + 6) % 7 // since Monday
	case Monthly:
		day = 1
	case Yearly:
		month, day = time.January, 1
	}
	return time.Date(year, month, day, 0, 0, 0, 0, zone)
}

// after is when so many periods have passed since one that began at start.
func (t Tier) after(start time.Time, periods int) time.Time {
	switch t {
	case Hourly:
		return start.Add(time.Duration(periods) * time.Hour)
	case Daily:
		return start.AddDate(0, 0, periods)
	case Weekly:
		return start.AddDate(0, 0, 7*periods)
	case Monthly:
		return start.AddDate(0, periods, 0)
	}
	return start.AddDate(periods, 0, 0)
}

// label names the period that begins at start.
func (t Tier) label(start time.Time) string {
	switch t {
	case Hourly:
		return "the hour from " + start.Format("2006-01-02 15:04 -0700")
	case Daily:
		return start.Format("2006-01-02")
	case Weekly:
		return "the week from " + start.Format("2006-01-02")
	case Monthly:
		return start.Format("2006-01")
	}
	return start.Format("2006")
}
