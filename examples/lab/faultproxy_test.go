package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counting is a server that counts requests and answers each with its number.
func counting(t *testing.T) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var seen atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "answer %d", seen.Add(1))
	}))
	t.Cleanup(s.Close)
	return s, &seen
}

func startProxy(t *testing.T, o ProxyOptions) *Proxy {
	t.Helper()
	p, err := NewProxy(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// get returns the status and the body as far as it came.
func get(ctx context.Context, url string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func TestProxyFaults(t *testing.T) {
	t.Parallel()
	odd := func(r *http.Request) bool { return r.URL.Path == "/odd" }
	tests := []struct {
		name   string
		fault  Fault
		status int    // 0 means that the request must fail
		body   string // prefix
		seen   int64  // requests the server sees
	}{
		{"pass", Fault{}, 200, "answer 1", 1},
		{"answer", Fault{Mode: Answer, Status: 429, RetryAfter: time.Second}, 429, "fault injected", 0},
		{"refuse", Fault{Mode: Refuse}, 0, "", 0},
		{"cut before", Fault{Mode: CutBefore}, 0, "", 0},
		{"cut after", Fault{Mode: CutAfter}, 0, "", 1},
		{"slow", Fault{Mode: Slow, Delay: time.Millisecond, Bytes: 3}, 200, "answer 1", 1},
		{"other request", Fault{Mode: Answer, Status: 500, Match: odd}, 200, "answer 1", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			upstream, seen := counting(t)
			p := startProxy(t, ProxyOptions{Upstream: upstream.URL})
			if err := p.Set(test.fault); err != nil {
				t.Fatal(err)
			}
			status, body, err := get(t.Context(), p.URL)
			if status != test.status || (err == nil) != (test.status != 0) || !strings.HasPrefix(body, test.body) {
				t.Errorf("got %d %q %v", status, body, err)
			}
			if seen.Load() != test.seen {
				t.Errorf("the server saw %d requests, want %d", seen.Load(), test.seen)
			}
			if err := p.Clear(); err != nil {
				t.Fatal(err)
			}
			if status, _, err := get(t.Context(), p.URL); status != 200 {
				t.Errorf("after the fault: %d %v", status, err)
			}
		})
	}
}

func TestProxyCutsAnswerInTheMiddle(t *testing.T) {
	t.Parallel()
	upstream, _ := counting(t)
	p := startProxy(t, ProxyOptions{Upstream: upstream.URL})
	if err := p.Set(Fault{Mode: CutAfter, Bytes: 3, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t.Context(), p.URL); status != 200 || body != "ans" || err == nil {
		t.Errorf("got %d %q %v", status, body, err)
	}
	if status, body, err := get(t.Context(), p.URL); status != 200 || body != "answer 2" || err != nil {
		t.Errorf("the fault was for one request; then got %d %q %v", status, body, err)
	}
	if p.Requests() != 2 {
		t.Errorf("counted %d requests", p.Requests())
	}
}

// A request that breaks off on its way arrives at the server as far as it came.
func TestProxyCutsRequestInTheMiddle(t *testing.T) {
	t.Parallel()
	type request struct {
		host, body string
		err        error
	}
	arrived := make(chan request, 2)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		arrived <- request{r.Host, string(body), err}
	}))
	t.Cleanup(upstream.Close)
	p := startProxy(t, ProxyOptions{Upstream: upstream.URL, KeepHost: true})
	post := func() error {
		response, err := http.Post(p.URL, "text/plain", strings.NewReader("a whole body"))
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	host := strings.TrimPrefix(p.URL, "http://")
	if err := p.Set(Fault{Mode: CutDuring, Bytes: 7, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := post(); err == nil {
		t.Error("a request that was cut was answered")
	}
	if got := <-arrived; got.body != "a whole" || got.err == nil || got.host != host {
		t.Errorf("the server saw %+v", got)
	}
	if err := p.Set(Fault{Mode: Slow, Delay: time.Millisecond, Bytes: 5}); err != nil {
		t.Fatal(err)
	}
	if err := post(); err != nil {
		t.Error(err)
	}
	if got := <-arrived; got.body != "a whole body" || got.err != nil {
		t.Errorf("slowly the server saw %+v", got)
	}
}

func TestProxyHangsUntilCleared(t *testing.T) {
	t.Parallel()
	upstream, seen := counting(t)
	arrived := make(chan struct{}, 2)
	p := startProxy(t, ProxyOptions{Upstream: upstream.URL, OnRequest: func(*http.Request) { arrived <- struct{}{} }})
	if err := p.Set(Fault{Mode: Hang}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	impatient := make(chan error, 1)
	go func() { _, _, err := get(ctx, p.URL); impatient <- err }()
	<-arrived
	cancel()
	if <-impatient == nil {
		t.Error("a request that hangs was answered")
	}
	patient := make(chan error, 1)
	go func() { _, _, err := get(t.Context(), p.URL); patient <- err }()
	<-arrived
	if seen.Load() != 0 {
		t.Error("the server saw a request that hangs")
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	if err := <-patient; err != nil {
		t.Errorf("the request did not go on: %v", err)
	}
}

// A watch passes through the proxy as it comes and ends when the server is refused.
func TestProxyInFrontOfAPIServer(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), APIServer)
	p, config, err := l.APIProxy(Identity{User: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if data, err := os.ReadFile(config); err != nil || !strings.Contains(string(data), p.URL) {
		t.Errorf("kubeconfig %s: %v\n%s", config, err, data)
	}
	response, err := http.Get(p.URL + "/api/v1/namespaces?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := make(chan string)
	go func() {
		defer close(lines)
		buffer := make([]byte, 64<<10)
		for {
			n, err := response.Body.Read(buffer)
			if err != nil {
				return
			}
			lines <- string(buffer[:n])
		}
	}()
	ns := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "watched"}}
	api(t, l, http.MethodPost, "/api/v1/namespaces", ns, http.StatusCreated)
	deadline := time.After(20 * time.Second)
	for found := false; !found; {
		select {
		case line := <-lines:
			found = strings.Contains(line, `"watched"`)
		case <-deadline:
			t.Fatal("the watch did not show a new namespace")
		}
	}
	if err := p.Set(Fault{Mode: Refuse}); err != nil {
		t.Fatal(err)
	}
	for range lines { // ends with the connection
	}
}

func TestProxyServesTLS(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), Git)
	serving, err := l.ServingTLS()
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, ProxyOptions{Upstream: l.GitURL, TLS: serving})
	authority, err := os.ReadFile(l.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	if err := getOK(t.Context(), transport, p.URL+"/healthz"); err != nil {
		t.Error(err)
	}
}
