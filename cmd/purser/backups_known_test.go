package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

// A log is fetched and verified once, however often it is asked.
func TestAuditLogIsReadOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repository, key := filepath.Join(dir, "audit.git"), filepath.Join(dir, "signing")
	if err := makeLog(repository, key, filepath.Join(dir, "log"), backupRecords()); err != nil {
		t.Fatal(err)
	}
	k := knowledge{audit: repository, keys: key + ".pub", command: &cobra.Command{}}
	all, err := k.all(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("known are %v, %v", all, err)
	}
	if err := os.RemoveAll(repository); err != nil {
		t.Fatal(err)
	}
	if drills, err := k.drills(t.Context(), "dev"); err != nil || len(drills) != 1 {
		t.Errorf("drills of dev: %v, %v", drills, err)
	}
	if s, err := k.of(t.Context(), "qa"); err != nil || s.Backups.Failed == nil {
		t.Errorf("of qa is known %+v, %v", s, err)
	}
}
