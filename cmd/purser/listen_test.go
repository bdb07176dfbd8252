package main

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
)

// closing closes a listener when something is logged.
type closing struct{ net.Listener }

func (c closing) Write(p []byte) (int, error) { return len(p), c.Close() }

// An address that becomes free in a moment is waited for; one that does not is refused.
func TestListenWaits(t *testing.T) {
	t.Parallel()
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second, err := listen(t.Context(), first.Addr().String(), slog.New(slog.NewTextHandler(closing{first}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	var said strings.Builder
	if _, err := listen(t.Context(), first.Addr().String(), slog.New(slog.NewTextHandler(&said, nil))); !errors.Is(err, syscall.EADDRINUSE) || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("in use: %v, %q", err, said.String())
	}
}
