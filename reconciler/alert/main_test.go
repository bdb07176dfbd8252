package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// seen is an alert as Alertmanager shows it.
type seen struct {
	Labels      map[string]string
	Annotations map[string]string
	StartsAt    time.Time
	EndsAt      time.Time
	Status      struct {
		State      string
		SilencedBy []string
	}
}

// shown asks an Alertmanager for its alerts, those that are silenced included, of one environment.
func shown(ctx context.Context, url, environment string) ([]seen, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v2/alerts?filter=environment%3D%22"+environment+"%22", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %w", resp.Status, text, err)
	}
	var list []seen
	return list, json.Unmarshal(text, &list)
}

// untilShown waits until an Alertmanager shows so many alerts of an environment.
func untilShown(t *testing.T, url, environment string, count int) []seen {
	t.Helper()
	var list []seen
	labtest.Eventually(t, fmt.Sprintf("%d alerts at Alertmanager", count), func(ctx context.Context) (err error) {
		if list, err = shown(ctx, url, environment); err == nil && len(list) != count {
			err = fmt.Errorf("it shows %d: %+v", len(list), list)
		}
		return err
	})
	return list
}

// newSender starts a sender that the test's end stops.
func newSender(t *testing.T, logs io.Writer, change func(*Options)) *Sender {
	t.Helper()
	o := testOptions(logs)
	change(&o)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

func testOptions(logs io.Writer) Options {
	return Options{Timeout: 5 * time.Second, Now: time.Now, Logger: slog.New(slog.NewTextHandler(logs, nil)), Registerer: prometheus.NewRegistry()}
}

// sample is an alert of an environment.
func sample(environment string, since time.Time) Alert {
	e := Environment{Name: environment, Purpose: "production", Tenant: "north", Cluster: "shop", Owners: []string{"owner-1", "owner-2"}}
	r := rules[slices.IndexFunc(rules, func(r rule) bool { return r.name == "PurserEnvironmentUnhealthy" })]
	return r.alert(e.labels(), Trouble{Since: since.Add(-r.after), Why: "web: 1 of 3 pods", Remedy: "push"})
}

// alertmanager is the address of a shared one.
func alertmanager(t *testing.T) string {
	t.Helper()
	return labtest.Shared(t, lab.Alertmanager).AlertmanagerURL
}
