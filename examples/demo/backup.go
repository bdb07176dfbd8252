package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

// bucket is where backups go, below a prefix.
const (
	bucket = "backups"
	prefix = "demo/"
)

const backupConfig = `  backup:
    stores:
      - name: vault
        s3: {endpoint: %q, region: %q, bucket: %q, prefix: %q, caFile: %q, credentialsFile: %q}
    databases:
      - {environment: qa, host: %s, port: %s, user: %s, database: %s, passwordFile: %q, tls: disable, filestore: %q}
    recipients: [%s, %s]
    identityFile: estate.key
    drillIdentityFile: escrow.key
    scratchDir: %s
`

const backupPolicy = `apiVersion: purser.dev/v1alpha1
kind: BackupPolicy
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  timeZone: Etc/UTC
  store: vault
  retention: {minimum: 72h, daily: 14, monthly: 12}
  rpo: 25h
  rto: 1h
  verify: {l1: "0 4 * * *"}
  drills: [{schedule: "0 5 * * sun"}]
---
apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: backed-up}
spec: {rank: 5, backup: {maxAge: 25h, drillMaxAge: 192h}}
`

// prepareShop fills the database and the filestore of qa, and gives the part of the agent's configuration that backs them up.
func (d *demo) prepareShop(ctx context.Context, l *lab.Lab) (string, error) {
	db, err := l.CreateDatabase(ctx, "qa")
	if err != nil {
		return "", err
	}
	if err := errors.Join(
		lab.CreateBucket(ctx, &l.Endpoints, bucket),
		odoodb.Seed(ctx, odoodb.Options{DSN: db.DSN, Filestore: db.Filestore, Attachments: 200, Now: time.Now()}),
	); err != nil {
		return "", err
	}
	var recipients [2]string
	for i, name := range []string{"estate.key", "escrow.key"} {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return "", err
		}
		recipients[i] = key.Recipient().String()
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(key.String()+"\n"), 0o600); err != nil {
			return "", err
		}
	}
	// The server of a drill runs as a user without rights, who has to pass through.
	if d.scratch, err = os.MkdirTemp("", "purser-"); err != nil {
		return "", err
	}
	if err := os.Chmod(d.scratch, 0o711); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(l.PostgresAddress)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(backupConfig, l.S3URL, lab.S3Region, bucket, prefix, l.CAFile, l.S3CredentialsFile(lab.S3Writer),
		host, port, lab.PostgresOdoo, db.Name, l.PostgresPasswordFile(), db.Filestore, recipients[0], recipients[1], d.scratch), nil
}

// backUp shows that qa's backups are proven by themselves, that a release stops when the newest is damaged, and goes on once
// there is a good one that was restored.
func (d *demo) backUp(ctx context.Context) error {
	if err := errors.Join(
		d.actAs(ctx, "owner-1"),
		os.WriteFile(filepath.Join(d.estate, "purser", "backups.yaml"), []byte(backupPolicy), 0o644),
		d.edit("purser/environments/qa.yaml", "spec:\n", "spec:\n  backup: nightly\n  class: backed-up\n"),
		d.commit(ctx, "Back up qa"), d.push(ctx),
	); err != nil {
		return err
	}
	d.say("   owner-1 declares that qa is backed up, and that its releases ask for backups that were restored.")
	if _, err := d.tell(ctx, "owner-2", "approve", "governance"); err != nil {
		return err
	}
	if err := d.untilGoverned(ctx); err != nil {
		return err
	}
	damaged, err := d.untilProven(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(d.showCommand(ctx, 0, "backup", "list", "qa"), d.showCommand(ctx, 0, "drill", "list", "qa")); err != nil {
		return err
	}
	if err := d.damage(damaged); err != nil {
		return err
	}
	d.say("   One bit of the dump flips on the disk of the store.")
	if err := d.showCommand(ctx, 3, "backup", "verify", "qa"); err != nil {
		return err
	}
	if err := errors.Join(
		d.changeAs(ctx, "developer-2", "apps/odoo/overlays/qa/kustomization.yaml", "ODOO_LOG_LEVEL=info", "ODOO_LOG_LEVEL=debug", "Log more"),
		d.push(ctx),
	); err != nil {
		return err
	}
	if err := d.explain(ctx, "qa", time.Time{}, denyExit, "backup deny", string(damaged)); err != nil {
		return err
	}
	return d.goesLive(ctx, "qa", func() error {
		return errors.Join(d.showCommand(ctx, 0, "backup", "now", "qa"), d.showCommand(ctx, 0, "drill", "now", "qa"))
	})
}

// untilProven waits until a backup of qa was made, read and restored without anybody asking.
func (d *demo) untilProven(ctx context.Context) (id backup.ID, err error) {
	start := time.Now()
	err = until(ctx, func() error {
		e, err := d.agent.environment("qa")
		switch {
		case err != nil:
			return err
		case e.Backups == nil || len(e.Backups.Copies) == 0 || !e.Backups.Copies[0].Good() || e.Backups.Drilled == nil:
			return fmt.Errorf("not proven yet: %+v", e.Backups)
		case !e.Backups.Drilled.Passed:
			return errors.New(e.Backups.Drilled.Why())
		}
		id = e.Backups.Copies[0].ID
		return nil
	})
	if err == nil {
		d.say("   %.1f s later it was backed up, read to its end, and restored with the key in escrow.", time.Since(start).Seconds())
	}
	return id, err
}

// damage flips a bit of a dump behind the back of the store.
func (d *demo) damage(id backup.ID) error {
	file := filepath.Join(d.git.Dir, "s3", "buckets", bucket, prefix, filepath.FromSlash(backup.Key("qa", id, backup.DatabaseName)))
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(file, data, 0o600)
}

// showCommand runs a command of purser's and shows what it says.
func (d *demo) showCommand(ctx context.Context, code int, words ...string) error {
	out, err := d.command(ctx, code, d.purser, append(words, "--config", d.agent.config)...)
	if err != nil {
		return err
	}
	d.say("   purser %s", words[0]+" "+words[1]+" "+words[2])
	d.show(out)
	return nil
}
