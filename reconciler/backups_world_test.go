package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

// shopPolicy backs up once a day and proves it by all means. What never ran runs at once.
const shopPolicy = `apiVersion: purser.dev/v1alpha1
kind: BackupPolicy
metadata: {name: shop}
spec:
  schedule: "0 3 * * *"
  timeZone: UTC
  store: near
  replicas: [far]
  retention: {minimum: 72h, daily: 7}
  rpo: 25h
  rto: 1h
  verify: {l1: "0 4 * * *"}
  drills: [{schedule: "0 5 * * *"}]
`

const guardedClass = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: guarded}
spec: {rank: 20, backup: {maxAge: 26h, drillMaxAge: 168h}}
`

// shopWorld is a world whose environment dev has a shop: a database and a filestore, which are backed up to a bucket and
// copied to a folder.
type shopWorld struct {
	*world
	shop *lab.Database
	far  string // folder of the second store
	left string // folder that a scratch server left whose agent was killed
}

func newShopWorld(t *testing.T, class string) *shopWorld {
	t.Helper()
	s := &shopWorld{far: t.TempDir()}
	s.world = newWorld(t, func(w *world) {
		w.write("purser/shop.yaml", shopPolicy)
		w.write("purser/guarded.yaml", guardedClass)
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "backup: shop\nclass: "+class))
	})
	l := labtest.Shared(t, lab.PostgreSQL, lab.S3)
	s.shop = labtest.Database(t, l)
	if err := odoodb.Seed(t.Context(), odoodb.Options{DSN: s.shop.DSN, Filestore: s.shop.Filestore, Attachments: 40, AttachmentBytes: 2048, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	s.settings.more = s.backupYAML(l, labtest.Bucket(t, l))
	return s
}

// backupYAML is the agent's configuration of backups.
func (s *shopWorld) backupYAML(l *lab.Endpoints, bucket string) string {
	s.t.Helper()
	host, port, err := net.SplitHostPort(l.PostgresAddress)
	if err != nil {
		s.t.Fatal(err)
	}
	estate, err := age.GenerateX25519Identity()
	if err != nil {
		s.t.Fatal(err)
	}
	escrow, err := age.GenerateX25519Identity()
	if err != nil {
		s.t.Fatal(err)
	}
	s.keep("estate.key", estate.String()+"\n")
	s.keep("escrow.key", escrow.String()+"\n")
	scratch, err := os.MkdirTemp("", "pb-") // every user may pass through it
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(scratch) })
	s.left = filepath.Join(scratch, "scratch-20261122")
	if err := errors.Join(os.Chmod(scratch, 0o711), os.MkdirAll(filepath.Join(s.left, "data"), 0o700)); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`  backup:
    stores:
      - name: near
        s3:
          endpoint: %s
          region: %s
          bucket: %s
          prefix: estate/
          caFile: %s
          credentialsFile: %s
          expiry: {credentialsFile: %s}
      - name: far
        directory: {path: %s}
    databases:
      - {environment: dev, host: %s, port: %s, user: %s, database: %s, passwordFile: %s, tls: disable, filestore: %s}
    recipients: [%s, %s]
    identityFile: estate.key
    drillIdentityFile: escrow.key
    scratchDir: %s
`, l.S3URL, lab.S3Region, bucket, l.CAFile, l.S3CredentialsFile(lab.S3Writer), l.S3CredentialsFile(lab.S3Expirer), s.far,
		host, port, lab.PostgresOdoo, s.shop.Name, l.PostgresPasswordFile(), s.shop.Filestore, estate.Recipient(), escrow.Recipient(), scratch)
}

func (s *shopWorld) keep(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// order has something done by the running agent, and returns what was recorded.
func ordered[P any](s *shopWorld, o reconciler.Order) P {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), labtest.Patience)
	defer cancel()
	records, err := s.agent.Order(ctx, "dev", o)
	if err != nil {
		s.t.Fatalf("%s: %v", o.Task, err)
	}
	var p P
	decode(s.t, records[0], &p)
	return p
}

// An environment that names a policy is backed up, and what is made is looked at, read, copied and rehearsed without anybody
// asking; a release that asks for that waits until then.
func TestBackupsByThemselves(t *testing.T) {
	s := newShopWorld(t, "guarded")
	s.run()
	s.untilLive("dev", "one") // past the gate
	if _, err := os.Stat(s.left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed agent left is still there: %v", err)
	}
	s.until("everything was done once", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		b := dev.Backups
		if b == nil || len(b.Copies) < 2 || b.Drilled == nil {
			return fmt.Errorf("backups are %+v", b)
		}
		for _, c := range b.Copies {
			if !c.Good() {
				return fmt.Errorf("copy %+v is not verified", c)
			}
		}
		return nil
	})
	var done []string
	var story struct {
		made    evidence.Backup
		copied  evidence.Replication
		drilled evidence.RestoreTest
	}
	var allowed, verified uint64
	for _, r := range s.records() {
		switch r.Type {
		case evidence.TypeBackup:
			decode(t, r, &story.made)
		case evidence.TypeReplication:
			decode(t, r, &story.copied)
		case evidence.TypeRestoreTest:
			decode(t, r, &story.drilled)
		case evidence.TypeVerification:
			var v evidence.Verification
			decode(t, r, &v)
			if !v.Passed {
				t.Errorf("verification at %s in %s did not pass: %v %s", v.Asked, v.Store, v.Err(), v.Unfinished)
			}
			done = append(done, string(v.Asked)+" "+v.Store)
			verified = r.Index
			continue
		case evidence.TypeDecision:
			var d evidence.Decision
			decode(t, r, &d)
			if d.Verdict.Answer.String() == "allow" && r.Environment == "dev" {
				allowed = r.Index
			}
			continue
		default:
			continue
		}
		done = append(done, r.Type)
	}
	t.Logf("done: %v", done)
	switch {
	case story.made.Manifest == nil:
		t.Errorf("no backup was made: %s", story.made.Error)
	case story.copied.Manifest == nil || story.copied.ID != story.made.ID:
		t.Errorf("it was not copied: %+v", story.copied)
	case !story.drilled.Passed || story.drilled.ID != story.made.ID:
		t.Errorf("the drill did not pass: %s", story.drilled.Why())
	case allowed == 0 || verified == 0:
		t.Errorf("the release was allowed at %d", allowed)
	}
	if _, err := os.Stat(filepath.Join(s.far, "dev", "backups", string(story.made.ID), "manifest.json")); err != nil {
		t.Error(err)
	}
}

// A backup that is found to be damaged closes the gate until a good one was made and rehearsed.
func TestDamagedBackupBlocks(t *testing.T) {
	s := newShopWorld(t, "guarded")
	s.toFolder(shopPolicy)
	s.run()
	s.untilLive("dev", "one")
	made := ordered[evidence.Backup](s, reconciler.Order{Task: upkeep.TakeBackup, Reason: "before a damage"})
	s.damage(filepath.Join(s.far, filepath.FromSlash(backup.Key("dev", made.ID, backup.DatabaseName))))
	looked := ordered[evidence.Verification](s, reconciler.Order{Task: upkeep.Verify, ID: made.ID, Level: backup.L1, Reason: "somebody doubts it"})
	if looked.Passed || looked.Err() == nil {
		t.Fatalf("a flipped bit was not found: %+v", looked)
	}
	s.write("apps/dev/objects.yaml", configMaps(5, "two"))
	s.push("Release two")
	s.until("the release is denied for its backups", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Verdict == nil || dev.Verdict.Answer.String() != "deny" {
			return fmt.Errorf("verdict is %+v", dev.Verdict)
		}
		for _, g := range dev.Verdict.Gates {
			if g.Gate == "backup" && g.Answer.String() == "deny" && strings.Contains(g.Reason, string(made.ID)) {
				return nil
			}
		}
		return fmt.Errorf("gates are %+v", dev.Verdict.Gates)
	})
	again, err := s.agent.BackUpBefore(t.Context(), "dev", find(s.agent.Status(), "dev").Proposed.Release)
	if err != nil {
		t.Fatal(err)
	}
	s.untilLive("dev", "two")
	drilled := ordered[evidence.RestoreTest](s, reconciler.Order{Task: upkeep.Drill, Reason: "to be sure"})
	if !drilled.Passed || drilled.ID != again.ID {
		t.Errorf("the drill restored %s, which is not %s: %s", drilled.ID, again.ID, drilled.Why())
	}
}

// toFolder has the backups written to the second store alone.
func (s *shopWorld) toFolder(policy string) {
	s.t.Helper()
	s.write("purser/shop.yaml", strings.NewReplacer("store: near", "store: far", "  replicas: [far]\n", "").Replace(policy))
	s.push("Back up to a folder")
}

// What no tier keeps is deleted once its lock has ended: what will be is recorded before, and the newest verified backup stays.
func TestExpiredBackupsAreDeleted(t *testing.T) {
	s := newShopWorld(t, "guarded")
	s.toFolder(strings.Replace(shopPolicy, "minimum: 72h, daily: 7", "minimum: 24h, daily: 1", 1))
	var ahead atomic.Int64
	s.settings.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s.run()
	s.untilLive("dev", "one")
	var made []backup.ID
	for range 3 {
		ahead.Add(int64(26 * time.Hour))
		made = append(made, ordered[evidence.Backup](s, reconciler.Order{Task: upkeep.TakeBackup, Reason: "another day"}).ID)
		if looked := ordered[evidence.Verification](s, reconciler.Order{Task: upkeep.Verify, Level: backup.L1, Reason: "another day"}); !looked.Passed {
			t.Fatalf("a backup is not good: %v", looked.Err())
		}
	}
	s.until("the backups of earlier days are gone", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		ahead.Add(int64(time.Hour))
		ordered[evidence.Verification](s, reconciler.Order{Task: upkeep.Verify, Level: backup.L0, Reason: "an hour later"})
		if n := len(dev.Backups.Copies); n != 1 {
			return fmt.Errorf("%d backups are known", n)
		}
		return nil
	})
	known := find(s.agent.Status(), "dev").Backups.Copies
	left, err := filepath.Glob(filepath.Join(s.far, "dev", "backups", "*", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || filepath.Base(filepath.Dir(left[0])) != string(known[0].ID) || known[0].ID < made[len(made)-1] {
		t.Errorf("%v is left, %v is known", left, known)
	}
	planned := map[uint64]bool{}
	deleted := 0
	for _, r := range s.records() {
		if r.Type != evidence.TypeRetention {
			continue
		}
		var p evidence.Retention
		decode(t, r, &p)
		if p.Phase == evidence.RetentionPlanned {
			planned[r.Index] = true
		} else if len(p.Deleted) > 0 {
			deleted += len(p.Deleted)
			if p.Plan == nil || !planned[*p.Plan] {
				t.Errorf("record %d deleted what no record planned", r.Index)
			}
		}
	}
	if deleted < 3*5 { // a manifest and four streams each
		t.Errorf("%d objects were deleted", deleted)
	}
}

// A store for copies that is away holds up the copies alone.
func TestReplicaStoreIsAway(t *testing.T) {
	s := newShopWorld(t, "guarded")
	if err := os.Remove(s.far); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.untilLive("dev", "one")
	s.until("the copy is missed", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if run := dev.Backups.Runs[upkeep.Job{Task: upkeep.Replicate, Store: "far"}.Run()]; run.Failures == 0 {
			return fmt.Errorf("runs are %+v", dev.Backups.Runs)
		}
		return nil
	})
}
