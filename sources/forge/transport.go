package forge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/purser-gitops/purser/sources/credential"
)

const defaultRetry = time.Minute // after a rate limit that names no time

// A call carries the requests of one operation: it adds the token, bounds and checks the answers and digests them. It
// is the transport under the forge's client library, so that the library sees nothing but good answers.
type call struct {
	*Client

	mu     sync.Mutex
	digest hash.Hash
	last   []byte // body of the last good answer, for what the library's types leave out
}

func (c *Client) call() *call { return &call{Client: c, digest: sha256.New()} }

// http is a client for the libraries. It follows no redirect: the token is for one host.
func (c *call) http() *http.Client {
	return &http.Client{Transport: c, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// sum is the digest of all answers so far.
func (c *call) sum() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "sha256:" + hex.EncodeToString(c.digest.Sum(nil))
}

// lastInto decodes the last answer again.
func (c *call) lastInto(v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return json.Unmarshal(c.last, v)
}

// RoundTrip sends one request. Its errors name the request and are of a kind in errors.go.
func (c *call) RoundTrip(req *http.Request) (*http.Response, error) {
	what := req.Method + " " + req.URL.Path
	if req.URL.Host != c.base.Host || req.URL.Scheme != c.base.Scheme {
		return nil, fmt.Errorf("%s: %w: it is not on %s", what, ErrUnknown, c.base.Host)
	}
	if left := c.pause.left(c.options.Now()); left > 0 {
		return nil, fmt.Errorf("%s: %w", what, &RateLimitError{RetryAfter: left})
	}
	ctx, cancel := context.WithTimeout(req.Context(), c.options.Timeout)
	defer cancel()
	token, err := credential.ReadSecret(c.options.TokenFile, maxSecretBytes)
	if err != nil || len(token) == 0 {
		return nil, hint(fmt.Errorf("%s: %w: read token: %w", what, ErrDenied, orEmpty(err)), "write the forge's access token to the token file")
	}
	out := req.Clone(ctx)
	out.Header.Set("User-Agent", "purser")
	out.Header.Set("Cache-Control", "no-cache") // an approval may have been taken back since somebody else asked
	c.authorize(out.Header, string(token))
	says := scrubber(string(token))

	resp, err := c.transport.RoundTrip(out)
	if err != nil {
		if cause := req.Context().Err(); cause != nil {
			return nil, fmt.Errorf("%s: %w: %w", what, ErrUnreachable, cause)
		}
		return nil, unreachable(what, err, says)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.limits.AnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: read answer: %s", what, ErrUnknown, says(err.Error()))
	}
	if int64(len(body)) > c.limits.AnswerBytes {
		return nil, fmt.Errorf("%s: %w: the answer has more than %d bytes", what, ErrUnknown, c.limits.AnswerBytes)
	}
	if err := judge(resp, body, c.options.Now, says); err != nil {
		if limit := (*RateLimitError)(nil); errors.As(err, &limit) {
			c.pause.begin(c.options.Now(), limit.RetryAfter)
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	c.record(req, resp, body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

// unreachable is the error for a request without an answer.
func unreachable(what string, err error, says func(string) string) error {
	failed := fmt.Errorf("%s: %w: %s", what, ErrUnreachable, says(err.Error()))
	if verify := (*tls.CertificateVerificationError)(nil); errors.As(err, &verify) {
		return hint(failed, "if the certificate is your own authority's, name its certificate as CA file")
	}
	return failed
}

func (c *call) record(req *http.Request, resp *http.Response, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.digest, "%s %s %d %d\n", req.Method, req.URL.RequestURI(), resp.StatusCode, len(body))
	c.digest.Write(body)
	c.last = body
}

// judge returns nil for an answer that can be believed: a success with JSON.
func judge(resp *http.Response, body []byte, now func() time.Time, says func(string) string) error {
	isJSON := jsonBody(resp, body)
	switch code := resp.StatusCode; {
	case cached(resp.Header):
		return hint(fmt.Errorf("%w: a cache answered, with what was so %s seconds ago", ErrUnknown, says(resp.Header.Get("Age"))), "let no cache stand before the forge")
	case code == http.StatusNoContent || code/100 == 2 && isJSON:
		return nil
	case code/100 == 2:
		return hint(fmt.Errorf("%w: the answer (%s) is not the forge's JSON", ErrUnknown, says(resp.Header.Get("Content-Type"))), "check the forge's address, and proxies before it")
	case code/100 == 3:
		to := "elsewhere"
		if u, err := resp.Location(); err == nil {
			to = says(u.Scheme + "://" + u.Host + u.Path)
		}
		return hint(fmt.Errorf("%w: it redirects to %s", ErrUnknown, to), "configure the new address or project name if you trust it")
	case code == http.StatusTooManyRequests, code == http.StatusForbidden && rateLimited(resp.Header):
		return &RateLimitError{RetryAfter: retryAfter(resp.Header, now())}
	case code == http.StatusUnauthorized:
		return hint(fmt.Errorf("%w: it answers %d", ErrDenied, code), "check whether the token has expired")
	case code == http.StatusForbidden:
		remedy := "check the token's permissions, see docs/forges.md"
		if need := resp.Header.Get("X-Accepted-GitHub-Permissions"); need != "" {
			remedy = "the token needs " + says(need)
		}
		return hint(fmt.Errorf("%w: it answers %d: %s", ErrDenied, code, says(message(body))), remedy)
	case (code == http.StatusNotFound || code == http.StatusGone) && isJSON:
		return hint(fmt.Errorf("%w: it answers %d: %s", ErrNotFound, code, says(message(body))), "check the project's name, and whether the token may see it")
	case code/100 == 4 && isJSON && code != http.StatusRequestTimeout && code != http.StatusNotFound:
		return fmt.Errorf("%w: it answers %d: %s", ErrRefused, code, says(message(body)))
	default:
		return fmt.Errorf("%w: it answers %d", ErrUnknown, code)
	}
}

// cached reports whether the answer is from a cache that did not ask the forge, although it was told to:
// https://www.rfc-editor.org/rfc/rfc9111#section-5.1
func cached(h http.Header) bool { return strings.Trim(h.Get("Age"), "0 ") != "" }

// jsonBody reports whether the answer says that it is JSON, and is: an object or a list, not null nor a list of it, which
// the libraries would take for empty ones.
func jsonBody(resp *http.Response, body []byte) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") || !json.Valid(body) {
		return false
	}
	switch body = bytes.TrimSpace(body); body[0] {
	case '{':
		return true
	case '[':
		var items []json.RawMessage
		return json.Unmarshal(body, &items) == nil &&
			!slices.ContainsFunc(items, func(item json.RawMessage) bool { return string(item) == "null" })
	}
	return false
}

// message is the forge's own reason for an error.
func message(body []byte) string {
	var said struct {
		Message any `json:"message"`
		Error   any `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	for _, v := range []any{said.Message, said.Error} {
		switch v := v.(type) {
		case nil:
		case string:
			return v
		default:
			if text, err := json.Marshal(v); err == nil {
				return string(text)
			}
		}
	}
	return ""
}

// rateLimited tells GitHub's refusal of too many requests from its refusal of a token:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
func rateLimited(h http.Header) bool {
	return h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0"
}

// retryAfter is how long to wait, between a second and an hour.
func retryAfter(h http.Header, now time.Time) time.Duration {
	wait := defaultRetry
	if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		wait = at.Sub(now)
	} else if s, err := strconv.ParseInt(h.Get("Retry-After"), 10, 32); err == nil {
		wait = time.Duration(s) * time.Second
	} else {
		for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} { // GitHub, GitLab: seconds since 1970
			if s, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil {
				wait = time.Unix(s, 0).Sub(now)
				break
			}
		}
	}
	return min(max(wait, time.Second), time.Hour)
}

// scrubber is [credential.Scrub] for one token, also as it stands in an address.
func scrubber(token string) func(string) string {
	return func(text string) string { return credential.Scrub(text, token, url.QueryEscape(token)) }
}

func orEmpty(err error) error {
	if err == nil {
		return errors.New("the file is empty")
	}
	return err
}
