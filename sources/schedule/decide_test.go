package schedule

import (
	"strings"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	night := Spec{Cron: "0 2 * * *", TimeZone: "UTC", Peaks: []Peak{{From: "09:00", To: "21:00"}}}
	at := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		return moment(t, "2027-05-"+text+":00Z")
	}
	for _, test := range []struct {
		name               string
		begun, ended, now  string
		failures           int
		wanted             string
		start              bool
		missed             int
		reason, slot, wake string
	}{
		{name: "never ran", now: "10T03:00", start: true, reason: "there was no run yet", wake: "11T02:00"},
		{name: "never ran, in peak hours", now: "10T12:00", reason: "there was no run yet; peak hours, so not before 2027-05-10T21:00:00Z", wake: "10T21:00"},
		{name: "not yet", begun: "10T02:00", ended: "10T02:20", now: "11T01:59", reason: "the next start is 2027-05-11T02:00:00Z", wake: "11T02:00"},
		{name: "on time", begun: "10T02:00", ended: "10T02:20", now: "11T02:00", start: true, reason: "it is time", slot: "11T02:00", wake: "12T02:00"},
		{name: "after a standstill", begun: "01T02:00", ended: "01T02:20", now: "11T05:00", start: true, missed: 9, reason: "10 starts were missed since 2027-05-02T02:00:00Z", slot: "02T02:00", wake: "12T02:00"},
		{name: "once only", begun: "11T05:00", ended: "11T05:20", now: "11T05:21", reason: "the next start is 2027-05-12T02:00:00Z", wake: "12T02:00"},
		{name: "standstill that ends in peak hours", begun: "01T02:00", ended: "01T02:20", now: "11T09:00", reason: "10 starts were missed since 2027-05-02T02:00:00Z; peak hours, so not before 2027-05-11T21:00:00Z", wake: "11T21:00"},
		{name: "and then", begun: "01T02:00", ended: "01T02:20", now: "11T21:00", start: true, missed: 9, reason: "10 starts were missed", slot: "02T02:00", wake: "12T02:00"},
		{name: "no overlap", begun: "10T02:00", now: "11T02:00", reason: "a run is under way since 2027-05-10T02:00:00Z", wake: "12T02:00"},
		{name: "no overlap, after another run", begun: "10T02:00", ended: "09T02:20", now: "11T02:00", reason: "a run is under way", wake: "12T02:00"},
		{name: "not even when wanted", begun: "10T02:00", now: "10T02:01", wanted: "release", reason: "a run is under way", wake: "11T02:00"},
		{name: "passed while it ran", begun: "10T02:00", ended: "11T02:10", now: "11T02:11", reason: "the next start is 2027-05-12T02:00:00Z", wake: "12T02:00"},
		{name: "wanted", begun: "10T02:00", ended: "10T02:20", now: "10T12:00", wanted: "release 18.0.15", start: true, reason: "wanted: release 18.0.15", wake: "11T02:00"},
		{name: "failed", begun: "10T02:00", ended: "10T02:20", failures: 1, now: "10T02:24", reason: "the last run failed (1 in a row); again at 2027-05-10T02:25:00Z", wake: "10T02:25"},
		{name: "again", begun: "10T02:00", ended: "10T02:20", failures: 1, now: "10T02:25", start: true, reason: "the last run failed (1 in a row)", wake: "11T02:00"},
		{name: "failed often", begun: "10T02:00", ended: "10T02:20", failures: 30, now: "10T02:25", reason: "again at 2027-05-10T03:20:00Z", wake: "10T03:20"},
		{name: "not in peak hours", begun: "10T08:50", ended: "10T08:58", failures: 1, now: "10T08:59", reason: "peak hours, so not before 2027-05-10T21:00:00Z", wake: "10T21:00"},
		{name: "the next start comes first", begun: "11T01:00", ended: "11T01:30", failures: 9, now: "11T01:31", reason: "the next start is 2027-05-11T02:00:00Z", wake: "11T02:00"},
		{name: "clock was set back a little", begun: "11T00:50", ended: "11T01:05", now: "11T01:00", reason: "the next start is 2027-05-11T02:00:00Z", wake: "11T02:00"},
		{name: "clock was set back", begun: "20T02:00", ended: "20T02:20", now: "11T01:00", start: true, reason: "the last run is of 2027-05-20T02:20:00Z, which is yet to come", wake: "11T02:00"},
		{name: "clock was set back, in peak hours", begun: "20T02:00", ended: "20T02:20", now: "11T10:00", reason: "peak hours, so not before 2027-05-11T21:00:00Z", wake: "11T21:00"},
		{name: "clock was set back after a failure", begun: "20T02:00", ended: "20T02:20", failures: 3, now: "11T01:00", start: true, reason: "which is yet to come", wake: "11T02:00"},
		{name: "clock was set back while it ran", begun: "20T02:00", ended: "11T00:50", now: "11T01:00", start: true, reason: "which is yet to come", wake: "11T02:00"},
		{name: "clock was set back, and it is wanted", begun: "20T02:00", ended: "20T02:20", now: "11T12:00", wanted: "release", start: true, reason: "wanted: release", wake: "12T02:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := compile(t, night).Decide("dev", State{Begun: at(test.begun), Ended: at(test.ended), Failures: test.failures, Wanted: test.wanted}, at(test.now))
			if d.Start != test.start || d.Missed != test.missed || !d.Slot.Equal(at(test.slot)) || !d.Wake.Equal(at(test.wake)) || !strings.Contains(d.Reason, test.reason) {
				t.Errorf("got %+v", d)
			}
		})
	}
}

// A run whose time is yet to come keeps no other from its start, whenever that is asked for: after one that ends now, all is as usual.
func TestClockThatWasAhead(t *testing.T) {
	t.Parallel()
	s := compile(t, Spec{Cron: "0 * * * *", TimeZone: "UTC"})
	now := moment(t, "2027-05-10T02:10:00Z")
	state := State{Begun: now.AddDate(1, 0, 0), Ended: now.AddDate(1, 0, 0).Add(time.Minute)}
	for range 2 {
		if d := s.Decide("dev", state, now); !d.Start {
			t.Fatalf("at %s: %+v", now, d)
		}
		now = now.Add(time.Hour)
	}
	if d := s.Decide("dev", State{Begun: now, Ended: now}, now); d.Start || !d.Wake.Equal(moment(t, "2027-05-10T05:00:00Z")) {
		t.Errorf("after it: %+v", d)
	}
}

// A loop that sleeps until Wake starts at every start, never in peak hours, and sleeps no more than it must.
func TestLoop(t *testing.T) {
	t.Parallel()
	s := compile(t, Spec{Cron: "0 */3 * * *", TimeZone: "Europe/Berlin", Jitter: 20 * time.Minute, Peaks: []Peak{{From: "09:00", To: "20:00"}}})
	now := moment(t, "2027-03-20T12:00:00Z")
	end := now.AddDate(0, 0, 14)
	var state State
	starts, asked := 0, 0
	for now.Before(end) {
		d := s.Decide("staging", state, now)
		if asked++; d.Start {
			starts++
			if inPeak(s, now) {
				t.Fatalf("starts at %s", now.In(s.zone))
			}
			state = State{Begun: now, Ended: now.Add(7 * time.Minute)}
			now = state.Ended
			continue
		}
		if !d.Wake.After(now) {
			t.Fatalf("at %s: %+v", now, d)
		}
		now = d.Wake
	}
	// 00, 03, 06, 20 and 21 o'clock; on the first day from 20 on.
	if starts < 14*5-3 || starts > 14*5+1 || asked > 2*starts+1 {
		t.Errorf("%d starts, asked %d times", starts, asked)
	}
}

// Nothing that a cron line or clock says makes the package fail.
func FuzzDecide(f *testing.F) {
	f.Add("30 2 * * *", "Europe/Berlin", "09:00", "21:00", int64(time.Hour), int64(1_800_000_000), int64(1_800_100_000))
	f.Add("*/15 1-3 29 2 *", "Asia/Kathmandu", "21:00", "20:30", int64(time.Minute), int64(0), int64(2_000_000_000))
	f.Fuzz(func(t *testing.T, cron, zone, from, to string, jitter, ended, now int64) {
		s, err := Compile(Spec{Cron: cron, TimeZone: zone, Jitter: time.Duration(jitter), Peaks: []Peak{{From: from, To: to}}})
		if err != nil || ended < 0 || now < 0 || ended > 4e9 || now > 4e9 || now-ended > 1e7 {
			return
		}
		at := time.Unix(now, 0)
		d := s.Decide("dev", State{Begun: time.Unix(max(ended-60, 0), 0), Ended: time.Unix(ended, 0)}, at)
		if d.Start && inPeak(s, at) || !d.Wake.IsZero() && (!d.Wake.After(at) || inPeak(s, d.Wake)) {
			t.Errorf("%q in %q, peak %s to %s, jitter %s, at %s: %+v", cron, zone, from, to, time.Duration(jitter), at.In(s.zone), d)
		}
	})
}
