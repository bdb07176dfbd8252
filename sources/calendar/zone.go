package calendar

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones on machines that have no database of their own
)

// zoneName is the form of IANA names. Databases on disk hold other things as well: "posix/…" and "right/…", which
// counts leap seconds, "localtime" and "posixrules", which differ between machines, and "zone.tab".
var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$`)

// loadZone gives the IANA time zone of that name.
func loadZone(name string) (*time.Location, *problem) {
	const remedy = `write an IANA name like "Europe/Berlin" or "UTC"`
	if name == "" {
		return nil, &problem{"times of day mean nothing without a time zone", remedy}
	}
	if !zoneName.MatchString(name) || name == "Local" || name == "Factory" {
		return nil, &problem{"it is not the name of a time zone", remedy}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, &problem{"there is no such time zone", remedy}
	}
	return zone, nil
}

// Zone gives the IANA time zone of that name, as calendars read it. Its error is an [Error] with the path timeZone.
func Zone(name string) (*time.Location, error) {
	zone, wrong := loadZone(name)
	if wrong != nil {
		return nil, Error{"timeZone", fmt.Sprintf("time zone is %q", name), wrong.why, wrong.remedy}
	}
	return zone, nil
}

// wallLayout is how wall times are written.
const wallLayout = "2006-01-02T15:04"

const (
	firstYear = 2000
	lastYear  = 2199
)

// parseWall reads a wall time. Wall times are kept as if they were UTC.
func parseWall(text string) (time.Time, *problem) {
	remedy := fmt.Sprintf("write it like %q", "2026-11-26T06:00")
	wall, err := time.Parse(wallLayout, text)
	switch {
	case text == "":
		return time.Time{}, &problem{"it is missing", remedy}
	case err == nil && (wall.Year() < firstYear || wall.Year() > lastYear):
		return time.Time{}, &problem{fmt.Sprintf("its year is not between %d and %d", firstYear, lastYear), "correct the year"}
	case err == nil:
		return wall, nil
	case strings.HasSuffix(text, "T24:00"):
		return time.Time{}, &problem{"a day ends at 23:59", "write 00:00 of the next day"}
	case strings.Contains(err.Error(), "out of range"):
		return time.Time{}, &problem{"there is no such date or time of day", remedy}
	}
	return time.Time{}, &problem{"it is not a local time of the form year-month-dayThour:minute", remedy}
}

// Instants gives the earlier and the later instant at which clocks in the zone show a wall time. They differ when the
// clocks show it twice. When they skip it, both are the instant at which they do.
func Instants(zone *time.Location, wall time.Time) (earlier, later time.Time) {
	var skipped time.Time
	// Offsets from UTC are less than 16 hours: every instant in question is within a day of the wall time.
	last := wall.Add(24 * time.Hour)
	for t := wall.Add(-24 * time.Hour).In(zone); ; {
		_, offset := t.Zone()
		from, to := t.ZoneBounds() // in between, the offset holds
		if !to.IsZero() && !to.After(t) {
			// Beyond the zone's table Go ends every year after 365 days, also a leap year, in which t is past that end.
			to = time.Date(t.UTC().Year()+1, time.January, 1, 0, 0, 0, 0, time.UTC).In(zone)
		}
		at := wall.Add(-time.Duration(offset) * time.Second)
		if !to.IsZero() && !at.Before(to) {
			skipped = to
		} else if !at.Before(from) {
			if earlier.IsZero() {
				earlier = at
			}
			later = at
		}
		if to.IsZero() || to.After(last) {
			break
		}
		t = to
	}
	if earlier.IsZero() {
		return skipped, skipped
	}
	return earlier, later
}
