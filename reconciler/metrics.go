package reconciler

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/health"
	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
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

	statements *prometheus.CounterVec
	verdicts   *prometheus.CounterVec
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
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_decisions_total", Help: "Recorded decisions, by answer."}, []string{"environment", "answer"}),
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
	}
	for _, c := range []prometheus.Collector{
		m.refused, m.duration, m.outcomes, m.objects, m.attempts, m.drifts, m.drifted, m.contested, m.healthy, m.leadTime, m.liveSince, m.orphaned,
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

func (m *metrics) live(environment string, leadTime time.Duration, at time.Time) {
	m.leadTime.WithLabelValues(environment).Observe(leadTime.Seconds())
	m.liveSince.WithLabelValues(environment).Set(float64(at.Unix()))
}

func (m *metrics) orphans(count int) { m.orphaned.Set(float64(count)) }

// forget drops the series of an environment that is no longer declared.
func (m *metrics) forget(environment string) {
	match := prometheus.Labels{"environment": environment}
	for _, v := range []*prometheus.GaugeVec{m.outcomes, m.drifted, m.contested, m.healthy, m.liveSince} {
		v.DeletePartialMatch(match)
	}
	for _, v := range []*prometheus.CounterVec{m.objects, m.attempts, m.drifts} {
		v.DeletePartialMatch(match)
	}
	m.leadTime.DeletePartialMatch(match)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
