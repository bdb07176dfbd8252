package sources

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	uploadPack     = "git-upload-pack"
	receiveService = "git-receive-pack"
	userAgent      = "git/2.0 (purser)" // some servers answer Git only to agents named git/…
)

// httpRemote speaks the smart protocol: https://git-scm.com/docs/http-protocol.
type httpRemote struct {
	client  *http.Client
	service string
	base    *url.URL
	creds   credentials
	auth    bool // whether creds were configured
}

func dialHTTP(e endpoint, c credentials, auth bool, service string) (*httpRemote, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	r := &httpRemote{service: service, base: e.url, creds: c, auth: auth}
	r.client = &http.Client{Transport: credential.Transport(roots), CheckRedirect: r.sameHost}
	return r, nil
}

// sameHost follows redirects on one host only, never down to plain http: a
// credential goes nowhere it was not meant for.
func (r *httpRemote) sameHost(req *http.Request, via []*http.Request) error {
	from, to := via[0].URL, req.URL
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname()
	switch {
	case via[0].Method != http.MethodGet:
		return http.ErrUseLastResponse
	case len(via) > 5:
		return errors.New("more than 5 redirects")
	case upgrade, from.Scheme == to.Scheme && from.Host == to.Host:
		return nil
	}
	return hint(fmt.Errorf("the server redirects to %s", r.creds.says(to.Scheme+"://"+to.Host)),
		"use the repository's new address if you trust it")
}

func (r *httpRemote) refs(ctx context.Context) (*packp.AdvRefs, error) {
	resp, err := r.do(ctx, http.MethodGet, "/info/refs?service="+r.service, nil)
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "application/x-"+r.service+"-advertisement" {
		return nil, hint(fmt.Errorf("list branches: %w: the answer is %q, not Git's", ErrNoRepository, r.creds.says(ct)), "check the address")
	}
	if p, ok := strings.CutSuffix(resp.Request.URL.Path, "/info/refs"); ok {
		moved := *resp.Request.URL
		moved.Path, moved.RawPath, moved.RawQuery = p, "", ""
		r.base = &moved
	}
	return decodeRefs(resp.Body, r.creds)
}

func (r *httpRemote) pack(ctx context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	var body bytes.Buffer
	if err := encodeRequest(&body, req); err != nil {
		return nil, fmt.Errorf("ask for a pack: %w", err)
	}
	resp, err := r.do(ctx, http.MethodPost, "/"+r.service, &body)
	if err != nil {
		return nil, fmt.Errorf("ask for a pack: %w", err)
	}
	return decodePack(resp.Body, req, r.creds)
}

func (r *httpRemote) do(ctx context.Context, method, what string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base.String()+what, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-"+r.service+"-request")
		req.Header.Set("Accept", "application/x-"+r.service+"-result")
	}
	if r.auth {
		req.SetBasicAuth(r.creds.user, r.creds.password)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		var in *url.Error // names the last address, which may be the server's words
		if errors.As(err, &in) {
			err = in.Err
		}
		return nil, tlsHint(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	_ = resp.Body.Close() // its text is the server's, and nothing rests on it
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		if !r.auth {
			return nil, hint(fmt.Errorf("%w: the server wants credentials", ErrDenied), "name files with a user name and a password or token")
		}
		return nil, hint(fmt.Errorf("%w: the server answers %d", ErrDenied, resp.StatusCode), "check whether the token has expired and may use the repository")
	case http.StatusNotFound, http.StatusGone:
		return nil, hint(fmt.Errorf("%w: the server answers %d", ErrNoRepository, resp.StatusCode), "check the address, and whether the credentials may see it")
	}
	return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
}

func tlsHint(err error) error {
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	if errors.As(err, &unknown) || errors.As(err, &verify) {
		return hint(err, "if the certificate is your own authority's, name its certificate as CA file")
	}
	return err
}

func (r *httpRemote) Close() error {
	r.client.CloseIdleConnections()
	return nil
}
