package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/examples/lab"
)

const (
	restoreSamples = 2
	noopSamples    = 5
)

// restores measures restores of a backup, in turn with pg_restore of the same dump.
func (b *shop) restores(ctx context.Context, last *backupResult) (figure, error) {
	s, err := b.task().store()
	if err != nil {
		return figure{}, err
	}
	defer s.Close()
	stored := backup.Stored{Store: s, Environment: backupEnvironment, ID: last.ID, Manifest: last.Ref, Identities: []age.Identity{b.escrow}}
	m, err := backup.Open(ctx, s, backupEnvironment, last.ID, last.Ref)
	if err != nil {
		return figure{}, err
	}
	if err := b.keepDump(ctx, stored, m.Streams.Database); err != nil {
		return figure{}, err
	}
	samples := restoreSamples
	if b.samples > 0 {
		samples = b.samples
	}
	var took, all []float64
	floors := map[int][]float64{}
	text := ""
	for range samples {
		for _, jobs := range []int{1, 2} {
			floor, err := b.restoreFloor(ctx, jobs)
			if err != nil {
				return figure{}, err
			}
			floors[jobs] = append(floors[jobs], floor)
		}
		restored, err := b.restore(ctx, stored)
		if err != nil {
			return figure{}, err
		}
		text = segmentsOf(restored.Segments)
		b.say("pg_restore %s with one job, %s with two; restore %.2f s: %s", seconds(floors[1]), seconds(floors[2]), restored.Took.Seconds(), text)
		for _, segment := range restored.Segments {
			if segment.Name == backup.SegmentDatabase {
				took = append(took, segment.Took.Seconds())
			}
		}
		all = append(all, restored.Took.Seconds())
	}
	return cost("restore_seconds", "s", median(took), min(median(floors[1]), median(floors[2])), samples, fmt.Sprintf(
		"median of %s: the database of a backup from S3 into a new database; with filestore and checks a restore took %s, the last one: %s; the floor is pg_restore of the same dump in a file on the same server: %s with one job, %s with two",
		seconds(took), seconds(all), text, seconds(floors[1]), seconds(floors[2]))), nil
}

// keepDump writes the dump of a backup to a file.
func (b *shop) keepDump(ctx context.Context, from backup.Stored, e backup.Entry) (err error) {
	in, err := from.Store.Open(ctx, e.Object)
	if err != nil {
		return err
	}
	defer in.Close()
	plain, err := seal.NewReader(in, e.Sealed(), b.escrow)
	if err != nil {
		return err
	}
	defer plain.Close()
	out, err := os.Create(b.dump)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, plain)
	return errors.Join(err, out.Close())
}

// restoreFloor restores the dump without anything of ours.
func (b *shop) restoreFloor(ctx context.Context, jobs int) (_ float64, err error) {
	tool, err := lab.PostgresTool("pg_restore")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	d, err := b.lab.CreateDatabase(ctx, "floor")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.lab.DropDatabase(context.WithoutCancel(ctx), d)) }()
	cmd := exec.CommandContext(ctx, tool, "--exit-on-error", "--no-owner", "--no-acl", "--jobs="+strconv.Itoa(jobs), "--dbname="+d.DSN, b.dump)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("pg_restore: %w: %s", err, out)
	}
	return time.Since(start).Seconds(), nil
}

// restore restores a backup to a database that does not exist.
func (b *shop) restore(ctx context.Context, from backup.Stored) (_ *backup.Restored, err error) {
	d := b.lab.Database("restored")
	connection, err := b.connection(d.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.lab.DropDatabase(context.WithoutCancel(ctx), d)) }()
	return backup.Restore(ctx, from, backup.Target{Database: postgres.Place{Connection: connection}, Filestore: d.Filestore},
		backup.RestoreOptions{ProofOptions: backup.ProofOptions{Scratch: b.dir}})
}

// noops measures what attachments cost that were copied before: to read what the backup before says of them, to list them,
// to compare both, and to write down the same again.
func (b *shop) noops(ctx context.Context) (figure, error) {
	count := max(1000, int(noopAttachments*b.database/defaultDatabase))
	d, err := b.seed(ctx, "files", 0, count)
	if err != nil {
		return figure{}, err
	}
	last, err := b.take(ctx, d, nil)
	if err != nil {
		return figure{}, err
	}
	connection, err := b.connection(d.Name)
	if err != nil {
		return figure{}, err
	}
	snapshot, err := postgres.Begin(ctx, connection, postgres.Tools{}, postgres.Options{})
	if err != nil {
		return figure{}, err
	}
	defer snapshot.Close()
	var took, floors []float64
	each := noopAttachments / float64(count)
	for range noopSamples {
		start := time.Now()
		for _, err := range snapshot.Attachments(ctx) {
			if err != nil {
				return figure{}, err
			}
		}
		floors = append(floors, time.Since(start).Seconds()*each)
		start = time.Now()
		if err := b.noop(ctx, snapshot, last); err != nil {
			return figure{}, err
		}
		took = append(took, time.Since(start).Seconds()*each)
	}
	return cost("filestore_noop_seconds", "s", median(took), median(floors), noopSamples, fmt.Sprintf(
		"per 100,000 attachments, of %d that are unchanged, median of %s: what the backup before says of them is read from S3, compared with the list from PostgreSQL, and sealed again; no file is looked at; the floor reads that list alone: %s",
		count, seconds(took), seconds(floors))), nil
}

func (b *shop) noop(ctx context.Context, snapshot *postgres.Snapshot, last *backupResult) error {
	s, err := b.task().store()
	if err != nil {
		return err
	}
	defer s.Close()
	m, err := backup.Open(ctx, s, backupEnvironment, last.ID, last.Ref)
	if err != nil {
		return err
	}
	in, err := s.Open(ctx, m.Streams.Attachments.Object)
	if err != nil {
		return err
	}
	defer in.Close()
	plain, err := seal.NewReader(in, m.Streams.Attachments.Sealed(), b.estate)
	if err != nil {
		return err
	}
	defer plain.Close()
	plan, err := filestore.NewPlan(ctx, b.dir, attachments(snapshot.Attachments(ctx)), []io.Reader{plain}, nil)
	if err != nil {
		return err
	}
	defer plan.Close()
	if plan.New.Contents > 0 {
		return fmt.Errorf("%d of %d contents are new, though nothing has changed", plan.New.Contents, plan.New.Contents+plan.Kept.Contents)
	}
	out, err := os.Create(filepath.Join(b.dir, "attachments"))
	if err != nil {
		return err
	}
	defer out.Close()
	sealed, err := seal.NewWriter(out, b.estate.Recipient(), b.escrow.Recipient())
	if err != nil {
		return err
	}
	defer sealed.Abort()
	if _, err := plan.Write(ctx, sealed); err != nil {
		return err
	}
	_, err = sealed.Close()
	return err
}

// attachments are the same to both packages.
func attachments(rows iter.Seq2[postgres.Attachment, error]) iter.Seq2[filestore.Attachment, error] {
	return func(yield func(filestore.Attachment, error) bool) {
		for a, err := range rows {
			if !yield(filestore.Attachment(a), err) {
				return
			}
		}
	}
}
