package statement

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)

const (
	one    = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	two    = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	commit = "3333333333333333333333333333333333333333"
	id     = "4444444444444444444444444444444444444444444444444444444444444444"
)

// examples has every verb with all that it may have.
func examples() map[string]Statement {
	later := now.Add(24 * time.Hour)
	return map[string]Statement{
		"approve":        {Verb: Approve, Environment: "prod-eu", From: one, To: two, Class: "high", Reason: "Tested in staging", Ticket: "ERP-1", Expires: later},
		"approve first":  {Verb: Approve, Environment: "prod-eu", To: two, Class: "low", Expires: later},
		"governance":     {Verb: Approve, Environment: Governance, From: commit, To: strings.Repeat("5", 40), Expires: later},
		"approve-delete": {Verb: ApproveDelete, Environment: "training", To: two, Expires: later},
		"revoke":         {Verb: Revoke, Statement: id, Reason: "Wrong release"},
		"override":       {Verb: Override, Environment: "prod-eu", Gates: []string{"calendar", "approvals"}, Reason: "Tills are down: fix <now> & review", Ticket: "INC-7", Expires: later},
		"review":         {Verb: Review, Statement: id, Reason: "Looked at logs"},
		"lift":           {Verb: Lift, Environment: "prod-eu", To: two},
		"pause":          {Verb: Pause, Environment: "prod-eu", Reason: "Inventur läuft"},
		"resume":         {Verb: Resume, Environment: "prod-eu", Reason: "Done"},
		"abort":          {Verb: Abort, Environment: "prod-eu", Reason: "Orders are lost"},
	}
}

func encode(t *testing.T, s Statement) []byte {
	t.Helper()
	payload, err := New(s, now).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestEncodeDecode(t *testing.T) {
	for name, s := range examples() {
		payload := encode(t, s)
		got, err := Decode(payload)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := got.Encode()
		if err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%s: %q, %v; want %q", name, again, err, payload)
		}
	}
	a, b := encode(t, examples()["pause"]), encode(t, examples()["pause"])
	if (Signed{Payload: a}).ID() == (Signed{Payload: b}).ID() {
		t.Error("two statements that say the same have one ID")
	}
	s := New(examples()["override"], now)
	s.Nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
	payload, err := s.Encode()
	const want = `{"apiVersion":"purser.dev/v1alpha1","verb":"override","environment":"prod-eu","gates":["approvals","calendar"],"reason":"Tills are down: fix <now> & review","ticket":"INC-7","at":"2026-03-01T12:00:00Z","expires":"2026-03-02T12:00:00Z","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAA"}` + "\n"
	if err != nil || string(payload) != want {
		t.Errorf("payload = %s, %v", payload, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(encode(t, examples()["override"]))
	for name, payload := range map[string]string{
		"empty":            "",
		"no newline":       strings.TrimSpace(good),
		"two newlines":     good + "\n",
		"two objects":      good + good,
		"unknown field":    strings.Replace(good, `"verb"`, `"extra":1,"verb"`, 1),
		"repeated field":   strings.Replace(good, `"verb"`, `"environment":"qa","verb"`, 1),
		"repeated at end":  strings.Replace(good, "}\n", `,"environment":"qa"}`+"\n", 1),
		"another case":     strings.Replace(good, `"verb"`, `"Verb"`, 1),
		"a space":          strings.Replace(good, `,"verb"`, `, "verb"`, 1),
		"an escape":        strings.Replace(good, "prod-eu", `prod\u002deu`, 1),
		"empty field":      strings.Replace(good, `"gates"`, `"from":"","gates"`, 1),
		"null":             strings.Replace(good, `"gates"`, `"from":null,"gates"`, 1),
		"another zone":     strings.Replace(good, "12:00:00Z", "13:00:00+01:00", 1),
		"fraction":         strings.Replace(good, "12:00:00Z", "12:00:00.5Z", 1),
		"zero expiry":      strings.Replace(string(encode(t, examples()["pause"])), `,"nonce"`, `,"expires":"0001-01-01T00:00:00Z","nonce"`, 1),
		"not UTF-8":        strings.Replace(good, "Tills", "T\xff", 1),
		"array":            "[" + strings.TrimSpace(good) + "]\n",
		"unsorted gates":   strings.Replace(good, `"approvals","calendar"`, `"calendar","approvals"`, 1),
		"too large":        strings.Replace(good, "Tills", strings.Repeat("x", maxPayload), 1),
		"deeply nested":    strings.Repeat("[", 9000),
		"byte order mark":  "\ufeff" + good,
		"other apiVersion": strings.Replace(good, "v1alpha1", "v2", 1),
	} {
		if payload == good {
			t.Errorf("%s: nothing was altered", name)
		}
		if s, err := Decode([]byte(payload)); err == nil || s.Verb != "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		of   string
		edit func(*Statement)
		want string
	}{
		"no verb":               {"approve", func(s *Statement) { s.Verb = "" }, "is none of"},
		"unknown verb":          {"approve", func(s *Statement) { s.Verb = "bless" }, "is none of"},
		"approve nothing":       {"approve", func(s *Statement) { s.To = "" }, "approve needs to"},
		"approve nowhere":       {"approve", func(s *Statement) { s.Environment = "" }, "approve needs environment"},
		"approve any class":     {"approve", func(s *Statement) { s.Class = "" }, "approve needs class"},
		"approve for ever":      {"approve", func(s *Statement) { s.Expires = time.Time{} }, "approve needs expires"},
		"approve what is":       {"approve", func(s *Statement) { s.From = s.To }, "not that of from"},
		"approve a commit":      {"approve", func(s *Statement) { s.To = commit }, "want a digest"},
		"approve gates":         {"approve", func(s *Statement) { s.Gates = []string{"calendar"} }, "approve has no gates"},
		"governance digest":     {"governance", func(s *Statement) { s.To = two }, "want the full id of a commit"},
		"governance class":      {"governance", func(s *Statement) { s.Class = "low" }, "approve has no class"},
		"pause governance":      {"pause", func(s *Statement) { s.Environment = Governance }, "for approve only"},
		"already over":          {"approve", func(s *Statement) { s.Expires = s.At }, "is not after at"},
		"override too long":     {"override", func(s *Statement) { s.Expires = s.At.Add(MaxValidity + time.Second) }, "at most 7 days"},
		"override all":          {"override", func(s *Statement) { s.Gates = nil }, "override needs gates"},
		"override evidence":     {"override", func(s *Statement) { s.Gates = []string{"evidence"} }, "cannot be overridden"},
		"override twice":        {"override", func(s *Statement) { s.Gates = []string{"calendar", "calendar"} }, "each gate once"},
		"override odd gate":     {"override", func(s *Statement) { s.Gates = []string{"*"} }, "names of gates"},
		"override silently":     {"override", func(s *Statement) { s.Reason = "" }, "override needs reason"},
		"override unticketed":   {"override", func(s *Statement) { s.Ticket = "" }, "override needs ticket"},
		"override for ever":     {"override", func(s *Statement) { s.Expires = time.Time{} }, "override needs expires"},
		"review nothing":        {"review", func(s *Statement) { s.Statement = "" }, "review needs statement"},
		"review short ID":       {"review", func(s *Statement) { s.Statement = id[:10] }, "64 hexadecimal digits"},
		"review in environment": {"review", func(s *Statement) { s.Environment = "qa" }, "review has no environment"},
		"lift nothing":          {"lift", func(s *Statement) { s.To = "" }, "lift needs to"},
		"pause silently":        {"pause", func(s *Statement) { s.Reason = "" }, "pause needs reason"},
		"pause for a time":      {"pause", func(s *Statement) { s.Expires = s.At.Add(time.Hour) }, "pause has no expires"},
		"odd environment":       {"pause", func(s *Statement) { s.Environment = "../qa" }, "name of an environment"},
		"reason of two lines":   {"pause", func(s *Statement) { s.Reason = "a\nb" }, "printable"},
		"reason with colour":    {"pause", func(s *Statement) { s.Reason = "\x1b[31mred" }, "printable"},
		"reason turned round":   {"pause", func(s *Statement) { s.Reason = "a\u202eb" }, "printable"},
		"reason of spaces":      {"pause", func(s *Statement) { s.Reason = " " }, "printable"},
		"long reason":           {"pause", func(s *Statement) { s.Reason = strings.Repeat("ä", 2001) }, "2000"},
		"no nonce":              {"pause", func(s *Statement) { s.Nonce = "" }, "nonce"},
		"no time":               {"pause", func(s *Statement) { s.At = time.Time{} }, "at: want"},
		"fine time":             {"pause", func(s *Statement) { s.At = now }, "at: want"},
	} {
		s := New(examples()[c.of], now)
		c.edit(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := s.Encode(); err == nil {
			t.Errorf("%s: it is encoded", name)
		}
	}
}

// keygen makes a key pair with ssh-keygen.
func keygen(t *testing.T, passphrase string, args ...string) (path string, public string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", append([]string{"-q", "-N", passphrase, "-C", "release-manager-1", "-f", path}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s: install the package openssh-client", err, out)
	}
	data, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return path, strings.TrimSpace(string(data))
}

func keyring(t *testing.T, public string, edit func(*identity.PersonKey)) *identity.Keyring {
	t.Helper()
	key, err := identity.ParseSSH(public)
	if err != nil {
		t.Fatal(err)
	}
	pk := identity.PersonKey{Key: key}
	if edit != nil {
		edit(&pk)
	}
	k, err := identity.NewKeyring([]identity.Person{{Name: "release-manager-1", Keys: []identity.PersonKey{pk}}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opensshVerifies asks ssh-keygen -Y verify.
func opensshVerifies(t *testing.T, public, namespace string, s Signed) bool {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"allowed": "release-manager-1 " + public + "\n", "statement.sig": string(s.Signature)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "release-manager-1", "-n", namespace, "-s", "statement.sig")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(s.Payload)
	return cmd.Run() == nil
}

func TestSignAndVerify(t *testing.T) {
	payload := encode(t, examples()["approve"])
	for name, args := range map[string][]string{"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa"}, "rsa": {"-t", "rsa", "-b", "2048"}} {
		t.Run(name, func(t *testing.T) {
			path, public := keygen(t, "", args...)
			signer, err := LoadSigner(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := Sign(payload, signer)
			if err != nil {
				t.Fatal(err)
			}
			if !opensshVerifies(t, public, "purser-statement", signed) || opensshVerifies(t, public, "git", signed) {
				t.Error("ssh-keygen does not agree")
			}
			s, sig := Verify(keyring(t, public, nil), signed, now)
			if !sig.Counts() || sig.Person != "release-manager-1" || s.Verb != Approve || s.To != two {
				t.Errorf("Verify = %+v, %s", s, sig)
			}
		})
	}
}

// TestSignedByOpenSSH takes what ssh-keygen -Y sign makes.
func TestSignedByOpenSSH(t *testing.T) {
	path, public := keygen(t, "", "-t", "ed25519")
	payload := encode(t, examples()["pause"])
	for namespace, want := range map[string]identity.Status{"purser-statement": identity.Good, "git": identity.Invalid, "file": identity.Invalid} {
		cmd := exec.Command("ssh-keygen", "-Y", "sign", "-n", namespace, "-f", path)
		cmd.Stdin = bytes.NewReader(payload)
		sig, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, got := Verify(keyring(t, public, nil), Signed{payload, sig}, now); got.Status != want {
			t.Errorf("%s: %s", namespace, got)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	path, public := keygen(t, "", "-t", "ed25519")
	_, other := keygen(t, "", "-t", "ed25519")
	signer, err := LoadSigner(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := encode(t, examples()["approve"])
	signed, err := Sign(payload, signer)
	if err != nil {
		t.Fatal(err)
	}
	altered := Signed{bytes.Replace(payload, []byte("prod-eu"), []byte("prod-us"), 1), signed.Signature}
	for name, c := range map[string]struct {
		keys   *identity.Keyring
		signed Signed
		seen   time.Time
		want   identity.Status
	}{
		"good":            {keyring(t, public, nil), signed, now, identity.Good},
		"clock ahead":     {keyring(t, public, nil), signed, now.Add(-4 * time.Minute), identity.Good},
		"from the future": {keyring(t, public, nil), signed, now.Add(-6 * time.Minute), identity.Invalid},
		"altered":         {keyring(t, public, nil), altered, now, identity.Invalid},
		"unsigned":        {keyring(t, public, nil), Signed{Payload: payload}, now, identity.Invalid},
		"not readable":    {keyring(t, public, nil), Signed{append(payload, '\n'), signed.Signature}, now, identity.Invalid},
		"a stranger's":    {keyring(t, other, nil), signed, now, identity.UnknownKey},
		"key for commits": {keyring(t, public, func(k *identity.PersonKey) { k.Uses = []identity.Use{identity.Commits} }), signed, now, identity.WrongUse},
		"expired key":     {keyring(t, public, func(k *identity.PersonKey) { k.Before = now }), signed, now, identity.Expired},
		"revoked key":     {keyring(t, public, func(k *identity.PersonKey) { k.RevokedAt = now.Add(time.Hour) }), signed, now, identity.Revoked},
		"key of tomorrow": {keyring(t, public, func(k *identity.PersonKey) { k.After = now.Add(time.Hour) }), signed, now, identity.NotYetValid},
		"never seen":      {keyring(t, public, nil), signed, time.Time{}, identity.Invalid},
	} {
		if _, got := Verify(c.keys, c.signed, c.seen); got.Status != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if _, err := Sign(altered.Payload[:20], signer); err == nil {
		t.Error("half a payload is signed")
	}
}

func TestLoadSigner(t *testing.T) {
	path, _ := keygen(t, "open sesame", "-t", "ed25519")
	asked := 0
	ask := func(phrase string) func() ([]byte, error) {
		return func() ([]byte, error) { asked++; return []byte(phrase), nil }
	}
	if _, err := LoadSigner(path, ask("open sesame")); err != nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	for name, c := range map[string]struct {
		path string
		ask  func() ([]byte, error)
		want string
	}{
		"wrong passphrase": {path, ask("wrong"), "passphrase is wrong"},
		"nobody to ask":    {path, nil, "use ssh-agent"},
		"nobody answers":   {path, func() ([]byte, error) { return nil, errors.New("no terminal") }, "no terminal"},
		"public half":      {path + ".pub", nil, "may be read by others"},
		"absent":           {path + "x", nil, "no such file"},
		"folder":           {filepath.Dir(path), nil, "is no file"},
	} {
		if _, err := LoadSigner(c.path, c.ask); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSigner(path, ask("open sesame")); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(small, "")
	if err != nil {
		t.Fatal(err)
	}
	weak := filepath.Join(t.TempDir(), "weak")
	if err := os.WriteFile(weak, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSigner(weak, nil); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a weak key: %v", err)
	}
}

// serveAgent serves the agent's protocol on a socket, as ssh-agent does; nil keys: it never answers.
func serveAgent(t *testing.T, keys ...any) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a short path
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if keys != nil {
				_ = agent.ServeAgent(ring, conn)
			} else {
				_, _ = conn.Read(make([]byte, 1<<10)) // the question
				_, _ = conn.Read(make([]byte, 1))     // until the client gives up
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done; _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

func TestSignWithAgent(t *testing.T) {
	_, first, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	third, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	payload := encode(t, examples()["approve"])
	all := serveAgent(t, &first, second, third)
	for _, key := range []any{first.Public(), second.Public(), third.Public()} {
		public, err := ssh.NewPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
		for _, name := range []string{ssh.FingerprintSHA256(public), line + " a comment"} {
			signed, err := SignWithAgent(t.Context(), all, name, payload)
			if err != nil {
				t.Errorf("%s: %v", public.Type(), err)
				continue
			}
			if _, sig := Verify(keyring(t, line, nil), signed, now); !sig.Counts() || !opensshVerifies(t, line, Namespace, signed) {
				t.Errorf("%s: %s", public.Type(), sig)
			}
		}
	}
	if _, err := SignWithAgent(t.Context(), serveAgent(t, &first), "", payload); err != nil {
		t.Error(err)
	}
	_, absent := keygen(t, "", "-t", "ed25519")
	for name, c := range map[string]struct{ socket, key, want string }{
		"several":   {all, "", "name one"},
		"absent":    {all, absent, "does not hold SHA256:"},
		"not a key": {all, "release-manager-1", "parse SSH key"},
		"no agent":  {"", "", "no ssh-agent"},
		"no socket": {filepath.Join(t.TempDir(), "socket"), "", "connect to ssh-agent"},
		"empty":     {serveAgent(t, []any{}...), "", "it holds no key"},
	} {
		if _, err := SignWithAgent(t.Context(), c.socket, c.key, payload); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := SignWithAgent(ctx, serveAgent(t), "", payload); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent agent: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range examples() {
		s = New(s, now)
		s.Nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
		payload, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := Decode(payload)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%q is decoded and encoded as %q, %v", payload, again, err)
		}
	})
}

var _ objects = (*sources.Repository)(nil)
