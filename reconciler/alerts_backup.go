package reconciler

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/alert"
	"github.com/purser-gitops/purser/reconciler/upkeep"
	"github.com/purser-gitops/purser/sources/declaration"
)

// unrecorded are the jobs of each environment whose last run left no record, by [upkeep.Job.Run], and why.
func (b *backups) unrecorded() map[string]map[string]problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := map[string]map[string]problem{}
	for environment, failed := range b.failed {
		list[environment] = maps.Clone(failed)
	}
	return list
}

// backupTroubles are those with the backups of an environment, if it names a policy. The agent's lock is held.
func (a *Agent) backupTroubles(l *law, q backupQuery) alert.Backups {
	named := l.Environments[q.name].Spec.Backup
	first := q.first.since("backups wanted of "+q.name, named != "", q.now)
	if named == "" {
		return alert.Backups{}
	}
	_, err := a.backups.subject(l, q.name)
	unable := q.first.trouble("backups of "+q.name, err,
		"name database and stores of the environment in the agent's configuration (backup), or another policy in its declaration", q.now)
	if err != nil {
		return alert.Backups{Unable: unable}
	}
	q.policy = l.BackupPolicies[named]
	if q.known.IsZero() || first.Before(q.known) {
		q.known = first
	}
	return q.troubles()
}

// backupQuery asks what is wrong with the backups of one environment.
type backupQuery struct {
	name       string
	policy     *declaration.BackupPolicy
	b          *upkeep.Backups
	unrecorded map[string]problem // by run
	first      beginnings
	now        time.Time
	known      time.Time // since when there are to be backups, as far as is known
}

func (q backupQuery) troubles() alert.Backups {
	return alert.Backups{
		Overdue: q.overdue(), Failed: q.failed(), Damaged: q.damaged(), DrillFailed: q.drillFailed(), DrillOverdue: q.drillOverdue(),
		Behind: q.behind(), Unproven: q.unproven(), Blocked: q.blocked(), Deletion: q.deletion(),
	}
}

// past is the trouble of something that was to happen by then; none before.
func (q backupQuery) past(by time.Time, remedy, why string, args ...any) alert.Trouble {
	if q.now.Before(by) {
		return alert.Trouble{}
	}
	return alert.Trouble{Since: by, Why: fmt.Sprintf(why, args...), Remedy: remedy}
}

// overdue is that more would be lost now than the policy accepts.
func (q backupQuery) overdue() alert.Trouble {
	spec := q.policy.Spec
	remedy := fmt.Sprintf("purser backup now %s; purser backup list %s tells what was tried", q.name, q.name)
	if c, found := q.b.Newest(spec.Store, upkeep.Copy.Good); found {
		return q.past(c.Snapshot.Add(spec.RPO), remedy, "the newest verified backup, %s, has what was committed before %s: more than the RPO of %s ago",
			c.ID, stamp(c.Snapshot), spec.RPO)
	}
	since := q.known
	for _, c := range q.b.Copies {
		if c.Snapshot.Before(since) {
			since = c.Snapshot
		}
	}
	return q.past(since.Add(spec.RPO), remedy, "there is no verified backup; the RPO is %s", spec.RPO)
}

// failed is that the last attempt to back up failed.
func (q backupQuery) failed() alert.Trouble {
	run := upkeep.Job{Task: upkeep.TakeBackup}.Run()
	remedy := "mend what it says: it is tried again, at least every hour; or purser backup now " + q.name
	if f := q.b.Failed; f != nil {
		return alert.Trouble{Since: q.b.Runs[run].Failing, Why: fmt.Sprintf("%d in a row; the last at %s: %s", q.b.Runs[run].Failures, stamp(f.Ended), f.Error), Remedy: remedy}
	}
	if p, found := q.unrecorded[run]; found {
		return alert.Trouble{Since: p.since, Why: p.err.Error(), Remedy: remedy}
	}
	return alert.Trouble{}
}

// damaged are backups in which something was found, and after which there is no good one in their store.
func (q backupQuery) damaged() alert.Trouble {
	var t alert.Trouble
	var why []string
	for _, store := range q.policy.Spec.Stores() {
		bad, found := q.b.Newest(store, func(c upkeep.Copy) bool { return !undamaged(c) })
		if !found {
			continue
		}
		if good, found := q.b.Newest(store, upkeep.Copy.Good); found && good.Snapshot.After(bad.Snapshot) {
			continue
		}
		why = append(why, fmt.Sprintf("%s in store %s at level %s: %s", bad.ID, store, bad.FailedAt, bad.Problem))
		if t.Since.IsZero() || bad.Found.Before(t.Since) {
			t.Since = bad.Found
		}
	}
	if len(why) == 0 {
		return alert.Trouble{}
	}
	t.Why = strings.Join(why, "\n")
	t.Remedy = fmt.Sprintf("purser backup now %s, so that there is a good one; then find out what damaged this one", q.name)
	return t
}

func (q backupQuery) drillFailed() alert.Trouble {
	if q.b.DrillFailed.IsZero() || q.b.Drilled == nil {
		return alert.Trouble{}
	}
	d := q.b.Drilled
	return alert.Trouble{Since: q.b.DrillFailed, Why: fmt.Sprintf("the drill of %s with backup %s: %s", stamp(d.Ended), d.ID, d.Why()),
		Remedy: fmt.Sprintf("purser drill show %s %d tells all that was found; then purser drill now %s", q.name, q.b.DrilledAs, q.name)}
}

// drillOverdue is that no drill passed for twice as long as there should be between two by the schedule that has most of them.
func (q backupQuery) drillOverdue() alert.Trouble {
	var limit time.Duration
	for _, s := range q.policy.Schedules.Drills {
		if gap, _ := s.LongestGap(); gap > 0 && (limit == 0 || 2*gap < limit) {
			limit = 2 * gap
		}
	}
	if limit == 0 {
		return alert.Trouble{}
	}
	remedy := "purser drill now " + q.name
	if last := q.b.DrillPassed; !last.IsZero() {
		return q.past(last.Add(limit), remedy, "no drill passed since %s: more than %s, twice what lies between two by schedule", stamp(last), limit)
	}
	return q.past(q.known.Add(limit), remedy, "no drill ever passed; two lie %s apart by schedule", limit/2)
}

// behind is that further stores lack so much that more would be lost with the first one than the policy accepts.
func (q backupQuery) behind() alert.Trouble {
	var t alert.Trouble
	var why []string
	for _, store := range q.policy.Spec.Replicas {
		since, say := q.lag(store)
		if since.IsZero() || q.now.Before(since) {
			continue
		}
		if p, found := q.unrecorded[upkeep.Job{Task: upkeep.Replicate, Store: store}.Run()]; found {
			say += ": " + p.err.Error()
		}
		why = append(why, say)
		if t.Since.IsZero() || since.Before(t.Since) {
			t.Since = since
		}
	}
	if len(why) == 0 {
		return alert.Trouble{}
	}
	t.Why = strings.Join(why, "\n")
	t.Remedy = "look at the last replications (purser evidence log) and at the store; backups are copied by themselves once it takes them"
	return t
}

// lag is since when a further store lacks more than the RPO of what the first one has; zero if it does not.
func (q backupQuery) lag(store string) (since time.Time, say string) {
	spec := q.policy.Spec
	there, some := q.b.Newest(store, undamaged)
	for _, c := range q.b.Copies { // the oldest first
		switch {
		case c.Store != spec.Store || !undamaged(c):
		case !some:
			return c.Made.Add(spec.RPO), fmt.Sprintf("store %s has no good backup, and %s one of %s", store, spec.Store, stamp(c.Snapshot))
		case c.Snapshot.Sub(there.Snapshot) > spec.RPO:
			return c.Made, fmt.Sprintf("the newest good backup in store %s is of %s, and in %s there is one of %s: the RPO is %s",
				store, stamp(there.Snapshot), spec.Store, stamp(c.Snapshot), spec.RPO)
		}
	}
	return time.Time{}, ""
}

// unproven is work that fails again and again, other than to make backups.
func (q backupQuery) unproven() alert.Trouble {
	var t alert.Trouble
	var why []string
	add := func(since time.Time, say string) {
		why = append(why, say)
		if t.Since.IsZero() || since.Before(t.Since) {
			t.Since = since
		}
	}
	for _, run := range q.runs() {
		if p, found := q.unrecorded[run]; found {
			add(p.since, run+": "+p.err.Error())
		} else if r := q.b.Runs[run]; r.Failures > 0 {
			add(r.Failing, fmt.Sprintf("%s: %d failures in a row, the last at %s; its record tells why", run, r.Failures, stamp(r.Ended)))
		}
	}
	for _, d := range q.policy.Spec.Drills { // those that are recorded are told of as failed
		run := upkeep.Job{Task: upkeep.Drill, Drill: upkeep.DrillName(d)}.Run()
		if p, found := q.unrecorded[run]; found {
			add(p.since, run+": "+p.err.Error())
		}
	}
	if len(why) == 0 {
		return alert.Trouble{}
	}
	t.Why = some(why)
	t.Remedy = "mend what the records say (purser evidence log); it is tried again by itself"
	return t
}

// runs are what is done again and again by the policy, without backups and drills.
func (q backupQuery) runs() []string {
	var list []string
	for _, store := range q.policy.Spec.Stores() {
		for _, level := range levels {
			list = append(list, upkeep.Job{Task: upkeep.Verify, Level: level, Store: store}.Run())
		}
		list = append(list, upkeep.Job{Task: upkeep.Retain, Store: store}.Run())
	}
	for _, store := range q.policy.Spec.Replicas {
		list = append(list, upkeep.Job{Task: upkeep.Replicate, Store: store}.Run())
	}
	return list
}

func (q backupQuery) blocked() alert.Trouble {
	var why []string
	for _, store := range q.policy.Spec.Stores() {
		if problem, found := q.b.Blocked[store]; found {
			why = append(why, fmt.Sprintf("store %s: %s", store, problem))
		}
	}
	since := q.first.since("retention of "+q.name, len(why) > 0, q.now)
	if len(why) == 0 {
		return alert.Trouble{}
	}
	return alert.Trouble{Since: since, Why: strings.Join(why, "\n"), Remedy: "mend what it says; until then the stores grow, and nothing is lost"}
}

// deletion is a plan to delete whose outcome was not recorded.
func (q backupQuery) deletion() alert.Trouble {
	var t alert.Trouble
	var why []string
	for _, store := range q.policy.Spec.Stores() {
		e, found := q.b.Expiring[store]
		if !found {
			continue
		}
		why = append(why, fmt.Sprintf("store %s: record %d plans to delete %d backups or packs", store, e.Record, len(e.Expire)))
		if t.Since.IsZero() || e.At.Before(t.Since) {
			t.Since = e.At
		}
	}
	if len(why) == 0 {
		return alert.Trouble{}
	}
	t.Why = "what became of a deletion is not recorded; " + strings.Join(why, "; ")
	t.Remedy = "it is gone on with by itself once the store and the credentials for expiry let it; see PurserBackupWorkFailing"
	return t
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }
