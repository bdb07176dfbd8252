package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// frozenFiles declare a freeze for dev in a zone's local time.
func frozenFiles(zone, start, end string) files {
	return files{
		"purser/calendar.yaml": file(fmt.Sprintf("apiVersion: purser.dev/v1alpha1\nkind: Calendar\nmetadata: {name: retail}\nspec:\n  timeZone: %s\n"+
			"  freezes: [{name: peak, reason: peak trade, start: %q, end: %q}]\n", zone, start, end)),
		"purser/envs/dev.yaml": file(envYAML("dev", "class: standard, calendar: retail")),
	}
}

// TestAdversaryFreezeEdges releases at every moment around the edges of freezes that begin or end where the clocks change.
// While a clock in the shop shows a time of the freeze, nothing goes out.
func TestAdversaryFreezeEdges(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"} {
		place, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		change := clocksChange(place)
		for _, edges := range [][2]time.Duration{
			{-40 * time.Minute, 90 * time.Minute}, {-5 * time.Hour, 20 * time.Minute}, {20 * time.Minute, 5 * time.Hour}, {-30 * time.Minute, 30 * time.Minute},
			{-5 * time.Hour, -15 * time.Minute}, {time.Duration(random.IntN(120)-60) * time.Minute, time.Duration(random.IntN(300)+61) * time.Minute},
		} {
			const form = "2006-01-02T15:04"
			wall := change.In(place)
			naive := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, time.UTC)
			start, end := naive.Add(edges[0]).Format(form), naive.Add(edges[1]).Format(form)
			t.Run(fmt.Sprintf("%s from %s to %s", zone, start, end), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, frozenFiles(zone, start, end))
				s.change(draft{key: "developer-1"}, two)
				s.mustPropose()
				said := s.approval()
				said.Expires = change.AddDate(1, 0, 0)
				if refused := s.says("release-manager-2", said); refused != "" {
					t.Fatal(refused)
				}
				s.agent.journal.state.At = time.Time{} // as if nothing was recorded yet
				frozen, open := 0, 0
				for at := change.Add(-8 * time.Hour); at.Before(change.Add(8 * time.Hour)); at = at.Add(7 * time.Minute) {
					s.clock = at
					shown := at.In(place).Format(form)
					switch v := s.judge("dev"); {
					case shown >= start && shown < end:
						frozen++
						s.denied(v)
					case v.Answer == policy.Allow:
						open++
					}
				}
				if frozen == 0 || open == 0 {
					t.Errorf("%d moments frozen and %d open", frozen, open)
				}
			})
		}
	}
}

// clocksChange is when the clocks of a place change next after the start of the scenes; without such a time, any.
func clocksChange(place *time.Location) time.Time {
	at := started
	_, before := at.In(place).Zone()
	for range 400 * 24 * 12 {
		at = at.Add(5 * time.Minute)
		if _, now := at.In(place).Zone(); now != before {
			return at
		}
	}
	return started.AddDate(0, 0, 1)
}

// TestAdversaryClock sets the clock of the agent's machine.
func TestAdversaryClock(t *testing.T) {
	t.Parallel()
	approved := func(s *scene, lasts time.Duration) {
		s.change(draft{key: "developer-1"}, two)
		s.mustPropose()
		said := s.approval()
		said.Expires = s.clock.Add(lasts)
		s.says("release-manager-2", said)
	}
	for name, attack := range map[string]struct {
		world files
		do    func(s *scene)
	}{
		"back to before a freeze": {frozenFiles("UTC", "2026-11-23T08:00", "2026-11-23T20:00"), func(s *scene) {
			approved(s, 20*time.Hour)
			s.clock = s.clock.Add(-2 * time.Hour)
		}},
		"back to when an approval was valid": {nil, func(s *scene) {
			approved(s, time.Hour)
			s.clock = s.clock.Add(2 * time.Hour)
			s.heartbeat()
			s.clock = s.clock.Add(-90 * time.Minute)
		}},
		"back to when a key was valid": {files{"purser/people/developer-2.yaml": file(personYAML("developer-2", "developer", "", keyYAML("developer-2", ", validBefore: 2026-11-23T10:00:00Z")))}, func(s *scene) {
			s.clock = s.clock.Add(2 * time.Hour)
			s.heartbeat()
			s.clock = s.clock.Add(-2 * time.Hour)
			s.change(draft{author: "developer-2", key: "developer-2"}, two)
			s.mustPropose()
			s.approves("release-manager-2")
			s.agent.journal.state.At = started.Add(2 * time.Hour)
		}},
		"back after it was far ahead": {frozenFiles("UTC", "2026-11-23T08:00", "2026-11-23T20:00"), func(s *scene) {
			approved(s, 24*365*time.Hour)
			s.clock = s.clock.AddDate(0, 6, 0)
			s.heartbeat()
			s.clock = s.clock.AddDate(0, -6, 0)
		}},
		"ahead, past an approval": {nil, func(s *scene) {
			approved(s, time.Hour)
			s.clock = s.clock.AddDate(1, 0, 0)
		}},
		"ahead, past a key": {files{"purser/people/developer-1.yaml": {}, "purser/people/developers.yaml": file(personYAML("developer-1", "developer", "", keyYAML("developer-1", ", validBefore: 2027-01-01T00:00:00Z")))}, func(s *scene) {
			s.clock = s.clock.AddDate(1, 0, 0)
			approved(s, time.Hour)
		}},
		"ahead, of who makes statements": {nil, func(s *scene) {
			s.change(draft{key: "developer-1"}, two)
			s.mustPropose()
			said, now := s.approval(), s.clock
			said.Estate, said.Expires = "test", now.AddDate(1, 0, 0)
			payload, err := statement.New(said, now.AddDate(0, 6, 0)).Encode()
			if err != nil {
				s.t.Fatal(err)
			}
			if refused := s.hears(s.raw("release-manager-2", statement.Namespace, string(payload))); !strings.Contains(refused, "after it was first seen") {
				s.t.Errorf("a statement of next year: %q", refused)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, attack.world)
			attack.do(s)
			s.denied(s.judge("dev"))
		})
	}
	t.Run("a correction by seconds", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, nil)
		approved(s, time.Hour)
		s.clock = s.clock.Add(-20 * time.Second)
		if v := s.judge("dev"); v.Answer != policy.Allow {
			t.Error(gatesOf(v))
		}
	})
	for _, apart := range []time.Duration{-time.Second, 0, time.Second} {
		t.Run(fmt.Sprintf("%s after the expiry of an approval", apart), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, nil)
			approved(s, time.Hour)
			s.clock = s.clock.Add(time.Hour + apart)
			if v := s.judge("dev"); (v.Answer == policy.Allow) != (apart < 0) {
				t.Error(gatesOf(v))
			}
		})
	}
}

// heartbeat makes something recorded now.
func (s *scene) heartbeat() {
	s.t.Helper()
	s.fold(evidence.TypeHeartbeat, "", struct{}{})
}
