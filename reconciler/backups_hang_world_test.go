package reconciler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// A database that hangs in the midst of its backup gives the only place to the next environment, and its failure is recorded.
func TestBackupOfDatabaseThatHangs(t *testing.T) {
	s := newShopWorld(t, "guarded")
	l := labtest.Shared(t, lab.PostgreSQL)
	conn, err := pgx.Connect(t.Context(), s.shop.DSN)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `CREATE TABLE ballast AS SELECT repeat(md5(n::text), 1000) AS text FROM generate_series(1, 1000) AS n`)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	qa := labtest.Database(t, l)
	if err := odoodb.Seed(t.Context(), odoodb.Options{DSN: qa.DSN, Filestore: qa.Filestore, Attachments: 10, AttachmentBytes: 2048, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	g, err := lab.NewGate(l.PostgresAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	g.ShutAfter(10 << 20) // of some 32 MiB
	host, port, _ := strings.Cut(l.PostgresAddress, ":")
	_, shutPort, _ := strings.Cut(g.Address, ":")
	at := "    databases:\n"
	more := fmt.Sprintf("%s      - {environment: qa, host: %s, port: %s, user: %s, database: %s, passwordFile: %s, tls: disable, filestore: %s}\n",
		at, host, port, lab.PostgresOdoo, qa.Name, l.PostgresPasswordFile(), qa.Filestore)
	dev := fmt.Sprintf("{environment: dev, host: %s, port: ", host)
	s.settings.more = strings.NewReplacer(at, more, dev+port, dev+shutPort).Replace(s.settings.more)
	s.settings.stall = 2 * time.Second
	s.write("purser/qa.yaml", s.environment("qa", "apps/qa", "backup: shop\nclass: guarded"))
	s.write("apps/qa/kustomization.yaml", "configMapGenerator: [{name: qa}]\n")
	s.push("Declare qa")
	s.run()
	s.until("one backup failed, and the other was made", func(all reconciler.Status, dev reconciler.EnvironmentStatus) error {
		for _, e := range all.Environments {
			if e.Name == "qa" && e.Backups != nil && e.Backups.Made != nil && dev.Backups != nil && dev.Backups.Failed != nil {
				return nil
			}
		}
		return fmt.Errorf("backups are %+v", all.Environments)
	})
	for _, r := range s.records() {
		var made evidence.Backup
		if r.Type != evidence.TypeBackup {
			continue
		}
		decode(t, r, &made)
		switch failed := made.Manifest == nil; {
		case r.Environment == "qa" && failed:
			t.Errorf("qa: %s", made.Error)
		case r.Environment == "dev" && (!failed || !strings.Contains(made.Error, "in segment database: ") || !strings.Contains(made.Error, "nothing has moved for 2s")):
			t.Errorf("dev: %q", made.Error)
		}
	}
}
