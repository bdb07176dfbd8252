package render

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	hits     prometheus.Counter
	builds   *prometheus.CounterVec // outcome: ok, refused, failed
	duration prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, c *cache) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "purser_render_cache_bytes", Help: "Memory that kept results occupy, estimated."}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.size)
	})
	return &metrics{
		hits:   f.NewCounter(prometheus.CounterOpts{Name: "purser_render_cache_hits_total", Help: "Renders answered from the cache."}),
		builds: f.NewCounterVec(prometheus.CounterOpts{Name: "purser_render_builds_total", Help: "Kustomize builds by outcome: ok, refused (the commit's fault), failed."}, []string{"outcome"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{Name: "purser_render_build_duration_seconds", Help: "Time of Kustomize builds.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
	}
}

func (m *metrics) built(err error, took time.Duration) {
	outcome := "ok"
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	}
	m.builds.WithLabelValues(outcome).Inc()
	m.duration.Observe(took.Seconds())
}
