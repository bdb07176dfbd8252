package policy

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
)

// Backup is what is known of the backups of the candidate's environment.
type Backup struct {
	Policy  string        `json:"policy,omitempty"`  // name of the BackupPolicy; "": none is declared
	In      string        `json:"in,omitempty"`      // name of the store that the policy writes to: backups elsewhere do not count
	Of      string        `json:"of,omitempty"`      // address of the database, host:port/database: backups of another one do not count
	Problem string        `json:"problem,omitempty"` // why nothing is known of the backups; "": it is known
	RPO     time.Duration `json:"rpoNanoseconds"`    // objectives of the policy
	RTO     time.Duration `json:"rtoNanoseconds"`
	Newest  *BackupPoint  `json:"newest,omitempty"` // newest backup that a verification of level 1 or more found good, and none bad since; nil: none
	Failed  *BackupPoint  `json:"failed,omitempty"` // newest backup that a verification found bad, if it is newer than Newest; nil: none
	Drill   *Drill        `json:"drill,omitempty"`  // last that came to an end; nil: none
	Store   *Probe        `json:"store,omitempty"`  // of the store that the policy writes to; nil: not asked; see [Candidate.AsksStore]
}

// BackupPoint is a backup that was verified.
type BackupPoint struct {
	ID       string    `json:"id"`
	Snapshot time.Time `json:"snapshot"` // what was committed before is in it
	Verified time.Time `json:"verified"`
	Level    string    `json:"level"`             // that the verification reached, such as L1; "": none
	Problem  string    `json:"problem,omitempty"` // what it found
	Record   uint64    `json:"record"`            // index of its record
}

// Drill is a rehearsed restore.
type Drill struct {
	ID      string        `json:"id,omitempty"` // of the backup that was restored; "": none was
	At      time.Time     `json:"at"`
	Passed  bool          `json:"passed"`
	RPO     time.Duration `json:"rpoNanoseconds"` // measured
	RTO     time.Duration `json:"rtoNanoseconds"`
	Problem string        `json:"problem,omitempty"` // why it did not pass
	Record  uint64        `json:"record"`            // index of its record
}

// Probe is the answer of a store to the question whether it takes a backup now.
type Probe struct {
	At      time.Time `json:"at"`
	Problem string    `json:"problem,omitempty"` // "": it takes one
}

// ProbeMaxAge is how long ago a store may have been asked when a release migrates a database.
const ProbeMaxAge = 5 * time.Minute

// AsksBackups reports whether the candidate's class asks for backups.
func (c Candidate) AsksBackups() bool {
	return c.Class != nil && c.Class.Spec.Backup != (declaration.BackupDemand{})
}

// AsksStore reports whether the candidate may go only while the store takes backups: it migrates the database, and its class
// asks for backups.
func (c Candidate) AsksStore() bool { return c.AsksBackups() && c.migration() != "" }

// migration is what the release declares to do to the schema of the database; "": nothing.
func (c Candidate) migration() string {
	if d := c.Release.Declaration; d != nil && d.Migration != "none" {
		return d.Migration
	}
	return ""
}

// backup passes when the newest backup is good and young enough and, where the class asks for drills, the last one passed lately
// and within the objective. Before a migration the store must also take backups now. Reasons give times and no ages: what is
// denied for the same reason is not decided anew.
func backup(c Candidate, f Facts, now time.Time) Result {
	demand, b := c.Class.Spec.Backup, f.Backup
	if !c.AsksBackups() {
		return allow("the class asks for no backup")
	}
	if r := unknownBackups(c, b); r.Answer != Allow {
		return r
	}
	env := c.Environment.Meta.Name
	r := b.newest(env, demand, now)
	if b.Failed != nil {
		r = both(r, Result{Answer: Deny, Reason: fmt.Sprintf("backup %s is not good: %s", b.Failed.ID, cmp.Or(b.Failed.Problem, "its verification failed")),
			Hint: fmt.Sprintf("look at it (purser backup show %s %s), remove the cause, then purser backup now %s", env, b.Failed.ID, env)})
	}
	if demand.DrillMaxAge > 0 {
		r = both(r, b.drilled(env, demand, now))
	}
	if c.AsksStore() {
		r = both(r, b.probed(c.migration(), now))
	}
	return r
}

// unknownBackups denies where it is not known by what the backups are to be judged, or what they are.
func unknownBackups(c Candidate, b *Backup) Result {
	env, policy := c.Environment.Meta.Name, c.Environment.Spec.Backup
	class := fmt.Sprintf("class %q asks for backups", c.Class.Meta.Name)
	switch {
	case policy == "":
		return Result{Answer: Deny, Reason: class + ", and the environment has no BackupPolicy", Hint: "declare backup: of the environment, in governance"}
	case b == nil:
		return Result{Answer: Deny, Reason: class + ", and the state of the environment's backups is unknown", Hint: "look at the agent's log, and at purser backup list " + env}
	case b.Policy != policy:
		return Result{Answer: Deny, Reason: fmt.Sprintf("what is known of the backups is by BackupPolicy %q, and that of the environment is %q", b.Policy, policy),
			Hint: "the agent asks again; if this stays, look at its log"}
	case b.Problem != "":
		return Result{Answer: Deny, Reason: "nothing is known of the environment's backups: " + b.Problem, Hint: "correct backup: of the agent's configuration, then purser backup now " + env}
	case b.RPO <= 0 || b.RTO <= 0:
		return Result{Answer: Deny, Reason: fmt.Sprintf("the objectives of BackupPolicy %q are unknown", policy), Hint: "look at the agent's log"}
	}
	return Result{}
}

// newest judges the newest backup that was found good.
func (b *Backup) newest(env string, demand declaration.BackupDemand, now time.Time) Result {
	again := "purser backup now " + env // verifies it as well
	p := b.Newest
	if p == nil {
		return Result{Answer: Deny, Reason: "there is no verified backup", Hint: again}
	}
	most, whose := b.RPO, fmt.Sprintf("the RPO of BackupPolicy %q", b.Policy)
	if demand.MaxAge > 0 && demand.MaxAge < most {
		most, whose = demand.MaxAge, "the class"
	}
	at := p.Snapshot.UTC().Format(time.RFC3339)
	switch {
	case !isBackupOf(p.ID, env):
		return Result{Answer: Deny, Reason: fmt.Sprintf("the newest verified backup, %q, is not of this environment", p.ID), Hint: again}
	case p.Snapshot.IsZero() || p.Verified.IsZero():
		return Result{Answer: Deny, Reason: fmt.Sprintf("it is unknown of when backup %s is, or when it was verified", p.ID), Hint: again}
	case p.Level < "L1" || p.Problem != "":
		return Result{Answer: Deny, Reason: fmt.Sprintf("backup %s is not verified: level %s was reached, L1 is asked for", p.ID, cmp.Or(p.Level, "none")), Hint: again}
	case p.Snapshot.After(now.Add(clockSteps)):
		return Result{Answer: Deny, Until: &p.Snapshot, Reason: fmt.Sprintf("the newest verified backup, %s, is of %s, which is in the future", p.ID, at),
			Hint: "set the clocks of the agent's machine and of the database, then " + again}
	case now.Sub(p.Snapshot) > most:
		return Result{Answer: Deny, Reason: fmt.Sprintf("the newest verified backup, %s, is of %s, and %s lets it be %s old", p.ID, at, whose, most), Hint: again}
	}
	return allow(fmt.Sprintf("backup %s of %s is verified (%s) and may be %s old", p.ID, at, p.Level, most))
}

// drilled judges the last drill.
func (b *Backup) drilled(env string, demand declaration.BackupDemand, now time.Time) Result {
	again := "purser drill now " + env
	d := b.Drill
	if d == nil {
		return Result{Answer: Deny, Reason: "no restore was rehearsed yet", Hint: again}
	}
	at := d.At.UTC().Format(time.RFC3339)
	switch {
	case !d.Passed || d.Problem != "":
		return Result{Answer: Deny, Reason: fmt.Sprintf("the restore drill of %s did not pass: %s", at, cmp.Or(d.Problem, "its record says no more")),
			Hint: fmt.Sprintf("look at it (purser drill list %s), remove the cause, then %s", env, again)}
	case !isBackupOf(d.ID, env):
		return Result{Answer: Deny, Reason: fmt.Sprintf("the last restore drill was of backup %q, which is not of this environment", d.ID), Hint: again}
	case d.At.IsZero() || d.RTO <= 0:
		return Result{Answer: Deny, Reason: "it is unknown when the last restore drill was, or how long it took", Hint: again}
	case d.At.After(now.Add(clockSteps)):
		return Result{Answer: Deny, Until: &d.At, Reason: fmt.Sprintf("the last restore drill is of %s, which is in the future", at), Hint: "set the clock of the agent's machine, then " + again}
	case now.Sub(d.At) > demand.DrillMaxAge:
		return Result{Answer: Deny, Reason: fmt.Sprintf("the last restore drill is of %s, and the class lets it be %s old", at, demand.DrillMaxAge), Hint: again}
	case d.RTO > b.RTO:
		return Result{Answer: Deny, Reason: fmt.Sprintf("the restore drill of %s took %s, and the RTO of BackupPolicy %q is %s", at, d.RTO.Round(time.Second), b.Policy, b.RTO),
			Hint: fmt.Sprintf("make restores quicker, then %s; or declare another rto, in governance", again)}
	}
	return allow(fmt.Sprintf("the restore drill of %s took %s of %s", at, d.RTO.Round(time.Second), b.RTO))
}

// probed judges whether the store takes backups now. A problem holds until the store was asked again, however long that takes.
func (b *Backup) probed(migration string, now time.Time) Result {
	const hint = "the agent asks it; if this stays, look at its log"
	wait := func(why string) Result {
		return Result{Answer: Wait, Reason: fmt.Sprintf("the release migrates the database (%s), and %s", migration, why), Hint: hint}
	}
	p := b.Store
	switch {
	case p == nil || p.At.IsZero():
		return wait("the store was not asked yet whether it takes a backup")
	case p.Problem != "":
		// What the store says may differ each time, with ports and such, and is no new reason.
		r := Result{Answer: Deny, Reason: fmt.Sprintf("the release migrates the database (%s), and the store takes no backup now", migration),
			Hint: fmt.Sprintf("bring the store back (%s): it is asked again every few minutes", p.Problem)}
		if until := p.At.Add(ProbeMaxAge); until.After(now) {
			r.Until = &until
		}
		return r
	case p.At.After(now.Add(clockSteps)) || now.Sub(p.At) > ProbeMaxAge:
		return wait(fmt.Sprintf("the store was last asked at %s whether it takes a backup: that may be %s ago", p.At.UTC().Format(time.RFC3339), ProbeMaxAge))
	}
	return allow(fmt.Sprintf("the store takes backups (asked at %s)", p.At.UTC().Format(time.RFC3339)))
}

// isBackupOf reports whether an ID names a backup of an environment. IDs are of the form 20261122T101500Z-ENV-RANDOM8.
func isBackupOf(id, env string) bool {
	const stamp, random = len("20261122T101500Z"), 8
	return len(id) == stamp+len(env)+random+2 && strings.HasPrefix(id[stamp:], "-"+env+"-")
}

// both is what two questions of a gate give: the worse answer, and where they are equally bad both. It changes by itself when the
// last of its parts may.
func both(a, b Result) Result {
	switch {
	case b.Answer < a.Answer:
		return a
	case b.Answer > a.Answer:
		return b
	}
	a.Reason += "; " + b.Reason
	if b.Hint != "" && !strings.Contains(a.Hint, b.Hint) {
		a.Hint = strings.TrimPrefix(a.Hint+"; "+b.Hint, "; ")
	}
	if a.Until == nil || b.Until == nil {
		a.Until = nil
	} else if b.Until.After(*a.Until) {
		a.Until = b.Until
	}
	return a
}
