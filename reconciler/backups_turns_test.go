package reconciler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/upkeep"
)

// Who fails again and again keeps nobody else from a turn.
func TestTurnsOfBackups(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	turn := func(name string, slot, last time.Time) ready {
		return ready{laneKey: laneKey{name, upkeep.Taking}, job: upkeep.Job{Task: upkeep.TakeBackup, Slot: slot}, last: last}
	}
	ordered := turn("training", time.Time{}, time.Time{})
	ordered.order = &order{at: now}
	list := []ready{
		turn("dev", time.Time{}, now.Add(-5*time.Minute)), // failed, and is tried again
		turn("qa", time.Time{}, now.Add(-15*time.Minute)), // failed before
		turn("uat", time.Time{}, time.Time{}),             // never ran
		turn("staging", now.Add(-time.Minute), now.Add(-time.Hour)),
		turn("prod-eu", now.Add(-2*time.Minute), now.Add(-time.Minute)),
		ordered,
	}
	slices.SortStableFunc(list, func(x, y ready) int { return x.compare(y, now) })
	var names []string
	for _, r := range list {
		names = append(names, r.environment)
	}
	if got := strings.Join(names, " "); got != "training prod-eu staging uat qa dev" {
		t.Errorf("turns: %s", got)
	}
}
