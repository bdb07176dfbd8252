package reconciler_test

// What a running agent tells of its backups: metrics to whoever scrapes it, alerts to a real Alertmanager.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

func TestBackupsAreShown(t *testing.T) {
	s := newShopWorld(t, "plain") // no release waits for backups
	s.write("purser/plain.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: plain}\nspec: {rank: 10}\n")
	l := labtest.Start(t, lab.Alertmanager)
	s.settings.registry = prometheus.NewRegistry()
	s.settings.more += fmt.Sprintf("  alertmanager: {urls: [%q]}\n", l.AlertmanagerURL)
	s.write("purser/shop.yaml", strings.NewReplacer("store: near", "store: far", "  replicas: [far]\n", "").Replace(shopPolicy))
	s.push("Back up to a folder")
	s.run()

	// What is verified is damaged afterwards, which the next drill finds.
	var verified backup.ID
	s.until("a drill passes by itself", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Backups == nil || dev.Backups.Drilled == nil || !dev.Backups.Drilled.Passed {
			return errors.New("none has passed")
		}
		verified = dev.Backups.Drilled.ID
		return nil
	})
	s.damage(filepath.Join(s.far, filepath.FromSlash(backup.Key("dev", verified, backup.DatabaseName))))
	ordered[evidence.RestoreTest](s, reconciler.Order{Task: upkeep.Drill, Reason: "somebody doubts it"})
	alerts := s.untilAlerts(l, "PurserDrillFailed")
	if a := alerts["PurserDrillFailed"]; a.Labels["environment"] != "dev" || a.Labels["severity"] != "info" || !strings.Contains(a.Annotations["description"], "purser drill show dev ") {
		t.Errorf("the alert is %+v", a)
	}
	made := ordered[evidence.Backup](s, reconciler.Order{Task: upkeep.TakeBackup, Reason: "before a damage"})
	s.damage(filepath.Join(s.far, filepath.FromSlash(backup.Key("dev", made.ID, backup.DatabaseName))))
	ordered[evidence.Verification](s, reconciler.Order{Task: upkeep.Verify, ID: made.ID, Level: backup.L1, Reason: "somebody doubts it"})
	alerts = s.untilAlerts(l, "PurserDrillFailed", "PurserBackupDamaged")
	if a := alerts["PurserBackupDamaged"]; !strings.Contains(a.Annotations["description"], string(made.ID)) {
		t.Errorf("the alert is %+v", a)
	}
	samples := s.samples()
	for name, want := range map[string]float64{
		"purser_backup_runs_total dev succeeded":            2,
		"purser_backup_runs_total dev failed":               0,
		"purser_backup_verifications_total dev L1 failed":   1,
		"purser_backup_stored dev far":                      2,
		"purser_backup_last_snapshot_timestamp_seconds dev": float64(made.Snapshot.UnixMilli()) / 1000,
		"purser_backup_size_bytes dev plain":                float64(made.Plain),
		"purser_backup_rpo_objective_seconds dev":           25 * 3600,
		"purser_drill_rto_objective_seconds dev":            3600,
	} {
		if got, found := samples[name]; !found || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, found, want)
		}
	}
	snapshot := samples["purser_backup_verified_snapshot_timestamp_seconds dev"]
	if snapshot == 0 || snapshot >= samples["purser_backup_last_snapshot_timestamp_seconds dev"] || samples["purser_backup_findings dev"] < 1 || samples["purser_drill_runs_total dev failed"] < 1 {
		t.Errorf("shown is %v", samples)
	}

	// A good one ends it.
	if _, err := s.agent.BackUpBefore(t.Context(), "dev", "sha256:none"); err != nil {
		t.Fatal(err)
	}
	s.untilAlerts(l, "PurserDrillFailed")

	if err := os.Remove(filepath.Join(s.work, "purser/dev.yaml")); err != nil {
		t.Fatal(err)
	}
	s.push("Declare dev no more")
	labtest.Eventually(t, "nothing of dev is shown", func(context.Context) error {
		for name := range s.samples() {
			if strings.HasPrefix(name, "purser_backup_") || strings.HasPrefix(name, "purser_drill_") {
				return fmt.Errorf("%s is shown", name)
			}
		}
		return nil
	})
}

// damage flips a bit of an object in a folder.
func (s *shopWorld) damage(file string) {
	s.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(file, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// samples are the values that the agent shows, by name and labels without their names: environment first, then the others.
func (s *shopWorld) samples() map[string]float64 {
	s.t.Helper()
	families, err := s.settings.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	samples := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() { // in the order of their names
				name += " " + l.GetValue()
			}
			samples[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return samples
}
