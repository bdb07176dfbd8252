package sources

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	hooksPath    = "/hooks/"
	maxHookBytes = 1 << 20
	maxHookAge   = 5 * time.Minute // of a signature that names its time
)

// Hook says how one source's webhook is checked and what it wakes.
type Hook struct {
	SecretFile string // read at every call
	Trigger    func() // does not block; a hook carries no facts, so this is all it does
}

// Hooks answers POST /hooks/<source>. An unknown source, a missing secret and a
// bad signature get the same answer after the same work.
type Hooks struct {
	hooks  map[string]Hook // by source
	now    func() time.Time
	logger *slog.Logger
	decoy  []byte // what signatures are checked against when there is no secret
}

// NewHooks makes the handler; now and logger must not be nil.
func NewHooks(hooks map[string]Hook, now func() time.Time, logger *slog.Logger) *Hooks {
	decoy := make([]byte, sha256.Size)
	_, _ = rand.Read(decoy) // never fails
	return &Hooks{hooks: hooks, now: now, logger: logger, decoy: decoy}
}

func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHookBytes))
	if err != nil {
		http.Error(w, "the body is too large or incomplete", http.StatusRequestEntityTooLarge)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, hooksPath)
	hook, known := h.hooks[name]
	secret := h.decoy
	if known && hook.SecretFile != "" {
		b, err := credential.ReadSecret(hook.SecretFile, maxKeyBytes)
		switch {
		case err != nil:
			h.logger.Error("reading a webhook's secret failed", "source", name, "error", err)
		case len(b) == 0:
			h.logger.Error("a webhook's secret is empty", "source", name)
		default:
			secret = b
		}
	}
	if !verifyHook(secret, r.Header, body, h.now()) {
		if known {
			h.logger.Warn("a webhook's signature is wrong", "source", name)
		}
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	hook.Trigger()
	w.WriteHeader(http.StatusAccepted)
}

// verifyHook reports whether one of the ways forges sign is there and right.
func verifyHook(secret []byte, header http.Header, body []byte, now time.Time) bool {
	github, ok := strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=") // Gitea sends it too
	// GitLab's older way is the secret itself; hashing hides its length.
	got, want := sha256.Sum256([]byte(header.Get("X-Gitlab-Token"))), sha256.Sum256(secret)
	return ok && sameHex(secret, body, github) ||
		sameHex(secret, body, header.Get("X-Gitea-Signature")) ||
		verifyStandard(secret, header, body, now) ||
		subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func sameHex(secret, body []byte, signature string) bool {
	got, err := hex.DecodeString(signature)
	return err == nil && hmac.Equal(got, mac(secret, body))
}

func mac(secret []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, secret)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// verifyStandard follows https://www.standardwebhooks.com, which GitLab's
// signing token uses: base64 HMACs over "id.timestamp.body", several separated
// by spaces while a secret is rotated.
func verifyStandard(secret []byte, header http.Header, body []byte, now time.Time) bool {
	if s, ok := strings.CutPrefix(string(secret), "whsec_"); ok {
		if key, err := base64.StdEncoding.DecodeString(s); err == nil {
			secret = key
		}
	}
	id, stamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(sec, 0)).Abs() > maxHookAge {
		return false
	}
	want := mac(secret, []byte(id+"."+stamp+"."), body)
	for _, s := range strings.Fields(header.Get("Webhook-Signature")) {
		v, ok := strings.CutPrefix(s, "v1,")
		if got, err := base64.StdEncoding.DecodeString(v); ok && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}
