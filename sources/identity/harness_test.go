package identity

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repo is a real repository with the git command, an allowed_signers file and a GnuPG home of its own.
type repo struct {
	t     *testing.T
	dir   string
	home  string // GNUPGHOME
	faked string // gpg's clock, "20260101T000000"; "" for the machine's
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	for program, pkg := range map[string]string{"git": "git", "ssh-keygen": "openssh-client", "gpg": "gnupg"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the package %s", program, pkg)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // a short path: it holds the agent's socket
	if err != nil {
		t.Fatal(err)
	}
	r := &repo{t: t, dir: t.TempDir(), home: home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	r.git("init", "-q", "-b", "main", ".")
	r.git("config", "gpg.ssh.allowedSignersFile", filepath.Join(r.dir, ".git", "allowed"))
	r.git("config", "gpg.program", r.file(".git/gpg", "#!/bin/sh\nexec gpg --batch --no-tty --pinentry-mode loopback --passphrase '' ${FAKED:+--faked-system-time $FAKED!} \"$@\"\n"))
	if err := os.Chmod(filepath.Join(r.dir, ".git/gpg"), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repo) file(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *repo) read(path string) string {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

func (r *repo) command(stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = r.dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+r.home, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "LC_ALL=C", "FAKED="+r.faked,
		"GIT_AUTHOR_NAME=developer-1", "GIT_AUTHOR_EMAIL=developer-1@example.com",
		"GIT_COMMITTER_NAME=developer-1", "GIT_COMMITTER_EMAIL=developer-1@example.com")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		return out.String() + errs.String(), err
	}
	return out.String(), nil
}

func (r *repo) must(stdin, program string, args ...string) string {
	r.t.Helper()
	out, err := r.command(stdin, program, args...)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return strings.TrimSpace(r.must("", "git", args...))
}

// gpg uses the program that git is configured to use.
func (r *repo) gpg(stdin string, args ...string) string {
	r.t.Helper()
	return r.must(stdin, filepath.Join(r.dir, ".git", "gpg"), args...)
}

// sshKey makes a key pair, makes git trust it, and gives the private half's path and the public line.
func (r *repo) sshKey(name string, args ...string) (path, public string) {
	r.t.Helper()
	path = filepath.Join(r.dir, ".git", name)
	r.must("", "ssh-keygen", append([]string{"-q", "-N", "", "-C", name + "@example.com", "-f", path}, args...)...)
	public = strings.TrimSpace(r.read(path + ".pub"))
	f, err := os.OpenFile(filepath.Join(r.dir, ".git", "allowed"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(name + " " + public + "\n"); err != nil {
		r.t.Fatal(err)
	}
	return path, public
}

// pgpKey makes a key and gives its fingerprint and the armored public half.
func (r *repo) pgpKey(name, algorithm, usage, expire string) (fingerprint, public string) {
	r.t.Helper()
	id := name + " <" + name + "@example.com>"
	r.gpg("", "--quick-gen-key", id, algorithm, usage, expire)
	for line := range strings.Lines(r.gpg("", "--with-colons", "--fingerprint", id)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9], r.export(f[9])
		}
	}
	r.t.Fatalf("no fingerprint of %s", id)
	return "", ""
}

func (r *repo) export(fingerprint string, options ...string) string {
	r.t.Helper()
	return r.gpg("", append(options, "--armor", "--export", fingerprint)...)
}

// commitSSH and commitPGP make a signed commit and give its bytes.
func (r *repo) commitSSH(key string, args ...string) []byte {
	r.t.Helper()
	return r.commit(append([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + key}, "commit", "-q", "--allow-empty", "-S", "-m", "Raise the price\n\nWhy."), args...)
}

func (r *repo) commitPGP(key string, args ...string) []byte {
	r.t.Helper()
	return r.commit(append([]string{"-c", "gpg.format=openpgp", "-c", "user.signingkey=" + key + "!"}, "commit", "-q", "--allow-empty", "-S", "-m", "Raise the price\n\nWhy."), args...)
}

func (r *repo) commit(command []string, args ...string) []byte {
	r.t.Helper()
	r.git(append(command, args...)...)
	return r.raw("HEAD")
}

func (r *repo) raw(ref string) []byte {
	r.t.Helper()
	return []byte(r.must("", "git", "cat-file", "commit", ref))
}

// gitSays stores the bytes as a commit, whatever they are, and asks git to verify it.
func (r *repo) gitSays(raw []byte) bool {
	r.t.Helper()
	id := strings.TrimSpace(r.must(string(raw), "git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"))
	_, err := r.command("", "git", "verify-commit", id)
	return err == nil
}

func sshKey(t *testing.T, line string) Key {
	t.Helper()
	k, err := ParseSSH(line)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pgpKey(t *testing.T, armored string) Key {
	t.Helper()
	k, err := ParseOpenPGP(armored)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ring is the keyring of one person with one key.
func ring(t *testing.T, k PersonKey) *Keyring {
	t.Helper()
	r, err := NewKeyring([]Person{{Name: "developer-1", Roles: []string{"developer"}, Keys: []PersonKey{k}, Emails: []string{"developer-1@example.com"}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func want(t *testing.T, got Signature, status Status, person string) {
	t.Helper()
	if got.Status != status || got.Person != person || (got.Detail == "") != (status == Good) {
		t.Errorf("got %s (detail %q); want %s by %q", got, got.Detail, status, person)
	}
}

func date(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}
