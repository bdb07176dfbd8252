package apply

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// WatchMetrics are shared by the watchers of a process. The label resource is one of the kinds that are watched.
type WatchMetrics struct {
	events   *prometheus.CounterVec
	restarts *prometheus.CounterVec
	open     *prometheus.GaugeVec
	missing  *prometheus.GaugeVec
}

// NewWatchMetrics registers the metrics of watchers.
func NewWatchMetrics(reg prometheus.Registerer) (*WatchMetrics, error) {
	m := newWatchMetrics()
	for _, c := range []prometheus.Collector{m.events, m.restarts, m.open, m.missing} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of watches: %w", err)
		}
	}
	return m, nil
}

func newWatchMetrics() *WatchMetrics {
	return &WatchMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_watch_events_total", Help: "Changes of objects with our label that watches showed."}, []string{"cluster", "resource"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_watch_restarts_total", Help: "Watches that ended and were opened again."}, []string{"cluster"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_watches_open", Help: "Watches that are established."}, []string{"cluster"}),
		missing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_watches_missing", Help: "Kinds, or kinds in a namespace, that should be watched and cannot be: their drift is found by full comparisons only."}, []string{"cluster"}),
	}
}

// clusterMetrics are the metrics of one cluster's watcher.
type clusterMetrics struct {
	events   *prometheus.CounterVec // by resource
	restarts prometheus.Counter
	open     prometheus.Gauge
	missing  prometheus.Gauge
}

func (m *WatchMetrics) of(cluster string) clusterMetrics {
	return clusterMetrics{
		events:   m.events.MustCurryWith(prometheus.Labels{"cluster": cluster}),
		restarts: m.restarts.WithLabelValues(cluster),
		open:     m.open.WithLabelValues(cluster),
		missing:  m.missing.WithLabelValues(cluster),
	}
}
