package backup

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

var update = flag.Bool("update", false, "write golden files")

// at reads a time of the tests.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func idAt(began time.Time) ID {
	return ID(began.UTC().Format(idTime) + "-prod-eu-abcdefgh")
}

// candidate is a verified backup with two objects and some packs.
func candidate(began time.Time, k Keep, packs ...string) Candidate {
	c := Candidate{ID: idAt(began), Recorded: true, Verified: began.Add(time.Hour)}
	for _, name := range []string{manifestName, DatabaseName} {
		c.Objects = append(c.Objects, store.Object{Key: Key("prod-eu", c.ID, name), Version: "v1", Size: 1, LockedUntil: k.Lock(began).Until})
	}
	for _, p := range packs {
		c.Packs = append(c.Packs, PackKey("prod-eu", p))
	}
	return c
}

func pack(name string, lockedUntil time.Time) store.Object {
	return store.Object{Key: PackKey("prod-eu", name), Version: "v1", Size: 1, LockedUntil: lockedUntil}
}

func together(now time.Time) Clocks { return Clocks{Here: now, Store: now} }

// text shows a plan as the golden files have it.
func text(p RetentionPlan) string {
	var b strings.Builder
	for _, why := range p.Blocked {
		fmt.Fprintf(&b, "BLOCKED %s\n", why)
	}
	for _, why := range p.Held {
		fmt.Fprintf(&b, "HELD %s\n", why)
	}
	for _, d := range p.Decisions {
		verb, until := "expire", ""
		if d.Keep {
			verb = "keep"
		}
		if !d.Until.IsZero() {
			until = " until " + d.Until.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(&b, "%s %s%s\n", verb, d.ID, until)
		for _, why := range d.Reasons {
			fmt.Fprintf(&b, "    %s\n", why)
		}
	}
	for _, e := range p.Extend {
		fmt.Fprintf(&b, "extend %s from %s to %s\n", e.Object.Key, e.Object.LockedUntil.UTC().Format(time.RFC3339), e.Until.Format(time.RFC3339))
	}
	for _, e := range p.Expire {
		for _, o := range e.Objects {
			fmt.Fprintf(&b, "delete %s %s\n", o.Key, o.Version)
		}
	}
	for _, note := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	return b.String()
}

func TestRetentionGolden(t *testing.T) {
	t.Parallel()
	berlin := zone(t, "Europe/Berlin")
	keep := func(r declaration.Retention) Keep {
		if r.Minimum == 0 {
			r.Minimum = 72 * time.Hour
		}
		r.Lock, r.LockDays = declaration.LockGovernance, 400
		return Keep{Retention: r, Zone: berlin}
	}
	nightly := func(k Keep, from string, days int, packs ...string) []Candidate {
		var list []Candidate
		for n := range days {
			list = append(list, candidate(at(t, from).AddDate(0, 0, n), k, packs...))
		}
		return list
	}
	small := keep(declaration.Retention{Daily: 3, Weekly: 2, Monthly: 2, Yearly: 1})
	tests := map[string]func() (Keep, Inventory, Clocks){
		"tiers": func() (Keep, Inventory, Clocks) {
			return small, Inventory{Backups: nightly(small, "2027-04-20T00:30:00Z", 24)}, together(at(t, "2027-05-13T06:00:00Z"))
		},
		// The year begins at 23:00Z, so the backup of 23:30Z is the first of 2028; of two in a day, the verified one counts.
		"zone-and-unverified": func() (Keep, Inventory, Clocks) {
			list := []Candidate{candidate(at(t, "2027-12-31T22:30:00Z"), small), candidate(at(t, "2027-12-31T23:30:00Z"), small), candidate(at(t, "2028-01-01T10:00:00Z"), small),
				candidate(at(t, "2028-01-01T12:00:00Z"), small), candidate(at(t, "2028-01-05T12:00:00Z"), small)}
			list[2].Verified = time.Time{}
			list[3].Failed = true
			return small, Inventory{Backups: list}, together(at(t, "2028-01-09T12:00:00Z"))
		},
		"newest-not-verified": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			list := nightly(k, "2027-05-01T00:30:00Z", 5)
			list[2].Failed, list[3].Verified, list[4].Verified = true, time.Time{}, time.Time{}
			return k, Inventory{Backups: list}, together(at(t, "2027-06-01T06:00:00Z"))
		},
		"release-refers": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			list := nightly(k, "2027-05-01T00:30:00Z", 4)
			list[0].Holds = []string{"18.0.15"}
			return k, Inventory{Backups: list}, together(at(t, "2027-06-01T06:00:00Z"))
		},
		"packs": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1, Monthly: 3})
			list := nightly(k, "2027-02-27T01:00:00Z", 4, "2027-02/a", "2027-02/b")
			list[1].Packs, list[2].Packs, list[3].Packs = list[1].Packs[1:], list[2].Packs[1:], list[3].Packs[1:] // a is of one that goes
			list[0].Verified = time.Time{}
			inv := Inventory{Backups: append(list, candidate(at(t, "2027-04-20T01:00:00Z"), k, "2027-04/c", "2027-04/lost")),
				Packs: []store.Object{pack("2027-02/a", at(t, "2027-03-04T01:00:00Z")), pack("2027-02/b", at(t, "2027-03-04T01:00:00Z")), pack("2027-04/c", at(t, "2027-04-23T01:00:00Z")),
					pack("2027-02/orphan", time.Time{}), pack("2027-04/begun", time.Time{}), pack("2027-02/locked", at(t, "2027-12-01T00:00:00Z"))}}
			inv.Packs = append(inv.Packs, store.Object{Key: "prod-eu/filestore/2027-13/odd", Version: "v1"})
			inv.Strange = []store.Object{{Key: "prod-eu/backups/notes.txt"}}
			inv.Halves = []Half{{ID: idAt(at(t, "2027-04-01T01:00:00Z")), Objects: []store.Object{{Key: "old", Version: "v1"}}}, {ID: idAt(at(t, "2027-04-20T06:00:00Z")), Objects: []store.Object{{Key: "young", Version: "v1"}}}}
			return k, inv, together(at(t, "2027-04-24T01:00:00Z"))
		},
		"unreadable": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			list := nightly(k, "2027-05-01T00:30:00Z", 4)
			list[1].Problem, list[1].Objects, list[1].Rest = "its SHA-256 is another one", nil, list[1].Objects
			return k, Inventory{Backups: list, Packs: []store.Object{pack("2027-02/a", time.Time{})}}, together(at(t, "2027-06-01T06:00:00Z"))
		},
		// A good one would be kept as the first of April, and refers to no pack of May.
		"unreadable-kept": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1, Monthly: 4})
			list := append(nightly(k, "2027-04-01T00:30:00Z", 2, "2027-04/a"), nightly(k, "2027-05-01T00:30:00Z", 3, "2027-05/b")...)
			list = append(list, candidate(at(t, "2027-07-01T00:30:00Z"), k))
			list[0].Problem, list[0].Objects, list[0].Packs, list[0].Rest = "its SHA-256 is another one", nil, nil, list[0].Objects
			return k, Inventory{Backups: list, Packs: []store.Object{pack("2027-03/older", time.Time{}), pack("2027-04/a", time.Time{}), pack("2027-04/c", time.Time{}),
				pack("2027-05/b", time.Time{}), pack("2027-05/d", time.Time{})}}, together(at(t, "2027-07-04T06:00:00Z"))
		},
		"hidden": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1, Monthly: 4})
			list := append(nightly(k, "2027-04-01T00:30:00Z", 2, "2027-04/a"), nightly(k, "2027-07-01T00:30:00Z", 1)...)
			list[0].Problem = "its manifest is hidden by a delete marker"
			return k, Inventory{Backups: list, Packs: []store.Object{pack("2027-04/a", time.Time{}), pack("2027-04/c", time.Time{})}}, together(at(t, "2027-07-04T06:00:00Z"))
		},
		"future": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			return k, Inventory{Backups: nightly(k, "2027-05-01T00:30:00Z", 8)}, together(at(t, "2027-05-06T06:00:00Z"))
		},
		// Nothing would be deleted by a clock that is right either.
		"future-nothing-goes": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			return k, Inventory{Backups: nightly(k, "2027-05-01T00:30:00Z", 4)}, together(at(t, "2027-05-03T06:00:00Z"))
		},
		"clocks-nothing-goes": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 9})
			return k, Inventory{Backups: nightly(k, "2027-05-01T00:30:00Z", 2)}, Clocks{Here: at(t, "2027-05-03T06:00:00Z"), Store: at(t, "2027-05-03T06:06:00Z")}
		},
		"unreadable-nothing-goes": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 9})
			list := nightly(k, "2027-05-01T00:30:00Z", 3)
			list[2].Problem, list[2].Objects = "its SHA-256 is another one", nil
			return k, Inventory{Backups: list, Packs: []store.Object{pack("2027-05/a", time.Time{})}}, together(at(t, "2027-05-03T06:00:00Z"))
		},
		"clocks": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Daily: 1})
			return k, Inventory{Backups: nightly(k, "2027-05-01T00:30:00Z", 3)}, Clocks{Here: at(t, "2037-05-03T06:00:00Z"), Store: at(t, "2027-05-03T06:00:00Z")}
		},
		"long-locks": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Yearly: 10})
			k.LockDays = 30
			list := nightly(k, "2027-05-01T00:30:00Z", 2)
			list[0].Objects[0].LockedUntil = at(t, "2027-07-01T00:30:00Z") // extended less than a day ago
			return k, Inventory{Backups: list}, together(at(t, "2027-06-01T06:00:00Z"))
		},
		"hours-shown-twice": func() (Keep, Inventory, Clocks) {
			k := keep(declaration.Retention{Hourly: 3, Minimum: time.Hour})
			var list []Candidate
			for n := range 10 {
				list = append(list, candidate(at(t, "2027-10-30T23:10:00Z").Add(time.Duration(n)*30*time.Minute), k))
			}
			return k, Inventory{Backups: list}, together(at(t, "2027-10-31T06:30:00Z"))
		},
		"empty": func() (Keep, Inventory, Clocks) { return small, Inventory{}, together(at(t, "2027-05-13T06:00:00Z")) },
	}
	for name, scenario := range tests {
		t.Run(name, func(t *testing.T) {
			k, inv, clocks := scenario()
			inv.Environment = "prod-eu"
			plan := k.Decide(inv, clocks)
			got := text(plan)
			if strings.HasSuffix(name, "nothing-goes") && len(plan.Blocked)+len(plan.Held) > 0 {
				t.Errorf("nothing would be deleted, and it is blocked: %s%s", plan.Blocked, plan.Held)
			}
			path := filepath.Join("testdata", "retention", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s (rewrite it with -update):\n%s", path, got)
			}
		})
	}
}
