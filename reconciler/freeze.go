package reconciler

import (
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/calendar"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Caught is what a freeze did to a release that was approved before it began and was not live.
type Caught struct {
	evidence.Freeze
	At time.Time `json:"at"`
}

// Used is what the approval of releases that are not live yet used up. It comes back when they are given up for what is
// live, so that nobody has to say the same twice.
type Used struct {
	Statements []policy.Statement `json:"statements,omitempty"`
	Offers     landed.Offers      `json:"offers"`
}

// and adds what the approval of one more release uses up. Approvals that do not start at what is live are of no use later.
func (u Used) and(e *EnvironmentState) Used {
	next := Used{Statements: slices.Clone(u.Statements), Offers: u.Offers.And(e.Offers)}
	for _, s := range e.Statements {
		if e.Live != nil && s.From == e.Live.Release {
			next.Statements = append(next.Statements, s)
		}
	}
	return next
}

// underWay reports whether a release is approved and not live yet. The way back never waits for a calendar.
func (e *EnvironmentState) underWay() bool {
	d := e.Deployment
	return e.Approved != nil && e.Approved.Origin != policy.OriginRollback && (d.Release != e.Approved.Release || d.Phase != PhaseLive)
}

// applied reports whether the approved release is applied, at least.
func (e *EnvironmentState) applied() bool {
	d := e.Deployment
	return d.Release == e.Approved.Release && (d.Phase == PhaseApplied || d.Phase == PhaseLive)
}

// caught says what the calendar of an environment does now to the release that is under way; nil when it may go on. A
// freeze that does not let rollouts finish holds whatever was approved before it: what the gates let in while it was in
// force, somebody ordered. A class that is not declared any more is none that a freeze exempts.
func caught(e *EnvironmentState, l *law, env *declaration.Environment, now time.Time) *evidence.Freeze {
	k := l.Calendars[env.Spec.Calendar]
	if k == nil || !e.underWay() || e.Approved.Override != "" {
		return nil
	}
	class := l.Classes[e.Approved.Class]
	if class != nil && class.Spec.Calendar.Exempt {
		return nil
	}
	f := evidence.Freeze{Release: e.Approved.Release, Calendar: k.Meta.Name}
	before := e.Caught
	if before != nil && before.Release != f.Release {
		before = nil
	}
	switch at := k.Compiled.At(e.Approved.Class, now); {
	case at.Holds != "":
		f.Name, f.Rule, f.Until, f.Reason = at.Holds, at.InFlight, at.HoldsUntil, why(k, at.Holds)
	case before != nil && now.Before(before.At): // what was seen in force is not over because the clock went back
		f = before.Freeze
		f.Until, f.Reason = &before.At, fmt.Sprintf("freeze %q was in force already when the clock went back", f.Name)
	default:
		return nil
	}
	switch {
	case f.Rule == calendar.RollBack && e.Live != nil && !e.Live.Left:
		f.To = e.Live.Release
	case e.applied(): // there is nothing left to hold back, or nothing to go back to
		return nil
	default:
		f.Rule = calendar.Pause
	}
	if s, _ := policy.Opens(l.orders(e.Overrides), l.people, class, policy.GateCalendar, f.Release, now); s != nil {
		f.To, f.Override = "", s.ID
	}
	return &f
}

// why says that a freeze is in force, and what for.
func why(k *declaration.Calendar, freeze string) string {
	text := fmt.Sprintf("freeze %q is in force", freeze)
	for _, f := range k.Spec.Freezes {
		if f.Name == freeze && f.Reason != "" {
			text += ": " + f.Reason
		}
	}
	return text
}

// news reports whether a freeze does something that is not recorded yet.
func (c *Caught) news(f *evidence.Freeze) bool {
	return c == nil || c.Release != f.Release || c.Calendar != f.Calendar || c.Freeze.Name != f.Name || c.Rule != f.Rule ||
		f.To != "" || c.Override != f.Override
}

// freeze has a freeze take effect on the release that is under way, and records that. The outcome is what it waits for;
// held is false where it goes on, or where what is live is approved again.
func (a *Agent) freeze(env *declaration.Environment, state EnvironmentState) (outcome Outcome, held bool) {
	f := caught(&state, a.inForce(), env, a.now())
	if f == nil {
		return Outcome{}, false
	}
	if state.Caught.news(f) {
		if err := a.recordFreeze(env.Meta.Name, *f); err != nil {
			return Outcome{Kind: Failed, Reason: err.Error()}, true
		}
	}
	switch {
	case f.Override != "":
		return Outcome{}, false
	case f.To != "":
		return Outcome{After: time.Millisecond}, false // the release that was given up is judged anew
	}
	outcome = Outcome{Kind: Waiting, Reason: fmt.Sprintf("approved before the freeze: calendar %q: %s", f.Calendar, f.Reason)}
	if class := a.inForce().Classes[state.Approved.Class]; class != nil && class.LetsOverride(policy.GateCalendar) {
		outcome.Hint = fmt.Sprintf("purser override %s --gate %s --to %s lets it go on", env.Meta.Name, policy.GateCalendar, state.Approved.Release)
	}
	if f.Until != nil {
		outcome.Reason += "; it goes on at " + f.Until.Format(time.RFC3339)
	}
	return outcome, true
}

// late gives up an intent whose release a freeze caught while it was on its way to the audit remote.
func (a *Agent) late(env *declaration.Environment) (Outcome, bool, error) {
	state := a.journal.environment(env.Meta.Name)
	if i := state.Deployment.Intent; i == nil || i.Purpose != evidence.PurposeRelease {
		return Outcome{}, false, nil
	}
	if f := caught(&state, a.inForce(), env, a.now()); f == nil || f.Override != "" {
		return Outcome{}, false, nil
	}
	err := a.closeIntent(env.Meta.Name, errFrozen)
	return Outcome{Kind: Waiting, Reason: errFrozen.Error(), After: time.Millisecond}, true, err
}

func (a *Agent) recordFreeze(name string, f evidence.Freeze) error {
	draft := ofRelease(evidence.TypeFreeze, name, f.Release, f)
	draft.Deployment = a.journal.environment(name).Deployment.Number
	if _, err := a.journal.record(draft); err != nil {
		return fmt.Errorf("record what freeze %q does: %w", f.Name, err)
	}
	a.at("caught")
	if f.Override != "" {
		a.metrics.breaches.WithLabelValues(name).Inc()
	}
	if f.To != "" {
		a.mu.Lock()
		a.unclaim(name) // until it is approved again
		a.mu.Unlock()
	}
	a.logger.Warn("a freeze caught a release under way", "environment", name, "release", f.Release, "calendar", f.Calendar,
		"freeze", f.Name, "rule", f.Rule, "override", f.Override)
	return nil
}

// edge has an environment visited at the next edge of its calendar while a release is under way.
func (a *Agent) edge(env *declaration.Environment) Outcome {
	state := a.journal.environment(env.Meta.Name)
	l := a.inForce()
	k := l.Calendars[env.Spec.Calendar]
	if k == nil || !state.underWay() {
		return Outcome{}
	}
	now := a.now()
	next, ok := k.Compiled.NextEdge(state.Approved.Class, now)
	if !ok {
		return Outcome{}
	}
	return Outcome{After: max(next.Sub(now), time.Millisecond)}
}

// foldFreeze takes what a freeze did.
func foldFreeze(s *State, r evidence.Record, p evidence.Freeze) {
	e := s.environment(r.Environment)
	if !e.Approved.is(p.Release) {
		return
	}
	e.Caught = &Caught{Freeze: p, At: r.Time}
	switch {
	case p.Override != "":
		approved := *e.Approved
		approved.Override = p.Override
		e.Approved = &approved
		e.useOverrides(map[string][]string{p.Override: {policy.GateCalendar}}, p.Release, approved.Class, r.Time)
	case p.To != "" && e.Live.is(p.To):
		e.goBack(r.Time)
		e.Statements = slices.Concat(e.Used.Statements, e.Statements)
		e.Used = Used{}
	}
}

// goBack approves what is live again. What was under way is a candidate as before.
func (e *EnvironmentState) goBack(at time.Time) {
	back := *e.Live
	back.Origin, back.At = policy.OriginRollback, at
	e.Approved, e.Verdict = &back, nil
	e.Offers = e.Used.Offers.And(e.Offers)
}
