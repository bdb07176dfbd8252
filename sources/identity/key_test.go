package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func testLine(t *testing.T, seed byte) string {
	t.Helper()
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func TestParseSSHRefuses(t *testing.T) {
	r := newRepo(t)
	path, public := r.sshKey("developer", "-t", "ed25519")
	_, small := r.sshKey("small", "-t", "rsa", "-b", "1024")
	r.must("", "ssh-keygen", "-q", "-s", path, "-I", "x", "-n", "x", path+".pub")
	certificate := r.read(path + "-cert.pub")
	blob := strings.Fields(public)[1]
	dsa := "ssh-dss " + base64.StdEncoding.EncodeToString(ssh.Marshal(struct{ Type, A string }{"ssh-dss", "x"}))
	for name, c := range map[string]struct{ line, want string }{
		"empty":         {"", "want \"TYPE BASE64\""},
		"comment":       {"# " + public, "want \"TYPE BASE64\""},
		"half":          {"ssh-ed25519", "want \"TYPE BASE64\""},
		"not base64":    {"ssh-ed25519 %%%%", "not a public key"},
		"cut":           {"ssh-ed25519 " + blob[:40], "not a public key"},
		"private":       {r.read(path), "private key"},
		"two lines":     {public + "\n" + public, "more than one line"},
		"options":       {"no-pty " + public, "options"},
		"valid-before":  {`valid-before="20270101" ` + public, "options"},
		"certificate":   {certificate, "certificate"},
		"DSA":           {dsa, "DSA"},
		"small RSA":     {small, "1024 bits"},
		"another type":  {"ssh-rsa " + blob, "not a public key"},
		"hidden cert":   {"ssh-ed25519 " + strings.Fields(certificate)[1], "not a public key"},
		"too long":      {public + strings.Repeat("x", maxSSHLine), "longer than"},
		"OpenPGP block": {"-----BEGIN PGP PUBLIC KEY BLOCK-----", "not a public key"},
	} {
		_, err := ParseSSH(c.line)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), blob[20:40]) {
			t.Errorf("%s: the error repeats the key", name)
		}
	}
	k := sshKey(t, "  "+public+" more words \n")
	if out := r.must("", "ssh-keygen", "-l", "-f", path+".pub"); !strings.Contains(out, " "+k.Fingerprint()+" ") {
		t.Errorf("fingerprint %s, ssh-keygen says %s", k, out)
	}
}

func TestParseOpenPGPRefuses(t *testing.T) {
	r := newRepo(t)
	fingerprint, public := r.pgpKey("developer", "ed25519", "sign", "0")
	_, other := r.pgpKey("other", "ed25519", "sign", "0")
	certifies, certifier := r.pgpKey("certifier", "ed25519", "cert", "0")
	_, small := r.pgpKey("small", "rsa1024", "sign", "0")
	_, dsa := r.pgpKey("dsa", "dsa2048", "sign", "0")
	both := r.gpg("", "--armor", "--export", fingerprint, certifies)
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "want one block"},
		"private":       {r.gpg("", "--armor", "--export-secret-keys", fingerprint), "private key"},
		"two blocks":    {public + other, "more than one armored block"},
		"two keys":      {both, "more than one key"},
		"cannot sign":   {certifier, "may sign"},
		"small RSA":     {small, "1024 bits"},
		"DSA":           {dsa, "algorithm 17"},
		"signature":     {r.gpg("x", "--local-user", fingerprint, "--armor", "--detach-sign"), "want one block"},
		"cut":           {public[:len(public)/2] + "\n-----END PGP PUBLIC KEY BLOCK-----", "parse OpenPGP key"},
		"words before":  {"words\n" + public, "want one block"},
		"too large":     {public + strings.Repeat("x", maxArmored), "larger than"},
		"not armor":     {"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%%%\n-----END PGP PUBLIC KEY BLOCK-----", "parse OpenPGP key"},
		"empty content": {"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----", "parse OpenPGP key"},
	} {
		if _, err := ParseOpenPGP(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if k := pgpKey(t, "\n"+public+"\n"); k.Fingerprint() != fingerprint {
		t.Errorf("fingerprint %s, want %s", k, fingerprint)
	}
}

func TestKeyringConflicts(t *testing.T) {
	a, b := sshKey(t, testLine(t, 'a')), sshKey(t, testLine(t, 'b'))
	person := func(name string, k Key, accounts ...Account) Person {
		return Person{Name: name, Keys: []PersonKey{{Key: k}}, Forges: accounts}
	}
	for name, c := range map[string]struct {
		people []Person
		want   string
	}{
		"same key":      {[]Person{person("developer-1", a), person("developer-2", a)}, "belongs to both developer-1 and developer-2"},
		"key twice":     {[]Person{{Name: "developer-1", Keys: []PersonKey{{Key: a}, {Key: a}}}}, "listed twice for developer-1"},
		"same login":    {[]Person{person("developer-1", a, Account{Source: "estate", Login: "dev"}), person("developer-2", b, Account{Source: "estate", Login: "DEV"})}, "account estate/DEV belongs to both"},
		"same number":   {[]Person{person("developer-1", a, Account{"estate", "dev", 7}), person("developer-2", b, Account{"estate", "other", 7})}, "account estate/other belongs to both"},
		"same name":     {[]Person{person("developer-1", a), person("developer-1", b)}, "two people are named developer-1"},
		"an empty key":  {[]Person{{Name: "developer-1", Keys: []PersonKey{{}}}}, "empty key"},
		"account twice": {[]Person{person("developer-1", a, Account{Source: "estate", Login: "dev"}, Account{Source: "estate", Login: "dev"})}, "listed twice"},
	} {
		_, err := NewKeyring(c.people)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	_, err := NewKeyring([]Person{person("developer-1", a), person("developer-2", a)})
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.People != [2]string{"developer-1", "developer-2"} {
		t.Errorf("%v is no ConflictError", err)
	}
	if _, err := NewKeyring([]Person{
		person("developer-1", a, Account{"estate", "dev", 7}, Account{"other", "dev", 7}),
		person("developer-2", b, Account{"estate", "dev-2", 8}),
	}); err != nil {
		t.Error(err)
	}
}

func TestPersons(t *testing.T) {
	k, err := NewKeyring([]Person{
		{Name: "developer-1", Forges: []Account{{"estate", "Dev-1", 7}, {"north", "dev", 0}}, Emails: []string{"Dev@example.com", "shared@example.com"}},
		{Name: "developer-2", Forges: []Account{{"estate", "dev-2", 8}}, Emails: []string{"shared@EXAMPLE.com"}},
		{Name: "owner-1", Forges: []Account{{"estate", "owner", 0}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source, login string
		id            int64
		want          string
	}{
		{"estate", "dev-1", 7, "developer-1"},
		{"estate", "DEV-1", 7, "developer-1"},
		{"estate", "dev-1", 0, ""},            // the number is declared and not known
		{"estate", "dev-1", 9, ""},            // somebody took the login
		{"estate", "dev-9", 7, "developer-1"}, // the account was renamed
		{"estate", "dev-2", 7, "developer-1"}, // to a login that somebody had
		{"estate", "owner", 7, "developer-1"}, // to one that somebody declares without a number
		{"estate", "owner", 3, "owner-1"},
		{"north", "dev-1", 7, ""},  // numbers are a forge's own
		{"estate", "dev‐1", 9, ""}, // another hyphen
		{"estate", "dev-1 ", 9, ""},
		{"north", "dev ", 9, ""},
		{"north", "dev", 0, "developer-1"},
		{"north", "Dev", 12, "developer-1"},
		{"south", "dev", 0, ""},
		{"estate", "", 0, ""},
	} {
		if p, ok := k.PersonByAccount(c.source, c.login, c.id); p.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s/%s/%d: %q, want %q", c.source, c.login, c.id, p.Name, c.want)
		}
	}
	// The Kelvin sign folds to k in Unicode, and is another letter here.
	kelvin, err := NewKeyring([]Person{{Name: "owner-1", Forges: []Account{{Source: "estate", Login: "kim"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := kelvin.PersonByAccount("estate", "\u212aim", 0); ok {
		t.Error("a look-alike letter is taken for k")
	}
	for email, want := range map[string]int{"dev@EXAMPLE.com": 1, "shared@example.com": 2, "nobody@example.com": 0, "": 0} {
		if got := k.PersonsByEmail(email); len(got) != want {
			t.Errorf("%s: %d people, want %d", email, len(got), want)
		}
	}
	if p, ok := k.Person("developer-2"); !ok || p.Name != "developer-2" {
		t.Errorf("Person = %v, %v", p, ok)
	}
	if _, ok := k.Person("developer-3"); ok {
		t.Error("found nobody")
	}
}

func FuzzParseOpenPGP(f *testing.F) {
	f.Add("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEaWWWgBYJKwYBBAHaRw8BAQdA\n-----END PGP PUBLIC KEY BLOCK-----")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseOpenPGP(text); err == nil && (k.openPGP == nil || len(k.openPGP.signers) == 0) {
			t.Errorf("a key without a signer: %q", text)
		}
		if sig, err := parseOpenPGPSignature(text); err == nil && sig == nil {
			t.Error("no signature and no error")
		}
		if sig, err := parseSSHSignature([]byte(text)); err == nil && sig == nil {
			t.Error("no signature and no error")
		}
	})
}
