package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// ErrHostKey says that an ssh server is not the one known hosts names.
var ErrHostKey = errors.New("unexpected ssh host key")

// dialLimit bounds connecting and the handshake.
const dialLimit = 15 * time.Second

type sshRemote struct {
	creds   credentials
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	stderr  firstBytes
	stop    func() bool // ends the watch on the context
}

// dialSSH connects, checks the host key and starts a Git service. ctx ends the
// whole conversation.
func dialSSH(ctx context.Context, e endpoint, c credentials, knownHosts, service string) (*sshRemote, error) {
	config, err := sshConfig(e, c, knownHosts)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", e.hostPort())
	if err != nil {
		return nil, err
	}
	r := &sshRemote{creds: c, stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}
	if err := r.start(conn, e, config, service); err != nil {
		_ = r.Close()
		_ = conn.Close()
		return nil, errors.Join(ctx.Err(), err)
	}
	return r, nil
}

func (r *sshRemote) start(conn net.Conn, e endpoint, config *ssh.ClientConfig, service string) error {
	sc, channels, requests, err := ssh.NewClientConn(conn, e.hostPort(), config)
	if err != nil {
		if strings.Contains(err.Error(), "unable to authenticate") {
			return hint(fmt.Errorf("%w: the server does not accept the ssh identity", ErrDenied), "check that the public key may use the repository")
		}
		return fmt.Errorf("connect over ssh: %w", err)
	}
	r.client = ssh.NewClient(sc, channels, requests)
	session, err := r.client.NewSession()
	if err != nil {
		return fmt.Errorf("open ssh session: %w", err)
	}
	session.Stderr = &r.stderr
	if r.in, err = session.StdinPipe(); err != nil {
		return err
	}
	if r.out, err = session.StdoutPipe(); err != nil {
		return err
	}
	if err := session.Start(service + " '" + strings.ReplaceAll(e.path, "'", `'\''`) + "'"); err != nil {
		return fmt.Errorf("start %s over ssh: %w", service, err)
	}
	r.session = session
	return nil
}

func sshConfig(e endpoint, c credentials, knownHosts string) (*ssh.ClientConfig, error) {
	db, err := knownhosts.NewDB(knownHosts)
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	config := &ssh.ClientConfig{
		User:              c.user,
		HostKeyAlgorithms: db.HostKeyAlgorithms(e.hostPort()),
		Timeout:           dialLimit,
		HostKeyCallback: func(host string, addr net.Addr, key ssh.PublicKey) error {
			err := db.HostKeyCallback()(host, addr, key)
			found := ssh.FingerprintSHA256(key)
			switch {
			case knownhosts.IsHostKeyChanged(err):
				return hint(fmt.Errorf("%w: %s shows %s, known hosts names another key", ErrHostKey, host, found),
					"if the server's key was changed on purpose, replace its line in known hosts; if not, someone may be in between")
			case knownhosts.IsHostUnknown(err):
				return hint(fmt.Errorf("%w: %s shows %s and known hosts does not name it", ErrHostKey, host, found),
					"compare the fingerprint with the server's, then add its key to known hosts")
			}
			return err
		},
	}
	if len(c.identity) > 0 {
		signer, err := parseIdentity(c)
		if err != nil {
			return nil, err
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	} else {
		config.Auth = append(config.Auth, ssh.Password(c.password))
	}
	return config, nil
}

func parseIdentity(c credentials) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(c.identity)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) && c.password != "" {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(c.identity, []byte(c.password))
	}
	if errors.As(err, &locked) {
		return nil, hint(errors.New("the ssh identity is protected by a passphrase"), "name a file with it as password")
	}
	if err != nil {
		return nil, hint(errors.New("the ssh identity cannot be read"), "check that the file holds an OpenSSH private key and that the passphrase is right")
	}
	return signer, nil
}

func (r *sshRemote) refs(ctx context.Context) (*packp.AdvRefs, error) {
	adv, err := decodeRefs(r.out, r.creds)
	if err == nil {
		return adv, nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil {
		_ = r.session.Wait() // all of stderr is there afterwards
		r.session = nil
		if said := r.stderr.String(); said != "" {
			return nil, fmt.Errorf("%w: server says: %s", ErrNoRepository, r.creds.says(said))
		}
	}
	return nil, err
}

func (r *sshRemote) pack(_ context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	if err := encodeRequest(r.in, req); err != nil {
		return nil, fmt.Errorf("ask for a pack: %w", err)
	}
	return decodePack(io.NopCloser(r.out), req, r.creds)
}

func (r *sshRemote) Close() error {
	defer r.stop() // until then ctx ends what the server lets wait
	if r.client == nil {
		return nil
	}
	if r.in != nil {
		_ = r.in.Close()
	}
	_ = r.client.Close()
	if r.session != nil {
		_ = r.session.Wait()
	}
	_ = r.client.Wait()
	return nil
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if room := 1024 - f.buf.Len(); room > 0 {
		f.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (f *firstBytes) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.buf.String()
}
