package lab

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// A Mode is a way in which a [Proxy] misbehaves.
type Mode int

const (
	// Pass forwards everything: no fault.
	Pass Mode = iota
	// Hang takes requests and does not answer; open streams stand still. All go on when the fault is cleared.
	Hang
	// Refuse closes all connections and refuses new ones, as a server that is not there. It concerns every request.
	Refuse
	// Answer answers with Fault.Status; the server does not see the request.
	Answer
	// CutBefore closes the connection; the server does not see the request.
	CutBefore
	// CutAfter lets the server do its work, passes Fault.Bytes of the answer's body and closes the connection. With
	// 0 bytes the client does not see any answer.
	CutAfter
	// CutDuring passes Fault.Bytes of the request's body to the server and closes both connections.
	CutDuring
	// Slow passes requests and answers in pieces of Fault.Bytes, each after Fault.Delay.
	Slow
)

// maxRequest bounds one request body in a proxy, in bytes.
const maxRequest = 256 << 20

// A Fault says how a proxy misbehaves from now on.
type Fault struct {
	Mode       Mode
	Status     int                      // of Answer
	RetryAfter time.Duration            // header of Answer, whole seconds; 0 sends none
	Bytes      int64                    // of CutAfter, CutDuring and Slow, where 0 means 64 KiB
	Delay      time.Duration            // of Slow
	Match      func(*http.Request) bool // requests that are concerned; nil means all
	Times      int                      // how many requests are concerned before the fault is over; 0 means all until Clear
}

// ProxyOptions say what a proxy stands in front of.
type ProxyOptions struct {
	Upstream  string              // base URL of the server
	Transport *http.Transport     // nil means plain HTTP or HTTPS with the system's authorities
	TLS       *tls.Config         // serve HTTPS with it; nil serves HTTP
	KeepHost  bool                // let the server see the host that clients ask for, which signatures of S3 cover
	OnRequest func(*http.Request) // called for every request before any fault; must not read the body
}

// A Proxy is an HTTP proxy on loopback in front of one server, with faults that can be switched. Streams, such as
// watches, are passed on as they come.
type Proxy struct {
	URL string // base URL for clients

	options   ProxyOptions
	upstream  *httputil.ReverseProxy
	transport *http.Transport
	server    *http.Server
	address   string
	serving   sync.WaitGroup // accept loops and requests

	mu       sync.Mutex
	fault    Fault
	changed  chan struct{} // closed when the fault changes
	listener net.Listener  // nil while refusing
	conns    map[net.Conn]bool
	requests int
	closed   bool
}

// NewProxy starts a proxy. The caller closes it.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	target, err := url.Parse(o.Upstream)
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	listener, err := listenLoopback()
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{
		options: o, address: listener.Addr().String(), transport: o.Transport,
		changed: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	if p.transport == nil {
		p.transport = &http.Transport{}
	}
	quiet := log.New(io.Discard, "", 0)
	p.upstream = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = target.Host
			if o.KeepHost {
				r.Out.Host = r.In.Host
			}
		},
		Transport:     p.transport,
		FlushInterval: -1,
		ErrorLog:      quiet,
		// To the client a server that is gone looks as it would without the proxy.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = &http.Server{
		Handler: p, ErrorLog: quiet, ConnState: p.track, ReadHeaderTimeout: time.Minute,
	}
	p.URL = "http://" + p.address
	if o.TLS != nil {
		p.URL = "https://" + p.address
	}
	p.serve(listener)
	return p, nil
}

// APIProxy starts a proxy in front of the API server that acts as the identity, and returns with it the path of a
// kubeconfig that uses it.
func (e *Endpoints) APIProxy(id Identity, onRequest func(*http.Request)) (*Proxy, string, error) {
	transport, err := e.Transport(id)
	if err != nil {
		return nil, "", err
	}
	p, err := NewProxy(ProxyOptions{Upstream: e.APIURL, Transport: transport, OnRequest: onRequest})
	if err != nil {
		return nil, "", err
	}
	config, err := e.writeKubeconfig("proxy-"+p.address, map[string]any{"server": p.URL}, map[string]any{})
	if err != nil {
		return nil, "", errors.Join(err, p.Close())
	}
	return p, config, nil
}

// S3Proxy starts a proxy in front of the S3 server. It serves HTTPS as the server itself does.
func (e *Endpoints) S3Proxy(onRequest func(*http.Request)) (*Proxy, error) {
	transport, err := e.s3Transport()
	if err != nil {
		return nil, err
	}
	transport.DisableCompression = true // answers are passed on as they are
	serving, err := e.ServingTLS()
	if err != nil {
		return nil, err
	}
	return NewProxy(ProxyOptions{Upstream: e.S3URL, Transport: transport, TLS: serving, KeepHost: true, OnRequest: onRequest})
}

// Set makes the proxy misbehave until Clear or the next Set.
func (p *Proxy) Set(f Fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("set fault: the proxy is closed")
	}
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
	if f.Mode == Refuse {
		if p.listener != nil {
			_ = p.listener.Close() // nothing is lost with it
			p.listener = nil
		}
		p.cut()
		return nil
	}
	if p.listener == nil {
		listener, err := net.Listen("tcp", p.address)
		if err != nil {
			return fmt.Errorf("accept connections again: %w", err)
		}
		p.serve(listener)
	}
	return nil
}

// Clear ends the fault: requests that hang go on, refused ones are accepted again.
func (p *Proxy) Clear() error { return p.Set(Fault{}) }

// Cut closes all open connections once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for conn := range p.conns {
		_ = conn.Close() // it is to end in any way
	}
}

// Requests returns how many requests have come so far.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Close ends the proxy and waits for the requests in it.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.fault = Fault{}
		close(p.changed)
	}
	p.mu.Unlock()
	err := p.server.Close()
	p.serving.Wait()
	p.transport.CloseIdleConnections()
	return err
}

// serve accepts connections in the background; the caller holds the mutex or is the only user.
func (p *Proxy) serve(listener net.Listener) {
	p.listener = listener
	if p.options.TLS != nil {
		listener = tls.NewListener(listener, p.options.TLS)
	}
	p.serving.Go(func() { _ = p.server.Serve(listener) }) // ends with an error in every case
}

// track keeps the set of open connections.
func (p *Proxy) track(conn net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns[conn] = true
		if p.listener == nil { // accepted just before the listener was closed
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, conn)
	}
}

// enter counts a running request, which Close waits for; false once the proxy is closed.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.serving.Add(1)
	}
	return !p.closed
}

// take returns the fault for a new request and counts it.
func (p *Proxy) take(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	f := p.fault
	if f.Mode == Pass || f.Match != nil && !f.Match(r) {
		return Fault{}
	}
	if p.fault.Times > 0 {
		p.fault.Times--
		if p.fault.Times == 0 {
			p.fault = Fault{} // those that hang already wait for the next change
		}
	}
	return f
}

// wait waits until the fault changes or the client is gone.
func (p *Proxy) wait(ctx context.Context) {
	p.mu.Lock()
	changed := p.changed
	if p.closed {
		changed = nil
	}
	p.mu.Unlock()
	if changed == nil {
		return
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// hangs reports whether the running answer to the request is to stand still.
func (p *Proxy) hangs(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault.Mode == Hang && (p.fault.Match == nil || p.fault.Match(r))
}

// ServeHTTP handles one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.serving.Done()
	if p.options.OnRequest != nil {
		p.options.OnRequest(r)
	}
	f := p.take(r)
	out := &faultWriter{ResponseWriter: w, proxy: p, request: r, left: -1}
	if f.Mode == Slow {
		out.pace = &pace{delay: f.Delay, piece: cmp.Or(f.Bytes, 64<<10), ctx: r.Context()}
		r.Body = &slowBody{ReadCloser: r.Body, pace: out.pace}
	}
	// Only once the body has been read does net/http notice that the client has gone.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	switch f.Mode {
	case Answer:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
		}
		http.Error(w, "fault injected by the lab", f.Status)
		return
	case Refuse, CutBefore:
		panic(http.ErrAbortHandler)
	case CutAfter:
		out.left = f.Bytes
	case CutDuring:
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:min(f.Bytes, int64(len(body)))]), cut{}))
	case Hang:
		p.wait(r.Context())
	}
	p.upstream.ServeHTTP(out, r)
	if f.Mode == CutAfter || f.Mode == CutDuring {
		panic(http.ErrAbortHandler)
	}
}

// cut is where a body breaks off.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A pace is how slowly a request and its answer pass.
type pace struct {
	delay time.Duration
	piece int64
	ctx   context.Context
	left  int64 // of the piece
}

// next waits before each piece, and returns how much of a length passes now.
func (p *pace) next(length int) int64 {
	if p.left == 0 {
		p.wait()
		p.left = p.piece
	}
	return min(p.left, int64(length))
}

func (p *pace) wait() {
	timer := time.NewTimer(p.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
}

type slowBody struct {
	io.ReadCloser
	pace *pace
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:b.pace.next(len(p))])
	b.pace.left -= int64(n)
	return n, err
}

// A faultWriter passes an answer on, stands still while the proxy hangs, and cuts the answer off.
type faultWriter struct {
	http.ResponseWriter
	proxy   *Proxy
	request *http.Request
	left    int64 // bytes to pass; -1 means all
	pace    *pace // nil means at once
}

// Unwrap lets http.ResponseController flush.
func (w *faultWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader passes the status on, unless nothing of the answer is to be seen. That the server wants a body concerns
// nobody: it has been read.
func (w *faultWriter) WriteHeader(status int) {
	if status == http.StatusContinue { // and this comes from another goroutine, which must not panic
		return
	}
	if w.left == 0 {
		panic(http.ErrAbortHandler)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *faultWriter) Write(data []byte) (int, error) {
	for w.proxy.hangs(w.request) && w.request.Context().Err() == nil {
		w.proxy.wait(w.request.Context())
	}
	if w.pace != nil {
		return w.paced(data)
	}
	if w.left < 0 {
		return w.ResponseWriter.Write(data)
	}
	if int64(len(data)) < w.left {
		n, err := w.ResponseWriter.Write(data)
		w.left -= int64(n)
		return n, err
	}
	if _, err := w.ResponseWriter.Write(data[:w.left]); err != nil {
		return 0, err
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush() // what is not flushed is cut off as well
	panic(http.ErrAbortHandler)
}

func (w *faultWriter) paced(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		piece := data[written:][:w.pace.next(len(data)-written)]
		n, err := w.ResponseWriter.Write(piece)
		written, w.pace.left = written+n, w.pace.left-int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, http.NewResponseController(w.ResponseWriter).Flush()
}
