package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sshServer is Debian's sshd on loopback, with its own host key, configuration
// and one allowed key.
type sshServer struct {
	t      *testing.T
	dir    string
	port   int
	user   string
	client string // private key file
	known  string // known hosts file
}

func newSSHServer(t *testing.T) *sshServer {
	t.Helper()
	path := "/usr/sbin/sshd" // sshd wants to be called by its full name
	if found, err := exec.LookPath("sshd"); err == nil {
		path = found
	} else if _, err := os.Stat(path); err != nil {
		t.Fatal("sshd is missing: install the package openssh-server")
	}
	s := &sshServer{t: t, dir: t.TempDir(), port: freePort(t)}
	host := s.keygen("host", "ed25519", "")
	s.client = s.keygen("client", "ed25519", "")
	s.file("authorized", s.read(s.client+".pub"))
	s.known = s.file("known", fmt.Sprintf("[127.0.0.1]:%d %s", s.port, s.read(host+".pub")))
	config := s.file("config", strings.Join([]string{
		"ListenAddress 127.0.0.1", fmt.Sprintf("Port %d", s.port), "HostKey " + host, "PidFile none",
		"AuthorizedKeysFile " + filepath.Join(s.dir, "authorized"), "StrictModes no", "UsePAM no",
		"PasswordAuthentication no", "PermitRootLogin prohibit-password", "AllowTcpForwarding no",
	}, "\n")+"\n")
	var log bytes.Buffer
	cmd := s.command(path, "-D", "-e", "-f", config)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd says:\n%s", log.String())
		}
	})
	waitFor(t, "sshd listens", func() bool {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return s
}

func (s *sshServer) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// command gives how to start sshd and sets the user to log in as. Root of a user
// namespace may not call setgroups, which sshd does as root: there it runs as an
// ordinary user in a namespace within, and a passwd file names that user.
func (s *sshServer) command(sshd string, args ...string) *exec.Cmd {
	me, err := user.Current()
	if err != nil {
		s.t.Fatal(err)
	}
	s.user = me.Username
	if os.Geteuid() != 0 {
		return exec.Command(sshd, args...)
	}
	if groups, err := os.ReadFile("/proc/self/setgroups"); err != nil || strings.TrimSpace(string(groups)) != "deny" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd run by root locks itself in
			s.t.Fatal(err)
		}
		return exec.Command(sshd, args...)
	}
	s.user = "north"
	passwd := s.file("passwd", "north:x:1000:1000::/:/bin/sh\n")
	script := `mount --bind "$1" /etc/passwd && shift && exec unshare -U --map-user=1000 --map-group=1000 "$@"`
	return exec.Command("unshare", append([]string{"-m", "--", "sh", "-c", script, "sh", passwd, sshd}, args...)...)
}

func (s *sshServer) url(path string) string {
	return fmt.Sprintf("ssh://%s@%s%s", s.user, s.addr(), path)
}

func (s *sshServer) auth() Auth { return Auth{IdentityFile: s.client, KnownHostsFile: s.known} }

func (s *sshServer) keygen(name, kind, passphrase string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", name, "-f", file).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s: install the package openssh-client", err, out)
	}
	return file
}

func (s *sshServer) file(name, content string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

func (s *sshServer) read(file string) string {
	s.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestSSH(t *testing.T) {
	server := newSSHServer(t)
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	r := open(t, Options{URL: server.url(s.dir), Auth: server.auth()})
	mustSync(t, r, "main")
	wantHead(t, r, "main", one)
	if got := mustSync(t, r, "main"); len(got) != 0 {
		t.Errorf("Sync without news = %+v", got)
	}
	two := c.commit(map[string]string{"f": "two\n", "random": noise(300 << 10)})
	c.push("main")
	got := mustSync(t, r, "main")
	if want := []HeadChange{{Branch: "main", From: one, To: two}}; !slices.Equal(got, want) {
		t.Errorf("Sync = %+v", got)
	}
	git(t, r.dir, "fsck", "--strict")

	t.Run("no repository", func(t *testing.T) {
		r := open(t, Options{URL: server.url("/nowhere/it's/estate.git"), Auth: server.auth()})
		if _, err := r.Sync(t.Context(), []string{"main"}); !errors.Is(err, ErrNoRepository) || !strings.Contains(err.Error(), "does not appear to be a git repository") {
			t.Errorf("Sync = %v", err)
		}
	})
	t.Run("oversize pack", func(t *testing.T) {
		r := open(t, Options{URL: server.url(s.dir), Auth: server.auth(), Limits: Limits{PackBytes: 50 << 10}})
		if _, err := r.Sync(t.Context(), []string{"main"}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Sync = %v", err)
		}
	})
	t.Run("empty remote", func(t *testing.T) {
		empty := newGitServer(t)
		r := open(t, Options{URL: server.url(empty.dir), Auth: server.auth()})
		var missing *MissingError
		if _, err := r.Sync(t.Context(), []string{"main"}); !errors.As(err, &missing) {
			t.Errorf("Sync = %v", err)
		}
	})
}

func TestSSHHostKeys(t *testing.T) {
	server := newSSHServer(t)
	s := newGitServer(t)
	other := server.keygen("impostor", "ed25519", "")
	for name, known := range map[string]string{
		"unknown": server.file("known-none", "# nobody\n"),
		"changed": server.file("known-other", fmt.Sprintf("[127.0.0.1]:%d %s", server.port, server.read(other+".pub"))),
	} {
		r := open(t, Options{URL: server.url(s.dir), Auth: Auth{IdentityFile: server.client, KnownHostsFile: known}})
		_, err := r.Sync(t.Context(), []string{"main"})
		var h *HintError
		if !errors.Is(err, ErrHostKey) || !errors.As(err, &h) || !strings.Contains(err.Error(), "SHA256:") {
			t.Errorf("%s host key: Sync = %v", name, err)
		}
	}
}

func TestSSHIdentities(t *testing.T) {
	server := newSSHServer(t)
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	locked := server.keygen("locked", "ed25519", "s3cret-passphrase")
	identity := server.file("identity", server.read(locked))
	passphrase := server.file("passphrase", "s3cret-passphrase\n")
	r := open(t, Options{URL: server.url(s.dir), Auth: Auth{IdentityFile: identity, PasswordFile: passphrase, KnownHostsFile: server.known}})
	if _, err := r.Sync(t.Context(), []string{"main"}); !errors.Is(err, ErrDenied) {
		t.Errorf("Sync with a key that is not allowed = %v", err)
	}
	server.file("authorized", server.read(locked+".pub"))
	mustSync(t, r, "main")
	wantHead(t, r, "main", one)
	var h *HintError
	for name, content := range map[string]string{"wrong passphrase": "s3cret-other", "none": ""} {
		server.file("passphrase", content)
		_, err := r.Sync(t.Context(), []string{"main"})
		if !errors.As(err, &h) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: Sync = %v", name, err)
		}
	}
	server.file("identity", "not a key s3cret")
	if _, err := r.Sync(t.Context(), []string{"main"}); !errors.As(err, &h) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("bad identity: Sync = %v", err)
	}
	wantHead(t, r, "main", one)
}

// TestSSHHangs meets servers that accept and then say nothing, before and after
// the handshake's banner.
func TestSSHHangs(t *testing.T) {
	for name, banner := range map[string]string{"silent": "", "banner only": "SSH-2.0-Nothing\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, banner)
			_, _ = io.Copy(io.Discard, c)
		}()
		key := (&sshServer{t: t, dir: t.TempDir()}).keygen("client", "ed25519", "")
		known := secretFile(t, "")
		r := open(t, Options{URL: "ssh://git@" + l.Addr().String() + "/x", Auth: Auth{IdentityFile: key, KnownHostsFile: known}, Timeout: 300 * time.Millisecond})
		if _, err := r.Sync(t.Context(), []string{"main"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Sync = %v", name, err)
		}
		_ = l.Close()
		<-done
	}
}
