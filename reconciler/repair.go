package reconciler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// policyOf says what happens about drift of an environment.
func policyOf(env *declaration.Environment) string {
	if env.Spec.Reconcile.Suspend {
		return evidence.PolicySuspended
	}
	return cmp.Or(env.Spec.Drift, declaration.DriftCorrect)
}

// repair compares a release that is applied with the cluster, as far as that is due, and restores it.
func (a *Agent) repair(ctx context.Context, env *declaration.Environment, state EnvironmentState, to Pointer) Outcome {
	name, now := env.Meta.Name, a.now()
	seen := a.observation(name)
	left := seen.repair.left(to.Release, now)
	untilAll := max(remaining(seen.comparedAt, now, comparedEvery(env)), left)
	watcher := a.clusters[env.Spec.Cluster].watcher
	missing := map[string]bool{}
	for _, ref := range watcher.Missing(name) {
		missing[ref.Key()] = true
	}
	look := inspect(&state, watcher.Suspects(name), policyOf(env) == declaration.DriftCorrect, untilAll, seen.repair.except(missing), left, now)
	look.missing = missing
	look.retry(&seen, to.Release, left)
	outcome := Outcome{}
	if !look.empty() {
		outcome = a.try(ctx, task{env: env, state: state, purpose: evidence.PurposeRepair, to: to, look: look})
		state = a.journal.environment(name)
	}
	if left > 0 {
		outcome = outcome.join(seen.repair.again(left))
	}
	return outcome.join(contest(&state, policyOf(env), now)).join(Outcome{After: look.next})
}

// comparedEvery is how often everything of an environment is compared: at the interval, less a part of its tenth that
// follows from the environment's name, so that those that began together do not all ask the API server at once for ever.
func comparedEvery(env *declaration.Environment) time.Duration {
	name := fnv.New32a()
	name.Write([]byte(env.Meta.Name)) // never fails
	interval := env.Spec.Reconcile.Interval
	return interval - interval/10*time.Duration(name.Sum32()%1000)/1000
}

// contest says what of an environment waits because somebody keeps changing it.
func contest(e *EnvironmentState, policy string, now time.Time) Outcome {
	if policy != declaration.DriftCorrect {
		return Outcome{}
	}
	var names []string
	wait := time.Duration(0)
	for _, d := range e.Drift {
		due := e.Contests[d.Key()].due(now)
		if due == 0 || d.Action == apply.Skipped {
			continue
		}
		names = append(names, d.Ref.String()+byWhom(d.By))
		if wait == 0 || due < wait {
			wait = due
		}
	}
	if len(names) == 0 {
		return Outcome{}
	}
	return Outcome{Kind: Waiting, After: wait,
		Reason: fmt.Sprintf("repaired again and again, and changed each time: %s", some(names)),
		Hint:   "let the other manager leave the fields alone, or remove them from the object in Git"}
}

// some joins the first names, and counts the rest.
func some(names []string) string {
	const most = 10
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

func byWhom(by []evidence.FieldWriter) string {
	if len(by) == 0 {
		return ""
	}
	return " (by " + by[0].Manager + ")"
}

// planRepair records the drift that a survey found, and narrows its plan to what may be repaired now; nil when there is
// nothing to write.
func (a *Agent) planRepair(ctx context.Context, t task, s survey) (*apply.Plan, error) {
	due, later, err := a.drift(t, s)
	a.note(t.env.Meta.Name, func(o *observation) { o.unrecorded = s.unrecorded(o.unrecorded, err != nil) })
	if err != nil {
		return nil, err
	}
	contested := len(later) > 0
	nothing := policyOf(t.env) != declaration.DriftCorrect || contested && len(due) == 0 ||
		!contested && len(planItems(s.plan, t.state.Inventory)) == 0
	if s.looked.all() && (nothing || contested) {
		a.compared(t.env)
	}
	switch {
	case nothing:
		return nil, nil
	case contested: // somebody fights over these: they wait, the others do not wait with them
		t.state = a.journal.environment(t.env.Meta.Name)
		return a.plan(ctx, t, s, due)
	}
	return s.plan, nil
}

// unrecorded is what is known to differ without a record after a comparison: what was before and was not compared, and
// if the record failed, what differs of the rest.
func (s survey) unrecorded(before map[string]bool, failed bool) map[string]bool {
	after := map[string]bool{}
	for key := range before {
		if !s.looked.all() && !s.looked.only[key] {
			after[key] = true
		}
	}
	if failed {
		for _, entry := range s.changed() {
			after[entry.Ref.Key()] = true
		}
	}
	return after
}

// drift records what a survey found, if that is news, and says which of it may be repaired now and which has to wait.
func (a *Agent) drift(t task, s survey) (due, later map[string]bool, err error) {
	name, now := t.env.Meta.Name, a.now()
	found, err := driftedOf(s.changed(), t.state.Contests, now)
	if err != nil {
		return nil, nil, err
	}
	news, err := portions(driftNews(t.state.Drift, s.looked, found))
	if err != nil {
		return nil, nil, err
	}
	for _, p := range news {
		p.Release, p.Policy, p.Found = s.release.Digest, policyOf(t.env), t.look.found()
		if err := a.recordDrift(name, p, s.changed()); err != nil {
			return nil, nil, err
		}
	}
	state := a.journal.environment(name)
	a.metrics.drift(name, state.Drift)
	due, later = map[string]bool{}, map[string]bool{}
	for _, d := range found {
		switch {
		case d.Action == apply.Skipped: // nothing can be done about it now
		case state.Contests[d.Key()].due(now) == 0:
			due[d.Key()] = true
		default:
			later[d.Key()] = true
		}
	}
	return due, later, nil
}

// recordDrift records and logs a part of what is new, and none of what was known.
func (a *Agent) recordDrift(name string, p evidence.Drift, differ []apply.Entry) error {
	state := a.journal.environment(name)
	p.Known = len(withDrift(state.Drift, p))
	told, entries := diffs(p.Objects), []apply.Entry{}
	for _, entry := range differ {
		if told[entry.Ref.Key()] != "" {
			entries = append(entries, entry)
		}
	}
	diff, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("encode drift: %w", err)
	}
	draft := ofRelease(evidence.TypeDrift, name, p.Release, p)
	draft.Deployment, draft.Blobs = state.Deployment.Number, []evidence.Blob{{Name: "diff", Data: diff}}
	if _, err := a.journal.record(draft); err != nil {
		return err
	}
	a.at("drifted")
	a.note(name, func(o *observation) { o.healthAt = time.Time{} }) // what is missing is not healthy
	for _, d := range p.Objects {
		a.logger.Warn("drift", "environment", name, "object", d.Ref.String(), "action", d.Action, "fields", d.Fields,
			"by", d.By, "policy", p.Policy, "contested", d.Contested)
	}
	if len(p.Gone) > 0 {
		a.logger.Info("drift is gone without a repair", "environment", name, "objects", len(p.Gone), "known", p.Known)
	}
	a.metrics.drifts.WithLabelValues(name, p.Found).Inc()
	return nil
}
