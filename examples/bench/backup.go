package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
)

const (
	backupSamples     = 3
	defaultDatabase   = 1 << 30          // bytes
	bytesPerFile      = 1 << 30 / 20_000 // of the database, per attachment
	noopAttachments   = 100_000
	backupEnvironment = "prod-eu"
	backupLock        = 24 * time.Hour
)

// benchBackup measures backups of a database of a gigabyte, and what restores and unchanged filestores take.
func benchBackup(ctx context.Context, s *session) (_ []figure, err error) {
	b, err := newShop(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	figures, last, err := b.backups(ctx)
	if err != nil {
		return nil, err
	}
	restore, err := b.restores(ctx, last)
	if err != nil {
		return nil, err
	}
	noop, err := b.noops(ctx)
	return append(figures, restore, noop), err
}

// backupVariable makes this program do nothing but one backup, which it describes as JSON.
const backupVariable = "PURSER_BENCH_BACKUP"

// A backupTask is what the process that makes a backup is told.
type backupTask struct {
	Endpoint, Bucket, Credentials, CA string
	Connection                        postgres.Connection
	Filestore, Scratch                string
	Recipients                        []string
	Identity                          string
	Previous                          *backup.Earlier
}

// store opens the bucket.
func (t backupTask) store() (*store.S3, error) {
	return store.NewS3(store.S3Options{Endpoint: t.Endpoint, Region: lab.S3Region, Bucket: t.Bucket, Prefix: "estate/", CA: t.CA, Credentials: t.Credentials})
}

// A backupResult is what it says then.
type backupResult struct {
	Seconds  float64
	ID       backup.ID
	Ref      store.Object
	Segments []backup.Segment
	Plain    int64
	Sealed   int64
	New      int64   // contents
	Memory   float64 // most resident, bytes
}

// task says where backups are written to.
func (b *shop) task() backupTask {
	return backupTask{Endpoint: b.lab.S3URL, Bucket: b.bucket, Credentials: b.lab.S3CredentialsFile(lab.S3Writer), CA: b.lab.CAFile}
}

// take makes a backup in a process of its own, as the agent does it.
func (b *shop) take(ctx context.Context, d *lab.Database, previous *backupResult) (*backupResult, error) {
	connection, err := b.connection(d.Name)
	if err != nil {
		return nil, err
	}
	task := b.task()
	task.Connection, task.Filestore, task.Scratch = connection, d.Filestore, b.dir
	task.Recipients, task.Identity = []string{b.estate.Recipient().String(), b.escrow.Recipient().String()}, b.estate.String()
	if previous != nil {
		task.Previous = &backup.Earlier{ID: previous.ID, Manifest: previous.Ref}
	}
	return b.child(ctx, task)
}

// child starts the process, which without a database makes no backup.
func (b *shop) child(ctx context.Context, task backupTask) (*backupResult, error) {
	text, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), backupVariable+"=1")
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the process that makes a backup: %w", err)
	}
	r := new(backupResult)
	return r, json.Unmarshal(out, r)
}

// onlyBackUp makes one backup, told by standard input.
func onlyBackUp(ctx context.Context) error {
	var task backupTask
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return err
	}
	if task.Filestore == "" {
		memory, err := peakMemory(os.Getpid())
		return errors.Join(err, json.NewEncoder(os.Stdout).Encode(backupResult{Memory: memory}))
	}
	identities, err := age.ParseIdentities(strings.NewReader(task.Identity))
	if err != nil {
		return err
	}
	s, err := task.store()
	if err != nil {
		return err
	}
	defer s.Close()
	taken, err := backup.Take(ctx, s, backup.TakeOptions{
		Environment: backupEnvironment, Policy: "nightly", Store: "primary", Reason: "bench",
		Configuration: backup.Configuration{Commit: strings.Repeat("c", 40)}, Settings: []byte("{}"), SettingsType: "application/json",
		Connection: task.Connection, Filestore: task.Filestore, Scratch: task.Scratch,
		Recipients: task.Recipients, Identities: identities, Previous: task.Previous,
		Lock: store.Lock{Mode: store.Governance, Until: time.Now().Add(backupLock)},
	})
	if err != nil {
		return err
	}
	memory, err := peakMemory(os.Getpid())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(backupResult{
		Seconds: taken.Took.Seconds(), ID: taken.Manifest.ID, Ref: taken.Ref, Segments: taken.Segments, Plain: taken.Plain, Sealed: taken.Sealed,
		New: taken.Manifest.Filestore.New.Contents, Memory: memory,
	})
}

// backups measures backups under a live till, in turn with the floor.
func (b *shop) backups(ctx context.Context) (_ []figure, last *backupResult, err error) {
	b.stopped = b.sell(ctx)
	first, err := b.take(ctx, b.main, nil)
	if err != nil {
		return nil, nil, err
	}
	b.say("the first backup took %.2f s, %s", first.Seconds, first.segments())
	samples := backupSamples
	if b.samples > 0 {
		samples = b.samples
	}
	var took, floors, memory []float64
	last = first
	for range samples {
		floor, err := b.dumpFloor(ctx)
		if err != nil {
			return nil, nil, err
		}
		if last, err = b.take(ctx, b.main, last); err != nil {
			return nil, nil, err
		}
		b.say("floor %.2f s, backup %.2f s: %s", floor, last.Seconds, last.segments())
		took, floors, memory = append(took, last.Seconds), append(floors, floor), append(memory, last.Memory)
	}
	memory = append(memory, first.Memory)
	stop := b.stopped
	b.stopped = func() error { return nil }
	if err := stop(); err != nil {
		return nil, nil, err
	}
	idle, err := b.child(ctx, backupTask{})
	if err != nil {
		return nil, nil, err
	}
	mib := func(n int64) float64 { return float64(n) / mebibyte }
	return []figure{
		cost("backup_seconds", "s", median(took), median(floors), samples, fmt.Sprintf(
			"median of %s: a backup to S3 after an earlier one, %.0f MiB of plain streams sealed to %.0f MiB, under a live till; the first one took %.2f s, of which %s; the floor is pg_dump -Fc -Z0 | zstd -3 -T2 to nowhere: %s",
			seconds(took), mib(last.Plain), mib(last.Sealed), first.Seconds, first.segments(), seconds(floors))),
		cost("backup_peak_rss_bytes", "B", quantile(memory, 1), idle.Memory, len(memory), fmt.Sprintf(
			"most resident memory (VmHWM) of a process that makes one of these backups, without PostgreSQL's programs: at most %.0f MiB, the first one %.0f MiB; the floor is the same program that makes none: %.0f MiB",
			quantile(memory, 1)/mebibyte, first.Memory/mebibyte, idle.Memory/mebibyte)),
	}, last, nil
}

func (r *backupResult) segments() string { return segmentsOf(r.Segments) }

func segmentsOf(list []backup.Segment) string {
	var text []string
	for _, s := range list {
		text = append(text, fmt.Sprintf("%s %.2f s", s.Name, s.Took.Seconds()))
	}
	return strings.Join(text, ", ")
}

func seconds(samples []float64) string {
	var text []string
	for _, s := range samples {
		text = append(text, fmt.Sprintf("%.2f s", s))
	}
	return strings.Join(text, ", ")
}

// dumpFloor dumps the database without anything of ours.
func (b *shop) dumpFloor(ctx context.Context) (float64, error) {
	tool, err := lab.PostgresTool("pg_dump")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	cmd := exec.CommandContext(ctx, "bash", "-c", `set -o pipefail; "$0" -Fc -Z0 "$1" | zstd -3 -T2 -q -c >/dev/null`, tool, b.main.DSN)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("dump: %w: %s", err, out)
	}
	return time.Since(start).Seconds(), nil
}
