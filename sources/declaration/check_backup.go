package declaration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/sources/calendar"
	"github.com/purser-gitops/purser/sources/schedule"
)

// backupPolicies judges each policy.
func (c *check) backupPolicies() {
	for _, name := range slices.Sorted(maps.Keys(c.set.BackupPolicies)) {
		p, doc := c.set.BackupPolicies[name], c.doc["BackupPolicy "+name]
		if doc.broken {
			continue // what depends on what cannot be read is not judged
		}
		c.schedules(p, doc)
		c.objectives(p, doc)
		c.retention(p, doc)
		c.store(doc, "spec.store", p.Spec.Store)
		for i, replica := range p.Spec.Replicas {
			c.store(doc, fmt.Sprintf("spec.replicas[%d]", i), replica)
			if replica == p.Spec.Store {
				c.g.errs.add(doc.mark(fmt.Sprintf("spec.replicas[%d]", i)), fmt.Sprintf("store %q has two roles", replica), "a copy beside the original is lost together with it", "name another store, or remove it")
			}
		}
	}
}

// store refuses the name of a store that the agent has not, if it is known which ones it has.
func (c *check) store(doc *document, path, name string) {
	stores := c.g.known.Stores
	if stores == nil || slices.Contains(stores, name) {
		return
	}
	if len(stores) == 0 {
		c.g.errs.add(doc.mark(path), fmt.Sprintf("unknown store %q", name), "the agent has no stores", "add it to backup.stores of the agent's configuration")
		return
	}
	c.unknownBecause(doc.mark(path), "store", name, "the agent has no store of that name", stores)
}

// schedules makes the schedules of a policy ready to be asked, or says what is wrong with them. What is wrong with zone,
// jitter or peak hours is told once.
func (c *check) schedules(p *BackupPolicy, doc *document) {
	told := map[string]bool{}
	compile := func(path, cron string) *schedule.Schedule {
		if cron == "" {
			return nil
		}
		compiled, err := p.Spec.compile(cron)
		var problems calendar.Errors
		if err != nil && !errors.As(err, &problems) {
			c.g.errs.add(doc.mark(path), "schedule cannot be used", err.Error(), "correct it")
		}
		for _, problem := range problems {
			at := "spec." + problem.Path
			if problem.Path == "cron" {
				at = path
			}
			if !told[at] {
				told[at] = true
				c.g.errs.add(doc.mark(at), problem.What, problem.Why, problem.Remedy)
			}
		}
		return compiled
	}
	s := &p.Schedules
	s.Backups = compile("spec.schedule", p.Spec.Schedule)
	s.L0, s.L1, s.L2 = compile("spec.verify.l0", p.Spec.Verify.L0), compile("spec.verify.l1", p.Spec.Verify.L1), compile("spec.verify.l2", p.Spec.Verify.L2)
	for i, d := range p.Spec.Drills {
		s.Drills = append(s.Drills, compile(fmt.Sprintf("spec.drills[%d].schedule", i), d.Schedule))
	}
}

// objectives refuses what the schedule cannot keep.
func (c *check) objectives(p *BackupPolicy, doc *document) {
	s := p.Spec
	if p.Schedules.Backups != nil {
		if gap, after := p.Schedules.Backups.LongestGap(); s.RPO < gap {
			c.g.errs.add(doc.mark("spec.rpo"), fmt.Sprintf("rpo is %s", s.RPO),
				fmt.Sprintf("the schedule leaves %s between two backups, as after %s, and the loss can be no smaller", gap, after.Format(time.RFC3339)),
				"back up more often, or allow for more")
		}
	}
	switch {
	case s.SnapshotLimit <= s.Deadline:
	case given(doc, "spec.snapshotLimit"):
		c.g.errs.add(doc.mark("spec.snapshotLimit"), fmt.Sprintf("snapshotLimit is %s", s.SnapshotLimit),
			fmt.Sprintf("a backup is given up after %s, so it would never hold a snapshot for so long", s.Deadline), "make it at most the deadline")
	default:
		p.Spec.SnapshotLimit = s.Deadline
	}
}

// retention refuses a policy that keeps nothing, or whose locks end before it is known whether a backup is good.
func (c *check) retention(p *BackupPolicy, doc *document) {
	r := p.Spec.Retention
	if r.Hourly+r.Daily+r.Weekly+r.Monthly+r.Yearly == 0 {
		c.g.errs.add(doc.mark("spec.retention"), "retention keeps nothing", "each of hourly, daily, weekly, monthly and yearly is 0, or left out", `add one of them, like "daily: 7"`)
	}
	if deadline := p.Spec.Deadline; r.Minimum < deadline {
		c.g.errs.add(doc.mark("spec.retention.minimum"), fmt.Sprintf("retention.minimum is %s", r.Minimum),
			fmt.Sprintf("a backup may take %s, and the lock of what it writes first must not end before it is complete", deadline), "make minimum at least as long as deadline")
	}
	days := time.Duration(r.LockDays) * 24 * time.Hour
	if r.Lock != LockNone && days < r.Minimum {
		c.g.errs.add(doc.mark("spec.retention.lockDays"), fmt.Sprintf("lockDays is %d", r.LockDays), fmt.Sprintf("every backup is locked for %s", r.Minimum), "raise it, or lower minimum")
	}
	if p.Schedules.L1 == nil {
		return
	}
	if gap, _ := p.Schedules.L1.LongestGap(); r.Minimum < gap {
		at := "spec.retention.minimum"
		if !given(doc, at) {
			at = "spec.verify.l1"
		}
		c.g.errs.add(doc.mark(at), fmt.Sprintf("retention.minimum is %s", r.Minimum),
			fmt.Sprintf("verify.l1 leaves %s between two verifications, so a backup's lock could end before it is known whether the backup is good", gap),
			"verify more often, or keep every backup for longer")
	}
}

// backups judges what the environment's class demands of its policy.
func (c *check) backups(e *Environment, doc *document) {
	if name := e.Spec.Backup; name != "" && given(doc, "spec.backup") {
		c.backupPolicyNamed(doc.mark("spec.backup"), name)
	}
	class, policy := c.set.Classes[e.Spec.Class], c.set.BackupPolicies[e.Spec.Backup]
	if class == nil || doc.broken || !c.g.complete || e.Spec.Backup != "" && policy == nil {
		return // reported as unknown
	}
	demand := class.Spec.Backup
	switch {
	case demand == (BackupDemand{}):
	case policy == nil:
		c.g.errs.add(doc.mark("spec.class"), fmt.Sprintf("environment %q has no backups", e.Meta.Name),
			fmt.Sprintf("its class %q asks for verified ones, so nothing could ever be released", e.Spec.Class), `add "backup:" with the name of a BackupPolicy`)
	case demand.DrillMaxAge > 0 && len(policy.Spec.Drills) == 0:
		c.g.errs.add(doc.mark("spec.class"), fmt.Sprintf("environment %q has no restore drills", e.Meta.Name),
			fmt.Sprintf("its class %q asks for them and BackupPolicy %q has none, so nothing could ever be released", e.Spec.Class, e.Spec.Backup), `add "drills:" to the policy`)
	}
}

// backupPolicyNamed refuses the name of a policy that there is not.
func (c *check) backupPolicyNamed(at Position, name string) {
	if c.set.BackupPolicies[name] == nil && c.g.complete {
		c.unknown(at, "backup policy", name, slices.Sorted(maps.Keys(c.set.BackupPolicies)))
	}
}

// warnBackups is about classes that ask for younger backups or drills than policies are sure to give.
func (s *Set) warnBackups(list *Errors) {
	for _, name := range slices.Sorted(maps.Keys(s.Environments)) {
		e := s.Environments[name]
		class, policy := s.Classes[e.Spec.Class], s.BackupPolicies[e.Spec.Backup]
		if policy != nil && policy.Spec.Retention.Lock == LockNone && e.Spec.Purpose == "production" {
			list.add(e.Position, fmt.Sprintf("backups of environment %q are not locked", e.Meta.Name),
				fmt.Sprintf("BackupPolicy %q has lock none, so whoever may delete can take away all backups of a production", policy.Meta.Name),
				"set retention.lock to governance or compliance")
		}
		if class == nil || policy == nil || class.Spec.Backup == (BackupDemand{}) {
			continue
		}
		e.warnAge(class, policy, list)
		e.warnDrills(class, policy, list)
	}
}

// warnAge is about backups that get too old before the next one is made, or is verified.
func (e *Environment) warnAge(class *ReleaseClass, policy *BackupPolicy, list *Errors) {
	most, asks := policy.Spec.RPO, "its rpo"
	if age := class.Spec.Backup.MaxAge; age > 0 && age < most {
		most, asks = age, fmt.Sprintf("class %q", class.Meta.Name)
	}
	for _, step := range []struct {
		schedule      *schedule.Schedule
		leaves, often string
	}{
		{policy.Schedules.Backups, "two backups", "back up"},
		{policy.Schedules.L1, "two verifications of level 1", "verify"},
	} {
		if gap, _ := step.schedule.LongestGap(); most < gap {
			list.add(e.Position, fmt.Sprintf("backups of environment %q are often too old to release", e.Meta.Name),
				fmt.Sprintf("BackupPolicy %q leaves %s between %s, and %s lets a verified backup be %s old", policy.Meta.Name, gap, step.leaves, asks, most),
				step.often+" more often, or ask for less")
			return
		}
	}
}

// warnDrills is about drills that are too long ago before the next one.
func (e *Environment) warnDrills(class *ReleaseClass, policy *BackupPolicy, list *Errors) {
	most := class.Spec.Backup.DrillMaxAge
	often := slices.ContainsFunc(policy.Schedules.Drills, func(d *schedule.Schedule) bool {
		gap, _ := d.LongestGap()
		return gap <= most
	})
	if most > 0 && !often {
		list.add(e.Position, fmt.Sprintf("restore drills of environment %q are often too old to release", e.Meta.Name),
			fmt.Sprintf("class %q asks for one that is at most %s old, and no drill of BackupPolicy %q comes so often", class.Meta.Name, most, policy.Meta.Name),
			"drill more often, or let the class ask for less")
	}
}
