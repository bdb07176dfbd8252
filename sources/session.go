package sources

import (
	"context"
	"crypto/x509"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// Session is one Git service on an ssh server, for a caller that speaks the
// service's protocol itself. What is written goes to the service.
type Session struct{ remote *sshRemote }

// OpenSSH starts service, "git-upload-pack" or "git-receive-pack", for the
// repository at an ssh address. ctx ends the whole conversation: whoever waits
// for the server then gets an error.
func OpenSSH(ctx context.Context, address string, a Auth, service string) (*Session, error) {
	e, err := checkedEndpoint(address, a)
	if err != nil {
		return nil, err
	}
	if e.scheme != "ssh" {
		return nil, errors.New("open ssh session: not an ssh address")
	}
	c, err := a.read(e)
	if err != nil {
		return nil, err
	}
	r, err := dialSSH(ctx, e, c, a.KnownHostsFile, service)
	if err != nil {
		return nil, err
	}
	return &Session{r}, nil
}

// Refs reads the refs that a service shows first; a repository without commits
// shows none. The error is [ErrNoRepository] where the server says so.
func (s *Session) Refs(ctx context.Context) (*packp.AdvRefs, error) { return s.remote.refs(ctx) }

func (s *Session) Read(p []byte) (int, error) { return s.remote.out.Read(p) }

func (s *Session) Write(p []byte) (int, error) { return s.remote.in.Write(p) }

// CloseWrite tells the service that nothing more comes.
func (s *Session) CloseWrite() error { return s.remote.in.Close() }

// Close frees the connection and waits for its goroutines.
func (s *Session) Close() error { return s.remote.Close() }

var _ io.ReadWriteCloser = (*Session)(nil)

// Check refuses an address that cannot be used, that holds a credential, or to
// which the credentials would go where others can read them.
func (a Auth) Check(address string) error {
	_, err := checkedEndpoint(address, a)
	return err
}

func checkedEndpoint(address string, a Auth) (endpoint, error) {
	e, err := parseEndpoint(address)
	if err != nil {
		return endpoint{}, err
	}
	return e, a.check(e)
}

// HTTP reads what a client of an https remote needs. roots is nil, for the
// system's, without a CA file.
func (a Auth) HTTP() (user, password string, roots *x509.CertPool, err error) {
	c, err := a.read(endpoint{scheme: "https"})
	if err != nil {
		return "", "", nil, err
	}
	roots, err = c.roots()
	return c.user, c.password, roots, err
}
