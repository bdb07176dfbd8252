package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/purser-gitops/purser/sources"
)

// sshSession speaks Git's protocol, version 0, over ssh. go-git's own sessions
// dial without a context: a server that stays silent would hold them for ever.
// This one ends with the context it was opened with.
type sshSession struct {
	*sources.Session
}

func (s sshSession) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	adv, err := s.Refs(ctx)
	if err != nil {
		return nil, ended(ctx, err)
	}
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	return adv, nil
}

func (s sshSession) UploadPack(ctx context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	err := req.UploadRequest.Encode(s)
	if err == nil {
		err = req.UploadHaves.Encode(s, true)
	}
	if err == nil {
		err = pktline.NewEncoder(s).EncodeString("done\n")
	}
	if err != nil {
		return nil, ended(ctx, fmt.Errorf("ask for a pack: %w", err))
	}
	answer := packp.NewUploadPackResponse(req)
	if err := answer.Decode(io.NopCloser(s)); err != nil {
		return nil, ended(ctx, err)
	}
	return answer, nil
}

func (s sshSession) ReceivePack(ctx context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	if err := req.Encode(s); err != nil {
		return nil, ended(ctx, fmt.Errorf("send pack: %w", err))
	}
	if err := s.CloseWrite(); err != nil {
		return nil, ended(ctx, fmt.Errorf("send pack: %w", err))
	}
	var answer io.Reader = s
	if req.Capabilities.Supports(capability.Sideband64k) {
		d := sideband.NewDemuxer(sideband.Sideband64k, s)
		d.Progress, answer = req.Progress, d
	}
	report, err := packp.NewReportStatus(), error(nil)
	if req.Capabilities.Supports(capability.ReportStatus) {
		if err := report.Decode(answer); err != nil {
			return nil, ended(ctx, fmt.Errorf("read the server's report: %w", err))
		}
		err = report.Error()
	}
	_, _ = io.Copy(io.Discard, s) // until the server's hooks are done; the report stands
	return report, err
}

// ended names the end of the context where that is why a conversation broke off.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}
