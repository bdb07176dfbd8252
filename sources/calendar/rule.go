package calendar

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/teambition/rrule-go"
)

// next gives one wall time after the other; false when there are no more.
type next func() (wall time.Time, ok bool)

// once is the rule of what does not repeat.
func once(start time.Time) func() next {
	return func() next {
		given := false
		return func() (time.Time, bool) {
			defer func() { given = true }()
			return start, !given
		}
	}
}

const (
	weekday  = `(MO|TU|WE|TH|FR|SA|SU)`
	month    = `([1-9]|1[0-2])`
	monthDay = `[+-]?([1-9]|[12][0-9]|3[01])`
	yearDay  = `[+-]?([1-9][0-9]?|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])`
	week     = `([1-9]|[1-4][0-9]|5[0-3])`
)

// parts are what a rule may consist of.
var parts = map[string]*regexp.Regexp{
	"FREQ":       regexp.MustCompile(`^(DAILY|WEEKLY|MONTHLY|YEARLY)$`),
	"INTERVAL":   regexp.MustCompile(`^[1-9][0-9]{0,2}$`),
	"COUNT":      regexp.MustCompile(`^[1-9][0-9]{0,4}$`),
	"UNTIL":      regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z?$`),
	"WKST":       regexp.MustCompile(`^` + weekday + `$`),
	"BYMONTH":    list(month),
	"BYMONTHDAY": list(monthDay),
	"BYYEARDAY":  list(yearDay),
	"BYWEEKNO":   list(week),
	"BYDAY":      list(`([+-]?` + week + `)?` + weekday),
	"BYSETPOS":   list(yearDay),
}

func list(item string) *regexp.Regexp {
	return regexp.MustCompile(`^` + item + `(,` + item + `)*$`)
}

// elsewhere are parts of RFC 5545 that a rule of a calendar does not have, with what to do instead.
var elsewhere = map[string]string{
	"DTSTART":  `remove it: the start is in "start"`,
	"TZID":     `remove it: the time zone is in "timeZone"`,
	"BYHOUR":   "write an entry for each time of day",
	"BYMINUTE": "write an entry for each time of day",
	"BYSECOND": "write an entry for each time of day",
}

// parseRule reads the value of an RRULE and gives what starts its occurrences from the beginning.
func parseRule(text string, start time.Time, zone *time.Location) (func() next, *problem) {
	rule, wrong := splitRule(text)
	if wrong != nil {
		return nil, wrong
	}
	if wrong := rule.check(start); wrong != nil {
		return nil, wrong
	}
	until := rule["UNTIL"]
	delete(rule, "UNTIL")
	option, err := rrule.StrToROption(rule.String())
	if err != nil {
		return nil, &problem{err.Error(), "correct the rule (RFC 5545)"}
	}
	if until != "" {
		if option.Until, wrong = parseUntil(until, zone); wrong != nil {
			return nil, wrong
		}
		if option.Until.Before(start) {
			return nil, &problem{"it never occurs: UNTIL is before the start", "correct UNTIL or the start"}
		}
		option.Until = option.Until.AddDate(shift, 0, 0)
	}
	option.Dtstart = start.AddDate(shift, 0, 0)
	if _, err := rrule.NewRRule(*option); err != nil {
		return nil, &problem{err.Error(), "correct the rule (RFC 5545)"}
	}
	return func() next { return iterate(*option) }, nil
}

// shift is how many years later than they are rules are computed. The Gregorian calendar repeats every 400 years to the
// weekday, and the library gives up looking for an occurrence in the year 9999: so it does after centuries, not
// millennia.
const shift = 7600

func iterate(option rrule.ROption) next {
	rule, err := rrule.NewRRule(option)
	if err != nil { // parseRule has made the same rule
		return func() (time.Time, bool) { return time.Time{}, false }
	}
	following := rule.Iterator()
	return func() (time.Time, bool) {
		t, ok := following()
		return t.AddDate(-shift, 0, 0), ok
	}
}

// rule is the parts of a rule by name.
type rule map[string]string

func splitRule(text string) (rule, *problem) {
	const remedy = `write it like "FREQ=WEEKLY;BYDAY=MO,TU"`
	if text == "" {
		return nil, &problem{"it is empty", remedy}
	}
	r := rule{}
	for part := range strings.SplitSeq(strings.ToUpper(text), ";") {
		name, value, ok := strings.Cut(part, "=")
		name, _, _ = strings.Cut(name, ":") // as in DTSTART:20260101T000000
		form, known := parts[name]
		if instead, is := elsewhere[name]; is {
			return nil, &problem{name + " does not belong in the rule", instead}
		}
		_, twice := r[name]
		switch {
		case !known || !ok:
			return nil, &problem{fmt.Sprintf("%q is not part of a rule", part), remedy}
		case twice:
			return nil, &problem{name + " is given twice", "keep one of them"}
		case name == "FREQ" && slices.Contains([]string{"HOURLY", "MINUTELY", "SECONDLY"}, value):
			return nil, &problem{"a rule repeats daily at most", "write an entry for each time of day"}
		case name == "UNTIL" && len(value) == len("20261231"):
			return nil, &problem{"a date alone does not say whether its day still counts", "write it with a local time: UNTIL=" + value + "T235959"}
		case !form.MatchString(value):
			return nil, &problem{fmt.Sprintf("%s=%s is not possible", name, value), "correct it (RFC 5545)"}
		}
		r[name] = value
	}
	if r["FREQ"] == "" {
		return nil, &problem{"FREQ is missing", remedy}
	}
	return r, nil
}

// String gives the rule in a fixed order.
func (r rule) String() string {
	texts := make([]string, 0, len(r))
	for name, value := range r {
		texts = append(texts, name+"="+value)
	}
	slices.Sort(texts)
	return strings.Join(texts, ";")
}

// check refuses combinations that RFC 5545 forbids, that its readers understand differently, or that people write when
// they mean something else.
func (r rule) check(start time.Time) *problem {
	freq := r["FREQ"]
	only := func(name string, freqs ...string) *problem {
		if r[name] == "" || slices.Contains(freqs, freq) {
			return nil
		}
		return &problem{name + " does not go with FREQ=" + freq, "use FREQ=" + strings.Join(freqs, " or ")}
	}
	numbered := strings.ContainsAny(r["BYDAY"], "0123456789")
	for day := range strings.SplitSeq(r["BYDAY"], ",") {
		if numbered && len(day) == len("MO") {
			return &problem{"BYDAY mixes numbered weekdays and others", "write two entries"}
		}
	}
	for _, wrong := range []*problem{
		only("BYWEEKNO", "YEARLY"),
		only("BYYEARDAY", "YEARLY"),
		only("BYMONTHDAY", "DAILY", "MONTHLY", "YEARLY"),
	} {
		if wrong != nil {
			return wrong
		}
	}
	days := r["BYDAY"] + r["BYMONTHDAY"] + r["BYYEARDAY"]
	switch {
	case r["COUNT"] != "" && r["UNTIL"] != "":
		return &problem{"COUNT and UNTIL exclude each other", "keep one of them"}
	case numbered && freq != "MONTHLY" && freq != "YEARLY":
		return &problem{"numbered weekdays do not go with FREQ=" + freq, "use FREQ=MONTHLY or FREQ=YEARLY"}
	case r["BYWEEKNO"] != "" && (numbered || r["BYDAY"] == ""):
		return &problem{"BYWEEKNO needs BYDAY with weekdays that have no number", "add BYDAY, such as BYDAY=MO"}
	case r["BYSETPOS"] != "" && days+r["BYMONTH"] == "":
		return &problem{"BYSETPOS selects from nothing", "add BYDAY or BYMONTHDAY"}
	case days == "" && (freq == "MONTHLY" && start.Day() > 28 || freq == "YEARLY" && start.Day() > 28 && (r["BYMONTH"] != "" || start.Month() == time.February)):
		return &problem{fmt.Sprintf("it leaves out months that have no day %d", start.Day()),
			fmt.Sprintf("write BYMONTHDAY=-1 for the last day of the month, or BYMONTHDAY=%d if that is meant", start.Day())}
	}
	return nil
}

// parseUntil gives the last possible start as wall time.
func parseUntil(text string, zone *time.Location) (time.Time, *problem) {
	utc := strings.HasSuffix(text, "Z")
	t, err := time.Parse("20060102T150405", strings.TrimSuffix(text, "Z"))
	if err != nil || t.Year() < firstYear || t.Year() > lastYear {
		return time.Time{}, &problem{"UNTIL is no date and time between " + fmt.Sprint(firstYear) + " and " + fmt.Sprint(lastYear), `write it like "UNTIL=20261231T235959"`}
	}
	if utc {
		local := t.In(zone)
		t = time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), 0, time.UTC)
	}
	return t, nil
}
