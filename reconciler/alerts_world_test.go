package reconciler_test

// What a running agent tells a real Alertmanager.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/statement"
)

// alertsTo gives the world an Alertmanager of its own, and a clock that starts some time ago: what fires at the true time
// is what Alertmanager shows.
func (w *world) alertsTo(past time.Duration) (*lab.Lab, *clock) {
	w.t.Helper()
	l, c := labtest.Start(w.t, lab.Alertmanager), w.clock()
	c.set(time.Now().Add(-past))
	w.settings.more = fmt.Sprintf("  alertmanager: {urls: [%q]}\n", l.AlertmanagerURL)
	return l, c
}

// alert is one as Alertmanager shows it.
type alert struct {
	Labels      map[string]string
	Annotations map[string]string
	StartsAt    time.Time
}

// untilAlerts waits until Alertmanager shows exactly some alerts, and gives them by name.
func (w *world) untilAlerts(l *lab.Lab, names ...string) map[string]alert {
	w.t.Helper()
	var byName map[string]alert
	labtest.Eventually(w.t, "alerts "+strings.Join(names, ", "), func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.AlertmanagerURL+"/api/v2/alerts", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var list []alert
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			return err
		}
		byName = map[string]alert{}
		for _, a := range list {
			byName[a.Labels["alertname"]] = a
		}
		if got := slices.Sorted(maps.Keys(byName)); len(list) != len(names) || !slices.Equal(got, slices.Sorted(slices.Values(names))) {
			return fmt.Errorf("it shows %v", got)
		}
		return nil
	})
	return byName
}

func TestAnOverdueReviewAlertsUntilSomebodyReviews(t *testing.T) {
	t.Parallel()
	var l *lab.Lab
	var c *clock
	w := governed(t, func(w *world) {
		l, c = w.alertsTo(policy.ReviewDue + 2*time.Hour)
		now := time.Now().UTC()
		w.write("purser/calendar.yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: UTC
  freezes: [{name: black-friday, reason: peak trade, start: %q, end: %q}]
`, now.Add(-200*time.Hour).Format("2006-01-02T15:04"), now.Add(24*time.Hour).Format("2006-01-02T15:04")))
		w.write("purser/north.yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Tenant
metadata: {name: north}
spec:
  namespaces: [%s]
  owners: [owner-1, owner-2]
`, w.namespace))
		w.allow("north", w.namespace)
		w.write("purser/dev.yaml", w.environment("dev", "apps/dev", "tenant: north\nclass: low\ncalendar: retail"))
	})
	w.run()
	w.untilGate("calendar", policy.Wait, "black-friday")
	override := w.says("release-manager-1", statement.Statement{
		Verb: statement.Override, Environment: "dev", Gates: []string{"calendar"}, Reason: "orders are lost", Ticket: "ERP-9",
		Expires: time.Now().Add(time.Hour),
	})
	w.untilLive("dev", "one")
	var used time.Time
	w.until("the override is used", func(_ reconciler.Status, dev reconciler.EnvironmentStatus) error {
		if len(dev.Overrides) != 1 || dev.Overrides[0].Used == nil {
			return fmt.Errorf("%+v", dev.Overrides)
		}
		used = *dev.Overrides[0].Used
		return nil
	})

	c.set(time.Now())
	fires := func(when string) {
		t.Helper()
		alerts := w.untilAlerts(l, "PurserFreezeBreach", "PurserReviewOverdue")
		for name, since := range map[string]time.Time{"PurserFreezeBreach": used, "PurserReviewOverdue": used.Add(policy.ReviewDue)} {
			a := alerts[name]
			if d := a.StartsAt.Sub(since).Abs(); d > time.Millisecond {
				t.Errorf("%s: %s fires since %s, want %s", when, name, a.StartsAt, since)
			}
			want := map[string]string{"alertname": name, "environment": "dev", "tenant": "north", "cluster": "lab", "severity": "info", "owner": "owner-1, owner-2"}
			if !maps.Equal(a.Labels, want) || !strings.Contains(a.Annotations["description"], "purser review "+override) {
				t.Errorf("%s: %+v", when, a)
			}
		}
	}
	fires("at first")
	// A new agent tells it all to an Alertmanager that forgot everything.
	w.stop()
	if err := l.Restart(t.Context(), lab.Alertmanager); err != nil {
		t.Fatal(err)
	}
	w.run()
	fires("after a restart")

	w.says("release-manager-2", statement.Statement{Verb: statement.Review, Statement: override})
	w.untilAlerts(l)
}

// While cluster, sources and audit remote are away each is told once, not once for each environment.
func TestOutagesAlertUntilTheyAreOver(t *testing.T) {
	t.Parallel()
	var l *lab.Lab
	var c *clock
	w := newWorld(t, func(w *world) { l, c = w.alertsTo(time.Hour) })
	w.settings.heartbeat = time.Second // so that there is something to publish
	api, estate, audit := w.proxied(), w.gitProxy(&w.settings.estateURL), w.gitProxy(&w.settings.auditURL)
	w.run()
	w.untilLive("dev", "one")
	w.untilAlerts(l)
	for _, proxy := range []*lab.Proxy{api, estate, audit} {
		if err := proxy.Set(lab.Fault{Mode: lab.Refuse}); err != nil {
			t.Fatal(err)
		}
	}
	w.until("all are seen to be away", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
		if len(s.Sources) != 1 || s.Sources[0].Problem == "" || len(s.Clusters) != 1 || s.Clusters[0].Problem == "" || s.Evidence.Problem == "" {
			return fmt.Errorf("sources %+v, clusters %+v, evidence %+v", s.Sources, s.Clusters, s.Evidence)
		}
		return nil
	})
	c.set(time.Now()) // they have lasted for an hour
	alerts := w.untilAlerts(l, "PurserAuditUnreachable", "PurserClusterUnreachable", "PurserSourceUnreachable")
	if a := alerts["PurserSourceUnreachable"]; a.Labels["source"] != "estate" || a.Labels["severity"] != "warning" {
		t.Errorf("%+v", a)
	}
	if a := alerts["PurserClusterUnreachable"]; a.Labels["cluster"] != "lab" || a.Labels["severity"] != "info" {
		t.Errorf("%+v", a)
	}
	for _, proxy := range []*lab.Proxy{api, estate, audit} {
		if err := proxy.Clear(); err != nil {
			t.Fatal(err)
		}
	}
	w.untilAlerts(l)
}
