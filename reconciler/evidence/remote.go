package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	"github.com/go-git/go-git/v5/storage"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/credential"
)

// Remote names the audit repository.
type Remote struct {
	URL  string       // https, ssh, file or an absolute path; never with a credential in it
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
	address  string              // as configured
	endpoint *transport.Endpoint // the same, for go-git
	auth     sources.Auth
	mu       sync.Mutex
	http     *http.Transport // guarded by mu; replaced when the CA file changes
	timeout  time.Duration   // of one exchange
	v0       bool            // the server does not speak protocol version 2; used by Run alone
}

func newRemote(r Remote, timeout time.Duration) (*remote, error) {
	if err := r.Auth.Check(r.URL); err != nil {
		return nil, fmt.Errorf("audit remote: %w", err)
	}
	ep, err := transport.NewEndpoint(r.URL)
	if err != nil {
		return nil, fmt.Errorf("parse audit remote: %w", errors.Unwrap(err))
	}
	client := credential.Transport(nil)
	client.MaxIdleConns, client.IdleConnTimeout = 4, 30*time.Second
	return &remote{address: r.URL, endpoint: ep, auth: r.Auth, timeout: timeout, http: client}, nil
}

func (r *remote) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http.CloseIdleConnections()
}

// receiver takes pushes: what is used of [transport.ReceivePackSession].
type receiver interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	ReceivePack(context.Context, *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error)
	Close() error
}

// uploader gives packs: what is used of [transport.UploadPackSession].
type uploader interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	UploadPack(context.Context, *packp.UploadPackRequest) (*packp.UploadPackResponse, error)
	Close() error
}

// receiver connects with the credentials that the files hold now. ctx ends the
// session.
func (r *remote) receiver(ctx context.Context) (receiver, error) {
	if r.endpoint.Protocol == "ssh" {
		return r.openSSH(ctx, transport.ReceivePackServiceName)
	}
	client, auth, err := r.client()
	if err != nil {
		return nil, err
	}
	return client.NewReceivePackSession(r.endpoint, auth)
}

// uploader is like receiver.
func (r *remote) uploader(ctx context.Context) (uploader, error) {
	if r.endpoint.Protocol == "ssh" {
		return r.openSSH(ctx, transport.UploadPackServiceName)
	}
	client, auth, err := r.client()
	if err != nil {
		return nil, err
	}
	return client.NewUploadPackSession(r.endpoint, auth)
}

func (r *remote) openSSH(ctx context.Context, service string) (sshSession, error) {
	s, err := sources.OpenSSH(ctx, r.address, r.auth, service)
	return sshSession{s}, err
}

// client is for a remote that is a file or spoken to over http.
func (r *remote) client() (transport.Transport, transport.AuthMethod, error) {
	if r.endpoint.Protocol == "file" {
		return file.DefaultClient, nil, nil
	}
	client, auth, err := r.httpClient()
	if err != nil || auth == nil {
		return githttp.NewClient(client), nil, err
	}
	return githttp.NewClient(client), auth, nil
}

func (r *remote) overHTTP() bool {
	return r.endpoint.Protocol == "http" || r.endpoint.Protocol == "https"
}

// httpClient has no auth where there is no password.
func (r *remote) httpClient() (*http.Client, *githttp.BasicAuth, error) {
	user, password, roots, err := r.auth.HTTP()
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !roots.Equal(r.http.TLSClientConfig.RootCAs) {
		r.http.CloseIdleConnections()
		r.http = r.http.Clone()
		r.http.TLSClientConfig.RootCAs = roots
	}
	client := &http.Client{Transport: r.http}
	if password == "" {
		return client, nil, nil
	}
	return client, &githttp.BasicAuth{Username: user, Password: password}, nil
}

// list reads the remote's refs as an auditor would (upload-pack). A repository
// without commits has none.
func (r *remote) list(ctx context.Context) (refs, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	session, err := r.uploader(ctx)
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

// fetch stores everything the refs reach, and the refs, in s. A pack of more than most bytes is refused with
// [ErrTooLarge].
func (r *remote) fetch(ctx context.Context, s storage.Storer, want refs, most int64) error {
	session, err := r.uploader(ctx)
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
	if err := packfile.UpdateObjectStorage(s, &bounded{r: pack, left: most}); err != nil {
		return fmt.Errorf("fetch from audit remote: %w", err)
	}
	for name, hash := range want {
		if err := s.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), hash)); err != nil {
			return fmt.Errorf("store fetched ref: %w", err)
		}
	}
	return nil
}

// bounded fails where there is more to read than it lets through.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("read pack: %w", ErrTooLarge)
	}
	return n, err
}

// pushSession is one conversation with receive-pack: refs first, then at most
// one push.
type pushSession struct {
	session receiver
	caps    *capability.List
	refs    refs
}

// openPush starts a push; the caller closes the session.
func (r *remote) openPush(ctx context.Context) (*pushSession, error) {
	session, err := r.receiver(ctx)
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

// resumePush starts a push to a server whose refs and capabilities are known. It
// is nil where a connection begins with them anyway. Should they have changed,
// the server refuses the push: every update names the ref's old value.
func (r *remote) resumePush(ctx context.Context, last *pushSession) *pushSession {
	if last == nil || !r.overHTTP() {
		return nil
	}
	session, err := r.receiver(ctx)
	if err != nil {
		return nil // openPush says why
	}
	return &pushSession{session: session, caps: last.caps, refs: last.refs}
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
	for _, u := range updates {
		s.refs[u.name] = u.new
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
