package evidence

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage"

	"github.com/purser-gitops/purser/sources"
)

// Remote names the audit repository.
type Remote struct {
	URL  string       // https, ssh, file or an absolute path; never with a password in it
	Auth sources.Auth // files, read at every use
}

// refs are a remote's refs by full name.
type refs map[string]plumbing.Hash

// refUpdate moves one ref; the server refuses it unless the ref is at old.
type refUpdate struct {
	name     string
	old, new plumbing.Hash
}

// remote talks to the audit repository. A push goes through a receive-pack
// session with a pack of this package's making: go-git's own Push would walk
// the whole history to find what is new. A file remote runs Git's own
// receive-pack, so its hooks and checks hold there too.
type remote struct {
	endpoint *transport.Endpoint
	auth     sources.Auth
	mu       sync.Mutex
	http     *http.Transport // guarded by mu; replaced when the CA file changes
	timeout  time.Duration   // of one exchange
}

func newRemote(r Remote, timeout time.Duration) (*remote, error) {
	ep, err := transport.NewEndpoint(r.URL)
	if err != nil {
		return nil, fmt.Errorf("parse audit remote: %w", errors.Unwrap(err))
	}
	if ep.Password != "" {
		return nil, &StalledError{What: "the audit remote's URL holds a password", Hint: "put it in a file and name the file as passwordFile"}
	}
	if ep.Protocol == "http" && (r.Auth.PasswordFile != "" || r.Auth.UsernameFile != "") && !loopback(ep.Host) {
		return nil, &StalledError{What: "credentials would go to the audit remote over plain http", Hint: "use https"}
	}
	return &remote{endpoint: ep, auth: r.Auth, timeout: timeout, http: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}}, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (r *remote) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http.CloseIdleConnections()
}

// connect prepares a client with the credentials that the files hold now.
func (r *remote) connect() (transport.Transport, transport.AuthMethod, error) {
	password, err := readSecret(r.auth.PasswordFile)
	if err != nil {
		return nil, nil, err
	}
	user, err := readSecret(r.auth.UsernameFile)
	if err != nil {
		return nil, nil, err
	}
	if user == "" {
		user = "git"
	}
	switch r.endpoint.Protocol {
	case "file":
		return file.DefaultClient, nil, nil
	case "http", "https":
		return r.connectHTTP(user, password)
	case "ssh":
		if r.endpoint.User != "" {
			user = r.endpoint.User
		}
		auth, err := r.sshAuth(user, password)
		return gitssh.DefaultClient, auth, err
	}
	return nil, nil, fmt.Errorf("connect to audit remote: scheme %q is none of https, ssh, http, file", r.endpoint.Protocol)
}

func (r *remote) connectHTTP(user, password string) (transport.Transport, transport.AuthMethod, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth.CAFile != "" {
		pool, err := readCA(r.auth.CAFile)
		if err != nil {
			return nil, nil, err
		}
		if !pool.Equal(r.http.TLSClientConfig.RootCAs) {
			r.http.CloseIdleConnections()
			r.http = r.http.Clone()
			r.http.TLSClientConfig.RootCAs = pool
		}
	}
	client := githttp.NewClient(&http.Client{Transport: r.http})
	if password == "" {
		return client, nil, nil
	}
	return client, &githttp.BasicAuth{Username: user, Password: password}, nil
}

func readCA(name string) (*x509.CertPool, error) {
	pem, err := readSecret(name)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("connect to audit remote: the CA file holds no certificate")
	}
	return pool, nil
}

func (r *remote) sshAuth(user, password string) (transport.AuthMethod, error) {
	hosts, err := gitssh.NewKnownHostsCallback(r.auth.KnownHostsFile)
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	identity, err := readSecret(r.auth.IdentityFile)
	if err != nil {
		return nil, err
	}
	auth, err := gitssh.NewPublicKeys(user, []byte(identity+"\n"), password)
	if err != nil {
		return nil, errors.New("connect to audit remote: the ssh identity cannot be read")
	}
	auth.HostKeyCallback = hosts
	return auth, nil
}

// readSecret reads a small file without its final newline; "" gives "".
func readSecret(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// list reads the remote's refs as an auditor would (upload-pack). A repository
// without commits has none.
func (r *remote) list(ctx context.Context) (refs, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client, auth, err := r.connect()
	if err != nil {
		return nil, err
	}
	session, err := client.NewUploadPackSession(r.endpoint, auth)
	if err != nil {
		return nil, fmt.Errorf("connect to audit remote: %w", err)
	}
	defer session.Close()
	adv, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return refs{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list audit remote's refs: %w", err)
	}
	return adv.References, nil
}

// fetch stores everything the refs reach, and the refs, in s.
func (r *remote) fetch(ctx context.Context, s storage.Storer, want refs) error {
	client, auth, err := r.connect()
	if err != nil {
		return err
	}
	session, err := client.NewUploadPackSession(r.endpoint, auth)
	if err != nil {
		return fmt.Errorf("connect to audit remote: %w", err)
	}
	defer session.Close()
	adv, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return fmt.Errorf("list audit remote's refs: %w", err)
	}
	req := packp.NewUploadPackRequest()
	if adv.Capabilities.Supports(capability.OFSDelta) {
		_ = req.Capabilities.Set(capability.OFSDelta) // takes no argument, cannot fail
	}
	for _, hash := range want {
		req.Wants = append(req.Wants, hash)
	}
	pack, err := session.UploadPack(ctx, req)
	if err != nil {
		return fmt.Errorf("fetch from audit remote: %w", err)
	}
	defer pack.Close()
	if err := packfile.UpdateObjectStorage(s, pack); err != nil {
		return fmt.Errorf("fetch from audit remote: %w", err)
	}
	for name, hash := range want {
		if err := s.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), hash)); err != nil {
			return fmt.Errorf("store fetched ref: %w", err)
		}
	}
	return nil
}

// pushSession is one conversation with receive-pack: refs first, then at most
// one push.
type pushSession struct {
	session transport.ReceivePackSession
	caps    *capability.List
	refs    refs
}

// openPush starts a push; the caller closes the session.
func (r *remote) openPush(ctx context.Context) (*pushSession, error) {
	client, auth, err := r.connect()
	if err != nil {
		return nil, err
	}
	session, err := client.NewReceivePackSession(r.endpoint, auth)
	if err != nil {
		return nil, fmt.Errorf("connect to audit remote: %w", err)
	}
	adv, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		adv, err = packp.NewAdvRefs(), nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list audit remote's refs: %w", err), session.Close())
	}
	return &pushSession{session: session, caps: adv.Capabilities, refs: adv.References}, nil
}

func (s *pushSession) atomic() bool { return s.caps.Supports(capability.Atomic) }

func (s *pushSession) thin() bool { return !s.caps.Supports(capability.Capability("no-thin")) }

// send pushes the pack and moves the refs, all or none where the server can.
func (s *pushSession) send(ctx context.Context, pack []byte, updates []refUpdate) error {
	req := packp.NewReferenceUpdateRequestFromCapabilities(s.caps)
	said := &firstBytes{limit: 1 << 10}
	if s.caps.Supports(capability.Sideband64k) {
		_ = req.Capabilities.Set(capability.Sideband64k) // takes no argument, cannot fail
		req.Progress = said
	}
	if s.atomic() {
		_ = req.Capabilities.Set(capability.Atomic)
	}
	for _, u := range updates {
		req.Commands = append(req.Commands, &packp.Command{Name: plumbing.ReferenceName(u.name), Old: u.old, New: u.new})
	}
	req.Packfile = io.NopCloser(bytes.NewReader(pack))
	if _, err := s.session.ReceivePack(ctx, req); err != nil {
		return fmt.Errorf("push to audit remote: %w%s", err, said)
	}
	return nil
}

func (s *pushSession) close() { _ = s.session.Close() } // nothing rests on it

// firstBytes keeps the beginning of what the server says.
type firstBytes struct {
	limit int
	buf   bytes.Buffer
}

func (f *firstBytes) Write(p []byte) (int, error) {
	f.buf.Write(p[:min(len(p), f.limit-f.buf.Len())])
	return len(p), nil
}

// String is fit for the end of an error text.
func (f *firstBytes) String() string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(f.buf.String(), " ")), " ")
	if text == "" {
		return ""
	}
	return ": " + strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
}
