package attestation

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/purser-gitops/purser/sources/identity"
)

const passed = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"aa"}}],` +
	`"predicateType":"https://in-toto.io/attestation/test-result/v0.1","predicate":{"result":"PASSED"}}`

type key struct {
	public ssh.PublicKey
	sign   func([]byte) []byte
}

func newKey(t *testing.T, kind string) key {
	t.Helper()
	var k key
	var err error
	if kind == "ecdsa" {
		private, kerr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if kerr != nil {
			t.Fatal(kerr)
		}
		k.public, err = ssh.NewPublicKey(private.Public())
		k.sign = func(m []byte) []byte {
			digest := sha256.Sum256(m)
			signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			return signature
		}
	} else {
		public, private, kerr := ed25519.GenerateKey(rand.Reader)
		if kerr != nil {
			t.Fatal(kerr)
		}
		k.public, err = ssh.NewPublicKey(public)
		k.sign = func(m []byte) []byte { return ed25519.Sign(private, m) }
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k key) envelope(t *testing.T, payload string) []byte {
	t.Helper()
	type signature struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	}
	data, err := json.Marshal(map[string]any{
		"payloadType": payloadType, "payload": []byte(payload),
		"signatures": []signature{{"SHA256:nobody", nil}, {ssh.FingerprintSHA256(k.public), k.sign(pae(payloadType, []byte(payload)))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keyring(t *testing.T, k key, uses ...identity.Use) *identity.Keyring {
	t.Helper()
	parsed, err := identity.ParseSSH(string(ssh.MarshalAuthorizedKey(k.public)))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := identity.NewKeyring([]identity.Person{{Name: "developer-1", Keys: []identity.PersonKey{{Key: parsed, Uses: uses}}}})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestRead(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa"} {
		k := newKey(t, kind)
		a, err := Read(k.envelope(t, passed), keyring(t, k), time.Now())
		if err != nil || !a.Signature.Counts() || a.Signature.Person != "developer-1" || a.Failed || len(a.Subjects) != 1 || a.Subjects[0] != "sha256:aa" {
			t.Errorf("%s: %+v, %v", kind, a, err)
		}
		failed, err := Read(k.envelope(t, strings.Replace(passed, "PASSED", "FAILED", 1)), keyring(t, k), time.Now())
		if err != nil || !failed.Failed {
			t.Errorf("%s: failed tests: %+v, %v", kind, failed, err)
		}
		if a, err := Read(k.envelope(t, passed), keyring(t, newKey(t, kind)), time.Now()); err != nil || a.Signature.Counts() {
			t.Errorf("%s: a key of nobody counts: %+v, %v", kind, a, err)
		}
		if a, err := Read(k.envelope(t, passed), keyring(t, k, identity.Commits), time.Now()); err != nil || a.Signature.Status != identity.WrongUse {
			t.Errorf("%s: a key for commits alone: %+v, %v", kind, a, err)
		}
		tampered := k.envelope(t, passed)
		var e map[string]any
		if err := json.Unmarshal(tampered, &e); err != nil {
			t.Fatal(err)
		}
		e["payload"] = []byte(strings.Replace(passed, `"aa"`, `"bb"`, 1))
		if tampered, err = json.Marshal(e); err != nil {
			t.Fatal(err)
		}
		if a, err := Read(tampered, keyring(t, k), time.Now()); err != nil || a.Signature.Counts() {
			t.Errorf("%s: altered content counts: %+v, %v", kind, a, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	k := newKey(t, "ed25519")
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"HTML":           []byte("<html>"),
		"too large":      []byte(strings.Repeat(" ", MaxBytes+1)),
		"no signature":   []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`),
		"another type":   []byte(`{"payloadType":"text/plain","payload":"e30=","signatures":[{"keyid":"a","sig":"aa=="}]}`),
		"no statement":   k.envelope(t, `{}`),
		"text after it":  append(k.envelope(t, passed), '{'),
		"no test result": k.envelope(t, strings.Replace(passed, `{"result":"PASSED"}`, `"yes"`, 1)),
	} {
		if a, err := Read(data, keyring(t, k), time.Now()); err == nil {
			t.Errorf("%s is read as %+v", name, a)
		}
	}
}
