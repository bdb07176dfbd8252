package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// maxListing bounds what a server may answer to ls-refs, in bytes: 200,000 refs.
const maxListing = 32 << 20

// errNotV2 says that a server does not answer as protocol version 2 wants.
var errNotV2 = errors.New("the server does not speak Git's protocol version 2")

// look brings known up to date for the refs whose names begin with one of the
// prefixes. Over http that is one request of protocol version 2, whose cost does
// not grow with the other refs; elsewhere, and where the server does not know it,
// everything is listed anew.
func (r *remote) look(ctx context.Context, known refs, prefixes ...string) (refs, error) {
	if !r.overHTTP() || r.v0 {
		return r.list(ctx)
	}
	found, err := r.lsRefs(ctx, prefixes)
	if errors.Is(err, errNotV2) {
		found, err := r.list(ctx)
		r.v0 = err == nil
		return found, err
	}
	if err != nil {
		return nil, fmt.Errorf("list audit remote's refs: %w", err)
	}
	for name := range known {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				delete(known, name)
			}
		}
	}
	for name, hash := range found {
		known[name] = hash
	}
	return known, nil
}

// lsRefs is the command of that name (gitprotocol-v2). It needs no
// advertisement: a version that the server does not speak shows in its answer.
func (r *remote) lsRefs(ctx context.Context, prefixes []string) (refs, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var body bytes.Buffer
	lines := pktline.NewEncoder(&body)
	err := lines.EncodeString("command=ls-refs\n")
	body.WriteString("0001") // delimiter between capabilities and arguments
	for _, p := range prefixes {
		err = errors.Join(err, lines.EncodeString("ref-prefix "+p+"\n"))
	}
	if err := errors.Join(err, lines.Flush()); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint.String()+"/"+transport.UploadPackServiceName, &body)
	if err != nil {
		return nil, err
	}
	client, auth, err := r.httpClient()
	if err != nil {
		return nil, err
	}
	if auth != nil {
		auth.SetAuth(req)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req.Header.Set("Git-Protocol", "version=2")
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	req.Header.Set("Accept", "application/x-git-upload-pack-result")
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	switch code := answer.StatusCode; {
	case code >= 500 && code != http.StatusNotImplemented:
		return nil, fmt.Errorf("the server answers %s", answer.Status)
	case code != http.StatusOK:
		return nil, fmt.Errorf("the server answers %s: %w", answer.Status, errNotV2)
	}
	return parseLsRefs(io.LimitReader(answer.Body, maxListing))
}

// parseLsRefs reads "<hash> <name>" lines up to the flush packet.
func parseLsRefs(r io.Reader) (refs, error) {
	found := refs{}
	lines := pktline.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSuffix(string(lines.Bytes()), "\n")
		if line == "" {
			return found, nil
		}
		hash, name, ok := strings.Cut(line, " ")
		if !ok || !plumbing.IsHash(hash) {
			return nil, fmt.Errorf("%q: %w", line[:min(len(line), 80)], errNotV2)
		}
		name, _, _ = strings.Cut(name, " ") // attributes
		found[name] = plumbing.NewHash(hash)
	}
	if err := lines.Err(); err != nil && !errors.Is(err, pktline.ErrInvalidPktLen) {
		return nil, err
	}
	return nil, fmt.Errorf("the answer is cut short: %w", errNotV2)
}
