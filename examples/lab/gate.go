package lab

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// A Gate is a TCP proxy on loopback in front of one server. While it is shut it takes connections and keeps them, and passes
// nothing on, as a network does that drops packets, or a server that is stopped.
type Gate struct {
	Address string // host:port for clients

	upstream string
	listener net.Listener
	passing  sync.WaitGroup

	mu     sync.Mutex
	open   chan struct{} // closed while the gate is open
	conns  map[net.Conn]bool
	left   int // bytes until it shuts; 0 for any number
	closed bool
}

// NewGate opens a gate. The caller closes it.
func NewGate(upstream string) (*Gate, error) {
	listener, err := listenLoopback()
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	g := &Gate{Address: listener.Addr().String(), upstream: upstream, listener: listener, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(g.open)
	g.passing.Go(g.accept)
	return g, nil
}

// Shut stops all that would pass from now on.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut()
}

// ShutAfter stops all that would pass once so many bytes more have passed.
func (g *Gate) ShutAfter(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = bytes
}

func (g *Gate) shut() {
	g.left = 0
	if !g.closed {
		g.open = make(chan struct{})
	}
}

// next counts bytes that are to pass, and returns what they have to wait for.
func (g *Gate) next(bytes int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left > 0 {
		if g.left -= bytes; g.left <= 0 {
			g.shut()
		}
	}
	return g.open
}

// Close closes all connections.
func (g *Gate) Close() error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		select {
		case <-g.open:
		default:
			close(g.open)
		}
	}
	err := g.listener.Close()
	for conn := range g.conns {
		_ = conn.Close() // it is to end in any way
	}
	g.mu.Unlock()
	g.passing.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (g *Gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", g.upstream)
		if err != nil {
			_ = client.Close() // as a server that is gone
			continue
		}
		g.mu.Lock()
		g.conns[client], g.conns[server] = true, true
		closed := g.closed
		g.mu.Unlock()
		if closed {
			_, _ = client.Close(), server.Close()
			return
		}
		g.passing.Go(func() { g.pass(client, server) })
		g.passing.Go(func() { g.pass(server, client) })
	}
}

// pass passes bytes on, as long as the gate is open, and ends both connections.
func (g *Gate) pass(from, to net.Conn) {
	defer func() {
		_, _ = from.Close(), to.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.conns, from)
		delete(g.conns, to)
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-g.next(n)
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}
