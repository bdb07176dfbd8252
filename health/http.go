package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// maxBody is how much of an answer is read and matched, in bytes.
const maxBody = 64 << 10

// maxRedirects bounds how often a check follows its own host's redirects.
const maxRedirects = 5

const defaultTimeout = 10 * time.Second

// HTTPCheck is one request and what its answer must be.
type HTTPCheck struct {
	Name    string
	URL     string
	Status  int           // expected status code; 200
	Body    string        // regular expression (RE2) the first 64 KiB of the body must match; "" is any body
	Cause   string        // who has to look when it fails; application
	Timeout time.Duration // of the whole exchange; 10 s
}

// HTTP asks once, with GET. Redirects are followed on the same host only: what another host answers says nothing about
// this one. The transport decides whom to trust; the default one verifies certificates. When the caller's context
// ends first the status is Unknown.
func HTTP(ctx context.Context, transport http.RoundTripper, c HTTPCheck) CheckResult {
	start := time.Now()
	s, message := ask(ctx, transport, c)
	r := CheckResult{Name: c.Name, Status: s, Message: message, Duration: time.Since(start)}
	if !s.fine() {
		r.Cause = c.Cause
		if r.Cause == "" {
			r.Cause = Application
		}
	}
	return r
}

func ask(parent context.Context, transport http.RoundTripper, c HTTPCheck) (Status, string) {
	timeout, wanted := c.Timeout, c.Status
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if wanted == 0 {
		wanted = http.StatusOK
	}
	pattern, err := regexp.Compile(c.Body)
	if err != nil {
		return Unknown, "body is no regular expression: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return Unknown, "url cannot be used: " + cut(err).Error()
	}
	request.Header.Set("User-Agent", "purser")
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	response, err := client.Do(request)
	if err != nil {
		return failure(parent, timeout, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return failure(parent, timeout, err)
	}
	switch {
	case response.StatusCode != wanted:
		message := fmt.Sprintf("answered %d, not %d", response.StatusCode, wanted)
		if to, err := response.Location(); err == nil {
			message += ": redirects to " + to.Scheme + "://" + to.Host
		}
		return Degraded, message
	case !pattern.Match(body):
		return Degraded, fmt.Sprintf("answered %d, but the body does not match %q", response.StatusCode, c.Body)
	}
	return Healthy, fmt.Sprintf("answered %d", response.StatusCode)
}

// sameHost lets a redirect be followed on the host that was asked, without loss of encryption.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > maxRedirects || next.URL.Host != first.Host || first.Scheme == "https" && next.URL.Scheme != "https" {
		return http.ErrUseLastResponse
	}
	return nil
}

func failure(parent context.Context, timeout time.Duration, err error) (Status, string) {
	switch {
	case parent.Err() != nil:
		return Unknown, "was not finished: " + parent.Err().Error()
	case errors.Is(err, context.DeadlineExceeded):
		return Degraded, fmt.Sprintf("did not answer within %s", timeout)
	}
	return Degraded, "did not answer: " + cut(err).Error()
}

// cut takes the address out of an error: its query may hold a token.
func cut(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
