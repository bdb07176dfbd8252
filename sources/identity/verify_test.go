package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// TestCommitsOfGit verifies what git commit -S makes with each kind of key.
func TestCommitsOfGit(t *testing.T) {
	r := newRepo(t)
	now := time.Now()
	for name, args := range map[string][]string{
		"ed25519":   {"-t", "ed25519"},
		"ecdsa-256": {"-t", "ecdsa", "-b", "256"},
		"ecdsa-384": {"-t", "ecdsa", "-b", "384"},
		"ecdsa-521": {"-t", "ecdsa", "-b", "521"},
		"rsa":       {"-t", "rsa", "-b", "2048"},
	} {
		t.Run(name, func(t *testing.T) {
			path, public := r.sshKey(name, args...)
			raw := r.commitSSH(path)
			k := ring(t, PersonKey{Key: sshKey(t, public)})
			got := k.VerifyCommit(ReadCommit(raw), now)
			want(t, got, Good, "developer-1")
			if out := r.must("", "ssh-keygen", "-l", "-f", path+".pub"); !strings.Contains(out, got.Key) {
				t.Errorf("key %s, ssh-keygen says %s", got.Key, out)
			}
			if !r.gitSays(raw) {
				t.Error("git does not verify it")
			}
			stranger, err := NewKeyring(nil)
			if err != nil {
				t.Fatal(err)
			}
			want(t, stranger.VerifyCommit(ReadCommit(raw), now), UnknownKey, "")
		})
	}
	for name, algorithm := range map[string]string{"eddsa": "ed25519", "ecdsa": "nistp256", "rsa-pgp": "rsa2048"} {
		t.Run(name, func(t *testing.T) {
			fingerprint, public := r.pgpKey(name, algorithm, "sign", "0")
			raw := r.commitPGP(fingerprint)
			got := ring(t, PersonKey{Key: pgpKey(t, public)}).VerifyCommit(ReadCommit(raw), now)
			want(t, got, Good, "developer-1")
			if got.Key != fingerprint {
				t.Errorf("key %s, want %s", got.Key, fingerprint)
			}
			if !r.gitSays(raw) {
				t.Error("git does not verify it")
			}
		})
	}
	t.Run("subkey", func(t *testing.T) {
		fingerprint, _ := r.pgpKey("subkey", "ed25519", "cert", "0")
		r.gpg("", "--quick-add-key", fingerprint, "ed25519", "sign", "0")
		r.git("-c", "gpg.format=openpgp", "-c", "user.signingkey="+fingerprint, "commit", "-q", "--allow-empty", "-S", "-m", "Signed with a subkey")
		got := ring(t, PersonKey{Key: pgpKey(t, r.export(fingerprint))}).VerifyCommit(ReadCommit(r.raw("HEAD")), now)
		want(t, got, Good, "developer-1")
		if got.Key != fingerprint {
			t.Errorf("key %s, want the primary key's %s", got.Key, fingerprint)
		}
	})
	t.Run("unsigned", func(t *testing.T) {
		r.git("commit", "-q", "--allow-empty", "-m", "Not signed")
		want(t, ring(t, PersonKey{Key: sshKey(t, r.read(r.dir+"/.git/ed25519.pub"))}).VerifyCommit(ReadCommit(r.raw("HEAD")), now), None, "")
	})
}

// TestMergeOfSignedTag has a mergetag header, whose own signature is content.
func TestMergeOfSignedTag(t *testing.T) {
	r := newRepo(t)
	path, public := r.sshKey("developer", "-t", "ed25519")
	r.commitSSH(path)
	r.git("checkout", "-q", "-b", "side")
	r.commitSSH(path)
	r.git("-c", "gpg.format=ssh", "-c", "user.signingkey="+path, "tag", "-s", "-m", "Release", "v1")
	r.git("checkout", "-q", "main")
	r.commitSSH(path, "-m", "Not on the side")
	k := ring(t, PersonKey{Key: sshKey(t, public)})
	r.git("merge", "-q", "--no-ff", "-m", "Merge v1", "v1")
	unsigned := r.raw("HEAD")
	if !bytes.Contains(unsigned, []byte("\nmergetag object ")) || !bytes.Contains(unsigned, []byte("-----BEGIN SSH SIGNATURE-----")) {
		t.Fatalf("not a merge of a signed tag:\n%s", unsigned)
	}
	want(t, k.VerifyCommit(ReadCommit(unsigned), time.Now()), None, "")
	r.git("-c", "gpg.format=ssh", "-c", "user.signingkey="+path, "commit", "-q", "--amend", "-S", "--no-edit")
	signed := r.raw("HEAD")
	if !bytes.Contains(signed, []byte("\nmergetag object ")) {
		t.Fatalf("the mergetag is gone:\n%s", signed)
	}
	want(t, k.VerifyCommit(ReadCommit(signed), time.Now()), Good, "developer-1")
	if !r.gitSays(signed) {
		t.Error("git does not verify it")
	}
	want(t, k.VerifyCommit(ReadCommit(bytes.Replace(signed, []byte("\n tag v1"), []byte("\n tag v2"), 1)), time.Now()), Invalid, "")
}

// TestAlteredCommits compares with git what an attacker may do to a signed commit: what we accept, git must accept.
func TestAlteredCommits(t *testing.T) {
	r := newRepo(t)
	now := time.Now()
	path, public := r.sshKey("developer", "-t", "ed25519")
	other, _ := r.sshKey("other", "-t", "ed25519")
	fingerprint, armored := r.pgpKey("developer", "ed25519", "sign", "0")
	k, err := NewKeyring([]Person{{Name: "developer-1", Keys: []PersonKey{{Key: sshKey(t, public)}, {Key: pgpKey(t, armored)}}}})
	if err != nil {
		t.Fatal(err)
	}
	header := func(raw []byte) string { // the signature's header with all its lines
		_, rest, _ := strings.Cut(string(raw), "\ngpgsig ")
		sig, _, _ := strings.Cut(rest, "\n\n")
		return "gpgsig " + sig + "\n"
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Errorf("no %q in the commit", old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	for kind, raw := range map[string][]byte{"ssh": r.commitSSH(path), "openpgp": r.commitPGP(fingerprint)} {
		want(t, k.VerifyCommit(ReadCommit(raw), now), Good, "developer-1")
		another := string(r.commitSSH(other))
		for name, c := range map[string]struct {
			alter func(string) string
			want  Status
		}{
			"message":             {replace("Raise", "Lower"), Invalid},
			"tree":                {func(s string) string { return "tree " + strings.Repeat("1", 40) + s[45:] }, Invalid},
			"author":              {replace("author developer-1", "author developer-2"), Invalid},
			"committer's date":    {func(s string) string { return strings.Replace(s, "> 1", "> 2", 2) }, Invalid},
			"another parent":      {replace("\nauthor", "\nparent "+strings.Repeat("1", 40)+"\nauthor"), Invalid},
			"second tree":         {replace("\nauthor", "\ntree "+strings.Repeat("1", 40)+"\nauthor"), Invalid},
			"tree after":          {replace("\ngpgsig", "\ntree "+strings.Repeat("1", 40)+"\ngpgsig"), Invalid},
			"header before":       {replace("\ngpgsig", "\nnote x\ngpgsig"), Invalid},
			"header after":        {replace("\n\n", "\nnote x\n\n"), Invalid},
			"continued":           {replace("\n\n", "\n more\n\n"), Invalid},
			"no signature":        {replace(header(raw), ""), None},
			"signature of other":  {replace(header(raw), header([]byte(another))), UnknownKey},
			"two signatures":      {replace("\n\n", "\n"+header(raw)+"\n"), Invalid},
			"a stranger's too":    {replace("\n\n", "\n"+header([]byte(another))+"\n"), Invalid},
			"sha256 beside":       {replace("\n\n", "\ngpgsig-sha256 evil\n\n"), Invalid},
			"sha256 instead":      {replace("\ngpgsig ", "\ngpgsig-sha256 "), Invalid},
			"gpgsig without more": {replace("\n\n", "\ngpgsig\n\n"), Invalid},
			"gpgsig-like":         {replace("\n\n", "\ngpgsigned tree\n\n"), Invalid},
			"empty signature":     {replace(header(raw), "gpgsig \n"), Invalid},
			"cut signature":       {replace("\n -----END", "\n\n"), Invalid},
			"NUL":                 {func(s string) string { return s + "\x00Co-authored-by: x <x@example.com>" }, Invalid},
			"end of headers gone": {func(s string) string { return strings.ReplaceAll(s, "\n\n", "\n") }, Invalid},
			"empty":               {func(string) string { return "" }, Invalid},
			"too large":           {func(s string) string { return s + strings.Repeat("x", MaxCommit) }, Invalid},
			"words before armor":  {replace("gpgsig -----BEGIN", "gpgsig x\n -----BEGIN"), Invalid},
			"words after armor":   {replace("\n\n", "\n x\n\n"), Invalid},
			"X.509":               {replace(header(raw), "gpgsig -----BEGIN SIGNED MESSAGE-----\n"), Invalid},
		} {
			altered := []byte(c.alter(string(raw)))
			got := k.VerifyCommit(ReadCommit(altered), now)
			if got.Status != c.want {
				t.Errorf("%s, %s: %s, want %s", kind, name, got, c.want)
			}
			if got.Counts() && !r.gitSays(altered) {
				t.Errorf("%s, %s: we accept what git refuses", kind, name)
			}
		}
	}
}

// TestSignatureForOtherThings must not count for a commit, nor a commit's for a statement.
func TestSignatureForOtherThings(t *testing.T) {
	r := newRepo(t)
	path, public := r.sshKey("developer", "-t", "ed25519")
	raw := r.commitSSH(path)
	c, err := parseCommit(raw)
	if err != nil {
		t.Fatal(err)
	}
	k := ring(t, PersonKey{Key: sshKey(t, public)})
	sign := func(namespace string) string {
		r.file("payload", string(c.payload))
		return r.must(string(c.payload), "ssh-keygen", "-Y", "sign", "-n", namespace, "-f", path)
	}
	with := func(sig string) []byte {
		head, message, _ := strings.Cut(string(c.payload), "\n\n")
		return []byte(head + "\ngpgsig " + strings.ReplaceAll(strings.TrimSpace(sig), "\n", "\n ") + "\n\n" + message)
	}
	want(t, k.VerifyCommit(ReadCommit(with(sign("git"))), time.Now()), Good, "developer-1")
	want(t, k.VerifyCommit(ReadCommit(with(sign("file"))), time.Now()), Invalid, "")
	want(t, k.VerifyCommit(ReadCommit(with(sign("purser-statement"))), time.Now()), Invalid, "")
	statement := []byte(sign("purser-statement"))
	want(t, k.VerifySSH("purser-statement", c.payload, statement, time.Now()), Good, "developer-1")
	want(t, k.VerifySSH("other", c.payload, statement, time.Now()), Invalid, "")
	want(t, k.VerifySSH("purser-statement", c.payload, []byte(sign("git")), time.Now()), Invalid, "")
	want(t, k.VerifySSH("git", c.payload, []byte(sign("git")), time.Now()), Invalid, "")
	want(t, k.VerifySSH("purser-statement", append(c.payload, ' '), statement, time.Now()), Invalid, "")
	want(t, k.VerifySSH("purser-statement", c.payload, append(statement, statement...), time.Now()), Invalid, "")
	want(t, k.VerifySSH("purser-statement", c.payload, nil, time.Now()), Invalid, "")
}

// TestValidity judges by the first sight alone: no date in a commit helps an expired key.
func TestValidity(t *testing.T) {
	r := newRepo(t)
	path, public := r.sshKey("developer", "-t", "ed25519")
	backdated := r.commit([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + path, "commit", "-q", "--allow-empty", "-S", "-m", "Backdated"}, "--date=2026-02-01T00:00:00Z")
	k := PersonKey{Key: sshKey(t, public), Validity: Validity{After: date("2026-01-01"), Before: date("2026-06-01")}}
	for _, c := range []struct {
		name string
		seen time.Time
		edit func(*PersonKey)
		want Status
	}{
		{"within", date("2026-02-01"), nil, Good},
		{"from the first instant", date("2026-01-01"), nil, Good},
		{"before", date("2025-12-31"), nil, NotYetValid},
		{"at the end", date("2026-06-01"), nil, Expired},
		{"after", date("2027-01-01"), nil, Expired},
		{"revoked later", date("2026-02-01"), func(k *PersonKey) { k.RevokedAt = date("2026-03-01") }, Revoked},
		{"revoked earlier", date("2026-02-01"), func(k *PersonKey) { k.RevokedAt = date("2026-01-02") }, Revoked},
		{"for commits", date("2026-02-01"), func(k *PersonKey) { k.Uses = []Use{Commits} }, Good},
		{"for statements only", date("2026-02-01"), func(k *PersonKey) { k.Uses = []Use{Statements} }, WrongUse},
		{"never seen", time.Time{}, nil, Invalid},
	} {
		key := k
		if c.edit != nil {
			c.edit(&key)
		}
		if got := ring(t, key).VerifyCommit(ReadCommit(backdated), c.seen); got.Status != c.want || got.Person != "developer-1" {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestTokenNeedsTouch signs as a security token does, with and without somebody touching it.
func TestTokenNeedsTouch(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(public), "ssh:"}))
	if err != nil {
		t.Fatal(err)
	}
	k := ring(t, PersonKey{Key: sshKey(t, string(ssh.MarshalAuthorizedKey(key)))})
	for flags, status := range map[byte]Status{1: Good, 5: Good, 0: Invalid} {
		token := &token{key, private, flags}
		sig, err := sshsig.Sign(strings.NewReader("message"), token, sshsig.HashSHA512, "purser-statement")
		if err != nil {
			t.Fatal(err)
		}
		got := k.VerifySSH("purser-statement", []byte("message"), sshsig.Armor(sig), time.Now())
		if got.Status != status {
			t.Errorf("flags %d: %s, want %s", flags, got, status)
		}
	}
}

type token struct {
	public  ssh.PublicKey
	private ed25519.PrivateKey
	flags   byte
}

func (s *token) PublicKey() ssh.PublicKey { return s.public }

func (s *token) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{s.flags}, 7)
	signed := append(append(application[:], rest...), message[:]...)
	return &ssh.Signature{Format: s.public.Type(), Blob: ed25519.Sign(s.private, signed), Rest: rest}, nil
}

// TestWeakSignatures are genuine but made in ways that are refused.
func TestWeakSignatures(t *testing.T) {
	r := newRepo(t)
	now := time.Now()
	path, public := r.sshKey("developer", "-t", "rsa", "-b", "2048")
	k := ring(t, PersonKey{Key: sshKey(t, public)})
	signer, err := ssh.ParsePrivateKey([]byte(r.read(path)))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sshsig.Sign(strings.NewReader("message"), signer, sshsig.HashSHA256, "purser-statement")
	if err != nil {
		t.Fatal(err)
	}
	want(t, k.VerifySSH("purser-statement", []byte("message"), sshsig.Armor(sig), now), Good, "developer-1")
	data := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{"purser-statement", "", "sha256", sum("message")})...)
	if sig.Signature, err = signer.(ssh.AlgorithmSigner).SignWithAlgorithm(nil, data, ssh.KeyAlgoRSA); err != nil {
		t.Fatal(err)
	}
	want(t, k.VerifySSH("purser-statement", []byte("message"), sshsig.Armor(sig), now), Invalid, "") // RSA with SHA-1

	fingerprint, armored := r.pgpKey("developer", "rsa2048", "sign", "0")
	kp := ring(t, PersonKey{Key: pgpKey(t, armored)})
	r.git("commit", "-q", "--allow-empty", "-m", "Signed by hand")
	raw := string(r.raw("HEAD"))
	for name, args := range map[string][]string{"sha256": {"--digest-algo", "SHA256"}, "sha1": {"--digest-algo", "SHA1"}, "text": {"--textmode"}, "notation": {"--sig-notation", "!note@example.com=x"}} {
		sig := r.gpg(raw, append(args, "--local-user", fingerprint, "--armor", "--detach-sign")...)
		head, message, _ := strings.Cut(raw, "\n\n")
		signed := head + "\ngpgsig " + strings.ReplaceAll(strings.TrimSpace(sig), "\n", "\n ") + "\n\n" + message
		if got := kp.VerifyCommit(ReadCommit([]byte(signed)), now); got.Counts() != (name == "sha256") {
			t.Errorf("%s: %s", name, got)
		}
	}
	two := r.gpg(raw, "--local-user", fingerprint, "--local-user", func() string { f, _ := r.pgpKey("two", "ed25519", "sign", "0"); return f }(), "--armor", "--detach-sign")
	head, message, _ := strings.Cut(raw, "\n\n")
	want(t, kp.VerifyCommit(ReadCommit([]byte(head+"\ngpgsig "+strings.ReplaceAll(strings.TrimSpace(two), "\n", "\n ")+"\n\n"+message)), now), Invalid, "")
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return string(h[:])
}

// TestOpenPGPValidity judges a key's own expiry and revocation at the first sight.
func TestOpenPGPValidity(t *testing.T) {
	r := newRepo(t)
	r.faked = "20260101T000000"
	fingerprint, armored := r.pgpKey("developer", "ed25519", "sign", "2026-02-01")
	r.faked = "20260115T000000"
	raw := r.commitPGP(fingerprint)
	k := ring(t, PersonKey{Key: pgpKey(t, armored)})
	want(t, k.VerifyCommit(ReadCommit(raw), date("2026-01-16")), Good, "developer-1")
	want(t, k.VerifyCommit(ReadCommit(raw), date("2026-01-15").Add(-time.Minute)), Good, "developer-1") // the signer's clock is ahead
	want(t, k.VerifyCommit(ReadCommit(raw), date("2026-01-14")), Invalid, "developer-1")                // it cannot be seen before it is made
	want(t, k.VerifyCommit(ReadCommit(raw), date("2026-02-02")), Expired, "developer-1")                // signed in time by its own claim
	want(t, ring(t, PersonKey{Key: pgpKey(t, armored), Validity: Validity{Before: date("2026-01-10")}}).VerifyCommit(ReadCommit(raw), date("2026-01-16")), Expired, "developer-1")

	r.faked = "20260301T000000" // the owner renews it after it lapsed: what was first seen before counts again
	r.gpg("", "--quick-set-expire", fingerprint, "2027-01-01")
	for _, options := range [][]string{nil, {"--export-options", "export-minimal"}} {
		renewed := ring(t, PersonKey{Key: pgpKey(t, r.export(fingerprint, options...))})
		want(t, renewed.VerifyCommit(ReadCommit(raw), date("2026-01-16")), Good, "developer-1")
		want(t, renewed.VerifyCommit(ReadCommit(raw), date("2026-12-31")), Good, "developer-1")
		want(t, renewed.VerifyCommit(ReadCommit(raw), date("2027-01-02")), Expired, "developer-1")
	}

	r.faked = "20260401T000000"
	for reason, before := range map[string]Status{"0": Revoked, "1": Revoked, "2": Good, "3": Good} { // none, compromised, superseded, no longer used
		cert := r.gpg("y\n"+reason+"\n\ny\n", "--no-batch", "--command-fd", "0", "--yes", "--armor", "--gen-revoke", fingerprint)
		revoked := pgpKey(t, r.withRevocation(fingerprint, cert))
		want(t, ring(t, PersonKey{Key: revoked}).VerifyCommit(ReadCommit(raw), date("2026-03-31")), before, "developer-1")
		want(t, ring(t, PersonKey{Key: revoked}).VerifyCommit(ReadCommit(raw), date("2026-04-02")), Revoked, "developer-1")
	}
}

// withRevocation gives the public key as it is with the revocation, without revoking it in r's own home.
func (r *repo) withRevocation(fingerprint, cert string) string {
	r.t.Helper()
	other := newRepo(r.t)
	other.faked = r.faked
	other.gpg(r.export(fingerprint), "--import")
	other.gpg(cert, "--import")
	return other.export(fingerprint)
}

func TestOpenPGPSubkeyValidity(t *testing.T) {
	r := newRepo(t)
	r.faked = "20260101T000000"
	fingerprint, _ := r.pgpKey("developer", "ed25519", "cert", "2026-12-01")
	r.gpg("", "--quick-add-key", fingerprint, "ed25519", "sign", "2026-02-01")
	r.faked = "20260115T000000"
	r.git("-c", "gpg.format=openpgp", "-c", "user.signingkey="+fingerprint, "commit", "-q", "--allow-empty", "-S", "-m", "Signed with a subkey")
	k := ring(t, PersonKey{Key: pgpKey(t, r.export(fingerprint))})
	want(t, k.VerifyCommit(ReadCommit(r.raw("HEAD")), date("2026-01-16")), Good, "developer-1")
	want(t, k.VerifyCommit(ReadCommit(r.raw("HEAD")), date("2026-02-02")), Expired, "developer-1")
}

func FuzzVerifyCommit(f *testing.F) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		f.Fatal(err)
	}
	k, err := NewKeyring([]Person{{Name: "developer-1", Keys: []PersonKey{{Key: Key{fingerprint: ssh.FingerprintSHA256(signer.PublicKey()), ssh: signer.PublicKey()}}}}})
	if err != nil {
		f.Fatal(err)
	}
	payload := fmt.Sprintf("tree %040d\nparent %040d\nauthor developer-1 <developer-1@example.com> 1767225600 +0000\ncommitter developer-1 <developer-1@example.com> 1767225600 +0000\n\nRaise\n\nCo-authored-by: developer-2 <developer-2@example.com>\n", 1, 2)
	sig, err := sshsig.Sign(strings.NewReader(payload), signer, sshsig.HashSHA512, "git")
	if err != nil {
		f.Fatal(err)
	}
	head, message, _ := strings.Cut(payload, "\n\n")
	signed := head + "\ngpgsig " + strings.ReplaceAll(strings.TrimSpace(string(sshsig.Armor(sig))), "\n", "\n ") + "\n\n" + message
	for _, seed := range []string{payload, signed, strings.ReplaceAll(signed, "SSH SIGNATURE", "PGP SIGNATURE"), strings.Replace(signed, "\n\n", "\nmergetag object x\n gpgsig y\n\n", 1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := k.VerifyCommit(ReadCommit(raw), date("2026-01-01"))
		if got.Counts() { // only the headers' signature can differ from what was signed
			if c, err := parseCommit(raw); err != nil || string(c.payload) != payload {
				t.Errorf("a forged commit counts: %q", raw)
			}
		}
		p, err := ReadCommit(raw).Parties()
		if err == nil && len(p.CoAuthors) > maxCoAuthors {
			t.Errorf("%d co-authors", len(p.CoAuthors))
		}
	})
}
