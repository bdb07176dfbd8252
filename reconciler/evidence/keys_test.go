package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/sources"
)

func TestKeysAreOpenSSHs(t *testing.T) {
	key, path := newKeyFile(t)
	out, err := exec.Command("ssh-keygen", "-y", "-f", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := key.Public().Line() + " hq\n"; string(out) != want {
		t.Errorf("ssh-keygen prints %q, want %q", out, want)
	}
	out, err = exec.Command("ssh-keygen", "-l", "-f", path+".pub").Output()
	if err != nil || !strings.Contains(string(out), key.ID()) {
		t.Errorf("%s %v", out, err)
	}
	made := filepath.Join(t.TempDir(), "theirs")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if _, err := LoadKey(made); err != nil {
		t.Errorf("a key by ssh-keygen: %v", err)
	}
	trusted, err := LoadTrusted(made + ".pub")
	if err != nil || len(trusted.forWriter("anyone")) != 1 {
		t.Errorf("a public key by ssh-keygen: %v", err)
	}
}

func TestKeyFilesAreGuarded(t *testing.T) {
	_, path := newKeyFile(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := GenerateKey(path, ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwrite: %v", err)
	}
	remove(t, path)
	if _, err := GenerateKey(path, ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwrite the public half: %v", err)
	}
	_, path = newKeyFile(t)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(path)
		wantStalled(t, err, "may be read by others", "(chmod 600 ")
	}
}

func TestKeysOfOtherKindsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-t", "ecdsa", "-N", ""}, {"-t", "ed25519", "-N", "secret passphrase"}} {
		path := filepath.Join(t.TempDir(), "key")
		if out, err := exec.Command("ssh-keygen", append([]string{"-q", "-f", path}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := LoadKey(path); err == nil {
			t.Errorf("%v: loaded", args)
		}
	}
}

func TestLargeFilesAreRefused(t *testing.T) {
	key, path := newKeyFile(t)
	padding := strings.Repeat("#\n", maxKeyFile/2)
	trusted := writeFile(t, filepath.Join(t.TempDir(), "trusted"), key.Public().Line()+"\n"+padding)
	if _, err := LoadTrusted(trusted); !errors.Is(err, ErrTooLarge) {
		t.Errorf("trusted keys: %v", err)
	}
	if _, err := LoadKey(writeFile(t, path, padding+"#")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("key: %v", err)
	}
	r, err := newRemote(Remote{URL: "https://git.example.com/audit.git", Auth: sources.Auth{PasswordFile: trusted}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.list(t.Context()); err == nil || !strings.Contains(err.Error(), "has more than") {
		t.Errorf("password: %v", err)
	}
}

func TestKeysDoNotShow(t *testing.T) {
	key, _ := newKeyFile(t)
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		if text := fmt.Sprintf(format, key); text != "key "+key.ID() {
			t.Errorf("%s prints %s", format, text)
		}
	}
}

func TestParseTrusted(t *testing.T) {
	key, _ := newKeyFile(t)
	line := key.Public().Line()
	for text, ok := range map[string]bool{
		line:                  true,
		line + " comment":     true,
		"hq " + line:          true,
		`"hq,edge-*" ` + line: true,
		"# comment\n\nhq namespaces=\"git,purser-statement\" " + line + "\n": true,
		"": false, "# only": false, "hq": false, "hq ssh-ed25519": false, "hq ssh-ed25519 AAAA": false,
		"hq ssh-rsa AAAA":                      false,
		"hq cert-authority " + line:            false,
		"hq valid-before=\"20260101\" " + line: false,
		"hq " + line + "\nedge " + line:        false,
		"[ " + line:                            false,
	} {
		if _, err := parseTrusted([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	trusted, err := parseTrusted([]byte("hq,edge-* " + line))
	if err != nil {
		t.Fatal(err)
	}
	for writer, ok := range map[string]bool{"hq": true, "edge-1": true, "edge": false, "hq2": false, "": false} {
		if _, err := trusted.find(key.ID(), writer); (err == nil) != ok {
			t.Errorf("writer %q: %v", writer, err)
		}
	}
}
