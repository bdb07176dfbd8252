package declaration

import (
	"time"

	"github.com/purser-gitops/purser/sources/schedule"
)

// How strictly the objects of backups are locked.
const (
	LockNone       = "none"
	LockGovernance = "governance" // a special permission can shorten it
	LockCompliance = "compliance" // nobody can
)

// Which backup a drill restores.
const (
	PointLatest = "latest"
	PointRandom = "random"
)

// BackupPolicy says how environments are backed up, how long backups are kept, and how it is proven that they are good.
type BackupPolicy struct {
	Meta      Meta
	Spec      BackupPolicySpec
	Position  Position
	Schedules BackupSchedules `json:"-"` // of Spec, ready to be asked; shared by all who ask
}

// BackupSchedules are what a [BackupPolicySpec] says of times. Those that it does not have are nil.
type BackupSchedules struct {
	Backups, L0, L1, L2 *schedule.Schedule
	Drills              []*schedule.Schedule // in the order of Spec.Drills
}

// BackupPolicySpec is the content of a [BackupPolicy].
type BackupPolicySpec struct {
	// When backups start: minute, hour, day of the month, month and day of the week, as in cron.
	Schedule string `json:"schedule" jsonschema:"required"`
	// IANA name of the time zone of all times of the policy, such as Europe/Berlin. It also says when a day, week, month or year begins.
	TimeZone string `json:"timeZone" jsonschema:"required"`
	// Starts are spread over so much time: each environment is always late by the same part of it.
	Jitter time.Duration `json:"jitter,omitempty" jsonschema:"default=0s,minimum=0s,maximum=12h"`
	// Times in which nothing starts by schedule. What would is moved to their end.
	PeakHours []PeakHours `json:"peakHours,omitempty" jsonschema:"minItems=1"`
	// Name of the store, in the agent's configuration, that backups are written to.
	Store string `json:"store" jsonschema:"required,format=name"`
	// Names of further stores, each of which gets a copy of its own and is checked on its own.
	Replicas []string `json:"replicas,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// How long backups are kept.
	Retention Retention `json:"retention" jsonschema:"required"`
	// Greatest loss of data, as time before a failure.
	RPO time.Duration `json:"rpo" jsonschema:"required,minimum=1m"`
	// Longest time that a restore may take until the database and its attachments are there and checked.
	RTO time.Duration `json:"rto" jsonschema:"required,minimum=1m"`
	// Longest time that a backup may take. One that takes longer is given up.
	Deadline time.Duration `json:"deadline,omitempty" jsonschema:"default=4h,minimum=1m,maximum=72h"`
	// Longest time that a backup may hold a snapshot of the database, which keeps the database from clearing up. At most the deadline.
	SnapshotLimit time.Duration `json:"snapshotLimit,omitempty" jsonschema:"default=2h,minimum=1m"`
	// When backups are verified, as in cron.
	Verify Verify `json:"verify" jsonschema:"required"`
	// What of the database and its attachments is no fault of a backup.
	Tolerate Tolerate `json:"tolerate"`
	// When restores are rehearsed.
	Drills []Drill `json:"drills,omitempty" jsonschema:"minItems=1"`
}

// PeakHours is a time of day in which nothing starts.
type PeakHours struct {
	// Days of the week on which it begins. Default: every day.
	Days []string `json:"days,omitempty" jsonschema:"minItems=1,uniqueItems=true,enum=mon,enum=tue,enum=wed,enum=thu,enum=fri,enum=sat,enum=sun"`
	// Beginning, in local time.
	From string `json:"from" jsonschema:"required,format=clock"`
	// End, in local time. One before the beginning is on the next day.
	To string `json:"to" jsonschema:"required,format=clock"`
}

// Retention says how long backups are kept: of each period the first verified backup, for so many periods.
type Retention struct {
	// Least time that every backup is kept and locked.
	Minimum time.Duration `json:"minimum,omitempty" jsonschema:"default=72h,minimum=1h"`
	// Hours of which the first verified backup is kept.
	Hourly int `json:"hourly,omitempty" jsonschema:"default=0,minimum=0,maximum=1000"`
	// Days of which the first verified backup is kept.
	Daily int `json:"daily,omitempty" jsonschema:"default=0,minimum=0,maximum=1000"`
	// Weeks, from Monday on, of which the first verified backup is kept.
	Weekly int `json:"weekly,omitempty" jsonschema:"default=0,minimum=0,maximum=520"`
	// Months of which the first verified backup is kept.
	Monthly int `json:"monthly,omitempty" jsonschema:"default=0,minimum=0,maximum=240"`
	// Years of which the first verified backup is kept.
	Yearly int `json:"yearly,omitempty" jsonschema:"default=0,minimum=0,maximum=30"`
	// How strictly objects are locked. governance: those with a special permission can shorten a lock. compliance: nobody can, and nobody can delete the object before its end.
	Lock string `json:"lock,omitempty" jsonschema:"enum=none,enum=governance,enum=compliance,default=governance"`
	// Furthest that a lock may end in the future, in days. What is kept longer has its lock extended as time passes.
	LockDays int `json:"lockDays,omitempty" jsonschema:"default=400,minimum=1,maximum=3650"`
}

// Verify says when backups are verified: at level 0 each object is there and locked, at level 1 it is downloaded, opened and
// read to its end, at level 2 it is restored and compared.
type Verify struct {
	// Level 0: are all objects there, unchanged and locked? Every new backup is also looked at once.
	L0 string `json:"l0,omitempty"`
	// Level 1: can all of it be downloaded, opened and read to its end? Only then a backup counts as verified.
	L1 string `json:"l1" jsonschema:"required"`
	// Level 2: does a restored one have what the database had?
	L2 string `json:"l2,omitempty"`
}

// Tolerate says what may be missing where backups are made. It is found and reported, and no backup fails for it.
type Tolerate struct {
	// Most attachments whose file the filestore does not have.
	MissingAttachments int64 `json:"missingAttachments,omitempty" jsonschema:"default=0,minimum=0"`
	// The database may have no business in it at all: no orders, no journal entries.
	EmptyDatabase bool `json:"emptyDatabase,omitempty" jsonschema:"default=false"`
}

// Drill says when a restore is rehearsed.
type Drill struct {
	// When, as in cron.
	Schedule string `json:"schedule" jsonschema:"required"`
	// Which backup: the latest verified one, or one at random.
	Point string `json:"point,omitempty" jsonschema:"enum=latest,enum=random,default=latest"`
}

// Stores are the names of all stores that have backups by the policy: the one that they are written to, then the further ones.
func (s BackupPolicySpec) Stores() []string {
	return append([]string{s.Store}, s.Replicas...)
}

// compile makes one of the policy's schedules ready to be asked. Its error is [calendar.Errors].
func (s BackupPolicySpec) compile(cron string) (*schedule.Schedule, error) {
	spec := schedule.Spec{Cron: cron, TimeZone: s.TimeZone, Jitter: s.Jitter}
	for _, p := range s.PeakHours {
		spec.Peaks = append(spec.Peaks, schedule.Peak(p))
	}
	return schedule.Compile(spec)
}
