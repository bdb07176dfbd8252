package calendar

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// retail is the calendar of the documentation.
var retail = Spec{TimeZone: "Europe/Berlin",
	Freezes: []Freeze{
		{Name: "black-friday", Reason: "peak trade", Start: "2026-11-26T00:00", End: "2026-12-01T06:00", Exempt: []string{"emergency"}},
		{Name: "month-end", Reason: "closing", Start: "2026-01-31T18:00", End: "2026-02-01T08:00", Repeat: "FREQ=MONTHLY;BYMONTHDAY=-1", InFlight: Pause},
	},
	Windows: []Window{
		{Name: "weekdays", Start: "2026-01-05T09:00", End: "2026-01-05T16:00", Repeat: "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", Classes: []string{"standard", "high"}},
	}}

func TestAt(t *testing.T) {
	t.Parallel()
	c := compile(t, retail)
	tests := []struct{ class, now, want string }{
		{"standard", "2026-11-23T10:00:00+01:00", `open=true by="weekdays" in flight="" exempt=[] reason="window \"weekdays\" is open" opens=never closes=2026-11-23T16:00:00+01:00 until=2026-11-23T16:00:00+01:00`},
		{"standard", "2026-11-23T15:59:59+01:00", `open=true by="weekdays" in flight="" exempt=[] reason="window \"weekdays\" is open" opens=never closes=2026-11-23T16:00:00+01:00 until=2026-11-23T16:00:00+01:00`},
		{"standard", "2026-11-25T16:00:00+01:00", `open=false by="" in flight="" exempt=[] reason="no release window of this class is open" opens=2026-12-01T09:00:00+01:00 closes=never until=2026-11-26T00:00:00+01:00`},
		{"standard", "2026-11-26T10:00:00+01:00", `open=false by="black-friday" in flight="finish" exempt=[] reason="freeze \"black-friday\" is in force: peak trade" opens=2026-12-01T09:00:00+01:00 closes=never until=2026-11-26T16:00:00+01:00`},
		{"standard", "2026-11-30T20:00:00+01:00", `open=false by="month-end" in flight="pause" exempt=[] reason="freeze \"month-end\" is in force: closing" opens=2026-12-01T09:00:00+01:00 closes=never until=2026-12-01T06:00:00+01:00`},
		{"low", "2026-11-25T16:00:00+01:00", `open=true by="" in flight="" exempt=[] reason="no freeze is in force, and the class needs no release window" opens=never closes=2026-11-26T00:00:00+01:00 until=2026-11-26T00:00:00+01:00`},
		{"low", "2026-11-27T16:00:00+01:00", `open=false by="black-friday" in flight="finish" exempt=[] reason="freeze \"black-friday\" is in force: peak trade" opens=2026-12-01T08:00:00+01:00 closes=never until=2026-11-30T18:00:00+01:00`},
		{"emergency", "2026-11-27T16:00:00+01:00", `open=true by="" in flight="" exempt=["black-friday"] reason="no freeze is in force, and the class needs no release window; the class is exempt from black-friday" opens=never closes=2026-11-30T18:00:00+01:00 until=2026-11-30T18:00:00+01:00`},
		{"emergency", "2026-11-30T18:00:00+01:00", `open=false by="month-end" in flight="pause" exempt=["black-friday"] reason="freeze \"month-end\" is in force: closing" opens=2026-12-01T08:00:00+01:00 closes=never until=2026-12-01T06:00:00+01:00`},
	}
	for _, test := range tests {
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(c.At(test.class, now)); got != test.want {
			t.Errorf("%s at %s:\ngot  %s\nwant %s", test.class, test.now, got, test.want)
		}
	}
}

func TestRemaining(t *testing.T) {
	t.Parallel()
	c := compile(t, retail)
	now := time.Date(2026, 11, 23, 14, 30, 30, 0, time.UTC)
	if left, ok := c.At("high", now).Remaining(now); !ok || left != 29*time.Minute+30*time.Second {
		t.Errorf("remaining %s, %v", left, ok)
	}
	closed := time.Date(2026, 11, 27, 14, 30, 0, 0, time.UTC)
	if left, ok := c.At("high", closed).Remaining(closed); ok {
		t.Errorf("remaining %s of a closed window", left)
	}
	endless := compile(t, Spec{TimeZone: "UTC", Freezes: []Freeze{{Name: "past", Start: "2026-01-01T00:00", End: "2026-01-02T00:00"}}})
	if left, ok := endless.At("high", now).Remaining(now); ok {
		t.Errorf("remaining %s, but it never closes", left)
	}
}

// TestFreezeEndsAtItsWallTime has a freeze of 48 local hours over each change of the clocks.
func TestFreezeEndsAtItsWallTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		start, end string
		want       time.Duration
	}{
		{"2026-03-28T06:00", "2026-03-30T06:00", 47 * time.Hour},
		{"2026-10-24T06:00", "2026-10-26T06:00", 49 * time.Hour},
		{"2026-06-06T06:00", "2026-06-08T06:00", 48 * time.Hour},
	} {
		c := compile(t, Spec{TimeZone: "Europe/Berlin", Freezes: []Freeze{{Name: "f", Start: test.start, End: test.end}}})
		event := c.Events(time.Time{}, 1)[0]
		if event.Start.Format(wallLayout) != test.start || event.End.Format(wallLayout) != test.end || event.End.Sub(event.Start) != test.want {
			t.Errorf("%s to %s: %s to %s", test.start, test.end, event.Start, event.End)
		}
	}
}

// TestClockChanges names what happens to single spans when the clocks change, in seconds from the change.
func TestClockChanges(t *testing.T) {
	t.Parallel()
	spring, autumn := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name, day, from, to string
		change              time.Time
		freeze, window      [2]int // minutes from the change
	}{
		{"starts in the gap", "2026-03-29", "02:30", "04:00", spring, [2]int{0, 60}, [2]int{0, 60}},
		{"ends in the gap", "2026-03-29", "01:00", "02:30", spring, [2]int{-60, 0}, [2]int{-60, 0}},
		{"over the gap", "2026-03-29", "01:30", "03:30", spring, [2]int{-30, 30}, [2]int{-30, 30}},
		{"starts in the repeated hour", "2026-10-25", "02:30", "04:00", autumn, [2]int{-30, 120}, [2]int{30, 120}},
		{"ends in the repeated hour", "2026-10-25", "01:00", "02:30", autumn, [2]int{-120, 30}, [2]int{-120, -30}},
		{"within the repeated hour", "2026-10-25", "02:15", "02:45", autumn, [2]int{-45, 45}, [2]int{-45, -15}},
		{"ends where the repeated hour begins", "2026-10-25", "01:00", "02:00", autumn, [2]int{-120, 0}, [2]int{-120, -60}},
		{"starts where it ends", "2026-10-25", "03:00", "04:00", autumn, [2]int{60, 120}, [2]int{60, 120}},
		{"over the repeated hour", "2026-10-25", "01:30", "03:30", autumn, [2]int{-90, 90}, [2]int{-90, 90}},
	} {
		start, end := test.day+"T"+test.from, test.day+"T"+test.to
		c := compile(t, Spec{TimeZone: "Europe/Berlin", Freezes: []Freeze{{Name: "f", Start: start, End: end}}, Windows: []Window{
			{Name: "w", Start: start, End: end, Classes: []string{"c"}}, {Name: "else", Start: "2026-05-01T00:00", End: "2026-05-02T00:00", Classes: []string{"c"}}}})
		for _, event := range c.Events(test.change.AddDate(0, 0, -1), 3) {
			got := [2]int{int(event.Start.Sub(test.change).Minutes()), int(event.End.Sub(test.change).Minutes())}
			if event.Name == "f" && got != test.freeze || event.Name == "w" && got != test.window {
				t.Errorf("%s: %s is %v", test.name, event.Name, got)
			}
		}
	}
}

// TestWindowsWithoutGap has windows that follow each other: the class stays open until the last of them closes.
func TestWindowsWithoutGap(t *testing.T) {
	t.Parallel()
	c := compile(t, Spec{TimeZone: "UTC", Windows: []Window{
		{Name: "a", Start: "2026-01-05T08:00", End: "2026-01-05T12:00", Repeat: "FREQ=DAILY"},
		{Name: "b", Start: "2026-01-05T12:00", End: "2026-01-05T14:00", Repeat: "FREQ=DAILY"},
		{Name: "c", Start: "2026-01-05T13:00", End: "2026-01-05T16:00", Repeat: "FREQ=DAILY"}}})
	a := c.At("x", time.Date(2026, 5, 5, 9, 0, 0, 0, time.UTC))
	if !a.Open || a.By != "a" || !a.NextClose.Equal(time.Date(2026, 5, 5, 16, 0, 0, 0, time.UTC)) || !a.Until.Equal(time.Date(2026, 5, 5, 12, 0, 0, 0, time.UTC)) {
		t.Error(describe(a))
	}
	always := compile(t, Spec{TimeZone: "UTC", Windows: []Window{{Name: "a", Start: "2026-01-05T08:00", End: "2026-01-06T08:00", Repeat: "FREQ=DAILY"}}})
	if a := always.At("x", time.Date(2026, 5, 5, 9, 0, 0, 0, time.UTC)); !a.Open || a.NextClose != nil || a.Until == nil {
		t.Error(describe(a))
	}
}

// TestAfterTheLastEdge has nothing ahead.
func TestAfterTheLastEdge(t *testing.T) {
	t.Parallel()
	c := compile(t, Spec{TimeZone: "UTC", Windows: []Window{{Name: "a", Start: "2026-01-05T08:00", End: "2026-01-06T08:00", Repeat: "FREQ=DAILY;COUNT=3"}}})
	late := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	if a := c.At("x", late); a.Open || a.NextOpen != nil || a.NextClose != nil || a.Until != nil {
		t.Error(describe(a))
	}
	if _, ok := c.NextEdge("x", late); ok {
		t.Error("there is an edge")
	}
	if events := c.Events(late, 5); len(events) != 0 {
		t.Errorf("events %v", events)
	}
	for _, at := range []time.Time{{}, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)} {
		c.At("x", at) // ends
	}
}

func TestUntilInUTC(t *testing.T) {
	t.Parallel()
	c := compile(t, Spec{TimeZone: "America/New_York", Freezes: []Freeze{{Name: "f", Start: "2026-06-01T20:00", End: "2026-06-01T21:00", Repeat: "FREQ=DAILY;UNTIL=20260604T000000Z"}}})
	events := c.Events(time.Time{}, 10)
	if len(events) != 3 { // 3 June 20:00 in New York is 4 June 00:00 UTC, and still counts
		t.Errorf("%d occurrences", len(events))
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	c := compile(t, retail)
	var got []string
	for _, e := range c.Events(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), 5) {
		got = append(got, fmt.Sprint(e.Name, " ", e.Freeze, " ", e.Start.Format(wallLayout), " ", e.End.Format(wallLayout), " ", e.Classes, e.InFlight))
	}
	want := []string{
		"black-friday true 2026-11-26T00:00 2026-12-01T06:00 [emergency]finish",
		"weekdays false 2026-11-26T09:00 2026-11-26T16:00 [standard high]",
		"weekdays false 2026-11-30T09:00 2026-11-30T16:00 [standard high]",
		"month-end true 2026-11-30T18:00 2026-12-01T08:00 []pause",
		"weekdays false 2026-12-01T09:00 2026-12-01T16:00 [standard high]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if n := len(c.Events(time.Time{}, -1)); n != 0 {
		t.Errorf("%d events", n)
	}
}

// TestConcurrentUse asks from many goroutines about different times.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	shared, own := compile(t, rich("Europe/Berlin", "2026-10-25")), compile(t, rich("Europe/Berlin", "2026-10-25"))
	begin := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	classes := []string{"standard", "high", "emergency", "low"}
	want := map[string]string{}
	for i := range 200 {
		at, class := begin.Add(time.Duration(i)*7*time.Hour), classes[i%4]
		want[class+at.String()] = describe(own.At(class, at))
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 200 {
				i := (n*37 + worker*11) % 200
				at, class := begin.Add(time.Duration(i)*7*time.Hour), classes[i%4]
				if got := describe(shared.At(class, at)); got != want[class+at.String()] {
					t.Errorf("%s at %s: %s", class, at, got)
				}
				shared.Events(at, 3)
			}
		})
	}
	group.Wait()
}

// TestAnswersAreTheCallersOwn changes the times of one answer.
func TestAnswersAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	c := compile(t, retail)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	a := c.At("high", now)
	before := describe(a)
	*a.NextClose, *a.Until = time.Time{}, time.Time{}
	if got := describe(c.At("high", now)); got != before {
		t.Error(got)
	}
}

// heavy has as many entries as are allowed.
func heavy() Spec {
	spec := Spec{TimeZone: "Europe/Berlin"}
	for i := range maxEntries / 2 {
		spec.Freezes = append(spec.Freezes, Freeze{Name: fmt.Sprint("f", i), Start: "2020-01-06T00:30", End: "2020-01-06T01:30", Repeat: "FREQ=DAILY"})
		spec.Windows = append(spec.Windows, Window{Name: fmt.Sprint("w", i), Start: "2020-01-06T00:00", End: "2020-01-06T01:30", Repeat: "FREQ=WEEKLY;BYDAY=MO,WE", Classes: []string{"standard"}})
	}
	return spec
}

func BenchmarkAt(b *testing.B) {
	for _, spec := range []struct {
		name string
		spec Spec
	}{{"retail", retail}, {"heavy", heavy()}} {
		now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
		b.Run(spec.name+"/same time", func(b *testing.B) {
			c := compile(b, spec.spec)
			for b.Loop() {
				c.At("standard", now)
			}
		})
		b.Run(spec.name+"/behind an edge", func(b *testing.B) {
			c := compile(b, spec.spec)
			i := 0
			for b.Loop() {
				c.At("standard", now.Add(time.Duration(i%1000)*24*time.Hour))
				i++
			}
		})
		b.Run(spec.name+"/compile and ask", func(b *testing.B) {
			for b.Loop() {
				compile(b, spec.spec).At("standard", now)
			}
		})
	}
}

// Go ends leap years after its table of a zone on 31 December.
func TestLeapYearsBeyondTheZonesTable(t *testing.T) {
	c, err := Compile(Spec{TimeZone: "Europe/Berlin", Freezes: []Freeze{
		{Name: "once", Start: "2040-12-31T18:00", End: "2041-01-01T08:00"},
		{Name: "month-end", Start: "2026-01-31T18:00", End: "2026-02-01T08:00", Repeat: "FREQ=MONTHLY;BYMONTHDAY=-1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	berlin := time.FixedZone("CET", 3600)
	for at, open := range map[time.Time]bool{
		time.Date(2040, 12, 31, 17, 59, 0, 0, berlin): true,
		time.Date(2040, 12, 31, 18, 0, 0, 0, berlin):  false,
		time.Date(2041, 1, 1, 7, 59, 0, 0, berlin):    false,
		time.Date(2041, 1, 1, 8, 0, 0, 0, berlin):     true,
		time.Date(2041, 1, 3, 0, 0, 0, 0, berlin):     true,
	} {
		if a := c.At("low", at); a.Open != open {
			t.Errorf("at %s: %+v", at, a)
		}
	}
}
