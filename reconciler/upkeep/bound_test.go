package upkeep

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

// What a store or a program says goes into a record, but not all of it.
func TestErrorsAreBounded(t *testing.T) {
	clock := func() time.Time { return noon }
	folder := t.TempDir()
	opened, err := site.Open(declaration.AgentBackup{Stores: []declaration.AgentStore{{Name: "near", Directory: declaration.AgentDirectory{Path: folder}}}}, folder, clock, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &Worker{Site: opened, Now: clock}
	s := Subject{Environment: "shop", Policy: hourly(t)}
	endless := Job{Store: strings.Repeat("endless", 10_000)}
	taken, takeErr := w.Take(t.Context(), s, endless, nil)
	copied, copyErr := w.Replicate(t.Context(), s, endless, nil)
	near, err := opened.Store("near")
	if err != nil {
		t.Fatal(err)
	}
	r := &Retention{store: near}
	for range 100 {
		r.Plan.Extend = append(r.Plan.Extend, backup.Extension{Object: store.Object{Key: strings.Repeat("k", 600), Version: "v"}, Until: noon.Add(time.Hour)})
	}
	retained := w.CarryOut(t.Context(), r, nil)
	if takeErr != nil || copyErr != nil {
		t.Fatal(takeErr, copyErr)
	}
	for what, said := range map[string]string{"backup": taken.Error, "replication": copied.Error, "retention": retained.Error} {
		if said == "" || len(said) > 2000 {
			t.Errorf("%s: an error of %d bytes", what, len(said))
		}
	}
}
