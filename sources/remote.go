package sources

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// ErrNoRepository says that the server has no repository at the address.
var ErrNoRepository = errors.New("no such repository")

// remote is one conversation with a server's upload-pack, in protocol version 0:
// https://git-scm.com/docs/pack-protocol. refs comes first, pack at most once.
type remote interface {
	refs(ctx context.Context) (*packp.AdvRefs, error)
	pack(ctx context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error)
	Close() error // frees the connection; waits for its goroutines
}

// dial prepares the conversation; have tells what the copy has, for a remote
// that can look for itself.
func dial(ctx context.Context, e endpoint, a Auth, have func(plumbing.Hash) (bool, error)) (remote, error) {
	c, err := a.read(e)
	if err != nil {
		return nil, err
	}
	switch e.scheme {
	case "file":
		return openFile(e, have)
	case "ssh":
		return dialSSH(ctx, e, c, a.KnownHostsFile, uploadPack)
	}
	return dialHTTP(e, c, a.hasPassword(), uploadPack)
}

// decodeRefs reads the server's list of branches.
func decodeRefs(r io.Reader, c credentials) (*packp.AdvRefs, error) {
	adv := packp.NewAdvRefs()
	err := adv.Decode(io.LimitReader(r, maxRefsBytes))
	var said *pktline.ErrorLine
	switch {
	case err == nil:
	case errors.Is(err, packp.ErrEmptyAdvRefs):
		return packp.NewAdvRefs(), nil // a repository without commits
	case errors.As(err, &said):
		return nil, fmt.Errorf("server says: %s", c.says(said.Text))
	case errors.Is(err, packp.ErrEmptyInput):
		return nil, fmt.Errorf("list branches: the server closed the connection: %w", io.ErrUnexpectedEOF)
	default:
		var odd *packp.ErrUnexpectedData
		if errors.As(err, &odd) { // its text repeats what the server sent
			return nil, fmt.Errorf("list branches: unexpected answer: %s: %s", odd.Msg, c.says(string(odd.Data)))
		}
		return nil, fmt.Errorf("list branches: %w", err)
	}
	if f := adv.Capabilities.Get("object-format"); len(f) > 0 && f[0] != "sha1" {
		return nil, fmt.Errorf("list branches: the repository uses object format %q, only sha1 is read", c.says(f[0]))
	}
	if len(adv.Shallows) > 0 {
		return nil, errShallow
	}
	return adv, nil
}

// newRequest asks with the capabilities that packp can speak.
func newRequest(adv *packp.AdvRefs) *packp.UploadPackRequest {
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	req := packp.NewUploadPackRequestFromCapabilities(adv.Capabilities)
	if adv.Capabilities.Supports(capability.NoProgress) {
		_ = req.Capabilities.Set(capability.NoProgress) // takes no argument, cannot fail
	}
	return req
}

// encodeRequest writes wants, haves and "done" in one go: one round trip.
func encodeRequest(w io.Writer, req *packp.UploadPackRequest) error {
	if err := req.UploadRequest.Encode(w); err != nil {
		return err
	}
	if err := req.UploadHaves.Encode(w, false); err != nil {
		return err
	}
	return pktline.NewEncoder(w).EncodeString("done\n")
}

// decodePack reads up to the pack's first byte and gives the pack.
func decodePack(answer io.ReadCloser, req *packp.UploadPackRequest, c credentials) (io.ReadCloser, error) {
	resp := packp.NewUploadPackResponse(req)
	if err := resp.Decode(answer); err != nil {
		return nil, errors.Join(serverError("ask for a pack", err, c), answer.Close())
	}
	var r io.Reader = resp
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		r = sideband.NewDemuxer(sideband.Sideband64k, resp)
	case req.Capabilities.Supports(capability.Sideband):
		r = sideband.NewDemuxer(sideband.Sideband, resp)
	}
	return &packReader{r: r, c: c, Closer: answer}, nil
}

type packReader struct {
	r io.Reader
	c credentials
	io.Closer
}

func (p *packReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = serverError("read pack", err, p.c)
	}
	return n, err
}

// serverError keeps timeouts and broken connections as they are and makes text
// that may repeat the server's words fit for a log.
func serverError(verb string, err error, c credentials) error {
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s: %w", verb, known)
		}
	}
	return fmt.Errorf("%s: %s", verb, c.says(err.Error()))
}
