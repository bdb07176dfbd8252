package sources

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are shared by the pollers of a process; the label source is the
// configured name of a source.
type Metrics struct {
	duration    *prometheus.HistogramVec
	lastSuccess *prometheus.GaugeVec
	fetches     *prometheus.CounterVec
}

// NewMetrics registers the metrics of this package.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_source_sync_duration_seconds", Help: "How long asking a source for news took, fetching included.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 120},
		}, []string{"source"}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_source_last_success_timestamp_seconds", Help: "When a source last answered, as Unix time.",
		}, []string{"source"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_source_fetch_total", Help: "Syncs of a source by result: changed, unchanged, missing (a wanted branch), failed.",
		}, []string{"source", "result"}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.lastSuccess, m.fetches} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) observe(source string, took time.Duration, now time.Time, moved int, err error) {
	if m == nil {
		return
	}
	m.duration.WithLabelValues(source).Observe(took.Seconds())
	result := "unchanged"
	switch {
	case answered(err) && err != nil:
		result = "missing"
	case err != nil:
		result = "failed"
	case moved > 0:
		result = "changed"
	}
	m.fetches.WithLabelValues(source, result).Inc()
	if answered(err) {
		m.lastSuccess.WithLabelValues(source).Set(float64(now.UnixMilli()) / 1000)
	}
}
