package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Worker does the jobs. It is safe for concurrent use, as long as no lane of an environment has two jobs at a time.
type Worker struct {
	Site    *site.Site
	Version string // of this program, for manifests
	Random  func(n int) int
	Stall   time.Duration // see [postgres.Options]
	Now     func() time.Time
	Logger  *slog.Logger
}

// Subject is an environment as its backups are concerned.
type Subject struct {
	Environment string
	Policy      *declaration.BackupPolicy
	Governance  string // commit that declares the policy
	Release     string // digest of what is deployed; "" for nothing
	For         string // digest of the release that a backup is made for; "" for none
	Backups     Backups
	Holds       map[string]bool                               // digests of releases whose backups are kept
	Settings    func(context.Context) ([]byte, string, error) // what was declared and deployed, and its content type
}

func (s Subject) cause(j Job) evidence.Cause {
	return evidence.Cause{Policy: s.Policy.Meta.Name, Governance: s.Governance, Reason: j.Reason, Slot: j.Slot, Missed: j.Missed, Ordered: j.Ordered}
}

// keep is how long backups are kept.
func (s Subject) keep() (backup.Keep, error) {
	zone, err := time.LoadLocation(s.Policy.Spec.TimeZone)
	if err != nil {
		return backup.Keep{}, err
	}
	return backup.Keep{Retention: s.Policy.Spec.Retention, Zone: zone}, nil
}

// records are what is known of the backups in a store.
func (s Subject) records(in string) []backup.Record {
	var list []backup.Record
	for _, c := range s.Backups.Copies {
		if c.Store != in {
			continue
		}
		r := backup.Record{ID: c.ID, Manifest: c.Manifest, Locks: s.Backups.Locks[in], Verified: c.Verified, Failed: c.FailedAt != ""}
		if s.Holds[c.Release] {
			r.Holds = []string{c.Release}
		}
		list = append(list, r)
	}
	return list
}

// Take makes a backup. What became of it is in the predicate; the error is only that of a context that ended.
func (w *Worker) Take(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (evidence.Backup, error) {
	p := evidence.Backup{Cause: s.cause(j), Store: j.Store, Release: s.For, Began: w.Now().UTC()}
	if database, configured := w.Site.Database(s.Environment); configured {
		p.Source = database.Address()
	}
	taken, err := w.take(ctx, s, j, progress)
	p.Ended = w.Now().UTC()
	if err != nil {
		if ctx.Err() != nil {
			return p, err
		}
		p.Error = backup.Short(err.Error())
		return p, nil
	}
	m := taken.Manifest
	p.ID, p.Manifest, p.Snapshot, p.Segments = m.ID, &taken.Ref, m.Times.Snapshot, taken.Segments
	p.Plain, p.Sealed, p.Copied = taken.Plain, taken.Sealed, m.Filestore.New.Bytes
	p.Lacks, p.Anew = taken.Problems.Count(), taken.Anew
	return p, nil
}

func (w *Worker) take(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (backup.Taken, error) {
	in, err := w.Site.Store(j.Store)
	if err != nil {
		return backup.Taken{}, err
	}
	database, err := w.database(s)
	if err != nil {
		return backup.Taken{}, err
	}
	keep, err := s.keep()
	if err != nil {
		return backup.Taken{}, err
	}
	identities, err := w.Site.Identities()
	if err != nil {
		return backup.Taken{}, err
	}
	settings, settingsType, err := s.Settings(ctx)
	if err != nil {
		return backup.Taken{}, fmt.Errorf("read what is deployed: %w", err)
	}
	scratch, err := w.folder("take", s.Environment)
	if err != nil {
		return backup.Taken{}, err
	}
	spec := s.Policy.Spec
	if n, err := in.Abandoned(ctx, s.Environment+"/", max(2*spec.Deadline, 24*time.Hour)); errors.Is(err, store.ErrUnanswered) {
		return backup.Taken{}, err // nor would it answer again
	} else if err != nil {
		w.Logger.Warn("abandoned uploads are not removed", "environment", s.Environment, "store", j.Store, "error", err)
	} else if n > 0 {
		w.Logger.Info("abandoned uploads removed", "environment", s.Environment, "store", j.Store, "uploads", n)
	}
	return backup.Take(ctx, in, backup.TakeOptions{
		Environment: s.Environment, Policy: s.Policy.Meta.Name, Store: j.Store, Reason: j.Reason,
		Configuration: backup.Configuration{Commit: s.Governance, Release: s.Release}, Settings: settings, SettingsType: settingsType,
		Connection: database.Connection, Filestore: database.Filestore, Programs: w.Site.Programs(),
		Snapshot:   postgres.Options{Stall: w.Stall, MaxHold: spec.SnapshotLimit, Log: w.Logger},
		Recipients: w.Site.Recipients(), Identities: identities, Previous: s.previous(j.Store),
		Lock: keep.Lock(w.Now()), Scratch: scratch, Deadline: spec.Deadline,
		Versions: map[string]string{"purser": w.Version}, Progress: progress, Log: w.Logger, Now: w.Now,
	})
}

func (w *Worker) database(s Subject) (site.Database, error) {
	d, configured := w.Site.Database(s.Environment)
	if !configured {
		return d, fmt.Errorf("the agent's configuration names no database of environment %q", s.Environment)
	}
	return d, nil
}

// previous is the backup of which packs are used again: the newest, unless something is wrong with it or, for a new backup, with
// a replica of it. Then all attachments are copied anew: what is wrong may be a pack that earlier ones refer to as well.
func (s Subject) previous(in string) *backup.Earlier {
	stores := []string{in}
	if in == s.Policy.Spec.Store {
		stores = s.Policy.Spec.Stores()
	}
	for _, store := range stores {
		if c, found := s.Backups.Newest(store, func(Copy) bool { return true }); found && !c.Undamaged() {
			return nil
		}
	}
	c, found := s.Backups.Newest(in, func(Copy) bool { return true })
	if !found {
		return nil
	}
	return &backup.Earlier{ID: c.ID, Manifest: c.Manifest}
}

// Sweep removes what scratch servers left whose agent was killed: it is plain data of what was restored.
func (w *Worker) Sweep(ctx context.Context) {
	removed, err := postgres.RemoveLeftovers(ctx, w.Site.Scratch())
	for _, folder := range removed {
		w.Logger.Info("removed what a drill or verification left that was killed", "folder", folder)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Logger.Warn("what drills and verifications left that were killed is not all removed", "error", err)
	}
}

// folder is one of the worker's own, for what does not fit into memory.
func (w *Worker) folder(names ...string) (string, error) {
	folder := filepath.Join(append([]string{w.Site.Scratch()}, names...)...)
	return folder, os.MkdirAll(folder, 0o700)
}

// stored is a backup where it is.
func (w *Worker) stored(s Subject, j Job, identities []age.Identity) (backup.Stored, error) {
	in, err := w.Site.Store(j.Store)
	if err != nil {
		return backup.Stored{}, err
	}
	c, found := s.Backups.Copy(j.ID, j.Store)
	if !found {
		return backup.Stored{}, fmt.Errorf("the log knows no backup %s of %s in store %q", j.ID, s.Environment, j.Store)
	}
	return backup.Stored{
		Store: in, Environment: s.Environment, ID: c.ID, Manifest: c.Manifest, Locks: s.Backups.Locks[j.Store], Identities: identities,
	}, nil
}

func (w *Worker) proof(s Subject, progress func(backup.Progress)) backup.ProofOptions {
	return backup.ProofOptions{
		Scratch: w.Site.Scratch(), Programs: w.Site.Programs(),
		Absent: s.Policy.Spec.Tolerate.MissingAttachments, Empty: s.Policy.Spec.Tolerate.EmptyDatabase,
		RPO: s.Policy.Spec.RPO, Progress: progress, Now: w.Now,
	}
}

// Verify looks at a backup. What was found is in the predicate; the error is only that of a context that ended, or that there
// is no such backup.
func (w *Worker) Verify(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (evidence.Verification, error) {
	p := evidence.Verification{Cause: s.cause(j), Store: j.Store}
	var identities []age.Identity
	var err error
	if j.Level > backup.L0 {
		if identities, err = w.Site.Identities(); err != nil {
			return p, err
		}
	}
	b, err := w.stored(s, j, identities)
	if err != nil {
		return p, err
	}
	bound, cancel := context.WithTimeout(ctx, s.Policy.Spec.Deadline)
	defer cancel()
	v, err := backup.Verify(bound, b, j.Level, w.proof(s, progress))
	if ctx.Err() != nil {
		return p, err
	}
	p.Verification, p.Passed = *v, v.Passed()
	return p, nil
}

// Drill rehearses a restore. What was found is in the predicate; the error is only that of a context that ended, or that the
// drill could not begin.
func (w *Worker) Drill(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (evidence.RestoreTest, error) {
	p := evidence.RestoreTest{Cause: s.cause(j), Store: j.Store, Drill: j.Drill}
	in, err := w.Site.Store(j.Store)
	if err != nil {
		return p, err
	}
	database, err := w.database(s)
	if err != nil {
		return p, err
	}
	identities, err := w.Site.DrillIdentities()
	if err != nil {
		return p, err
	}
	records, proof := s.records(j.Store), w.proof(s, progress)
	if j.ID != "" {
		records = only(records, j.ID)
	}
	if j.ID != "" || j.Point == declaration.PointRandom {
		proof.RPO = 0 // an older backup is worth restoring, and says nothing of what would be lost
	}
	bound, cancel := context.WithTimeout(ctx, s.Policy.Spec.Deadline)
	defer cancel()
	r, err := backup.Drill(bound, backup.DrillSource{Store: in, Environment: s.Environment, Records: records, Identities: identities}, backup.DrillOptions{
		ProofOptions: proof, RTO: s.Policy.Spec.RTO, Point: j.Point, Random: w.Random,
		Sources: []backup.Address{{Host: database.Host, Port: database.Port}},
	})
	if ctx.Err() != nil {
		return p, err
	}
	p.DrillReport, p.Passed = *r, r.Passed()
	p.Counts = j.ID == "" && j.Store == s.Policy.Spec.Store
	return p, nil
}

func only(records []backup.Record, id backup.ID) []backup.Record {
	for _, r := range records {
		if r.ID == id {
			return []backup.Record{r}
		}
	}
	return nil
}

// Replicate copies a backup to another store. What became of it is in the predicate; the error is only that of a context that
// ended.
func (w *Worker) Replicate(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (evidence.Replication, error) {
	p := evidence.Replication{Cause: s.cause(j), ID: j.ID, From: s.Policy.Spec.Store, To: j.Store, Began: w.Now().UTC()}
	if c, found := s.Backups.Copy(j.ID, p.From); found {
		p.Snapshot = c.Snapshot
	}
	made, err := w.replicate(ctx, s, j, progress)
	p.Ended = w.Now().UTC()
	if err != nil {
		if ctx.Err() != nil {
			return p, err
		}
		p.Error = backup.Short(err.Error())
		return p, nil
	}
	p.Manifest, p.Segments, p.Bytes, p.Reused = &made.Ref, made.Segments, made.Bytes, made.Reused
	return p, nil
}

func (w *Worker) replicate(ctx context.Context, s Subject, j Job, progress func(backup.Progress)) (backup.Replicated, error) {
	from, err := w.stored(s, Job{ID: j.ID, Store: s.Policy.Spec.Store}, nil)
	if err != nil {
		return backup.Replicated{}, err
	}
	to, err := w.Site.Store(j.Store)
	if err != nil {
		return backup.Replicated{}, err
	}
	keep, err := s.keep()
	if err != nil {
		return backup.Replicated{}, err
	}
	return backup.Replicate(ctx, from, to, backup.ReplicateOptions{
		Store: j.Store, Lock: keep.Lock(w.Now()), Previous: s.previous(j.Store), Deadline: s.Policy.Spec.Deadline, Progress: progress, Now: w.Now,
	})
}
