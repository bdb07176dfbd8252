package alert

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func TestAlertFiresIsSilencedAndResolved(t *testing.T) {
	t.Parallel()
	url, env := alertmanager(t), labtest.Name(t)
	s := newSender(t, io.Discard, func(o *Options) { o.URLs = []string{url} })
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	s.Set([]Alert{sample(env, since)})
	got := untilShown(t, url, env, 1)[0]
	want := map[string]string{
		"alertname": "PurserEnvironmentUnhealthy", "environment": env, "tenant": "north", "cluster": "shop",
		"severity": "critical", "owner": "owner-1, owner-2",
	}
	if fmt.Sprint(got.Labels) != fmt.Sprint(want) || !got.StartsAt.Equal(since) || got.Status.State == "suppressed" {
		t.Errorf("it shows %+v, want %v since %s", got, want, since)
	}
	if a := got.Annotations; a["description"] != "web: 1 of 3 pods\nRemedy: push" || !strings.HasSuffix(a["runbook_url"], "docs/alerts.md#purserenvironmentunhealthy") || !strings.Contains(a["summary"], env) {
		t.Errorf("annotations are %q", a)
	}
	silence := fmt.Sprintf(`{"matchers":[{"name":"environment","value":%q,"isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"release-manager-1","comment":"known"}`,
		env, time.Now().UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	resp, err := http.Post(url+"/api/v2/silences", "application/json", strings.NewReader(silence))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	labtest.Eventually(t, "the alert is silenced", func(ctx context.Context) error {
		list, err := shown(ctx, url, env)
		if err != nil || len(list) != 1 || list[0].Status.State != "suppressed" || len(list[0].Status.SilencedBy) != 1 {
			return fmt.Errorf("%+v, %w", list, err)
		}
		return nil
	})
	s.Set(nil)
	untilShown(t, url, env, 0)
}

// A restart of the agent is another sender that finds the same trouble in the records.
func TestRestartKeepsTheBeginning(t *testing.T) {
	t.Parallel()
	url, env := alertmanager(t), labtest.Name(t)
	since := time.Now().Add(-3 * time.Hour).UTC().Truncate(time.Millisecond)
	for range 2 {
		s := newSender(t, io.Discard, func(o *Options) { o.URLs = []string{url} })
		s.Set([]Alert{sample(env, since)})
		labtest.Eventually(t, "the alert is accepted", func(context.Context) error {
			if n := testutil.ToFloat64(s.metrics.sent.WithLabelValues(resultAccepted)); n != 1 {
				return fmt.Errorf("%v are", n)
			}
			return nil
		})
		if got := untilShown(t, url, env, 1)[0]; !got.StartsAt.Equal(since) {
			t.Errorf("it starts at %s, want %s", got.StartsAt, since)
		}
	}
}

// Each member of a cluster hears everything; one that is away hears it when it is back, and delays no other.
func TestEachAlertmanagerIsToldAndOneMayBeAway(t *testing.T) {
	t.Parallel()
	one, two := alertmanager(t), labtest.Start(t, lab.Alertmanager)
	env := labtest.Name(t)
	if err := two.StopServer(lab.Alertmanager); err != nil {
		t.Fatal(err)
	}
	s := newSender(t, io.Discard, func(o *Options) { o.URLs = []string{one, two.AlertmanagerURL + "/"} })
	gone, stays := sample(env, time.Now().Add(-time.Hour)), sample(env, time.Now().Add(-time.Hour))
	gone.Name = "PurserEnvironmentFailing"
	s.Set([]Alert{gone, stays})
	untilShown(t, one, env, 2)
	labtest.Eventually(t, "the second one fails", func(context.Context) error {
		if testutil.ToFloat64(s.metrics.sent.WithLabelValues(resultFailed)) == 0 {
			return fmt.Errorf("no failure yet")
		}
		return nil
	})
	s.Set([]Alert{stays}) // the second one never hears of the other
	untilShown(t, one, env, 1)
	if err := two.StartServer(t.Context(), lab.Alertmanager); err != nil {
		t.Fatal(err)
	}
	if got := untilShown(t, two.AlertmanagerURL, env, 1)[0]; got.Labels["alertname"] != stays.Name {
		t.Errorf("it shows %+v", got)
	}
}

// A tenant's alert bears the labels of that tenant alone, and is routed by them.
func TestLabelsOfTenantsAreApart(t *testing.T) {
	t.Parallel()
	url, env := alertmanager(t), labtest.Name(t)
	s := newSender(t, io.Discard, func(o *Options) { o.URLs = []string{url} })
	e := Estate{}
	for _, tenant := range []string{"north", "south"} {
		e.Environments = append(e.Environments, Environment{
			Name: env, Purpose: "production", Tenant: tenant, Owners: []string{"owner-of-" + tenant},
			Ill: Trouble{Since: time.Now().Add(-time.Hour), Why: "pods of " + tenant},
		})
	}
	s.Set(e.Firing(time.Now()))
	for _, got := range untilShown(t, url, env, 2) {
		tenant := got.Labels["tenant"]
		if got.Labels["owner"] != "owner-of-"+tenant || got.Annotations["description"] != "pods of "+tenant {
			t.Errorf("%+v", got)
		}
	}
}
