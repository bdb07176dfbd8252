package main

import (
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
)

// TestStatusOfAPause has somebody pause an environment after the last decision about it.
func TestStatusOfAPause(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 23, 9, 0, 0, 0, time.Local)
	hold := &policy.Hold{Person: "release-manager-1", Reason: "stock count", Since: since}
	paused := "paused by release-manager-1 since " + since.Format(time.RFC3339) + ": stock count"
	for name, c := range map[string]struct {
		status reconciler.EnvironmentStatus
		want   string
	}{
		"a gate's reason":    {reconciler.EnvironmentStatus{Reason: "approvals: it needs 1 more", Hold: hold}, paused + "; approvals: it needs 1 more"},
		"its health":         {reconciler.EnvironmentStatus{HealthWhy: "0 of 1 pods are ready", Hold: hold}, paused + "; 0 of 1 pods are ready"},
		"nothing to say":     {reconciler.EnvironmentStatus{Hold: hold}, paused},
		"told already":       {reconciler.EnvironmentStatus{Reason: "paused by release-manager-1: stock count", Hold: hold}, "paused by release-manager-1: stock count"},
		"no pause":           {reconciler.EnvironmentStatus{Reason: "approvals: it needs 1 more"}, "approvals: it needs 1 more"},
		"no longer declared": {reconciler.EnvironmentStatus{Orphaned: true, Hold: hold}, "no longer declared; its objects stay"},
	} {
		if got := reasonOf(c.status); got != c.want {
			t.Errorf("%s: the reason is %q, want %q", name, got, c.want)
		}
	}
	var b strings.Builder
	if err := printEnvironment(&b, reconciler.EnvironmentStatus{Name: "dev", Reason: "approvals: it needs 1 more", Hold: hold}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "Paused\tby release-manager-1 since") || strings.Index(b.String(), "Paused") > strings.Index(b.String(), "Reason") {
		t.Errorf("status says\n%s", b.String())
	}
}
