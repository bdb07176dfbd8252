package calendar

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRulesAgainstEveryDay compares rules with a slow reading of RFC 5545 that looks at each day.
func TestRulesAgainstEveryDay(t *testing.T) {
	t.Parallel()
	tests := []struct{ start, rule string }{
		{"2026-01-05T09:00", "FREQ=DAILY"},
		{"2026-01-05T09:00", "FREQ=DAILY;INTERVAL=10"},
		{"2026-01-05T09:00", "FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR"},
		{"2026-01-31T09:00", "FREQ=DAILY;BYMONTHDAY=-1,15;BYMONTH=1,2,12"},
		{"2026-01-05T09:00", "FREQ=WEEKLY"},
		{"2026-01-05T09:00", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH"},
		{"2026-01-06T09:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO"},
		{"2026-01-06T09:00", "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU"},
		{"2026-01-07T09:00", "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,WE;BYMONTH=1,6,12"},
		{"2026-01-09T09:00", "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=-1"},
		{"2026-01-15T18:00", "FREQ=MONTHLY"},
		{"2026-01-31T18:00", "FREQ=MONTHLY;BYMONTHDAY=-1"},
		{"2026-01-31T18:00", "FREQ=MONTHLY;BYMONTHDAY=31"},
		{"2026-01-30T18:00", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"},
		{"2026-01-01T18:00", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1,-1"},
		{"2026-01-12T18:00", "FREQ=MONTHLY;BYDAY=2MO"},
		{"2026-01-30T18:00", "FREQ=MONTHLY;BYDAY=-1FR,5SA"},
		{"2026-02-13T18:00", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13"},
		{"2026-01-29T18:00", "FREQ=MONTHLY;INTERVAL=5;BYMONTHDAY=-3"},
		{"2026-12-24T00:00", "FREQ=YEARLY"},
		{"2028-02-29T00:00", "FREQ=YEARLY;BYMONTHDAY=29"},
		{"2028-02-29T00:00", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"},
		{"2026-11-27T00:00", "FREQ=YEARLY;BYMONTH=11;BYDAY=-1FR"},
		{"2026-01-05T00:00", "FREQ=YEARLY;BYDAY=1MO,-1MO"},
		{"2026-12-31T00:00", "FREQ=YEARLY;BYYEARDAY=1,100,-1"},
		{"2026-11-23T00:00", "FREQ=YEARLY;BYWEEKNO=48;BYDAY=MO"},
		{"2026-01-02T00:00", "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO,FR"},
		{"2026-01-05T00:00", "FREQ=YEARLY;INTERVAL=2;BYMONTH=1,7;BYDAY=MO;BYSETPOS=1,-1"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			start, wrong := parseWall(test.start)
			if wrong != nil {
				t.Fatal(wrong)
			}
			for _, bound := range []string{"", ";COUNT=17", ";UNTIL=20290630T120000"} {
				rule, wrong := parseRule(test.rule+bound, start, time.UTC)
				if wrong != nil {
					t.Fatal(wrong)
				}
				const years = 30
				var got, want []string
				last := start.AddDate(years, 0, 0)
				following := rule()
				for at, ok := following(); ok && at.Before(last); at, ok = following() {
					got = append(got, at.Format(wallLayout))
				}
				for _, at := range slowly(t, test.rule+bound, start, last) {
					want = append(want, at.Format(wallLayout))
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s%s:\ngot  %d %v\nwant %d %v", test.rule, bound, len(got), head(got), len(want), head(want))
				}
				if len(got) < 2 && bound == "" {
					t.Fatalf("%s: only %v", test.rule, got)
				}
			}
		})
	}
}

func head(texts []string) []string { return texts[:min(len(texts), 20)] }

// slowly expands a rule by looking at each day, grouped into the periods of its frequency.
func slowly(t *testing.T, text string, start, last time.Time) []time.Time {
	t.Helper()
	rule := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		rule[name] = value
	}
	var all []time.Time
	var period []time.Time
	current := 0
	flush := func() {
		if interval := number(rule["INTERVAL"], 1); current%interval == 0 {
			for i, at := range period {
				positions := rule["BYSETPOS"]
				if !at.Before(start) && (positions == "" || has(positions, i+1) || has(positions, i-len(period))) {
					all = append(all, at)
				}
			}
		}
		period = nil
	}
	first := time.Date(start.Year(), 1, 1, start.Hour(), start.Minute(), 0, 0, time.UTC).AddDate(0, 0, -7)
	for day := first; day.Before(last.AddDate(1, 0, 0)); day = day.AddDate(0, 0, 1) {
		if n := periodOf(rule, start, day); n != current {
			flush()
			current = n
		}
		if matches(rule, start, day) {
			period = append(period, day)
		}
	}
	flush()
	if n := number(rule["COUNT"], len(all)); n < len(all) {
		all = all[:n]
	}
	if until := rule["UNTIL"]; until != "" {
		at, err := time.Parse("20060102T150405", until)
		if err != nil {
			t.Fatal(err)
		}
		last = at.Add(time.Second)
	}
	return slices.DeleteFunc(all, func(at time.Time) bool { return !at.Before(last) })
}

// periodOf numbers the days, weeks, months or years; the one of the start is 0.
func periodOf(rule map[string]string, start, day time.Time) int {
	days := func(t time.Time) int { return int(t.Unix()/86400) + 3 } // 1970-01-01 was a Thursday
	switch rule["FREQ"] {
	case "DAILY":
		return days(day) - days(start)
	case "WEEKLY":
		shift := 0
		if rule["WKST"] == "SU" {
			shift = 1
		}
		return (days(day)+shift)/7 - (days(start)+shift)/7
	case "MONTHLY":
		return (day.Year()-start.Year())*12 + int(day.Month()) - int(start.Month())
	}
	if rule["BYWEEKNO"] != "" {
		weekYear, _ := day.ISOWeek()
		return weekYear - start.Year()
	}
	return day.Year() - start.Year()
}

func matches(rule map[string]string, start, day time.Time) bool {
	daysIn := func(from time.Time, months int) int { return int(from.AddDate(0, months, 0).Sub(from).Hours() / 24) }
	month := time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC)
	year := time.Date(day.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	months, yearly := daysIn(month, 1), daysIn(year, 12)
	_, week := day.ISOWeek()
	for name, ok := range map[string]func(value string) bool{
		"BYMONTH":    func(v string) bool { return has(v, int(day.Month())) },
		"BYMONTHDAY": func(v string) bool { return has(v, day.Day()) || has(v, day.Day()-months-1) },
		"BYYEARDAY":  func(v string) bool { return has(v, day.YearDay()) || has(v, day.YearDay()-yearly-1) },
		"BYWEEKNO":   func(v string) bool { return has(v, week) },
		"BYDAY": func(v string) bool {
			position, of := day.Day(), months
			if rule["FREQ"] == "YEARLY" && rule["BYMONTH"] == "" {
				position, of = day.YearDay(), yearly
			}
			name := strings.ToUpper(day.Weekday().String()[:2])
			nth, nthLast := (position-1)/7+1, (of-position)/7+1
			return slices.ContainsFunc(strings.Split(v, ","), func(item string) bool {
				return item == name || item == fmt.Sprint(nth)+name || item == fmt.Sprint(-nthLast)+name
			})
		},
	} {
		if v := rule[name]; v != "" && !ok(v) {
			return false
		}
	}
	if rule["BYDAY"]+rule["BYMONTHDAY"]+rule["BYYEARDAY"] == "" {
		switch rule["FREQ"] {
		case "WEEKLY":
			return day.Weekday() == start.Weekday()
		case "MONTHLY":
			return day.Day() == start.Day()
		case "YEARLY":
			return day.Day() == start.Day() && (rule["BYMONTH"] != "" || day.Month() == start.Month())
		}
	}
	return true
}

func has(list string, n int) bool { return slices.Contains(strings.Split(list, ","), fmt.Sprint(n)) }

func number(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return otherwise
}

// TestRandomRules compares random rules with the slow reading.
func TestRandomRules(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	several := func(item func() string) string {
		items := []string{item()}
		for random.IntN(2) == 0 {
			items = append(items, item())
		}
		slices.Sort(items)
		return strings.Join(slices.Compact(items), ",")
	}
	compared := 0
	for range 150 {
		start := time.Date(2026, 1, 1, 9, 30, 0, 0, time.UTC).AddDate(0, 0, random.IntN(1500))
		text := "FREQ=" + pick("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
		add := func(oneIn int, name string, value string) {
			if random.IntN(oneIn) == 0 {
				text += ";" + name + "=" + value
			}
		}
		add(3, "INTERVAL", fmt.Sprint(1+random.IntN(6)))
		add(4, "WKST", pick("MO", "SU"))
		add(4, "COUNT", fmt.Sprint(1+random.IntN(30)))
		add(3, "BYMONTH", several(func() string { return fmt.Sprint(1 + random.IntN(12)) }))
		add(4, "BYMONTHDAY", several(func() string { return pick("", "-") + fmt.Sprint(1+random.IntN(31)) }))
		add(6, "BYYEARDAY", several(func() string { return pick("", "-") + fmt.Sprint(1+random.IntN(366)) }))
		number := pick("", "", "1", "2", "5", "-1", "-4")
		add(3, "BYDAY", several(func() string { return number + pick("MO", "TU", "WE", "TH", "FR", "SA", "SU") }))
		add(3, "BYSETPOS", several(func() string { return pick("", "-") + fmt.Sprint(1+random.IntN(4)) }))
		rule, wrong := parseRule(text, start, time.UTC)
		if wrong != nil {
			continue // forbidden combinations
		}
		last := start.AddDate(5, 0, 0)
		var got, want []string
		following := rule()
		for at, ok := following(); ok && at.Before(last); at, ok = following() {
			got = append(got, at.Format(wallLayout))
		}
		for _, at := range slowly(t, text, start, last) {
			want = append(want, at.Format(wallLayout))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s from %s:\ngot  %d %v\nwant %d %v", text, start.Format(wallLayout), len(got), head(got), len(want), head(want))
		}
		if len(got) > 1 {
			compared++
		}
	}
	if compared < 50 {
		t.Errorf("only %d rules were compared", compared)
	}
}
