package evidence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// backupsKept bounds the backups of an environment that are remembered: what is allowed rests on one of the newest.
const backupsKept = 1000

// proofs are what the records up to here say of the backups of an environment.
type proofs struct {
	backups []provenBackup // by ID and store, the oldest first
	drill   *provenDrill   // last that counts; nil: none
}

// provenBackup is a backup in one store. The last verification that said something has the last word on it.
type provenBackup struct {
	id       backup.ID
	store    string
	manifest string // key; "": its making is not in the log
	snapshot time.Time
	looked   uint64       // index of the last verification that said something
	verified time.Time    // end of the last one of level 1 or more, if nothing was found since
	failedAt backup.Level // highest level of what was last found; "": nothing was
}

type provenDrill struct {
	index uint64
	RestoreTest
}

// checkBackups checks that an allow rests on what the records before it say of backups and drills. Nothing is recorded of
// them between the reading of an allow's facts and the allow: an agent that finds something there judges again.
func (b *branchLog) checkBackups(r Record, in *policy.Inputs) error {
	key := b.Writer + " " + r.Environment
	switch r.Type {
	case TypeBackup, TypeVerification, TypeReplication, TypeRetention, TypeRestoreTest:
		p := b.proofs[key]
		if p == nil {
			p = &proofs{}
			b.proofs[key] = p
		}
		return p.add(r)
	case TypeDecision:
		var d Decision
		if err := json.Unmarshal(r.Predicate, &d); err != nil || in == nil || !restsOnBackups(d.Verdict, in) {
			return err
		}
		p := b.proofs[key]
		if p == nil {
			p = &proofs{}
		}
		whole := b.previous == nil || slices.ContainsFunc(b.logs, func(l *branchLog) bool { return l.Branch == b.previous.Branch })
		return cmp.Or(p.bear(in, whole), p.bearDrill(in, whole))
	}
	return nil
}

// restsOnBackups reports whether something was allowed because of the backups that there were.
func restsOnBackups(v policy.Verdict, in *policy.Inputs) bool {
	return v.Answer == policy.Allow && v.OverrideOf(policy.GateBackup) == "" && in.Candidate.AsksBackups()
}

func (p *proofs) add(r Record) error {
	switch r.Type {
	case TypeBackup:
		var made Backup
		if err := json.Unmarshal(r.Predicate, &made); err != nil || made.Manifest == nil {
			return err
		}
		p.put(provenBackup{id: made.ID, store: made.Store, manifest: made.Manifest.Key, snapshot: made.Snapshot})
	case TypeReplication:
		var copied Replication
		if err := json.Unmarshal(r.Predicate, &copied); err != nil || copied.Manifest == nil {
			return err
		}
		p.put(provenBackup{id: copied.ID, store: copied.To, manifest: copied.Manifest.Key, snapshot: copied.Snapshot})
	case TypeVerification:
		var v Verification
		if err := json.Unmarshal(r.Predicate, &v); err != nil {
			return err
		}
		p.look(r.Index, v)
	case TypeRetention:
		var done Retention
		if err := json.Unmarshal(r.Predicate, &done); err != nil || done.Phase != RetentionDone {
			return err
		}
		gone := map[string]bool{}
		for _, o := range done.Deleted {
			gone[o.Key] = true
		}
		p.backups = slices.DeleteFunc(p.backups, func(b provenBackup) bool { return b.store == done.Store && gone[b.manifest] })
	case TypeRestoreTest:
		d := provenDrill{index: r.Index}
		if err := json.Unmarshal(r.Predicate, &d.RestoreTest); err != nil {
			return err
		}
		if d.Judges() {
			p.drill = &d
		}
	}
	return nil
}

func (p *proofs) search(id backup.ID, in string) (int, bool) {
	return slices.BinarySearchFunc(p.backups, provenBackup{id: id, store: in}, func(a, b provenBackup) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.store, b.store))
	})
}

func (p *proofs) put(b provenBackup) {
	i, found := p.search(b.id, b.store)
	if found {
		p.backups[i] = b
		return
	}
	p.backups = slices.Insert(p.backups, i, b)
	p.backups = p.backups[max(len(p.backups)-backupsKept, 0):]
}

// look takes a verification. What looks at less than what found something does not take that back.
func (p *proofs) look(index uint64, v Verification) {
	if _, known := p.search(v.ID, v.Store); !known {
		p.put(provenBackup{id: v.ID, store: v.Store})
	}
	i, known := p.search(v.ID, v.Store)
	if !known {
		return // older than what is remembered
	}
	b := &p.backups[i]
	switch {
	case len(v.Findings.Findings) > 0:
		b.looked, b.verified = index, time.Time{}
		for _, found := range v.Findings.Findings {
			b.failedAt = max(b.failedAt, found.Level, backup.L0)
		}
	case v.Reached == "" || v.Reached < b.failedAt:
	default:
		b.looked, b.failedAt = index, ""
		if v.Reached >= backup.L1 {
			b.verified = v.Ended
		}
	}
}

// bear says by which facts about backups the inputs of an allow differ from the records. Where those of earlier branches are not
// all in the clone, what cannot be found may be there.
func (p *proofs) bear(in *policy.Inputs, whole bool) error {
	f := in.Facts.Backup
	if f == nil || f.Newest == nil {
		return nil // the gate, evaluated again, denies
	}
	n := f.Newest
	var of provenBackup
	if i, found := p.search(backup.ID(n.ID), f.In); found {
		of = p.backups[i]
	}
	switch {
	case of.manifest == "" && whole:
		return fmt.Errorf("it rests on backup %q, which was not recorded of this environment in store %q, or was deleted", n.ID, f.In)
	case of.manifest != "" && !of.snapshot.Equal(n.Snapshot):
		return fmt.Errorf("it rests on backup %s of %s, which is of %s", n.ID, n.Snapshot.Format(time.RFC3339), of.snapshot.Format(time.RFC3339))
	case of.failedAt != "":
		return fmt.Errorf("it rests on backup %s, and the last verification of that, in record %d, found something", n.ID, of.looked)
	case of.looked != n.Record && (of.looked != 0 || whole):
		return fmt.Errorf("it rests on the verification of backup %s in record %d, and the last one is in record %d", n.ID, n.Record, of.looked)
	case !of.verified.Equal(n.Verified) && (!of.verified.IsZero() || whole):
		return fmt.Errorf("it rests on backup %s, verified at %s, and there is no record of that", n.ID, n.Verified.Format(time.RFC3339))
	}
	for _, b := range slices.Backward(p.backups) {
		if b.store == f.In && b.failedAt != "" && !b.snapshot.After(in.At) {
			if b.snapshot.After(n.Snapshot) && f.Failed == nil {
				return fmt.Errorf("it passes over backup %s, which is newer than what it rests on, and in which record %d found something", b.id, b.looked)
			}
			break
		}
	}
	return nil
}

// bearDrill does the same for the drill.
func (p *proofs) bearDrill(in *policy.Inputs, whole bool) error {
	f := in.Facts.Backup
	if f == nil || f.Drill == nil || in.Candidate.Class.Spec.Backup.DrillMaxAge == 0 {
		return nil
	}
	switch d, last := f.Drill, p.drill; {
	case last == nil && whole:
		return fmt.Errorf("it rests on the restore drill in record %d, and none that counts was recorded of this environment", d.Record)
	case last == nil:
	case last.index != d.Record:
		return fmt.Errorf("it rests on the restore drill in record %d, and the last one that counts is in record %d", d.Record, last.index)
	case string(last.ID) != d.ID || !last.Ended.Equal(d.At) || last.RTO != d.RTO || last.Passed != d.Passed:
		return fmt.Errorf("it rests on the restore drill in record %d, which says something else", d.Record)
	}
	return nil
}
