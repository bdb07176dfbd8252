package evidence

import (
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
)

// Cause says why something was done with backups, and by whose rules.
type Cause struct {
	Policy     string    `json:"policy"`            // name of the BackupPolicy
	Governance string    `json:"governance"`        // commit that declares it
	Reason     string    `json:"reason"`            // as text for people
	Slot       time.Time `json:"slot,omitzero"`     // the start by schedule that it is for
	Missed     int       `json:"missed,omitempty"`  // further starts that it is for
	Ordered    bool      `json:"ordered,omitempty"` // somebody wanted it, beside what was due
}

// Backup is an attempt to back up database and filestore of an environment. There is a backup only if there is a manifest, and
// by its version and SHA-256 it is known from then on.
type Backup struct {
	Cause
	ID       backup.ID     `json:"id,omitempty"`
	Store    string        `json:"store"`
	Source   string        `json:"source,omitempty"`  // address of the database: host:port/database
	Release  string        `json:"release,omitempty"` // digest of the release that it was made for, before that went live
	Manifest *store.Object `json:"manifest,omitempty"`

	Began    time.Time        `json:"began"`
	Snapshot time.Time        `json:"snapshot,omitzero"` // what was committed before is in it
	Ended    time.Time        `json:"ended"`
	Segments []backup.Segment `json:"segments,omitempty"`
	Plain    int64            `json:"plain,omitempty"`  // bytes that were read of database and filestore
	Sealed   int64            `json:"sealed,omitempty"` // bytes that were written to the store
	Copied   int64            `json:"copied,omitempty"` // bytes of attachments that no earlier backup had
	Lacks    int64            `json:"lacks,omitempty"`  // contents of attachments that the filestore did not have
	Anew     string           `json:"anew,omitempty"`   // why nothing of earlier backups was used
	Error    string           `json:"error,omitempty"`
}

// Verification is what a backup was found to be in one store.
type Verification struct {
	Cause
	Store  string `json:"store"`
	Passed bool   `json:"passed"`
	backup.Verification
}

// RestoreTest is a rehearsed restore.
type RestoreTest struct {
	Cause
	Store  string `json:"store"`
	Drill  string `json:"drill,omitempty"` // name of the schedule that it is for
	Counts bool   `json:"counts"`          // it is of the policy's store, and nobody chose the backup
	Passed bool   `json:"passed"`
	backup.DrillReport
}

// Judges reports whether the drill says if a restore of what the policy has would succeed: it counts, and came to its end or took
// longer than the objective.
func (t RestoreTest) Judges() bool {
	inTime := t.WantRTO == 0 || t.Ended.Sub(t.Began) < t.WantRTO
	return t.Counts && (t.Unfinished == "" || !inTime)
}

// Why says in a sentence why the drill did not pass; "" if it did.
func (t RestoreTest) Why() string {
	switch err := t.Err(); {
	case t.Passed:
		return ""
	case t.Unfinished != "":
		return t.Unfinished
	case err != nil:
		return err.Error()
	case !t.Teardown.Proven:
		return "it is not proven that what was restored is gone: " + t.Teardown.Problem
	}
	return "it did not come to its end"
}

// Replication is an attempt to copy a backup to another store.
type Replication struct {
	Cause
	ID       backup.ID        `json:"id"`
	From     string           `json:"from"`
	To       string           `json:"to"`
	Manifest *store.Object    `json:"manifest,omitempty"` // of the copy; nil: there is none
	Snapshot time.Time        `json:"snapshot"`
	Began    time.Time        `json:"began"`
	Ended    time.Time        `json:"ended"`
	Segments []backup.Segment `json:"segments,omitempty"`
	Bytes    int64            `json:"bytes,omitempty"`  // that were copied
	Reused   int64            `json:"reused,omitempty"` // that were there already
	Error    string           `json:"error,omitempty"`
}

// Retention is a plan, before anything is deleted, or the outcome of one. Why each backup is kept or not is the blob "plan".
type Retention struct {
	Cause
	Store    string          `json:"store"`
	Phase    string          `json:"phase"`
	Plan     *uint64         `json:"plan,omitempty"` // index of the plan that an outcome is of; nil if nothing was to be deleted
	At       time.Time       `json:"at"`
	Kept     int             `json:"kept"`               // backups
	Expire   []backup.Expiry `json:"expire,omitempty"`   // of a plan
	Extended []store.Object  `json:"extended,omitempty"` // of an outcome: objects that are locked for longer
	Deleted  []store.Object  `json:"deleted,omitempty"`  // of an outcome
	Blocked  []string        `json:"blocked,omitempty"`  // why something is kept that could be deleted
	Error    string          `json:"error,omitempty"`
}

// Phases of a retention.
const (
	RetentionPlanned = "plan"
	RetentionDone    = "outcome"
)
