package reconciler_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler"
)

// TestFailureStaysVisible edits an object while nothing can be recorded: nothing is repaired, and the environment says so
// until something can be recorded again.
func TestFailureStaysVisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.until("everything is published", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if s.Evidence.Spooled > 0 {
			return fmt.Errorf("%d records are spooled", s.Evidence.Spooled)
		}
		return nil
	})
	spool := filepath.Join(w.dir, "data", "audit", "spool")
	if err := os.Rename(spool, spool+".away"); err != nil {
		t.Fatal(err)
	}
	w.setByHand("c1", "by hand")
	w.until("dev fails", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "failed" {
			return fmt.Errorf("dev is %s: %s", dev.Outcome, dev.Reason)
		}
		return nil
	})
	ends := time.Now().Add(4 * time.Second) // several visits
	for time.Now().Before(ends) {
		if dev := find(w.agent.Status(), "dev"); dev.Outcome != "failed" {
			t.Fatalf("c1 differs and nothing can be recorded, and dev is %s: %q", dev.Outcome, dev.Reason)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := w.runs(t.Context(), "one"); err == nil {
		t.Error("c1 was repaired without a record")
	}
	if err := os.Rename(spool+".away", spool); err != nil {
		t.Fatal(err)
	}
	w.holds("c1", "one")
	w.until("dev is in order", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome == "failed" || len(dev.Drift) > 0 {
			return fmt.Errorf("dev is %s: %s, drift %v", dev.Outcome, dev.Reason, dev.Drift)
		}
		return nil
	})
	for _, d := range drifts(t, w.records(), "dev") {
		if d.Found != "watch" {
			t.Errorf("the drift of %v was found by the %s", d.Objects, d.Found)
		}
	}
}

// TestOutcomeHasATimeAfterARestart restarts an agent over an environment that is in order.
func TestOutcomeHasATimeAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run()
	w.untilLive("dev", "one")
	w.stop()
	start := time.Now()
	w.run()
	w.until("dev is unchanged", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if dev.Outcome != "unchanged" {
			return errors.New("dev is " + dev.Outcome)
		}
		if dev.Since.Before(start) {
			t.Fatalf("unchanged since %s", dev.Since)
		}
		return nil
	})
}
