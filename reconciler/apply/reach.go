package apply

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// reach notes whether the API server answers, from the requests that are made anyway: all that fail are tried again.
type reach struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time // of the first failure since the last answer
	err   error     // of the newest; nil after an answer
}

// Unreachable is why the API server does not answer, and since when; nil when it answered the last request.
func (c *Cluster) Unreachable() (since time.Time, err error) {
	c.reach.mu.Lock()
	defer c.reach.mu.Unlock()
	return c.reach.since, c.reach.err
}

// note takes the end of a request. One that its caller gave up says nothing.
func (r *reach) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.err = nil
	case errors.Is(err, context.Canceled):
	default:
		if r.err == nil {
			r.since = r.now()
		}
		r.err = err
	}
}

// reachTransport notes the end of each request, whatever its answer is.
type reachTransport struct {
	http.RoundTripper
	reach *reach
}

func (t reachTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	t.reach.note(err)
	return resp, err
}

// WrappedRoundTripper lets client-go close idle connections.
func (t reachTransport) WrappedRoundTripper() http.RoundTripper { return t.RoundTripper }
