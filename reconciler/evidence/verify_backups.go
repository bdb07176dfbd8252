package evidence

import (
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
	backups []provenBackup // the oldest first
	drills  map[uint64]provenDrill
}

type provenBackup struct {
	id       backup.ID
	snapshot time.Time
	looks    []look
}

// look is a verification.
type look struct {
	index   uint64
	ended   time.Time
	reached backup.Level
	found   bool // something is wrong with the backup
}

type provenDrill struct {
	id     backup.ID
	ended  time.Time
	rto    time.Duration
	passed bool
}

// checkBackups checks that an allow rests on backups and drills that were recorded as it says.
func (b *branchLog) checkBackups(r Record, in *policy.Inputs) error {
	key := b.Writer + " " + r.Environment
	switch r.Type {
	case TypeBackup, TypeVerification, TypeRestoreTest:
		p := b.proofs[key]
		if p == nil {
			p = &proofs{drills: map[uint64]provenDrill{}}
			b.proofs[key] = p
		}
		return p.add(r)
	case TypeDecision:
		var d Decision
		if err := json.Unmarshal(r.Predicate, &d); err != nil || in == nil || !restsOnBackups(d.Verdict, in) {
			return err
		}
		whole := b.previous == nil || slices.ContainsFunc(b.logs, func(l *branchLog) bool { return l.Branch == b.previous.Branch })
		return b.proofs[key].bear(in, whole)
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
		p.backups = append(p.backups, provenBackup{id: made.ID, snapshot: made.Snapshot})
		p.backups = p.backups[max(len(p.backups)-backupsKept, 0):]
	case TypeVerification:
		var v Verification
		if err := json.Unmarshal(r.Predicate, &v); err != nil {
			return err
		}
		if of := p.find(string(v.ID)); of != nil {
			of.looks = append(of.looks, look{r.Index, v.Ended, v.Reached, len(v.Findings.Findings) > 0})
		}
	case TypeRestoreTest:
		var t RestoreTest
		if err := json.Unmarshal(r.Predicate, &t); err != nil {
			return err
		}
		p.drills[r.Index] = provenDrill{t.ID, t.Ended, t.RTO, t.Passed}
	}
	return nil
}

func (p *proofs) find(id string) *provenBackup {
	if p == nil {
		return nil
	}
	i := slices.IndexFunc(p.backups, func(b provenBackup) bool { return string(b.id) == id })
	if i < 0 {
		return nil
	}
	return &p.backups[i]
}

// bear says by which facts the inputs of an allow differ from the records. Where those of earlier branches are not all in the
// clone, what cannot be found may be there.
func (p *proofs) bear(in *policy.Inputs, whole bool) error {
	f := in.Facts.Backup
	if f == nil || f.Newest == nil {
		return nil // the gate, evaluated again, denies
	}
	switch n, of := f.Newest, p.find(f.Newest.ID); {
	case of == nil && whole:
		return fmt.Errorf("it rests on backup %q, which was not recorded of this environment", n.ID)
	case of == nil:
	case !of.snapshot.Equal(n.Snapshot):
		return fmt.Errorf("it rests on backup %s of %s, which is of %s", n.ID, n.Snapshot.Format(time.RFC3339), of.snapshot.Format(time.RFC3339))
	case !slices.ContainsFunc(of.looks, func(l look) bool { return l.ended.Equal(n.Verified) && l.reached >= backup.L1 && !l.found }):
		return fmt.Errorf("it rests on backup %s, verified at %s, and there is no record of that", n.ID, n.Verified.Format(time.RFC3339))
	case !slices.ContainsFunc(of.looks, func(l look) bool { return l.index == n.Record && !l.found }):
		return fmt.Errorf("it rests on the verification of backup %s in record %d, which does not say that it is good", n.ID, n.Record)
	}
	if f.Drill == nil || in.Candidate.Class.Spec.Backup.DrillMaxAge == 0 {
		return nil
	}
	var recorded provenDrill
	known := false
	if p != nil {
		recorded, known = p.drills[f.Drill.Record]
	}
	switch d := f.Drill; {
	case !known && whole:
		return fmt.Errorf("it rests on the restore drill in record %d, which is none of this environment", d.Record)
	case known && (string(recorded.id) != d.ID || !recorded.ended.Equal(d.At) || recorded.rto != d.RTO || recorded.passed != d.Passed):
		return fmt.Errorf("it rests on the restore drill in record %d, which says something else", d.Record)
	}
	return nil
}
