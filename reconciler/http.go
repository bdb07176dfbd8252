package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/purser-gitops/purser/sources"
)

var errNoGovernance = errors.New("no governance commit is approved yet")

// Handler serves what the agent shows: metrics, probes, a read-only API, and the hooks that tell of pushes.
func (a *Agent) Handler(gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.Status()) })
	mux.HandleFunc("GET /api/v1/environments", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.Status().Environments) })
	mux.HandleFunc("GET /api/v1/environments/{name}", func(w http.ResponseWriter, r *http.Request) {
		for _, e := range a.Status().Environments {
			if e.Name == r.PathValue("name") {
				writeJSON(w, e)
				return
			}
		}
		http.Error(w, "no such environment", http.StatusNotFound)
	})
	mux.HandleFunc("GET /api/v1/environments/{name}/explain", a.serveExplanation)
	mux.HandleFunc("GET /api/v1/backups", a.serveBackups)
	mux.HandleFunc("GET /api/v1/environments/{name}/backups", a.serveBackupsOf)
	mux.HandleFunc("GET /api/v1/environments/{name}/drills", a.serveDrills)
	mux.HandleFunc("GET /api/v1/environments/{name}/drills/{record}", a.serveDrills)
	hooks := map[string]sources.Hook{}
	for _, c := range a.config.Sources {
		if c.Webhook.SecretFile != "" {
			hooks[c.Name] = sources.Hook{SecretFile: c.Webhook.SecretFile, Trigger: a.sources[c.Name].notice(a)}
		}
	}
	mux.Handle("/hooks/{source}", sources.NewHooks(hooks, a.now, a.logger))
	return mux
}

// serveExplanation answers what the gates say of an environment, now or at the time that is asked for.
func (a *Agent) serveExplanation(w http.ResponseWriter, r *http.Request) {
	at := a.now()
	if asked := r.URL.Query().Get("at"); asked != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, asked); err != nil {
			http.Error(w, "at: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTimeout)
	defer cancel()
	explanation, err := a.Explain(ctx, r.PathValue("name"), at)
	switch {
	case errors.Is(err, ErrNotDeclared):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		writeJSON(w, explanation)
	}
}

// explainTimeout bounds what one explanation asks of clusters and forges.
const explainTimeout = 30 * time.Second

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client went away
}
