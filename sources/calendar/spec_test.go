package calendar

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCompileRefuses has one bad calendar for each message.
func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	freeze := func(start, end, repeat string) Spec {
		return Spec{TimeZone: "Europe/Berlin", Freezes: []Freeze{{Name: "f", Start: start, End: end, Repeat: repeat}}}
	}
	repeat := func(rule string) Spec { return freeze("2026-01-05T09:00", "2026-01-05T16:00", rule) }
	zone := func(name string) Spec {
		s := repeat("")
		s.TimeZone = name
		return s
	}
	tests := []struct {
		name string
		spec Spec
		want string // path and beginning of the reason
	}{
		{"no zone", zone(""), "timeZone: time zone is \"\": times of day"},
		{"unknown zone", zone("Europe/Berlim"), "timeZone: time zone is \"Europe/Berlim\": there is no such time zone"},
		{"local zone", zone("Local"), "timeZone: time zone is \"Local\": it is not the name"},
		{"zone with leap seconds", zone("right/Europe/Berlin"), "timeZone: time zone is \"right/Europe/Berlin\": it is not the name"},
		{"zone that is a path", zone("../etc/passwd"), "timeZone: time zone is \"../etc/passwd\": it is not the name"},
		{"file beside the zones", zone("zone.tab"), "timeZone: time zone is \"zone.tab\": it is not the name"},
		{"offset", zone("+02:00"), "timeZone: time zone is \"+02:00\": it is not the name"},
		{"empty", Spec{TimeZone: "UTC"}, "empty calendar: it has neither"},
		{"no start", freeze("", "2026-01-05T16:00", ""), "freezes[0].start: start is \"\": it is missing"},
		{"no end", freeze("2026-01-05T16:00", "", ""), "freezes[0].end: end is \"\": it is missing"},
		{"end before start", freeze("2026-01-05T16:00", "2026-01-05T09:00", ""), "freezes[0].end: end is \"2026-01-05T09:00\": it is not after the start"},
		{"end at start", freeze("2026-01-05T16:00", "2026-01-05T16:00", ""), "freezes[0].end: end is \"2026-01-05T16:00\": it is not after the start"},
		{"impossible date", freeze("2026-02-30T16:00", "2026-03-05T16:00", ""), "freezes[0].start: start is \"2026-02-30T16:00\": there is no such date"},
		{"impossible hour", freeze("2026-02-03T25:00", "2026-03-05T16:00", ""), "freezes[0].start: start is \"2026-02-03T25:00\": there is no such date"},
		{"end of the day", freeze("2026-02-03T16:00", "2026-02-03T24:00", ""), "freezes[0].end: end is \"2026-02-03T24:00\": a day ends at 23:59"},
		{"with offset", freeze("2026-02-03T16:00+01:00", "2026-02-04T16:00", ""), "freezes[0].start: start is \"2026-02-03T16:00+01:00\": it is not a local time"},
		{"a date alone", freeze("2026-02-03", "2026-02-04T16:00", ""), "freezes[0].start: start is \"2026-02-03\": it is not a local time"},
		{"year", freeze("0026-02-03T16:00", "2026-02-04T16:00", ""), "freezes[0].start: start is \"0026-02-03T16:00\": its year is not between"},
		{"skipped by the clocks", freeze("2026-03-29T02:10", "2026-03-29T02:50", ""), "freezes[0]: it never occurs: clocks in Europe/Berlin skip"},

		{"30 February", repeat("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "freezes[0].repeat: repeat is \"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30\": it never occurs"},
		{"daily, never", repeat("FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31"), "freezes[0].repeat: repeat is \"FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31\": it never occurs"},
		{"weekly, never", repeat("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2"), "freezes[0].repeat: repeat is \"FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2\": it never occurs"},
		{"start is no occurrence", repeat("FREQ=WEEKLY;BYDAY=TU"), "freezes[0].repeat: repeat is \"FREQ=WEEKLY;BYDAY=TU\": the start is not an occurrence of the rule: correct the rule, or start at its first occurrence, \"2026-01-06T09:00\""},
		{"not a rule", repeat("every monday"), "freezes[0].repeat: repeat is \"every monday\": \"EVERY MONDAY\" is not part of a rule"},
		{"cron", repeat("0 9 * * 1"), "freezes[0].repeat: repeat is \"0 9 * * 1\": \"0 9 * * 1\" is not part of a rule"},
		{"prefix", repeat("RRULE:FREQ=DAILY"), "freezes[0].repeat: repeat is \"RRULE:FREQ=DAILY\": \"RRULE:FREQ=DAILY\" is not part"},
		{"blank", repeat(" "), "freezes[0].repeat: repeat is \" \": \" \" is not part of a rule"},
		{"no frequency", repeat("BYDAY=MO"), "freezes[0].repeat: repeat is \"BYDAY=MO\": FREQ is missing"},
		{"hourly", repeat("FREQ=HOURLY"), "freezes[0].repeat: repeat is \"FREQ=HOURLY\": a rule repeats daily at most"},
		{"hours", repeat("FREQ=DAILY;BYHOUR=9,13"), "freezes[0].repeat: repeat is \"FREQ=DAILY;BYHOUR=9,13\": BYHOUR does not belong"},
		{"start in the rule", repeat("DTSTART:20260105T090000;FREQ=DAILY"), "freezes[0].repeat: repeat is \"DTSTART:20260105T090000;FREQ=DAILY\": DTSTART does not belong in the rule: remove it"},
		{"another line", repeat("DTSTART:20260105T090000\nFREQ=DAILY"), "freezes[0].repeat: repeat is \"DTSTART:20260105T090000\\nFREQ=DAILY\": DTSTART does not belong"},
		{"zone in the rule", repeat("FREQ=DAILY;TZID=Europe/Berlin"), "freezes[0].repeat: repeat is \"FREQ=DAILY;TZID=Europe/Berlin\": TZID does not belong"},
		{"easter", repeat("FREQ=YEARLY;BYEASTER=0"), "freezes[0].repeat: repeat is \"FREQ=YEARLY;BYEASTER=0\": \"BYEASTER=0\" is not part"},
		{"twice", repeat("FREQ=DAILY;FREQ=WEEKLY"), "freezes[0].repeat: repeat is \"FREQ=DAILY;FREQ=WEEKLY\": FREQ is given twice"},
		{"interval 0", repeat("FREQ=DAILY;INTERVAL=0"), "freezes[0].repeat: repeat is \"FREQ=DAILY;INTERVAL=0\": INTERVAL=0 is not possible"},
		{"count 0", repeat("FREQ=DAILY;COUNT=0"), "freezes[0].repeat: repeat is \"FREQ=DAILY;COUNT=0\": COUNT=0 is not possible"},
		{"month 13", repeat("FREQ=YEARLY;BYMONTH=13"), "freezes[0].repeat: repeat is \"FREQ=YEARLY;BYMONTH=13\": BYMONTH=13 is not possible"},
		{"day 0", repeat("FREQ=MONTHLY;BYMONTHDAY=0"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY;BYMONTHDAY=0\": BYMONTHDAY=0 is not possible"},
		{"weekday", repeat("FREQ=WEEKLY;BYDAY=MO,"), "freezes[0].repeat: repeat is \"FREQ=WEEKLY;BYDAY=MO,\": BYDAY=MO, is not possible"},
		{"numbered weekday of a week", repeat("FREQ=WEEKLY;BYDAY=1MO"), "freezes[0].repeat: repeat is \"FREQ=WEEKLY;BYDAY=1MO\": numbered weekdays do not go with FREQ=WEEKLY"},
		{"numbered and not", repeat("FREQ=MONTHLY;BYDAY=1MO,TU"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY;BYDAY=1MO,TU\": BYDAY mixes"},
		{"month day of a week", repeat("FREQ=WEEKLY;BYMONTHDAY=5"), "freezes[0].repeat: repeat is \"FREQ=WEEKLY;BYMONTHDAY=5\": BYMONTHDAY does not go with FREQ=WEEKLY"},
		{"week of a month", repeat("FREQ=MONTHLY;BYWEEKNO=2;BYDAY=MO"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY;BYWEEKNO=2;BYDAY=MO\": BYWEEKNO does not go"},
		{"week without weekday", repeat("FREQ=YEARLY;BYWEEKNO=2"), "freezes[0].repeat: repeat is \"FREQ=YEARLY;BYWEEKNO=2\": BYWEEKNO needs BYDAY"},
		{"position of nothing", repeat("FREQ=MONTHLY;BYSETPOS=-1"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY;BYSETPOS=-1\": BYSETPOS selects from nothing"},
		{"count and until", repeat("FREQ=DAILY;COUNT=2;UNTIL=20270101T000000"), "freezes[0].repeat: repeat is \"FREQ=DAILY;COUNT=2;UNTIL=20270101T000000\": COUNT and UNTIL"},
		{"until a day", repeat("FREQ=DAILY;UNTIL=20270101"), "freezes[0].repeat: repeat is \"FREQ=DAILY;UNTIL=20270101\": a date alone"},
		{"until no date", repeat("FREQ=DAILY;UNTIL=20270231T000000"), "freezes[0].repeat: repeat is \"FREQ=DAILY;UNTIL=20270231T000000\": UNTIL is no date"},
		{"until before start", repeat("FREQ=DAILY;UNTIL=20250101T000000"), "freezes[0].repeat: repeat is \"FREQ=DAILY;UNTIL=20250101T000000\": it never occurs"},
		{"months without day 31", freeze("2026-01-31T18:00", "2026-02-01T08:00", "FREQ=MONTHLY"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY\": it leaves out months that have no day 31: write BYMONTHDAY=-1"},
		{"years without day 29", freeze("2028-02-29T18:00", "2028-03-01T08:00", "FREQ=YEARLY"), "freezes[0].repeat: repeat is \"FREQ=YEARLY\": it leaves out"},
		{"overlap in February", freeze("2026-01-01T00:00", "2026-01-30T00:00", "FREQ=MONTHLY"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY\": its occurrences of \"2026-02-01T00:00\" and \"2026-03-01T00:00\" overlap"},
		{"overlap once in years", freeze("2026-02-13T00:00", "2026-03-14T00:00", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13"), "freezes[0].repeat: repeat is \"FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13\": its occurrences of \"2026-02-13T00:00\" and \"2026-03-13T00:00\" overlap"},
		{"overlap by a minute", freeze("2026-01-05T00:00", "2026-01-06T00:01", "FREQ=DAILY"), "freezes[0].repeat: repeat is \"FREQ=DAILY\": its occurrences"},

		{"no name", Spec{TimeZone: "UTC", Freezes: []Freeze{{Start: "2026-01-05T09:00", End: "2026-01-05T16:00"}}}, "freezes[0].name: name is missing"},
		{"same name", Spec{TimeZone: "UTC", Freezes: []Freeze{{Name: "x", Start: "2026-01-05T09:00", End: "2026-01-05T16:00"}},
			Windows: []Window{{Name: "x", Start: "2026-01-07T09:00", End: "2026-01-07T16:00"}}}, "windows[0].name: name is \"x\": freezes[0] has the same name"},
		{"in flight", Spec{TimeZone: "UTC", Freezes: []Freeze{{Name: "x", Start: "2026-01-05T09:00", End: "2026-01-05T16:00", InFlight: "abort"}}},
			"freezes[0].inFlight: inFlight is \"abort\": it must be one of finish, pause, rollBack"},
		{"exempt twice", Spec{TimeZone: "UTC", Freezes: []Freeze{{Name: "x", Start: "2026-01-05T09:00", End: "2026-01-05T16:00", Exempt: []string{"a", "b", "a"}}}},
			"freezes[0].exempt[2]: class \"a\": it is listed twice"},
		{"class without name", Spec{TimeZone: "UTC", Windows: []Window{{Name: "x", Start: "2026-01-05T09:00", End: "2026-01-05T16:00", Classes: []string{""}}}},
			"windows[0].classes[0]: class is empty"},
		{"window within a freeze", Spec{TimeZone: "UTC",
			Freezes: []Freeze{{Name: "nights", Start: "2026-01-01T18:00", End: "2026-01-02T08:00", Repeat: "FREQ=DAILY", Exempt: []string{"low"}}},
			Windows: []Window{{Name: "x", Start: "2026-01-05T20:00", End: "2026-01-05T23:00", Repeat: "FREQ=WEEKLY", Classes: []string{"low", "high"}}}},
			"windows[0]: class \"high\" may never release: freezes cover all of its windows"},
		{"one window within a freeze", Spec{TimeZone: "UTC",
			Freezes: []Freeze{{Name: "winter", Start: "2010-11-01T00:00", End: "2027-01-01T00:00"}},
			Windows: []Window{{Name: "x", Start: "2026-01-05T20:00", End: "2026-01-05T23:00"}}},
			"windows[0]: a class may never release"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(test.spec)
			var errs Errors
			if !errors.As(err, &errs) || len(errs) != 1 {
				t.Fatalf("got %v, want one error", err)
			}
			if !strings.HasPrefix(errs[0].Error(), test.want) || errs[0].Remedy == "" {
				t.Errorf("got  %s\nwant %s…", errs[0], test.want)
			}
		})
	}
}

// TestCompileTellsEverything expects all errors of a calendar at once.
func TestCompileTellsEverything(t *testing.T) {
	t.Parallel()
	_, err := Compile(Spec{TimeZone: "Mars/Olympus",
		Freezes: []Freeze{{Name: "a", Start: "x", End: "y"}, {Name: "a", Start: "2026-01-05T09:00", End: "2026-01-05T16:00", Repeat: "FREQ=NEVER"}},
		Windows: []Window{{Start: "2026-01-05T09:00", End: "2026-01-04T16:00"}}})
	var paths []string
	for _, e := range err.(Errors) {
		paths = append(paths, e.Path)
	}
	if got, want := fmt.Sprint(paths), "[timeZone freezes[0].start freezes[0].end freezes[1].name freezes[1].repeat windows[0].name windows[0].end]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var one Error
	if !errors.As(err, &one) || one.Path != "timeZone" {
		t.Errorf("errors.As gives %v", one)
	}
}

// TestCompileIsBounded gives the most expensive rules known: none of them ever occurs.
func TestCompileIsBounded(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=300", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"} {
		begin := time.Now()
		_, err := Compile(Spec{TimeZone: "Europe/Berlin", Freezes: []Freeze{{Name: "f", Start: "2000-01-03T09:00", End: "2000-01-05T08:00", Repeat: rule}}})
		if took := time.Since(begin); err == nil || took > 5*time.Second {
			t.Errorf("%s took %s: %v", rule, took, err)
		}
	}
	if _, err := Compile(Spec{TimeZone: "UTC", Freezes: make([]Freeze, maxEntries+1)}); err == nil {
		t.Error("too many entries are accepted")
	}
}

// FuzzCompile looks for texts that crash it or keep it busy.
func FuzzCompile(f *testing.F) {
	f.Add("Europe/Berlin", "2026-01-05T09:00", "2026-01-05T16:00", "FREQ=WEEKLY;BYDAY=MO,TU;UNTIL=20270101T000000Z")
	f.Add("UTC", "2026-01-31T18:00", "2026-02-01T08:00", "FREQ=MONTHLY;BYMONTHDAY=-1")
	f.Add("Africa/Cairo", "2026-01-02T00:00", "2026-01-03T08:00", "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=FR;BYSETPOS=1;INTERVAL=2;WKST=SU")
	f.Fuzz(func(t *testing.T, zone, start, end, repeat string) {
		c, err := Compile(Spec{TimeZone: zone, Freezes: []Freeze{{Name: "f", Start: start, End: end, Repeat: repeat}}})
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		a := c.At("any", now)
		if a.Until != nil && !a.Until.After(now) {
			t.Fatalf("%s", describe(a))
		}
		c.Events(now, 10)
	})
}
