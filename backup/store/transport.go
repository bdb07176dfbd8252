package store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A transport sends requests to S3, ends those in which nothing moves and reads the clock of the store. A request takes as
// long as it must while bytes go either way.
type transport struct {
	base  *http.Transport
	stall time.Duration
	hush  hush
	now   func() time.Time
	clock clock
}

// patienceKey is of the context value that says for how long an answer may be awaited, if not for the usual time.
type patienceKey struct{}

// patient lets the store take that long before it begins to answer.
func patient(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

// Do implements the SDK's HTTP client. Redirects are not followed: they are how S3 says that the region is wrong.
func (t *transport) Do(r *http.Request) (*http.Response, error) {
	limit := t.stall
	if d, ok := r.Context().Value(patienceKey{}).(time.Duration); ok {
		limit = max(limit, d)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	ctx, l := listen(ctx, r)
	w := &watch{limit: limit, cancel: cancel, ctx: ctx, call: callOf(ctx), listener: l, hush: t.hush}
	w.start()
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &sentBody{ReadCloser: r.Body, watch: w}
	}
	sent := t.now()
	response, err := t.base.RoundTrip(r)
	w.stop()
	if err != nil {
		if err = w.explain(err); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			w.call.ended(err)
		}
		cancel(nil)
		return nil, err
	}
	w.call.ended(nil)
	t.clock.observe(response.Header.Get("Date"), sent, t.now())
	w.limit = t.stall
	l.await("the rest of the answer to")
	response.Body = &receivedBody{ReadCloser: response.Body, watch: w}
	return response, nil
}

// A watch cancels a request in which nothing moves.
type watch struct {
	limit  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc

	call     *call
	listener *listener
	hush     hush

	mu      sync.Mutex
	timer   *time.Timer
	running bool
}

func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, func() { w.cancel(errStalled) })
	} else {
		w.timer.Reset(w.limit)
	}
}

// moved starts the time anew, unless the watch was stopped.
func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		w.timer.Reset(w.limit)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	w.timer.Stop()
}

// explain returns the reason for which the watch ended the request, if it did.
func (w *watch) explain(err error) error {
	if errors.Is(context.Cause(w.ctx), errStalled) {
		return w.hush.explain(w.call, w.listener, w.limit)
	}
	return err
}

// A sentBody is what a request sends.
type sentBody struct {
	io.ReadCloser
	watch *watch
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.watch.moved()
	return b.ReadCloser.Read(p)
}

// A receivedBody is what an answer brings. Time passes only while it is read: its reader may take any time.
type receivedBody struct {
	io.ReadCloser
	watch *watch
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.watch.start()
	n, err := b.ReadCloser.Read(p)
	b.watch.stop()
	if n > 0 {
		b.watch.call.heard()
	}
	if err != nil && err != io.EOF {
		err = b.watch.explain(err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.stop()
	b.watch.cancel(nil)
	return err
}

// A clock knows how far the store's clock is from ours.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // of the store's; negative if it is behind
	seen  time.Time     // zero if never
}

// observe takes the date of an answer, which has whole seconds, to a request between two times of ours. As long as the
// date fits between them the clocks agree.
func (c *clock) observe(date string, sent, received time.Time) {
	store, err := http.ParseTime(date)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.ahead = received, 0
	if early := store.Add(time.Second).Sub(sent); early < 0 {
		c.ahead = early
	} else if late := store.Sub(received); late > 0 {
		c.ahead = late
	}
}

func (c *clock) read() (ahead time.Duration, seen time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead, c.seen
}
