package reconciler

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources"
)

// The approved declarations come into force after a start although the log takes no record that others are no longer offered.
func TestALogThatTakesNothingKeepsNoLawOut(t *testing.T) {
	t.Parallel()
	s := newScene(t, nil)
	a := s.agent
	o := auditLog(t, &s.clock)
	o.Dir = t.TempDir()
	j, err := openJournal(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	_ = j.log.Close(ended) // it published nothing
	j.state = a.journal.state
	j.state.Governance.Refused = &evidence.Refused{Revision: evidence.Revision{Source: "estate", Revision: "main@sha1:of-before"}}
	a.options.Registerer = prometheus.NewRegistry()
	if a.metrics, err = newMetrics(a.options.Registerer); err != nil {
		t.Fatal(err)
	}
	if a.backups, err = newBackups(a); err != nil {
		t.Fatal(err)
	}
	source := a.sources["estate"]
	source.poller = sources.NewPoller(source.repo, sources.PollerOptions{Interval: time.Minute})
	a.journal, a.governed, a.law = j, make(chan struct{}, 1), nil
	for _, when := range []string{"at the start", "in force"} {
		if _, err := a.considerGovernance(t.Context()); err == nil {
			t.Errorf("%s: it recorded that the others are gone", when)
		}
		if a.inForce() == nil {
			t.Fatalf("%s: nothing is in force", when)
		}
	}
}
