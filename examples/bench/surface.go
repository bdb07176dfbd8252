package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// surface is what an agent shows of itself and takes from others over HTTP. It is all that the benches know of it
// besides its records.
type surface struct {
	url            string
	source, secret string // of its webhook

	once   sync.Once
	client *http.Client
}

// agentStatus is the part of /api/v1/status that the benches read.
type agentStatus struct {
	Evidence struct {
		Spooled int `json:"spooled"` // records that wait to be published
	} `json:"evidence"`
	Governance struct {
		Revision string `json:"revision"` // that is approved
	} `json:"governance"`
	Refused struct {
		Errors []string `json:"errors"`
	} `json:"refused"` // newest governance commit that was
	Environments []environmentStatus `json:"environments"`
}

type environmentStatus struct {
	Name     string   `json:"name"`
	Outcome  string   `json:"outcome"`
	Reason   string   `json:"reason"`
	Approved *pointer `json:"approved"`
	Live     *pointer `json:"live"`
	Verdict  *verdict `json:"verdict"`
}

// verdict is what the gates say of the proposed release.
type verdict struct {
	Gates []struct {
		Gate   string `json:"gate"`
		Answer string `json:"answer"`
		Reason string `json:"reason"`
	} `json:"gates"`
}

// closed names the gates that do not allow, each with its reason.
func (v *verdict) closed() map[string]string {
	closed := map[string]string{}
	for _, g := range v.Gates {
		if g.Answer != "allow" {
			closed[g.Gate] = g.Reason
		}
	}
	return closed
}

type pointer struct {
	Release string `json:"release"`
}

// settled: what is approved is live.
func (e environmentStatus) settled() bool {
	return e.Live != nil && e.Approved != nil && e.Live.Release == e.Approved.Release
}

// Metrics of the agent that the benches read.
const (
	metricRenders    = "purser_render_builds_total"
	metricReconciled = "purser_reconcile_duration_seconds_count"
	metricPolls      = "purser_source_sync_duration_seconds_count"
	metricPushes     = "purser_evidence_publish_duration_seconds_count"
)

// maxStatus bounds an answer of the agent, in bytes.
const maxStatus = 256 << 20

func (s *surface) http() *http.Client {
	s.once.Do(func() {
		s.client = &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	})
	return s.client
}

// close ends the connections to the agent.
func (s *surface) close() { s.http().CloseIdleConnections() }

func (s *surface) get(ctx context.Context, path string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	response, err := s.http().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("read %s of the agent: %s", path, response.Status)
	}
	return read(io.LimitReader(response.Body, maxStatus))
}

// ready says why the agent is not ready to work.
func (s *surface) ready(ctx context.Context) error {
	return s.get(ctx, "/readyz", func(io.Reader) error { return nil })
}

func (s *surface) status(ctx context.Context) (agentStatus, error) {
	var status agentStatus
	err := s.get(ctx, "/api/v1/status", func(r io.Reader) error { return json.NewDecoder(r).Decode(&status) })
	return status, err
}

func (s *surface) environment(ctx context.Context, name string) (environmentStatus, error) {
	var status environmentStatus
	err := s.get(ctx, "/api/v1/environments/"+name, func(r io.Reader) error { return json.NewDecoder(r).Decode(&status) })
	return status, err
}

// metric is the sum over all series of a metric of the agent.
func (s *surface) metric(ctx context.Context, name string) (float64, error) {
	totals, err := s.metrics(ctx, name)
	return totals[name], err
}

// metrics are the sums over all series of some metrics of the agent, at one moment.
func (s *surface) metrics(ctx context.Context, names ...string) (map[string]float64, error) {
	totals := map[string]float64{}
	err := s.get(ctx, "/metrics", func(r io.Reader) error {
		text, err := io.ReadAll(r)
		for _, name := range names {
			found := false
			err = errors.Join(err, readSeries(bytes.NewReader(text), name, func(_ map[string]string, value float64) {
				totals[name] += value
				found = true
			}))
			if err == nil && !found {
				err = fmt.Errorf("the agent has no metric %s", name)
			}
		}
		return err
	})
	return totals, err
}

// tell is the signed notice of a push, as a forge sends it.
func (s *surface) tell(ctx context.Context) error {
	body := []byte(`{"ref":"refs/heads/main"}`)
	signature := hmac.New(sha256.New, []byte(s.secret))
	signature.Write(body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/hooks/"+s.source, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(signature.Sum(nil)))
	response, err := s.http().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("webhook of the agent: %s", response.Status)
	}
	return nil
}
