package apply

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// watchMetrics of one cluster. The label resource is one of the kinds that are watched.
type watchMetrics struct {
	events   *prometheus.CounterVec
	restarts prometheus.Counter
	up       prometheus.Gauge
	missing  prometheus.Gauge
}

func newWatchMetrics(reg prometheus.Registerer, cluster string, logger *slog.Logger) *watchMetrics {
	events := register(reg, logger, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "purser_watch_events_total", Help: "Changes of objects with our label that watches showed."}, []string{"cluster", "resource"}))
	restarts := register(reg, logger, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "purser_watch_restarts_total", Help: "Watches that ended and were opened again."}, []string{"cluster"}))
	up := register(reg, logger, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "purser_watches_open", Help: "Watches that are established."}, []string{"cluster"}))
	missing := register(reg, logger, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "purser_watches_missing", Help: "Kinds, or kinds in a namespace, that should be watched and cannot be: their drift is found by full comparisons only."}, []string{"cluster"}))
	return &watchMetrics{
		events:   events.MustCurryWith(prometheus.Labels{"cluster": cluster}),
		restarts: restarts.WithLabelValues(cluster), up: up.WithLabelValues(cluster), missing: missing.WithLabelValues(cluster),
	}
}

// register registers a collector that several clusters share, and returns the one that is registered.
func register[C prometheus.Collector](reg prometheus.Registerer, logger *slog.Logger, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if same, ok := already.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		logger.Error("metric is not shown", "error", err)
	}
	return c
}

func (m *watchMetrics) event(resource string) { m.events.WithLabelValues(resource).Inc() }

func (m *watchMetrics) opened(again bool) {
	if again {
		m.restarts.Inc()
	}
}

func (m *watchMetrics) established(open bool) {
	if open {
		m.up.Inc()
	} else {
		m.up.Dec()
	}
}

func (m *watchMetrics) unwatched(n int) { m.missing.Set(float64(n)) }
