package alert

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of sending an alert.
const (
	resultAccepted = "accepted"
	resultRefused  = "refused" // Alertmanager says that it is not valid
	resultFailed   = "failed"  // it is tried again
	resultDropped  = "dropped" // more fire than are sent
)

type metrics struct {
	sent   *prometheus.CounterVec
	firing *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_alerts_sent_total", Help: "Alerts sent to Alertmanagers, repetitions included, by result: accepted, refused, failed, dropped."}, []string{"result"}),
		firing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "purser_alerts_firing", Help: "Alerts that fire now."}, []string{"alertname", "severity"}),
	}
	for _, c := range []prometheus.Collector{m.sent, m.firing} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of alerts: %w", err)
		}
	}
	for _, result := range []string{resultAccepted, resultRefused, resultFailed, resultDropped} {
		m.sent.WithLabelValues(result)
	}
	m.set(nil)
	return m, nil
}

// set shows what fires; 0 where nothing does, so that a rule on it never lacks its series.
func (m *metrics) set(firing []Alert) {
	count := map[[2]string]float64{}
	for _, a := range firing {
		count[[2]string{a.Name, string(a.Severity)}]++
	}
	for _, r := range rules {
		for _, s := range severities {
			m.firing.WithLabelValues(r.name, string(s)).Set(count[[2]string{r.name, string(s)}])
		}
	}
}
