package reconciler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
	"github.com/purser-gitops/purser/sources/statement"
)

// underFreezes is a law with one calendar in Berlin's time, and its environment.
func underFreezes(t *testing.T, freezes ...declaration.Freeze) (*law, *declaration.Environment) {
	t.Helper()
	k := &declaration.Calendar{Meta: declaration.Meta{Name: "retail"}, Spec: declaration.CalendarSpec{TimeZone: "Europe/Berlin", Freezes: freezes}}
	var err error
	if k.Compiled, err = k.Spec.Compile(); err != nil {
		t.Fatal(err)
	}
	env := &declaration.Environment{Meta: declaration.Meta{Name: "dev"}}
	env.Spec.Calendar = "retail"
	exempt := &declaration.ReleaseClass{Meta: declaration.Meta{Name: "fix"}}
	exempt.Spec.Calendar.Exempt = true
	var people []identity.Person
	for _, name := range []string{"release-manager-1", "developer-1"} {
		key, err := identity.ParseSSH(publicKey(name))
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, identity.Person{Name: name, Keys: []identity.PersonKey{{Key: key}}})
	}
	keyring, err := identity.NewKeyring(people)
	if err != nil {
		t.Fatal(err)
	}
	return &law{
		Set: &declaration.Set{
			Keyring:   keyring,
			Calendars: map[string]*declaration.Calendar{"retail": k},
			Classes:   map[string]*declaration.ReleaseClass{"fix": exempt, "low": {Meta: declaration.Meta{Name: "low"}}},
		},
		people: map[string]policy.Voter{"release-manager-1": {Roles: []string{policy.RoleReleaseManager}}},
	}, env
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// flying is release b under way over the live release a.
func flying(phase Phase, of string) EnvironmentState {
	return EnvironmentState{
		Approved: &Pointer{Release: "b", Class: "low", Origin: policy.OriginGit}, Live: &Pointer{Release: "a"},
		Deployment: Deployment{Number: 2, Release: of, Phase: phase},
	}
}

func TestFreezeCatchesWhatIsUnderWay(t *testing.T) {
	pause := declaration.Freeze{Name: "month-end", Reason: "closing", Start: "2026-11-30T18:00", End: "2026-12-01T08:00", InFlight: "pause"}
	back := declaration.Freeze{Name: "black-friday", Start: "2026-11-30T18:00", End: "2026-12-01T06:00", InFlight: "rollBack"}
	finish := declaration.Freeze{Name: "stock-count", Start: "2026-11-30T18:00", End: "2026-12-24T00:00"}
	first := flying(PhaseApplied, "b")
	first.Live = nil
	waiting := first
	waiting.Deployment = Deployment{}
	overridden, exempt, returning, unknown := flying(PhaseLive, "a"), flying(PhaseLive, "a"), flying(PhaseLive, "a"), flying(PhaseLive, "a")
	overridden.Approved.Override, exempt.Approved.Class, returning.Approved.Origin, unknown.Approved.Class = "sha256:o", "fix", policy.OriginRollback, "dropped"
	in, before := at(t, "2026-11-30T18:00:00+01:00"), at(t, "2026-11-30T17:59:59+01:00")
	for name, c := range map[string]struct {
		state   EnvironmentState
		freezes []declaration.Freeze
		now     time.Time
		rule    string // "": it goes on
		to      string
		until   string
	}{
		"a second before":                       {flying(PhaseLive, "a"), []declaration.Freeze{back}, before, "", "", ""},
		"finish, not applied":                   {flying(PhaseLive, "a"), []declaration.Freeze{finish}, in, "", "", ""},
		"pause, not applied":                    {flying(PhaseLive, "a"), []declaration.Freeze{pause}, in, "pause", "", "2026-12-01T08:00:00+01:00"},
		"pause, failed half way":                {flying(PhaseFailed, "b"), []declaration.Freeze{pause}, in, "pause", "", "2026-12-01T08:00:00+01:00"},
		"pause, intended":                       {flying(PhasePlanned, "b"), []declaration.Freeze{pause}, in, "pause", "", "2026-12-01T08:00:00+01:00"},
		"pause, applied and not healthy":        {flying(PhaseApplied, "b"), []declaration.Freeze{pause}, in, "", "", ""},
		"pause, live":                           {flying(PhaseLive, "b"), []declaration.Freeze{pause}, in, "", "", ""},
		"back, not applied":                     {flying(PhaseLive, "a"), []declaration.Freeze{back}, in, "rollBack", "a", "2026-12-01T06:00:00+01:00"},
		"back, applied and not healthy":         {flying(PhaseApplied, "b"), []declaration.Freeze{back}, in, "rollBack", "a", "2026-12-01T06:00:00+01:00"},
		"back, live":                            {flying(PhaseLive, "b"), []declaration.Freeze{back}, in, "", "", ""},
		"back, first release, not applied":      {waiting, []declaration.Freeze{back}, in, "pause", "", "2026-12-01T06:00:00+01:00"},
		"back, first release, applied":          {first, []declaration.Freeze{back}, in, "", "", ""},
		"the strictest of three":                {flying(PhaseLive, "a"), []declaration.Freeze{finish, pause, back}, in, "rollBack", "a", "2026-12-01T08:00:00+01:00"},
		"a longer one that lets finish":         {flying(PhaseLive, "a"), []declaration.Freeze{finish, pause}, in, "pause", "", "2026-12-01T08:00:00+01:00"},
		"over, while another one lets finish":   {flying(PhaseLive, "a"), []declaration.Freeze{finish, pause}, at(t, "2026-12-01T08:00:00+01:00"), "", "", ""},
		"approved by an override":               {overridden, []declaration.Freeze{back}, in, "", "", ""},
		"exempt class":                          {exempt, []declaration.Freeze{back}, in, "", "", ""},
		"a class that is not declared any more": {unknown, []declaration.Freeze{back}, in, "rollBack", "a", "2026-12-01T06:00:00+01:00"},
		"on the way back":                       {returning, []declaration.Freeze{back}, in, "", "", ""},
	} {
		l, env := underFreezes(t, c.freezes...)
		f := caught(&c.state, l, env, c.now)
		switch {
		case f == nil && c.rule != "" || f != nil && c.rule == "":
			t.Errorf("%s: %+v, want %q", name, f, c.rule)
		case f != nil && (f.Rule != c.rule || f.To != c.to || !f.Until.Equal(at(t, c.until)) || f.Reason == ""):
			t.Errorf("%s: %+v until %s", name, f, f.Until)
		}
	}
}

// Clocks in Berlin skip from 2:00 to 3:00 on 2026-03-29 and show 2:00 to 3:00 twice on 2026-10-25.
func TestFreezeCatchesAtTheEdgesOfSummerTime(t *testing.T) {
	for name, c := range map[string]struct{ start, end, from, until string }{
		"begins in the hour that is skipped":     {"2026-03-29T02:30", "2026-03-30T00:00", "2026-03-29T01:00:00Z", "2026-03-29T22:00:00Z"},
		"ends in the hour that is skipped":       {"2026-03-28T00:00", "2026-03-29T02:30", "2026-03-27T23:00:00Z", "2026-03-29T01:00:00Z"},
		"begins in the hour that is shown twice": {"2026-10-25T02:30", "2026-10-26T00:00", "2026-10-25T00:30:00Z", "2026-10-25T23:00:00Z"},
		"ends in the hour that is shown twice":   {"2026-10-24T00:00", "2026-10-25T02:30", "2026-10-23T22:00:00Z", "2026-10-25T01:30:00Z"},
	} {
		l, env := underFreezes(t, declaration.Freeze{Name: "x", Start: c.start, End: c.end, InFlight: "pause"})
		state := flying(PhaseLive, "a")
		from, until := at(t, c.from), at(t, c.until)
		for now, want := range map[time.Time]bool{
			from.Add(-time.Second): false, from: true, until.Add(-time.Second): true, until: false,
		} {
			f := caught(&state, l, env, now)
			if (f != nil) != want || f != nil && !f.Until.Equal(until) {
				t.Errorf("%s at %s: %+v, want held: %v until %s", name, now, f, want, until)
			}
		}
		if edge, ok := l.Calendars["retail"].Compiled.NextEdge("low", from.Add(-time.Hour)); !ok || !edge.Equal(from) {
			t.Errorf("%s: the next edge is %s, want %s", name, edge, from)
		}
	}
}

// A clock that goes back behind the moment at which a freeze was seen in force does not end the freeze.
func TestFreezeHoldsWhenTheClockGoesBack(t *testing.T) {
	freeze := declaration.Freeze{Name: "month-end", Start: "2026-11-30T18:00", End: "2026-12-01T08:00", InFlight: "pause"}
	l, env := underFreezes(t, freeze)
	began := at(t, "2026-11-30T17:00:00Z")
	state := flying(PhaseLive, "a")
	seen := caught(&state, l, env, began)
	state.Caught = &Caught{Freeze: *seen, At: began}
	for _, back := range []time.Duration{time.Second, 24 * time.Hour} {
		f := caught(&state, l, env, began.Add(-back))
		if f == nil || f.Rule != "pause" || !f.Until.Equal(began) || state.Caught.news(f) {
			t.Errorf("%s earlier: %+v", back, f)
		}
	}
	state.Approved.Release = "c" // of another release nothing was seen
	if f := caught(&state, l, env, began.Add(-time.Second)); f != nil {
		t.Errorf("another release: %+v", f)
	}
	if f := caught(&state, l, env, began.Add(14*time.Hour)); f != nil {
		t.Errorf("after the end: %+v", f)
	}
}

func TestOverrideLetsAReleaseGoOnInAFreeze(t *testing.T) {
	freeze := declaration.Freeze{Name: "black-friday", Start: "2026-11-30T18:00", End: "2026-12-01T08:00", InFlight: "rollBack"}
	l, env := underFreezes(t, freeze)
	now, used := at(t, "2026-11-30T18:00:00Z"), at(t, "2026-11-30T16:00:00Z")
	order := func(person, gate string, expires time.Time) EnvironmentState {
		key := ssh.FingerprintSHA256(signers()[person].PublicKey())
		e := flying(PhaseApplied, "b")
		e.Overrides = []policy.Override{{Used: &used, Release: "b", Class: "low", Statement: policy.Statement{ID: "sha256:o", Person: person, Key: key, Gates: []string{gate}, Expires: expires}}}
		return e
	}
	stolen := order("release-manager-1", policy.GateCalendar, now.Add(time.Hour))
	stolen.Overrides[0].Statement.Key = "SHA256:another"
	spent, unused, another := order("release-manager-1", policy.GateCalendar, now.Add(time.Hour)), order("release-manager-1", policy.GateCalendar, now.Add(time.Hour)), order("release-manager-1", policy.GateCalendar, now.Add(time.Hour))
	spent.Overrides[0].Release = "a"
	unused.Overrides[0].Used, unused.Overrides[0].Release = nil, ""
	another.Overrides[0].Statement.To = "a"
	for name, c := range map[string]struct {
		state EnvironmentState
		opens bool
	}{
		"it opens the calendar": {order("release-manager-1", policy.GateCalendar, now.Add(time.Second)), true},
		"it expired":            {order("release-manager-1", policy.GateCalendar, now), false},
		"of another gate":       {order("release-manager-1", policy.GateApprovals, now.Add(time.Hour)), false},
		"of a stolen key":       {stolen, false},
		"of no release yet":     {unused, true},
		"another one used it":   {spent, false},
		"of another release":    {another, false},
		"of nobody who may":     {order("developer-1", policy.GateCalendar, now.Add(time.Hour)), false},
	} {
		f := caught(&c.state, l, env, now)
		if f == nil || (f.Override != "") != c.opens || (f.To == "") != c.opens {
			t.Errorf("%s: %+v", name, f)
		}
	}
	l.Classes["low"].Spec.Override.Gates = []string{policy.GateApprovals}
	if f := caught(&unused, l, env, now); f == nil || f.Override != "" {
		t.Errorf("a class that lets nobody override its calendar: %+v", f)
	}
}

// What a freeze takes back is a candidate as before: with its approvals, and with the time at which it was first seen.
func TestWhatAFreezeTakesBackIsACandidateAsBefore(t *testing.T) {
	h := &history{t: t}
	digest := func(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }
	a, b, c := digest("a"), digest("b"), digest("c")
	h.propose(a)
	h.decide(a, policy.Allow)
	plan := h.plan(1, a)
	h.outcome(1, plan, a, evidence.OutcomeApplied)
	h.live(1, a)
	h.add(evidence.TypeChange, "dev", 0, evidence.Change{From: a, To: b, Landed: []string{"c1"}})
	seen := h.at
	approval, err := statement.New(statement.Statement{
		Verb: statement.Approve, Environment: "dev", From: a, To: b, Class: "low", Expires: time.Now().Add(time.Hour),
	}, time.Now()).Encode()
	if err != nil {
		t.Fatal(err)
	}
	h.add(evidence.TypeStatement, "dev", 0, evidence.Statement{ID: "s", Person: "release-manager-1", Payload: approval})
	if n := len(h.fold().environment("dev").Statements); n != 1 {
		t.Fatalf("%d approvals are known, want 1", n)
	}
	h.decide(b, policy.Allow)
	h.add(evidence.TypeChange, "dev", 0, evidence.Change{From: b, To: c, Landed: []string{"c2"}})
	plan = h.plan(2, b, item("x", apply.Created, ""))
	h.outcome(2, plan, b, evidence.OutcomeApplied, item("x", apply.Created, ""))
	h.add(evidence.TypeFreeze, "dev", 2, evidence.Freeze{Release: "other", To: a, Name: "black-friday"}) // about what is not approved
	if e := h.fold().environment("dev"); e.Approved.Release != b {
		t.Fatalf("approved is %s", e.Approved.Release)
	}
	h.add(evidence.TypeFreeze, "dev", 2, evidence.Freeze{Release: b, To: a, Rule: "rollBack", Name: "black-friday"})
	e := h.fold().environment("dev")
	if e.Approved.Release != a || e.Approved.Origin != policy.OriginRollback || e.Proposed.Release != c || e.Verdict != nil || len(e.Vetoes) > 0 {
		t.Errorf("approved %+v, proposed %+v, vetoes %v", e.Approved, e.Proposed, e.Vetoes)
	}
	if len(e.Statements) != 1 || e.Statements[0].ID != "s" {
		t.Errorf("approvals %+v", e.Statements)
	}
	if o := e.Offers; !slices.Equal(o.Releases, []string{b, c}) || len(o.Landed) != 2 || !o.Landed[0].At.Equal(seen) ||
		!slices.Equal(o.ReleasesWith(o.Landed[0]), []string{b, c}) || !slices.Equal(o.ReleasesWith(o.Landed[1]), []string{c}) {
		t.Errorf("offers %+v", o)
	}
	if e.Target() != b {
		t.Errorf("repair aims at %s before there is an intent to go back", e.Target())
	}
	plan = h.plan(3, a, item("x", apply.Deleted, ""))
	h.outcome(3, plan, a, evidence.OutcomeApplied, item("x", apply.Deleted, ""))
	h.live(3, a)
	if e := h.fold().environment("dev"); e.underWay() || e.Caught == nil || e.Caught.Release != b || len(e.Statements) != 1 {
		t.Errorf("after the way back: %+v", e)
	}
	h.decide(c, policy.Allow)
	if e := h.fold().environment("dev"); !e.underWay() || e.Caught != nil || len(e.Used.Statements) != 1 || len(e.Offers.Releases) != 0 {
		t.Errorf("approved anew: %+v", e)
	}
}
