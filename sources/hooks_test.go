package sources

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	hookBody   = `{"ref":"refs/heads/main"}`
	hookSecret = "s3cret"
)

func TestHooks(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	calls := 0
	trigger := func() { calls++ }
	var log strings.Builder
	h := NewHooks(map[string]Hook{
		"estate":   {SecretFile: secretFile(t, hookSecret+"\n"), Trigger: trigger},
		"bare":     {Trigger: trigger},
		"empty":    {SecretFile: secretFile(t, "\n"), Trigger: trigger},
		"vanished": {SecretFile: "/nonexistent/secret", Trigger: trigger},
		"encoded":  {SecretFile: secretFile(t, "whsec_"+base64.StdEncoding.EncodeToString([]byte(hookSecret))), Trigger: trigger},
	}, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	sign := hex.EncodeToString(mac([]byte(hookSecret), []byte(hookBody)))
	standard := func(at time.Time, body string) map[string]string {
		stamp := fmt.Sprint(at.Unix())
		sum := base64.StdEncoding.EncodeToString(mac([]byte(hookSecret), []byte("id."+stamp+"."+body)))
		return map[string]string{"webhook-id": "id", "webhook-timestamp": stamp, "webhook-signature": "v1,AAAA v1," + sum}
	}
	type call struct {
		name, path string
		header     map[string]string
		want       int
	}
	cases := []call{
		{"github", "estate", map[string]string{"X-Hub-Signature-256": "sha256=" + sign}, 202},
		{"gitea", "estate", map[string]string{"X-Gitea-Signature": sign}, 202},
		{"gitlab token", "estate", map[string]string{"X-Gitlab-Token": hookSecret}, 202},
		{"gitlab signature", "estate", standard(now.Add(-4*time.Minute), hookBody), 202},
		{"encoded secret", "encoded", standard(now, hookBody), 202},
		{"no signature", "estate", nil, 401},
		{"wrong algorithm", "estate", map[string]string{"X-Hub-Signature-256": "sha1=" + sign}, 401},
		{"wrong signature", "estate", map[string]string{"X-Hub-Signature-256": "sha256=" + strings.Repeat("00", 32)}, 401},
		{"cut signature", "estate", map[string]string{"X-Gitea-Signature": sign[:10]}, 401},
		{"wrong token", "estate", map[string]string{"X-Gitlab-Token": hookSecret + "x"}, 401},
		{"old signature", "estate", standard(now.Add(-6*time.Minute), hookBody), 401},
		{"future signature", "estate", standard(now.Add(6*time.Minute), hookBody), 401},
		{"another body", "estate", standard(now, hookBody+" "), 401},
		{"unknown source", "other", map[string]string{"X-Gitea-Signature": sign}, 401},
		{"no source", "", nil, 401},
		{"path below", "estate/x", map[string]string{"X-Gitea-Signature": sign}, 401},
		{"no secret", "bare", map[string]string{"X-Gitlab-Token": ""}, 401},
		{"empty secret", "empty", map[string]string{"X-Gitea-Signature": hex.EncodeToString(mac(nil, []byte(hookBody)))}, 401},
		{"vanished secret", "vanished", map[string]string{"X-Gitlab-Token": ""}, 401},
	}
	refusal := ""
	for _, tc := range cases {
		before := calls
		req := httptest.NewRequest(http.MethodPost, "/hooks/"+tc.path, strings.NewReader(hookBody))
		for k, v := range tc.header {
			req.Header.Set(k, v)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != tc.want || (calls > before) != (tc.want == 202) {
			t.Errorf("%s: %d, triggered %v", tc.name, rec.Code, calls > before)
		}
		if tc.want != 401 {
			continue
		}
		answer := fmt.Sprint(rec.Header(), rec.Body)
		if refusal == "" {
			refusal = answer
		}
		if answer != refusal {
			t.Errorf("%s is told apart from other refusals: %s", tc.name, answer)
		}
	}
	if strings.Contains(log.String(), hookSecret) {
		t.Errorf("the log holds a secret:\n%s", log.String())
	}
}

func TestHooksAreBounded(t *testing.T) {
	h := NewHooks(map[string]Hook{"estate": {SecretFile: secretFile(t, hookSecret), Trigger: func() { t.Error("triggered") }}}, time.Now, slog.New(slog.DiscardHandler))
	s := httptest.NewServer(h)
	defer s.Close()
	for _, source := range []string{"estate", "other"} {
		resp, err := http.Post(s.URL+"/hooks/"+source, "application/json", io.LimitReader(neverEnding{}, maxHookBytes+1))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", source, resp.Status)
		}
	}
	resp, err := http.Get(s.URL + "/hooks/estate")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }
