package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/smithy-go/middleware"
)

// errStalled ends a request in which nothing moves.
var errStalled = errors.New("nothing moves")

// A silentError says that a store is silent. It is [ErrUnanswered].
type silentError struct {
	store   string
	awaited string
	silent  time.Duration // of the call, with all its requests
	spent   bool          // so long that the call is given up; else the request is tried again
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%v: %s was silent for %s; awaited was %s", ErrUnanswered, e.store, e.silent, e.awaited)
}

func (e *silentError) Is(target error) bool { return target == ErrUnanswered }

// A call is what goes on until it succeeds or is given up, in one request or in several.
type call struct {
	mu     sync.Mutex
	silent time.Duration // since it last got content
	failed error         // why the last request got no answer; nil if it got one
}

type callKey struct{}

// asCall makes one call of all requests with the context.
func asCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, &call{})
}

// callOf is the call that a request belongs to.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// eachCall makes one call of all attempts of an operation, unless it is a part of one.
func eachCall(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("purserCall", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		if ctx.Value(callKey{}) == nil {
			ctx = asCall(ctx)
		}
		out, metadata, err := next.HandleInitialize(ctx, in)
		if failed := callOf(ctx).reason(); err != nil && ctx.Err() != nil && failed != nil {
			err = fmt.Errorf("%w, and before: %w", err, failed) // that nobody waits any more says nothing of the store
		}
		return out, metadata, err
	}), middleware.Before)
}

// heard says that content has come.
func (c *call) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = 0
}

// ended says how the last request ended.
func (c *call) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
}

// reason is why the last request got no answer.
func (c *call) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// passed adds a silence, and returns how long all were.
func (c *call) passed(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent += d
	return c.silent
}

// A listener knows what a request awaits.
type listener struct {
	request string
	awaited atomic.Pointer[string]
}

// listen returns a context that follows a request.
func listen(ctx context.Context, r *http.Request) (context.Context, *listener) {
	l := &listener{request: r.Method + " " + r.URL.Path}
	l.await("a connection for")
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { l.await("that it takes") },
		WroteRequest: func(httptrace.WroteRequestInfo) { l.await("the answer to") },
	}), l
}

func (l *listener) await(what string) { l.awaited.Store(&what) }

func (l *listener) String() string { return *l.awaited.Load() + " " + l.request }

// A hush says what becomes of requests that were ended because nothing moved.
type hush struct {
	store   string
	silence time.Duration // after which a call is given up
	log     *slog.Logger
}

func (h hush) explain(c *call, l *listener, limit time.Duration) error {
	silent := c.passed(limit)
	err := &silentError{store: h.store, awaited: l.String(), silent: silent, spent: silent >= h.silence}
	h.log.Warn("a store is silent", "store", h.store, "for", silent, "awaited", err.awaited, "givenUp", err.spent)
	return err
}
