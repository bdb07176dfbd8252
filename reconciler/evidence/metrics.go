package evidence

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector
	duration   prometheus.Histogram
	failures   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *Log) (*metrics, error) {
	m := &metrics{
		reg: reg,
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "purser_evidence_publish_duration_seconds",
			Help:    "Time from preparing a push of evidence to reading it back, for successful ones.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "purser_evidence_publish_failures_total",
			Help: "Failed attempts to publish evidence.",
		}),
	}
	m.collectors = []prometheus.Collector{
		m.duration, m.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "purser_evidence_spool_records",
			Help: "Records that the audit remote does not have yet.",
		}, func() float64 { return float64(l.Status().Spooled) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "purser_evidence_last_publish_timestamp_seconds",
			Help: "When records were last seen on the audit remote; 0 before the first.",
		}, func() float64 {
			if t := l.Status().LastPublish; !t.IsZero() {
				return float64(t.UnixMilli()) / float64(time.Second/time.Millisecond)
			}
			return 0
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register evidence metrics: %w", err)
		}
	}
	return m, nil
}

// unregister lets a later log in the same process register again.
func (m *metrics) unregister() {
	if m == nil || m.reg == nil {
		return
	}
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}
