package schedule

import (
	"strings"
	"testing"
	"time"
)

func TestCompileRefuses(t *testing.T) {
	night := func(change func(*Spec)) Spec {
		s := Spec{Cron: "30 2 * * *", TimeZone: "Europe/Berlin"}
		change(&s)
		return s
	}
	peaks := func(p ...Peak) Spec { return night(func(s *Spec) { s.Peaks = p }) }
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no zone", night(func(s *Spec) { s.TimeZone = "" }), "timeZone: time zone is \"\": times of day mean nothing without a time zone"},
		{"unknown zone", night(func(s *Spec) { s.TimeZone = "Europe/Berln" }), "timeZone: time zone is \"Europe/Berln\": there is no such time zone"},
		{"machine's zone", night(func(s *Spec) { s.TimeZone = "Local" }), "it is not the name of a time zone"},
		{"impossible day", night(func(s *Spec) { s.Cron = "0 0 30 2 *" }), "there is no such day, so nothing would ever start"},
		{"four fields", night(func(s *Spec) { s.Cron = "0 0 * *" }), "cron: schedule is \"0 0 * *\": it must have the five fields of cron"},
		{"seconds", night(func(s *Spec) { s.Cron = "0 0 2 * * *" }), "it must have the five fields of cron"},
		{"name", night(func(s *Spec) { s.Cron = "@daily" }), "it must have the five fields of cron"},
		{"zone in it", night(func(s *Spec) { s.Cron = "TZ=UTC 0 2 * * *" }), "it must have the five fields of cron"},
		{"broken zone in it", night(func(s *Spec) { s.Cron = "TZ=0" }), "it must have the five fields of cron"},
		{"hour", night(func(s *Spec) { s.Cron = "0 24 * * *" }), "it is not what cron understands"},
		{"step", night(func(s *Spec) { s.Cron = "0 */0 * * *" }), "it is not what cron understands"},
		{"word", night(func(s *Spec) { s.Cron = "0 2 * * monday" }), "it is not what cron understands"},
		{"too often", night(func(s *Spec) { s.Cron = "* * * * *" }), "it starts 1440 times a day, and may do so 96 times"},
		{"long", night(func(s *Spec) { s.Cron = "0 2 * * " + strings.Repeat("1,", 100) + "1" }), "it must have the five fields of cron"},
		{"jitter", night(func(s *Spec) { s.Jitter = 13 * time.Hour }), "jitter: jitter is 13h0m0s: it must be from 0s to 12h0m0s"},
		{"negative jitter", night(func(s *Spec) { s.Jitter = -time.Second }), "it must be from 0s to 12h"},
		{"whole day", peaks(Peak{From: "00:00", To: "24:00"}), "peakHours[0].to: peak hours cover the whole day: they are from 00:00 to 24:00"},
		{"from noon to noon", peaks(Peak{From: "12:00", To: "12:00"}), "peak hours cover the whole day"},
		{"whole week", peaks(Peak{From: "08:00", To: "20:00"}, Peak{From: "20:00", To: "08:00"}), "peakHours: peak hours leave no time: nothing could ever start: they cover the whole week"},
		{"whole week with the jitter", Spec{Cron: "0 2 * * *", TimeZone: "UTC", Jitter: time.Hour, Peaks: []Peak{{From: "03:00", To: "02:30"}}},
			"they cover the whole week, with the jitter of 1h0m0s before each"},
		{"no day", peaks(Peak{Days: []string{"mon", "tues"}, From: "09:00", To: "10:00"}), "peakHours[0].days[1]: day is \"tues\": there is no such day of the week"},
		{"no time", peaks(Peak{From: "9:00", To: "10:00"}), "peakHours[0].from: from is \"9:00\": there is no such time of day"},
		{"late", peaks(Peak{From: "24:00", To: "10:00"}), "peakHours[0].from: from is \"24:00\""},
		{"too late", peaks(Peak{From: "09:00", To: "24:01"}), "peakHours[0].to: to is \"24:01\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Compile(test.spec)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	_, err := Compile(Spec{Cron: "x", TimeZone: "Mars", Jitter: -1, Peaks: []Peak{{}}})
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("not all that is wrong is told at once: %v", err)
	}
}

func TestOffset(t *testing.T) {
	s := compile(t, Spec{Cron: "0 2 * * *", TimeZone: "UTC", Jitter: 10 * time.Minute})
	if got := s.Offset("prod-eu"); got != 5*time.Minute+36*time.Second {
		t.Errorf("the offset of an environment must never change; it is %s now", got)
	}
	seen := map[time.Duration]bool{}
	for _, name := range []string{"dev", "qa", "uat", "staging", "prod-eu", "training"} {
		offset := s.Offset(name)
		if seen[offset] = true; offset < 0 || offset >= 10*time.Minute {
			t.Errorf("offset of %s is %s", name, offset)
		}
	}
	if len(seen) < 5 {
		t.Errorf("offsets are not spread: %v", seen)
	}
}

func compile(t testing.TB, spec Spec) *Schedule {
	t.Helper()
	s, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
