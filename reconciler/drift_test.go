package reconciler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

func configMap(name string) render.Ref {
	return render.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "north-dev", Name: name}
}

func drifted(name, diff string) evidence.Drifted {
	return evidence.Drifted{Ref: configMap(name), Action: apply.Configured, Diff: diff, User: evidence.Unattributed}
}

// TestFightsAreDamped repairs an object as soon as it may be, and has somebody undo it at once each time.
func TestFightsAreDamped(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	start := now
	var f Contest
	var pauses []time.Duration
	for range 20 {
		wait := f.due(now)
		pauses = append(pauses, wait)
		now = now.Add(wait)
		if f.due(now) != 0 {
			t.Fatalf("not due after %s", wait)
		}
		f = f.next(now)
	}
	want := []time.Duration{0, 0, 0, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute}
	if !slices.Equal(pauses[:len(want)], want) {
		t.Errorf("pauses %v, want %v", pauses[:len(want)], want)
	}
	if f.Repairs != 20 || !f.contested(now) {
		t.Errorf("%d repairs in a row, contested %v", f.Repairs, f.contested(now))
	}
	if hour := now.Sub(start); hour < 55*time.Minute {
		t.Errorf("20 repairs took %s: a fight costs too much", hour)
	}
	later := now.Add(contestWindow + time.Second)
	if f.contested(later) || f.due(later) != 0 || f.next(later).Repairs != 1 {
		t.Error("a repair that held is still counted")
	}
	if f.due(now.Add(-time.Hour)) != 0 {
		t.Error("a clock that went back puts the repair off")
	}
}

func TestInspect(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	fight := map[string]Contest{configMap("fought").Key(): {Repairs: 5, At: now.Add(-time.Second)}}
	suspects := []render.Ref{configMap("edited"), configMap("fought")}
	for name, c := range map[string]struct {
		state    EnvironmentState
		suspects []render.Ref
		report   bool
		failed   pause
		left     time.Duration
		untilAll time.Duration
		all      bool
		only     []string
		next     time.Duration
	}{
		"the interval is over":             {suspects: suspects, untilAll: 0, all: true},
		"nothing happened":                 {untilAll: time.Minute, next: time.Minute},
		"the watch suspects":               {suspects: suspects[:1], untilAll: time.Minute, only: []string{"edited"}, next: time.Minute},
		"known drift that was put off":     {state: EnvironmentState{Drift: []evidence.Drifted{drifted("fought", "x")}, Contests: fight}, suspects: suspects, untilAll: time.Minute, only: []string{"edited"}, next: 19 * time.Second},
		"fought, and its drift is unknown": {state: EnvironmentState{Contests: fight}, suspects: suspects, untilAll: time.Minute, only: []string{"edited", "fought"}, next: time.Minute},
		"known drift that is due":          {state: EnvironmentState{Drift: []evidence.Drifted{drifted("left", "x")}}, untilAll: time.Minute, only: []string{"left"}, next: time.Minute},
		"known drift that is reported":     {state: EnvironmentState{Drift: []evidence.Drifted{drifted("left", "x")}}, report: true, untilAll: time.Minute, next: time.Minute},
		"reported drift that changed":      {state: EnvironmentState{Drift: []evidence.Drifted{drifted("edited", "x")}}, suspects: suspects[:1], report: true, untilAll: time.Minute, only: []string{"edited"}, next: time.Minute},
		"a repair failed":                  {state: EnvironmentState{Drift: []evidence.Drifted{drifted("left", "x")}}, suspects: suspects[:1], failed: pause{keys: map[string]bool{configMap("left").Key(): true}}, left: time.Second, untilAll: time.Minute, only: []string{"edited"}, next: time.Minute},
		"a repair of all failed":           {state: EnvironmentState{Drift: []evidence.Drifted{drifted("left", "x")}}, suspects: suspects[:1], left: time.Second, untilAll: time.Minute, next: time.Minute},
		"reported again and again":         {state: EnvironmentState{Contests: fight}, suspects: suspects, report: true, untilAll: time.Minute, only: []string{"edited"}, next: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			got := inspect(&c.state, c.suspects, !c.report, c.untilAll, c.failed, c.left, now)
			if got.all() != c.all || len(got.only) != len(c.only) || got.next != c.next {
				t.Errorf("got %+v, want all %v, only %v, next %s", got, c.all, c.only, c.next)
			}
			for _, name := range c.only {
				if !got.only[configMap(name).Key()] {
					t.Errorf("%s is not looked at", name)
				}
			}
			if c.all && got.only != nil {
				t.Error("a full comparison is restricted")
			}
		})
	}
}

func TestDriftNews(t *testing.T) {
	known := []evidence.Drifted{drifted("a", "1"), drifted("b", "1"), drifted("d", "1")}
	partial := inspection{only: map[string]bool{}}
	for _, name := range []string{"b", "c", "d"} {
		partial.only[configMap(name).Key()] = true
	}
	differ, gone := driftNews(known, partial, []evidence.Drifted{drifted("c", "1"), drifted("d", "1")})
	if len(differ) != 1 || differ[0].Name != "c" || !slices.Equal(gone, []render.Ref{configMap("b")}) {
		t.Errorf("new %v, gone %v; want c, and b: a was not looked at and d is as it was", differ, gone)
	}
	differ, gone = driftNews(known, inspection{}, nil)
	if len(differ) != 0 || len(gone) != 3 {
		t.Errorf("new %v, gone %v after a full comparison that found nothing", differ, gone)
	}
	differ, gone = driftNews(known, partial, []evidence.Drifted{drifted("b", "2"), drifted("d", "1")})
	if len(differ) != 1 || differ[0].Diff != "2" || len(gone) != 0 {
		t.Errorf("new %v, gone %v; want another difference of b", differ, gone)
	}
	if parts, err := portions(driftNews(known, inspection{}, known)); err != nil || len(parts) != 0 {
		t.Errorf("nothing new makes records %v (%v)", parts, err)
	}
}

// TestManyDriftedObjects has more objects differ than one record holds. The state knows all, and so does who reads the
// records; news about one of them is one small record.
func TestManyDriftedObjects(t *testing.T) {
	const many = 2000
	var found []evidence.Drifted
	for i := range many {
		d := drifted(fmt.Sprintf("c%04d", i), "x")
		for range fieldsMax {
			d.Fields = append(d.Fields, strings.Repeat("p", fieldBytes))
		}
		d.Reason = strings.Repeat("r", reasonBytes)
		found = append(found, d)
	}
	h := &history{t: t, at: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	records := func(looked inspection, found []evidence.Drifted) (n int) {
		t.Helper()
		parts, err := portions(driftNews(h.fold().environment("dev").Drift, looked, found))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if body, err := json.Marshal(p); err != nil || len(body) > 2*portionBytes {
				t.Errorf("a record of %d bytes (%v)", len(body), err)
			}
			h.add(evidence.TypeDrift, "dev", 1, p)
		}
		return len(parts)
	}
	differ := func(want int) {
		t.Helper()
		if n := len(h.fold().environment("dev").Drift); n != want {
			t.Errorf("%d objects are known to differ, want %d", n, want)
		}
	}
	if n := records(inspection{}, found); n < 2 {
		t.Errorf("%d records", n)
	}
	differ(many)
	last := inspection{only: map[string]bool{found[many-1].Key(): true}}
	another := drifted(found[many-1].Name, "y")
	if n := records(last, []evidence.Drifted{another}); n != 1 {
		t.Errorf("another difference of the last object makes %d records", n)
	}
	differ(many)
	if n := records(last, []evidence.Drifted{another}); n != 0 {
		t.Errorf("the same difference makes %d records", n)
	}
	if n := records(last, nil); n != 1 {
		t.Errorf("an object that is as desired again makes %d records", n)
	}
	differ(many - 1)
	records(inspection{}, nil)
	differ(0)
}

// TestDriftIsFolded records drift, its repair, and the same again; the state survives being stored at each step.
func TestDriftIsFolded(t *testing.T) {
	h := &history{t: t, at: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	h.propose("r1")
	h.decide("r1", 0)
	item := evidence.Item{Ref: configMap("a"), Action: apply.Created, Digest: "d"}
	h.outcome(1, h.plan(1, "r1", item), "r1", evidence.OutcomeApplied, item)
	for round := 1; round <= contestFree+1; round++ {
		h.add(evidence.TypeDrift, "dev", 1, evidence.Drift{Release: "r1", Policy: "correct", Objects: []evidence.Drifted{drifted("a", "1")}})
		if e := h.fold().Environments["dev"]; len(e.Drift) != 1 {
			t.Fatalf("round %d: drift %v", round, e.Drift)
		}
		plan := h.add(evidence.TypePlan, "dev", 1, evidence.Plan{Release: "r1", Purpose: evidence.PurposeRepair, Cluster: "lab", ClusterUID: "u1"})
		fixed := evidence.Item{Ref: configMap("a"), Action: apply.Configured, Digest: "d"}
		h.add(evidence.TypeApply, "dev", 1, evidence.Apply{Plan: plan, Release: "r1", Purpose: evidence.PurposeRepair, Outcome: evidence.OutcomeApplied, Items: []evidence.Item{fixed}})
		e := h.fold().Environments["dev"]
		if len(e.Drift) != 0 || e.Contests[configMap("a").Key()].Repairs != round {
			t.Fatalf("round %d: drift %v, fought %v", round, e.Drift, e.Contests)
		}
	}
	e := h.fold().Environments["dev"]
	if !e.Contests[configMap("a").Key()].contested(h.at) {
		t.Error("the object is not contested")
	}
	h.at = h.at.Add(contestWindow)
	h.add(evidence.TypeDrift, "dev", 1, evidence.Drift{Release: "r1", Policy: "report", Objects: []evidence.Drifted{drifted("b", "1")}})
	h.add(evidence.TypeDrift, "dev", 1, evidence.Drift{Release: "r1", Policy: "report", Gone: []render.Ref{configMap("b")}})
	if e := h.fold().Environments["dev"]; len(e.Drift) != 0 {
		t.Errorf("what was reported as gone is still there: %v", e.Drift)
	}
}

// TestOwnersFollowInventories claims and gives up objects, by records and through a stored state.
func TestOwnersFollowInventories(t *testing.T) {
	h := &history{t: t, at: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	a, b := evidence.Item{Ref: configMap("a"), Action: apply.Created}, evidence.Item{Ref: configMap("b"), Action: apply.Created}
	h.outcome(1, h.plan(1, "r1", a, b), "r1", evidence.OutcomeApplied, a, b)
	s := h.fold()
	if s.owner("lab", a.Key()) != "dev" || s.owner("lab", b.Key()) != "dev" || s.owner("other", a.Key()) != "" {
		t.Errorf("owners %v", s.owners)
	}
	gone := evidence.Item{Ref: configMap("b"), Action: apply.Deleted}
	h.outcome(2, h.plan(2, "r2", gone), "r2", evidence.OutcomeApplied, gone)
	if s := h.fold(); s.owner("lab", a.Key()) != "dev" || s.owner("lab", b.Key()) != "" {
		t.Errorf("owners after a deletion %v", s.owners)
	}
}

// Full comparisons of environments that began together spread out, and none is later than its interval.
func TestComparisonsSpread(t *testing.T) {
	const interval = 10 * time.Minute
	tenths := map[time.Duration]int{}
	for i := range 1000 {
		env := &declaration.Environment{Meta: declaration.Meta{Name: fmt.Sprintf("store-%d", i)}}
		env.Spec.Reconcile.Interval = interval
		every := comparedEvery(env)
		if every > interval || every <= interval*9/10 || every != comparedEvery(env) {
			t.Fatalf("%s is compared every %s", env.Meta.Name, every)
		}
		tenths[(interval-every)/(interval/100)]++
	}
	for tenth := range time.Duration(10) {
		if n := tenths[tenth]; n < 50 || n > 200 {
			t.Errorf("%d of 1000 are compared %d%% earlier", n, tenth)
		}
	}
}
