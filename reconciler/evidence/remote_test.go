package evidence

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/purser-gitops/purser/sources"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHTTPSWithRotatedPassword(t *testing.T) {
	f := newFixture(t)
	backend := serve(t, filepath.Dir(f.bare))
	var mu sync.Mutex
	password := "first"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, given, _ := r.BasicAuth(); user != "purser" || given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="audit"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.Config.Handler.ServeHTTP(w, r)
	}))
	defer s.Close()
	dir := t.TempDir()
	f.o.Remote = Remote{URL: s.URL + "/audit.git", Auth: sources.Auth{
		UsernameFile: writeFile(t, filepath.Join(dir, "user"), "purser\n"),
		PasswordFile: writeFile(t, filepath.Join(dir, "password"), "first\n"),
	}}
	if l, err := Open(t.Context(), f.o); err == nil {
		_ = l.Close(t.Context())
		t.Fatal("a certificate of an unknown authority was accepted")
	}
	f.o.Remote.Auth.CAFile = writeFile(t, filepath.Join(dir, "ca"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	f.run()
	f.wait(f.add(1).Index)
	mu.Lock()
	password = "second-s3cret"
	mu.Unlock()
	r := f.add(1)
	if err := f.failing("authentication required"); strings.Contains(err.Error(), "first") {
		t.Errorf("the error shows the password: %v", err)
	}
	writeFile(t, filepath.Join(dir, "password"), "second-s3cret\n")
	f.wait(r.Index)
	f.close()
	f.verified(2)
}

func TestNoPasswordOverPlainHTTP(t *testing.T) {
	dir := t.TempDir()
	auth := sources.Auth{PasswordFile: writeFile(t, filepath.Join(dir, "password"), "x")}
	for url, ok := range map[string]bool{
		"http://git.example.com/audit.git": false, "https://git.example.com/audit.git": true,
		"http://127.0.0.1:3000/audit.git": true, "http://[::1]/audit.git": true, "http://localhost/audit.git": true,
	} {
		if _, err := newRemote(Remote{URL: url, Auth: auth}, 0); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestSSH(t *testing.T) {
	f := newFixture(t)
	addr, hostKey := serveSSH(t, f.key.signer.PublicKey())
	dir := t.TempDir()
	known := filepath.Join(dir, "known_hosts")
	f.o.Remote = Remote{URL: "ssh://git@" + addr + f.bare, Auth: sources.Auth{
		IdentityFile:   f.keyAt,
		KnownHostsFile: writeFile(t, known, knownhosts.Line([]string{addr}, f.key.signer.PublicKey())+"\n"),
	}}
	if l, err := Open(t.Context(), f.o); err == nil {
		_ = l.Close(t.Context())
		t.Fatal("a server with another host key was accepted")
	}
	writeFile(t, known, knownhosts.Line([]string{addr}, hostKey)+"\n")
	f.run()
	f.wait(f.add(3).Index)
	f.close()
	f.o.Dir += "-new"
	f.run()
	f.wait(f.add(1).Index)
	f.close()
	f.verified(4)
}

// A server that accepts connections and then says nothing ends no later than its
// context, so that the log closes.
func TestSilentSSHServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{}, 16)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			all.Go(func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	f := newFixture(t)
	f.open()
	f.close()
	f.o.Remote = Remote{URL: "ssh://git@" + listener.Addr().String() + f.bare, Auth: sources.Auth{
		IdentityFile: f.keyAt, KnownHostsFile: writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), ""),
	}}
	f.o.Timeout = 100 * time.Millisecond
	l := f.open()
	<-accepted
	if err := l.Status().Err; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first look at the remote: %v", err)
	}
	l.o.Timeout = time.Hour
	f.run()
	f.add(1)
	<-accepted // the push hangs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
}

// A server with keys of several kinds shows the one that known hosts names.
func TestSSHHostKeyKinds(t *testing.T) {
	f := newFixture(t)
	addr, hostKey := serveSSH(t, f.key.signer.PublicKey())
	r, err := newRemote(Remote{URL: "ssh://git@" + addr + f.bare, Auth: sources.Auth{
		IdentityFile:   f.keyAt,
		KnownHostsFile: writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), knownhosts.Line([]string{addr}, hostKey)+"\n"),
	}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.list(t.Context()); err != nil {
		t.Errorf("list: %v", err)
	}
}

// serveSSH runs the command of every session, as a login shell would. It has an
// ECDSA key too, which a client without preferences takes; hostKey is Ed25519.
func serveSSH(t *testing.T, allowed ssh.PublicKey) (addr string, hostKey ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(allowed.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secondHost, err := ssh.NewSignerFromKey(second)
	if err != nil {
		t.Fatal(err)
	}
	config.AddHostKey(secondHost)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serveSSHConn(conn, config, &all) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return listener.Addr().String(), host.PublicKey()
}

func serveSSHConn(conn net.Conn, config *ssh.ServerConfig, all *sync.WaitGroup) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	all.Go(func() { ssh.DiscardRequests(requests) })
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer channel.Close()
			for r := range requests {
				_ = r.Reply(r.Type == "exec", nil)
				if r.Type != "exec" {
					continue
				}
				cmd := exec.Command("sh", "-c", string(r.Payload[4:]))
				cmd.Env = gitEnv()
				cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
				stdin, err := cmd.StdinPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err == nil {
					all.Go(func() { _, _ = io.Copy(stdin, channel); _ = stdin.Close() })
					err = cmd.Wait()
				}
				status := uint32(0)
				if err != nil {
					fmt.Fprintln(channel.Stderr(), err)
					status = 1
				}
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
				return
			}
		})
	}
}
