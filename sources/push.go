package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
	"github.com/go-git/go-git/v5/storage/memory"
)

// ErrRefTaken says that a ref which was to be created points at something else.
var ErrRefTaken = errors.New("the ref exists and points at something else")

// Orphan is a commit without parents that holds a few files in its root. Equal ones have the same id.
type Orphan struct {
	Files   map[string][]byte // by name, without a folder
	Name    string            // of author and committer
	Email   string
	When    time.Time // to the second
	Message string
}

// CreateRef pushes the commit to a remote and lets ref point at it; it gives the commit's id. That ref points at it
// already is no error; [ErrRefTaken] says that it points elsewhere, and nothing was changed. ctx bounds all of it.
// A file address needs Git's own git-receive-pack.
func CreateRef(ctx context.Context, address string, a Auth, ref string, o Orphan) (commit string, err error) {
	e, err := checkedEndpoint(address, a)
	if err != nil {
		return "", fmt.Errorf("create ref: %w", err)
	}
	id, err := createRef(ctx, e, a, plumbing.ReferenceName(ref), o)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return "", fmt.Errorf("create %s at %s: %w", ref, e, err)
	}
	return id.String(), nil
}

func createRef(ctx context.Context, e endpoint, a Auth, ref plumbing.ReferenceName, o Orphan) (id plumbing.Hash, err error) {
	defer func() { // go-git may panic on a hostile server's answers
		if p := recover(); p != nil {
			err = fmt.Errorf("unexpected answer: %v", p)
		}
	}()
	if err := ref.Validate(); err != nil {
		return id, err
	}
	storage := memory.NewStorage()
	id, err = o.store(storage)
	if err != nil {
		return id, err
	}
	var objects []plumbing.Hash
	for hash := range storage.Objects {
		objects = append(objects, hash)
	}
	var pack bytes.Buffer
	if err := writePack(ctx, &pack, storage, objects); err != nil {
		return id, err
	}
	pushed := pushOnce(ctx, e, a, ref, id, pack.Bytes())
	if pushed == nil || errors.Is(pushed, ErrRefTaken) || ctx.Err() != nil {
		return id, pushed
	}
	// Somebody else may have pushed the same, or the answer was lost.
	if pushOnce(ctx, e, a, ref, id, nil) == nil {
		return id, nil
	}
	return id, pushed
}

// store encodes the commit and gives its id.
func (o Orphan) store(s *memory.Storage) (id plumbing.Hash, err error) {
	put := func(t plumbing.ObjectType, encode func(plumbing.EncodedObject) error) plumbing.Hash {
		obj := s.NewEncodedObject()
		obj.SetType(t)
		err = errors.Join(err, encode(obj))
		hash, serr := s.SetEncodedObject(obj)
		err = errors.Join(err, serr)
		return hash
	}
	var tree object.Tree
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		blob := put(plumbing.BlobObject, func(obj plumbing.EncodedObject) error {
			w, err := obj.Writer()
			if err != nil {
				return err
			}
			_, err = w.Write(o.Files[name])
			return errors.Join(err, w.Close())
		})
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: blob})
	}
	who := object.Signature{Name: o.Name, Email: o.Email, When: o.When.UTC()}
	commit := object.Commit{Author: who, Committer: who, Message: o.Message, TreeHash: put(plumbing.TreeObject, tree.Encode)}
	id = put(plumbing.CommitObject, commit.Encode)
	return id, err
}

// pushOnce creates the ref in one conversation; without a pack it only looks.
func pushOnce(ctx context.Context, e endpoint, a Auth, ref plumbing.ReferenceName, id plumbing.Hash, pack []byte) error {
	session, err := dialReceiver(ctx, e, a)
	if err != nil {
		return err
	}
	defer session.Close()
	adv, err := session.AdvertisedReferencesContext(ctx)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) || err == nil && len(adv.References) == 0 {
		return hint(errors.New("the repository is empty"), "check the address, or push the estate first")
	}
	if err != nil {
		return err
	}
	switch at, ok := adv.References[ref.String()]; {
	case ok && at == id:
		return nil
	case ok:
		return ErrRefTaken
	case pack == nil:
		return errors.New("the ref is not there")
	}
	req := packp.NewReferenceUpdateRequestFromCapabilities(adv.Capabilities)
	var said firstBytes
	if adv.Capabilities.Supports(capability.Sideband64k) {
		_ = req.Capabilities.Set(capability.Sideband64k) // takes no argument, cannot fail
		req.Progress = &said
	}
	if !req.Capabilities.Supports(capability.ReportStatus) {
		return errors.New("the server does not tell whether it took a push")
	}
	req.Commands = []*packp.Command{{Name: ref, Old: plumbing.ZeroHash, New: id}}
	req.Packfile = io.NopCloser(bytes.NewReader(pack))
	if _, err := session.ReceivePack(ctx, req); err != nil {
		if text := (credentials{}).says(said.String()); text != "" {
			return fmt.Errorf("push: %w: server says: %s", err, text)
		}
		return fmt.Errorf("push: %w", err)
	}
	return nil
}

// receiver takes pushes: what is used of [transport.ReceivePackSession].
type receiver interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	ReceivePack(context.Context, *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error)
	Close() error
}

func dialReceiver(ctx context.Context, e endpoint, a Auth) (receiver, error) {
	c, err := a.read(e)
	if err != nil {
		return nil, err
	}
	switch e.scheme {
	case "file":
		return file.DefaultClient.NewReceivePackSession(&transport.Endpoint{Protocol: "file", Path: e.path}, nil)
	case "ssh":
		r, err := dialSSH(ctx, e, c, a.KnownHostsFile, receiveService)
		return sshReceiver{r}, err
	}
	r, err := dialHTTP(e, c, a.hasPassword(), receiveService)
	return httpReceiver{r}, err
}

type sshReceiver struct{ *sshRemote }

func (r sshReceiver) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	return filtered(r.refs(ctx))
}

func (r sshReceiver) ReceivePack(_ context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	if err := errors.Join(req.Encode(r.in), r.in.Close()); err != nil {
		return nil, err
	}
	report, err := decodeReport(r.out, req, r.creds)
	_, _ = io.Copy(io.Discard, io.LimitReader(r.out, maxRefsBytes)) // until the server's hooks are done; the report stands
	return report, err
}

type httpReceiver struct{ *httpRemote }

func (r httpReceiver) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	return filtered(r.refs(ctx))
}

func (r httpReceiver) ReceivePack(ctx context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	var body bytes.Buffer
	if err := req.Encode(&body); err != nil {
		return nil, err
	}
	resp, err := r.do(ctx, http.MethodPost, "/"+r.service, &body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return decodeReport(resp.Body, req, r.creds)
}

func filtered(adv *packp.AdvRefs, err error) (*packp.AdvRefs, error) {
	if err == nil {
		transport.FilterUnsupportedCapabilities(adv.Capabilities)
	}
	return adv, err
}

func decodeReport(r io.Reader, req *packp.ReferenceUpdateRequest, c credentials) (*packp.ReportStatus, error) {
	r = io.LimitReader(r, maxRefsBytes)
	if req.Capabilities.Supports(capability.Sideband64k) {
		d := sideband.NewDemuxer(sideband.Sideband64k, r)
		d.Progress, r = req.Progress, d
	}
	report := packp.NewReportStatus()
	if err := report.Decode(r); err != nil {
		return nil, serverError("read the server's report", err, c)
	}
	if err := report.Error(); err != nil {
		return nil, serverError("the server refuses", err, c)
	}
	return report, nil
}
