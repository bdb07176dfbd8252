package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/purser-gitops/purser/sources/calendar"
)

func TestNext(t *testing.T) {
	peaks := []Peak{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "21:00"}, {Days: []string{"sat"}, From: "20:00", To: "02:00"}}
	berlin := func(cron string) Spec { return Spec{Cron: cron, TimeZone: "Europe/Berlin"} }
	for _, test := range []struct {
		name  string
		spec  Spec
		after string
		want  []string
	}{
		{"night", berlin("30 2 * * *"), "2027-01-31T00:00:00+01:00", []string{"2027-01-31T02:30:00+01:00", "2027-02-01T02:30:00+01:00"}},
		{"exactly at one", berlin("30 2 * * *"), "2027-01-31T02:30:00+01:00", []string{"2027-02-01T02:30:00+01:00"}},
		{"skipped", berlin("30 2 * * *"), "2027-03-27T03:00:00+01:00", []string{"2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"}},
		{"shown twice", berlin("30 2 * * *"), "2027-10-30T03:00:00+02:00", []string{"2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"}},
		{"after the first of two", berlin("30 2 * * *"), "2027-10-31T02:30:00+02:00", []string{"2027-11-01T02:30:00+01:00"}},
		{"hours skipped", berlin("0 * * * *"), "2027-03-28T00:30:00+01:00",
			[]string{"2027-03-28T01:00:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-28T04:00:00+02:00"}},
		{"hours shown twice", berlin("*/30 * * * *"), "2027-10-31T01:30:00+02:00",
			[]string{"2027-10-31T02:00:00+02:00", "2027-10-31T02:30:00+02:00", "2027-10-31T02:00:00+01:00", "2027-10-31T02:30:00+01:00", "2027-10-31T03:00:00+01:00"}},
		{"midnight skipped", Spec{Cron: "0 0 * * *", TimeZone: "Africa/Cairo"}, "2027-04-29T12:00:00+02:00",
			[]string{"2027-04-30T01:00:00+03:00", "2027-05-01T00:00:00+03:00"}},
		{"half an hour", Spec{Cron: "0 * * * *", TimeZone: "Australia/Lord_Howe"}, "2027-04-04T00:30:00+11:00",
			[]string{"2027-04-04T01:00:00+11:00", "2027-04-04T02:00:00+10:30", "2027-04-04T03:00:00+10:30"}},
		{"leap day", berlin("0 2 29 2 *"), "2027-01-01T00:00:00Z", []string{"2028-02-29T02:00:00+01:00", "2032-02-29T02:00:00+01:00"}},
		{"peak hours", Spec{Cron: "0 8-22 * * *", TimeZone: "Europe/Berlin", Peaks: peaks}, "2027-01-29T07:00:00+01:00", // a Friday
			[]string{"2027-01-29T08:00:00+01:00", "2027-01-29T21:00:00+01:00", "2027-01-29T22:00:00+01:00", "2027-01-30T08:00:00+01:00"}},
		{"peak hours past midnight", Spec{Cron: "0 0 * * *", TimeZone: "Europe/Berlin", Peaks: peaks}, "2027-01-30T12:00:00+01:00",
			[]string{"2027-01-31T02:00:00+01:00", "2027-02-01T00:00:00+01:00"}},
		{"inside of them", Spec{Cron: "0 8-22 * * *", TimeZone: "Europe/Berlin", Peaks: peaks}, "2027-01-29T20:59:59+01:00",
			[]string{"2027-01-29T21:00:00+01:00", "2027-01-29T22:00:00+01:00"}},
		{"no slot inside of them", Spec{Cron: "0 23 * * *", TimeZone: "Europe/Berlin", Peaks: peaks}, "2027-01-29T20:59:59+01:00",
			[]string{"2027-01-29T23:00:00+01:00"}},
		{"jitter keeps out of them", Spec{Cron: "50 8 * * *", TimeZone: "Europe/Berlin", Peaks: peaks, Jitter: 15 * time.Minute}, "2027-01-29T00:00:00+01:00",
			[]string{"2027-01-29T21:00:36+01:00", "2027-01-30T08:50:36+01:00"}},
		{"as late as the clocks allow", Spec{Cron: "0 2 * * *", TimeZone: "Europe/Berlin", Peaks: []Peak{{From: "01:30", To: "02:30"}}}, "2027-10-31T00:00:00+02:00",
			[]string{"2027-10-31T02:30:00+01:00"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := compile(t, test.spec)
			for at := moment(t, test.after); len(test.want) > 0; test.want = test.want[1:] {
				at = s.Next("prod-eu", at)
				if got := at.In(moment(t, test.want[0]).Location()).Format(time.RFC3339); got != test.want[0] {
					t.Fatalf("got %s, want %s", got, test.want[0])
				}
			}
		})
	}
}

func TestLongestGap(t *testing.T) {
	shop := []Peak{{Days: []string{"mon", "tue", "wed", "thu", "fri", "sat"}, From: "09:00", To: "21:00"}}
	for _, test := range []struct {
		spec  Spec
		gap   time.Duration
		after string
	}{
		{Spec{Cron: "30 2 * * *", TimeZone: "UTC"}, 24 * time.Hour, "2029-01-01T02:30:00Z"},
		{Spec{Cron: "30 1 * * *", TimeZone: "Europe/Berlin"}, 25 * time.Hour, "2029-10-28T01:30:00+02:00"},
		{Spec{Cron: "0 * * * *", TimeZone: "Europe/Berlin"}, time.Hour, "2029-01-01T02:00:00+01:00"},
		{Spec{Cron: "0 2 * * 1-5", TimeZone: "UTC"}, 72 * time.Hour, "2029-01-05T02:00:00Z"},
		{Spec{Cron: "0 * * * *", TimeZone: "UTC", Peaks: shop}, 13 * time.Hour, "2029-01-01T08:00:00Z"},
		{Spec{Cron: "0 * * * *", TimeZone: "UTC", Peaks: shop, Jitter: 30 * time.Minute}, 13 * time.Hour, "2029-01-01T08:00:00Z"},
		{Spec{Cron: "0 0 29 2 *", TimeZone: "UTC"}, 1461 * 24 * time.Hour, "2032-02-29T00:00:00Z"},
		{Spec{Cron: "0 0 1 1 *", TimeZone: "UTC"}, 365 * 24 * time.Hour, "2030-01-01T00:00:00Z"},
		{Spec{Cron: "0 3 * 1-11 *", TimeZone: "UTC"}, 32 * 24 * time.Hour, "2029-11-30T03:00:00Z"},
	} {
		gap, after := compile(t, test.spec).LongestGap()
		if gap != test.gap || after.Format(time.RFC3339) != test.after {
			t.Errorf("%+v: %s after %s", test.spec, gap, after.Format(time.RFC3339))
		}
	}
}

// Random schedules in zones with all kinds of clocks, against a search minute by minute.
func TestNextBruteForce(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	zones := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "America/St_Johns", "UTC"}
	crons := []string{"30 2 * * *", "0 * * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 0 * * sun", "59 23 28-31 * *", "0 */2 * * *", "45 0 1 * 1"}
	edges := []string{"2027-03-27T12:00:00Z", "2027-03-13T12:00:00Z", "2027-10-30T12:00:00Z", "2027-11-06T12:00:00Z", "2027-04-03T03:00:00Z", "2027-10-02T03:00:00Z", "2027-04-29T06:00:00Z", "2027-06-30T00:00:00Z"}
	for range 50 {
		spec := Spec{Cron: crons[random.IntN(len(crons))], TimeZone: zones[random.IntN(len(zones))], Jitter: time.Duration(random.IntN(4)) * 20 * time.Minute}
		for range random.IntN(3) {
			from, length := random.IntN(24*60), 1+random.IntN(10*60)
			clock := func(minute int) string {
				return time.Time{}.Add(time.Duration(minute%(24*60)) * time.Minute).Format("15:04")
			}
			p := Peak{From: clock(from), To: clock(from + length)}
			for day := range Weekdays {
				if random.IntN(2) == 0 {
					p.Days = append(p.Days, Weekdays[day])
				}
			}
			spec.Peaks = append(spec.Peaks, p)
		}
		s := compile(t, spec)
		begin := moment(t, edges[random.IntN(len(edges))])
		var want []time.Time // starts without offset, found by looking at every minute
		slots := slotsByMinute(s, begin.Add(-10*day), begin.Add(3*day))
		for _, slot := range slots {
			if at := freeByMinute(s, slot); (len(want) == 0 || at.After(want[len(want)-1])) && at.After(begin) {
				want = append(want, at)
			}
		}
		offset := s.Offset("dev")
		at := begin.Add(offset)
		for _, w := range want {
			if w.After(begin.Add(3 * day)) {
				break
			}
			if at = s.Next("dev", at); !at.Equal(w.Add(offset)) {
				t.Fatalf("%+v after %s: got %s, want %s", spec, begin, at.Add(-offset).In(s.zone), w.In(s.zone))
			}
			if inPeak(s, at) {
				t.Fatalf("%+v: %s is in peak hours", spec, at.In(s.zone))
			}
		}
	}
}

// slotsByMinute looks at every minute of the wall clock, and at the clocks' changes.
func slotsByMinute(s *Schedule, from, to time.Time) []time.Time {
	seen := map[int64]bool{}
	var out []time.Time
	for wall := wallOf(from, s.zone).Truncate(time.Minute); wall.Before(wallOf(to, s.zone)); wall = wall.Add(time.Minute) {
		if !s.cron.Next(wall.Add(-1)).Equal(wall) {
			continue
		}
		earlier, later := calendar.Instants(s.zone, wall)
		for _, t := range []time.Time{earlier, later} {
			if !seen[t.Unix()] && (s.hourly || t.Equal(earlier)) {
				seen[t.Unix()] = true
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// freeByMinute is the first minute from t on from which on no peak hours begin within the jitter.
func freeByMinute(s *Schedule, t time.Time) time.Time {
	for ; ; t = t.Add(time.Minute) {
		free := !inPeak(s, t)
		for d := time.Minute; free && d <= s.jitter; d += time.Minute {
			free = !inPeak(s, t.Add(d))
		}
		if free {
			return t
		}
	}
}

func inPeak(s *Schedule, t time.Time) bool {
	for _, p := range s.peaks {
		if !p.covers(s.zone, t, 0).IsZero() {
			return true
		}
	}
	return false
}

func moment(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func BenchmarkLongestGap(b *testing.B) {
	s := compile(b, Spec{Cron: "*/15 * * * *", TimeZone: "Europe/Berlin", Jitter: 5 * time.Minute, Peaks: []Peak{
		{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "12:00"}, {From: "16:00", To: "19:00"}}})
	for b.Loop() {
		s.longestGap()
	}
}
