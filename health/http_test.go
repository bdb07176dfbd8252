package health

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers the paths that the checks below ask for.
func server(t *testing.T, start func(http.Handler) *httptest.Server) *httptest.Server {
	mux := http.NewServeMux()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") }))
	t.Cleanup(other.Close)
	release := make(chan struct{})
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status": "pass"}`) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/?token=hush", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", maxBody)+"needle")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "short")
	})
	s := start(mux)
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	return s
}

func TestHTTP(t *testing.T) {
	s := server(t, httptest.NewServer)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, c := range map[string]struct {
		check HTTPCheck
		want  Status
		cause string
		text  string
	}{
		"ok":                 {HTTPCheck{URL: "/ok"}, Healthy, "", "answered 200"},
		"body":               {HTTPCheck{URL: "/ok", Body: `"status":\s*"pass"`}, Healthy, "", "answered 200"},
		"other body":         {HTTPCheck{URL: "/ok", Body: `"fail"`}, Degraded, Application, "does not match"},
		"wrong status":       {HTTPCheck{URL: "/gone", Cause: Platform}, Degraded, Platform, "answered 404, not 200"},
		"wanted status":      {HTTPCheck{URL: "/gone", Status: 404}, Healthy, "", "answered 404"},
		"redirect":           {HTTPCheck{URL: "/here", Body: "pass"}, Healthy, "", "answered 200"},
		"redirect elsewhere": {HTTPCheck{URL: "/away", Cause: External}, Degraded, External, "answered 302, not 200: redirects to http://127.0.0.1"},
		"redirect for ever":  {HTTPCheck{URL: "/loop"}, Degraded, Application, "answered 302"},
		"redirect wanted":    {HTTPCheck{URL: "/away", Status: 302}, Healthy, "", "answered 302"},
		"big":                {HTTPCheck{URL: "/big", Body: "^x+$"}, Healthy, "", "answered 200"},
		"beyond the bound":   {HTTPCheck{URL: "/big", Body: "needle"}, Degraded, Application, "does not match"},
		"endless":            {HTTPCheck{URL: "/endless"}, Healthy, "", "answered 200"},
		"slow":               {HTTPCheck{URL: "/slow?token=hush", Timeout: 50 * time.Millisecond}, Degraded, Application, "did not answer within 50ms"},
		"cut":                {HTTPCheck{URL: "/cut"}, Degraded, Application, "did not answer: unexpected EOF"},
		"refused":            {HTTPCheck{URL: closed.URL + "/?token=hush"}, Degraded, Application, "did not answer"},
		"bad pattern":        {HTTPCheck{URL: "/ok", Body: "("}, Unknown, Application, "no regular expression"},
		"bad address":        {HTTPCheck{URL: "http://[hush"}, Unknown, Application, "url cannot be used"},
	} {
		c.check.Name = name
		if strings.HasPrefix(c.check.URL, "/") {
			c.check.URL = s.URL + c.check.URL
		}
		got := HTTP(t.Context(), transport, c.check)
		if got.Status != c.want || got.Cause != c.cause || !strings.Contains(got.Message, c.text) || got.Name != name {
			t.Errorf("%s: got %+v", name, got)
		}
		if strings.Contains(got.Message, "hush") {
			t.Errorf("%s: the address got out: %s", name, got.Message)
		}
		if got.Duration <= 0 {
			t.Errorf("%s: took no time", name)
		}
	}
}

func TestHTTPVerifiesCertificates(t *testing.T) {
	s := server(t, func(h http.Handler) *httptest.Server {
		quiet := httptest.NewUnstartedServer(h)
		quiet.Config.ErrorLog = log.New(io.Discard, "", 0)
		quiet.StartTLS()
		return quiet
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	got := HTTP(t.Context(), transport, HTTPCheck{URL: s.URL + "/ok"})
	if got.Status != Degraded || !strings.Contains(got.Message, "certificate") {
		t.Errorf("got %+v", got)
	}
	trusting := s.Client().Transport.(*http.Transport)
	if got := HTTP(t.Context(), trusting, HTTPCheck{URL: s.URL + "/ok"}); got.Status != Healthy {
		t.Errorf("got %+v", got)
	}
	if got := HTTP(t.Context(), trusting, HTTPCheck{URL: s.URL + "/away"}); got.Status != Degraded {
		t.Errorf("followed a redirect that gives up encryption: %+v", got)
	}
}

func TestHTTPCancelledIsUnknown(t *testing.T) {
	s := server(t, httptest.NewServer)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := HTTP(ctx, transport, HTTPCheck{URL: s.URL + "/slow"}); got.Status != Unknown {
		t.Errorf("got %+v", got)
	}
}
