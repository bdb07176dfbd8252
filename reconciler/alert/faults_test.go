package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/purser-gitops/purser/examples/lab/labtest"
)

const token = "s3cret-of-the-agent"

// broken is an Alertmanager that answers as a test wants, and remembers what it was told.
type broken struct {
	*httptest.Server
	mu     sync.Mutex
	answer http.HandlerFunc
	bodies [][]byte
}

func newBroken(t *testing.T, answer http.HandlerFunc) *broken {
	b := &broken{answer: answer}
	b.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.bodies = append(b.bodies, body)
		answer := b.answer
		b.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Path != "/am/api/v2/alerts" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *broken) answers(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *broken) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.bodies)
}

// options of a sender that trusts it and has its token.
func (b *broken) options(t *testing.T) func(*Options) {
	t.Helper()
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, cert, 0o600), os.WriteFile(secret, []byte(token+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.URLs, o.CAFile, o.TokenFile, o.Timeout = []string{b.URL + "/am"}, ca, secret, time.Second
	}
}

func accept(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "broken; you said "+r.Header.Get("Authorization"), code)
	}
}

// hang answers when the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// huge never stops to answer.
func huge(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		chunk := bytes.Repeat([]byte("x"), 1<<16)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"internal error": status(http.StatusInternalServerError),
		"too many":       status(http.StatusTooManyRequests),
		"unauthorized":   status(http.StatusUnauthorized),
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		},
		"hangs":           hang,
		"huge and broken": huge(http.StatusBadGateway),
		"no HTTP": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte("220 mail.example\r\n"))
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroken(t, answer)
			var logs syncBuffer
			s := newSender(t, &logs, b.options(t))
			s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour))})
			result(t, s, resultFailed, 1)
			b.answers(accept)
			result(t, s, resultAccepted, 1)
			if text := logs.String(); strings.Contains(text, token) || !strings.Contains(text, "alerts not sent") || len(text) > 4<<10 {
				t.Errorf("it logs %q", text)
			}
		})
	}
}

// TestSetWaitsForNobody answers only once Set has returned.
func TestSetWaitsForNobody(t *testing.T) {
	t.Parallel()
	returned := make(chan struct{})
	b := newBroken(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-returned:
			accept(w, r)
		case <-r.Context().Done():
		}
	})
	trusted := b.options(t)
	s := newSender(t, io.Discard, func(o *Options) {
		trusted(o)
		o.Timeout = labtest.Patience
	})
	s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour))})
	labtest.Eventually(t, "a request", func(context.Context) error {
		if b.requests() == 0 {
			return errors.New("none")
		}
		return nil
	})
	s.Set([]Alert{sample("uat", time.Now().Add(-time.Hour))}) // while that is under way
	close(returned)
	result(t, s, resultAccepted, 2)
	if n := testutil.ToFloat64(s.metrics.sent.WithLabelValues(resultFailed)); n != 0 {
		t.Errorf("%v were not sent: Set waited for the answer", n)
	}
}

func TestHugeAnswerToWhatIsAcceptedIsLeft(t *testing.T) {
	t.Parallel()
	b := newBroken(t, huge(http.StatusOK))
	s := newSender(t, io.Discard, b.options(t))
	s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour))})
	result(t, s, resultAccepted, 1)
}

// What is refused would be refused again at once: it waits for its repetition, and the rest goes on.
func TestRefusedIsNotRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBroken(t, status(http.StatusBadRequest))
	var logs syncBuffer
	s := newSender(t, &logs, b.options(t))
	s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour))})
	result(t, s, resultRefused, 1)
	b.answers(accept)
	s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour)), sample("uat", time.Now().Add(-time.Hour))})
	result(t, s, resultAccepted, 1)
	if n := testutil.ToFloat64(s.metrics.sent.WithLabelValues(resultAccepted)); n != 1 || b.requests() != 2 {
		t.Errorf("%v alerts accepted in %d requests, want 1 of 2", n, b.requests())
	}
	if strings.Contains(logs.String(), token) {
		t.Errorf("it logs the token: %s", logs.String())
	}
}

// Many alerts that change while nobody listens are sent once each, in bounded requests.
func TestBacklogIsASetInBoundedBatches(t *testing.T) {
	t.Parallel()
	b := newBroken(t, status(http.StatusInternalServerError))
	s := newSender(t, io.Discard, b.options(t))
	const count = 3*batchMost + 1
	var firing []Alert
	for i := range count {
		firing = append(firing, sample(fmt.Sprintf("env-%03d", i), time.Now().Add(-time.Hour)))
	}
	for range 50 {
		s.Set(firing[:count/2])
		s.Set(firing)
	}
	result(t, s, resultFailed, 1)
	failed := b.requests()
	b.answers(accept)
	result(t, s, resultAccepted, count)
	told := map[string]int{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, body := range b.bodies[failed:] {
		var list []wire
		if err := json.Unmarshal(body, &list); err != nil || len(list) > batchMost {
			t.Fatalf("%d alerts in one request: %v", len(list), err)
		}
		for _, a := range list {
			told[a.Labels["environment"]]++
		}
	}
	if len(told) != count {
		t.Errorf("it was told of %d environments, want %d", len(told), count)
	}
}

func TestAnEstateWithoutTroubleSendsNothing(t *testing.T) {
	t.Parallel()
	b := newBroken(t, accept)
	s := newSender(t, io.Discard, b.options(t))
	for range 20 {
		s.Set(nil)
	}
	s.Set([]Alert{sample("prod-eu", time.Now().Add(-time.Hour))})
	result(t, s, resultAccepted, 1)
	if b.requests() != 1 {
		t.Errorf("%d requests", b.requests())
	}
}

func TestWhatCannotBeConfigured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Options)
		says   string
	}{
		{func(o *Options) { o.URLs, o.CAFile = []string{"https://alerts.example"}, empty }, "holds no certificate"},
		{func(o *Options) { o.URLs, o.CAFile = []string{"https://alerts.example"}, filepath.Join(dir, "none") }, "read CA file"},
		{func(o *Options) { o.URLs, o.TokenFile = []string{"http://alerts.example"}, empty }, "only sent over https"},
		{func(o *Options) { o.URLs = []string{"https://somebody:" + token + "@alerts.example"} }, "without user and password"},
	} {
		o := testOptions(io.Discard)
		c.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), token) {
			t.Errorf("%v, want %s", err, c.says)
		}
	}
}

// result waits until at least so many alerts had a result.
func result(t *testing.T, s *Sender, result string, count float64) {
	t.Helper()
	labtest.Eventually(t, result, func(context.Context) error {
		if n := testutil.ToFloat64(s.metrics.sent.WithLabelValues(result)); n < count {
			return fmt.Errorf("%v of %v", n, count)
		}
		return nil
	})
}

// syncBuffer collects logs.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
