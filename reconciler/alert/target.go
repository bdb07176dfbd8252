package alert

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	answerBytes = 64 << 10 // that are read of an answer; the rest is left
	tokenBytes  = 64 << 10
	caBytes     = 1 << 20

	retryFirst = time.Second
	retryLast  = 30 * time.Second
)

// target is one Alertmanager.
type target struct {
	sender    *Sender
	base      string // address, without credentials: it may be logged
	endpoint  string
	tokenFile string
	timeout   time.Duration
	client    *http.Client
	logger    *slog.Logger
	wake      chan struct{}   // capacity 1: Set was called
	told      map[Labels]told // guarded by the sender's lock
}

func newTarget(s *Sender, address string, o Options) (*target, error) {
	base := strings.TrimRight(address, "/")
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("use Alertmanager: the address must look like https://host, without user and password")
	}
	loopback := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	if o.TokenFile != "" && u.Scheme != "https" && !loopback {
		return nil, fmt.Errorf("use Alertmanager %s: a token is only sent over https: use https, or leave the token file out", base)
	}
	var roots *x509.CertPool
	if o.CAFile != "" {
		pem, err := credential.ReadFile(o.CAFile, caBytes)
		if err != nil {
			return nil, fmt.Errorf("use Alertmanager %s: read CA file: %w", base, err)
		}
		if roots, err = credential.Authorities(pem); err != nil {
			return nil, fmt.Errorf("use Alertmanager %s: %w: write PEM certificates to %s", base, err, o.CAFile)
		}
	}
	transport := credential.Transport(roots)
	transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = 1, 2*resendEvery
	return &target{
		sender: s, base: base, endpoint: base + "/api/v2/alerts", tokenFile: o.TokenFile, timeout: o.Timeout,
		logger: o.Logger.With("alertmanager", base), wake: make(chan struct{}, 1), told: map[Labels]told{},
		client: &http.Client{
			Transport: transport,
			// The alerts, and the token, are for this host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// run tells what is due until the context ends.
func (t *target) run(ctx context.Context) {
	defer t.client.CloseIdleConnections()
	failures := 0
	for ctx.Err() == nil {
		batch, wait := t.sender.due(t)
		if len(batch) == 0 {
			pause(ctx, wait, t.wake)
			continue
		}
		err := t.post(ctx, batch)
		if ctx.Err() != nil {
			return
		}
		t.sender.metrics.sent.WithLabelValues(resultOf(err)).Add(float64(len(batch)))
		if resultOf(err) == resultFailed {
			if failures == 0 { // the metric counts on
				t.logger.Warn("alerts not sent; trying again", "alerts", len(batch), "error", err)
			}
			pause(ctx, min(retryFirst<<min(failures, 10), retryLast), nil)
			failures++
			continue
		}
		if err != nil { // what it did not refuse of the batch it took
			t.logger.Error("alerts refused", "alerts", len(batch), "error", err)
		} else if failures > 0 {
			t.logger.Info("alerts are sent again")
		}
		failures = 0
		t.sender.heard(t, batch)
	}
}

// pause waits for a time, a wake-up call or the end. Without a time it waits for the others only.
func pause(ctx context.Context, wait time.Duration, wake <-chan struct{}) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-wake:
	}
}

// errRefused: it was understood and will be refused again.
var errRefused = errors.New("refused")

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultAccepted
	case errors.Is(err, errRefused):
		return resultRefused
	}
	return resultFailed
}

// post sends one request.
func (t *target) post(ctx context.Context, batch []entry) error {
	body, err := encode(batch, t.sender.now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("prepare request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "purser")
	token := ""
	if t.tokenFile != "" {
		secret, err := credential.ReadSecret(t.tokenFile, tokenBytes)
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		token = string(secret)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return errors.New(credential.Scrub(err.Error(), token))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	if resp.StatusCode/100 == 2 {
		return nil // whatever it says beside that
	}
	if err != nil {
		text = nil
	}
	said := fmt.Errorf("it answers %d: %s", resp.StatusCode, credential.Scrub(string(text), token))
	if resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusUnprocessableEntity {
		return fmt.Errorf("%w: %w", errRefused, said)
	}
	return said
}

// wire is an alert of Alertmanager's API v2.
type wire struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// encode writes a batch as it is sent now.
func encode(batch []entry, now time.Time) ([]byte, error) {
	list := make([]wire, 0, len(batch))
	for _, e := range batch {
		a := e.alert
		w := wire{
			Labels: map[string]string{"alertname": a.Name},
			Annotations: map[string]string{
				"summary": a.Summary, "description": a.Description, "runbook_url": a.Runbook(),
			},
			StartsAt: a.Since, EndsAt: now.Add(validFor),
		}
		if !e.ended.IsZero() {
			w.EndsAt = e.ended
		}
		if w.EndsAt.Before(w.StartsAt) { // the clock went back
			w.StartsAt = w.EndsAt
		}
		for name, value := range map[string]string{
			"environment": a.Environment, "tenant": a.Tenant, "cluster": a.Cluster, "source": a.Source,
			"severity": string(a.Severity), "owner": a.Owner,
		} {
			if value != "" {
				w.Labels[name] = value
			}
		}
		list = append(list, w)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode alerts: %w", err)
	}
	return body, nil
}
