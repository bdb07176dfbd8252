package lab

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
)

// etcd stores the objects of the API server. It does not wait for the disk: a lab survives the death of its
// processes, not that of the machine.
type etcd struct{}

func (etcd) Name() string    { return Etcd }
func (etcd) Needs() []string { return nil }

func (etcd) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(Etcd)
	if err != nil {
		return nil, err
	}
	return exec.Command(binary,
		"--data-dir="+l.path("etcd"),
		"--listen-client-urls=http://"+loopback(port),
		"--advertise-client-urls=http://"+loopback(port),
		"--listen-peer-urls=http://127.0.0.1:0",
		"--unsafe-no-fsync",
		"--log-level=warn",
	), nil
}

func (etcd) Ready(ctx context.Context, l *Lab) error {
	port, err := l.port(Etcd)
	if err != nil {
		return err
	}
	return getOK(ctx, http.DefaultTransport, "http://"+loopback(port)+"/readyz")
}

// getOK returns nil when the URL answers 200.
func getOK(ctx context.Context, transport http.RoundTripper, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("check %s: %w", url, err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err // *url.Error names method and URL
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("check %s: %s", url, response.Status)
	}
	return nil
}
