package lab

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Alertmanager keeps what it is told while it runs, and comes back at the same address.
func TestAlertmanagerTakesAlerts(t *testing.T) {
	l := startLab(t, t.TempDir(), Alertmanager)
	url := l.AlertmanagerURL
	resp, err := http.Post(url+"/api/v2/alerts", "application/json", strings.NewReader(`[{"labels":{"alertname":"Sample"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp, err = http.Get(url + "/api/v2/alerts"); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), `"alertname":"Sample"`) {
		t.Fatalf("%s: %s, %v", resp.Status, text, err)
	}
	if err := l.Restart(t.Context(), Alertmanager); err != nil || l.AlertmanagerURL != url {
		t.Fatalf("after a restart it is at %s, before at %s: %v", l.AlertmanagerURL, url, err)
	}
}
