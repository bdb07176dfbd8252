package evidence

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/mod/sumdb/tlog"

	"context"
	"crypto"
	"crypto/ed25519"
)

// TestStockTools runs every shell block of docs/evidence.md as it stands, on a
// good clone and on tampered ones.
func TestStockTools(t *testing.T) {
	f := tamperFixture(t)
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "evidence.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```sh\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) < 7 {
		t.Fatalf("%d shell blocks", len(blocks))
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	for _, b := range blocks {
		script.Write(b[1])
	}
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("hq "+f.key.Public().Line()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(clone string) (dir, out string, err error) {
		dir = t.TempDir()
		cmd := exec.Command("sh")
		cmd.Dir = dir
		cmd.Stdin = strings.NewReader(script.String())
		cmd.Env = append(gitEnv(), "CLONE="+clone, "KEYS="+keys, "KEY="+f.key.Public().Line(), "BRANCH=refs/heads/audit/2026", "GIT_NO_REPLACE_OBJECTS=1", "RECORD=00/00/00/03")
		text, err := cmd.CombinedOutput()
		return dir, string(text), err
	}
	dir, out, err := run(f.clone())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out, "Signature Verified Successfully"); n != 2 || !strings.Contains(out, `Good "git" signature for hq`) {
		t.Errorf("OpenSSL verified %d signatures:\n%s", n, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log.txt"))
	if err != nil || strings.Count(string(log), `Good "git" signature for hq with ED25519 key `+f.key.ID()) != 3 {
		t.Errorf("git log: %v\n%s", err, log)
	}
	leaf, err := os.ReadFile(filepath.Join(dir, "leaf.txt"))
	if err != nil || !isLeaf(t, f, strings.TrimSpace(string(leaf))) {
		t.Errorf("leaf %q: %v", leaf, err)
	}
	for _, c := range tamperTable {
		switch c.name {
		case "flip a byte with the commit re-signed", "an empty commit on top", "checkpoint signed by another key", "swap a blob", "a merge":
			clone := f.clone()
			c.do(tamperer{t, clone, f.key})
			if _, out, err := run(clone); err == nil {
				t.Errorf("%s: stock tools found nothing\n%s", c.name, out)
			}
		}
	}
}

// isLeaf says whether the base64 text is the leaf hash of record 3.
func isLeaf(t *testing.T, f *fixture, text string) bool {
	t.Helper()
	out, err := gitOutput(f.bare, nil, "cat-file", "blob", branchRef+":"+file3)
	if err != nil {
		t.Fatal(out)
	}
	leaf := tlog.RecordHash([]byte(out))
	return base64.StdEncoding.EncodeToString(leaf[:]) == text
}

// The reference library accepts what seal writes.
func TestDSSEIsTheReferences(t *testing.T) {
	key, _ := newKeyFile(t)
	data, err := seal(key, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := dsse.NewEnvelopeVerifier(referenceKey{key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := reference.Verify(t.Context(), &dsse.Envelope{
		PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Payload),
		Signatures: []dsse.Signature{{KeyID: e.Signatures[0].KeyID, Sig: base64.StdEncoding.EncodeToString(e.Signatures[0].Sig)}},
	})
	if err != nil || len(accepted) != 1 {
		t.Errorf("%d keys, %v", len(accepted), err)
	}
}

type referenceKey struct{ PublicKey }

func (k referenceKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.raw, data, sig) {
		return dsse.ErrNoSignature
	}
	return nil
}
func (k referenceKey) KeyID() (string, error)   { return k.ID(), nil }
func (k referenceKey) Public() crypto.PublicKey { return k.raw }
