package reconciler

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
)

// metrics of the pipeline. Labels are environments and fixed words, so their number is bounded by the estate.
type metrics struct {
	sources   *sources.Metrics
	watches   *apply.WatchMetrics
	refused   prometheus.Counter
	duration  *prometheus.HistogramVec
	outcomes  *prometheus.GaugeVec
	objects   *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	drifts    *prometheus.CounterVec
	drifted   *prometheus.GaugeVec
	contested *prometheus.GaugeVec
	healthy   *prometheus.GaugeVec
	leadTime  *prometheus.HistogramVec
	liveSince *prometheus.GaugeVec
	orphaned  prometheus.Gauge

	forgeErrors *prometheus.CounterVec
	forgeWrites *prometheus.CounterVec
	openPulls   *prometheus.GaugeVec

	statements *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	closed     *prometheus.GaugeVec
	approval   *prometheus.HistogramVec
	breaches   *prometheus.CounterVec
	releases   *prometheus.CounterVec
	failures   *prometheus.CounterVec
	restore    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	polls, err := sources.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	watches, err := apply.NewWatchMetrics(reg)
	if err != nil {
		return nil, err
	}
	m := &metrics{
		sources: polls,
		watches: watches,
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_statements_total", Help: "Statements of people, by verb and whether they count."}, []string{"verb", "accepted"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_decisions_total", Help: "Recorded decisions, by answer."}, []string{"environment", "answer"}),
		closed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_gate_closed", Help: "1 for each gate that keeps the proposed release from being approved."}, []string{"environment", "gate"}),
		approval: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_approval_wait_seconds", Help: "From the first sight of a release to its approval.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10)}, []string{"environment"}),
		breaches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_freeze_breaches_total", Help: "Releases approved against the calendar by an override."}, []string{"environment"}),
		releases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_releases_total", Help: "Releases that became live: the deployment frequency."}, []string{"environment", "origin"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_release_failures_total", Help: "Releases that were vetoed, or rolled back by a later one: with purser_releases_total the change failure rate."}, []string{"environment", "cause"}),
		restore: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_restore_seconds", Help: "From what is live not being healthy to being healthy again: the time to restore.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10)}, []string{"environment"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "purser_refused_total", Help: "Commits and releases refused with a reason."}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_reconcile_duration_seconds", Help: "Time of one reconciliation, by its outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"outcome"}),
		outcomes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_environment_outcome", Help: "1 for the outcome of the environment's last reconciliation."}, []string{"environment", "outcome"}),
		objects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_applied_objects_total", Help: "Objects acted on, by action."}, []string{"environment", "action"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_applies_total", Help: "Plans carried out, by purpose and outcome."}, []string{"environment", "purpose", "outcome"}),
		drifts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_drifts_total", Help: "Drift records, by what found the drift."}, []string{"environment", "found"}),
		drifted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_drifted_objects", Help: "Objects that are known to differ from the target."}, []string{"environment"}),
		contested: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_contested_objects", Help: "Objects that somebody changes again after each repair; repairs keep a growing distance."}, []string{"environment"}),
		healthy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_environment_health", Help: "1 for the health of what runs."}, []string{"environment", "status"}),
		leadTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_lead_time_seconds", Help: "From the first sight of a release to live.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10)}, []string{"environment"}),
		liveSince: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_live_timestamp_seconds", Help: "When the live release became live."}, []string{"environment"}),
		orphaned: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "purser_orphaned_environments", Help: "Environments that own objects and are no longer declared."}),
		forgeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_forge_errors_total", Help: "What a forge did not do for answers to pull requests, by operation. Releases do not wait for it."}, []string{"source", "operation"}),
		forgeWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_forge_writes_total", Help: "Commit statuses and comments brought up to date."}, []string{"source", "operation"}),
		openPulls: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_open_pull_requests", Help: "Open pull requests that are previewed."}, []string{"source"}),
	}
	for _, c := range []prometheus.Collector{
		m.refused, m.duration, m.outcomes, m.objects, m.attempts, m.drifts, m.drifted, m.contested, m.healthy, m.leadTime, m.liveSince, m.orphaned,
		m.forgeErrors, m.forgeWrites, m.openPulls, m.statements, m.decisions, m.closed, m.approval, m.breaches, m.releases, m.failures, m.restore,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) reconciled(environment string, o Outcome, took time.Duration) {
	m.duration.WithLabelValues(o.Kind.String()).Observe(took.Seconds())
	for k := range kinds {
		m.outcomes.WithLabelValues(environment, kinds[k]).Set(oneIf(Kind(k) == o.Kind))
	}
}

func (m *metrics) applied(environment, purpose, outcome string, set apply.ChangeSet) {
	m.attempts.WithLabelValues(environment, purpose, outcome).Inc()
	for _, c := range set {
		m.objects.WithLabelValues(environment, c.Action).Inc()
	}
}

// drift shows what is known to differ.
func (m *metrics) drift(environment string, known []evidence.Drifted) {
	contested := 0
	for _, d := range known {
		if d.Contested {
			contested++
		}
	}
	m.drifted.WithLabelValues(environment).Set(float64(len(known)))
	m.contested.WithLabelValues(environment).Set(float64(contested))
}

func (m *metrics) health(environment string, r health.Report) {
	for _, s := range health.Statuses {
		m.healthy.WithLabelValues(environment, string(s)).Set(oneIf(s == r.Status))
	}
}

// decided shows a recorded verdict about a release that was first seen some time ago.
func (m *metrics) decided(environment string, v policy.Verdict, waited time.Duration) {
	m.decisions.WithLabelValues(environment, v.Answer.String()).Inc()
	for _, g := range v.Gates {
		if g.Answer != policy.Allow {
			m.closed.WithLabelValues(environment, g.Gate).Set(1)
		} else { // most are open: a series each would be most of what there is
			m.closed.DeleteLabelValues(environment, g.Gate)
		}
		if v.Answer == policy.Allow && g.Gate == policy.GateCalendar && g.Override != "" {
			m.breaches.WithLabelValues(environment).Inc()
		}
	}
	if v.Answer == policy.Allow {
		m.approval.WithLabelValues(environment).Observe(waited.Seconds())
	}
}

// Causes of failed releases.
const (
	causeVeto     = "veto"
	causeRollback = "rollback"
)

func (m *metrics) live(environment string, origin policy.Origin, leadTime time.Duration, at time.Time) {
	m.releases.WithLabelValues(environment, string(origin)).Inc()
	if origin == policy.OriginRollback {
		m.failures.WithLabelValues(environment, causeRollback).Inc()
	}
	m.leadTime.WithLabelValues(environment).Observe(leadTime.Seconds())
	m.liveSince.WithLabelValues(environment).Set(float64(at.Unix()))
}

func (m *metrics) orphans(count int) { m.orphaned.Set(float64(count)) }

// forget drops the series of an environment that is no longer declared.
func (m *metrics) forget(environment string) {
	match := prometheus.Labels{"environment": environment}
	for _, v := range []*prometheus.GaugeVec{m.outcomes, m.drifted, m.contested, m.healthy, m.liveSince, m.closed} {
		v.DeletePartialMatch(match)
	}
	for _, v := range []*prometheus.CounterVec{m.objects, m.attempts, m.drifts, m.decisions, m.breaches, m.releases, m.failures} {
		v.DeletePartialMatch(match)
	}
	for _, v := range []*prometheus.HistogramVec{m.leadTime, m.approval, m.restore} {
		v.DeletePartialMatch(match)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
