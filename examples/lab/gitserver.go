package lab

import (
	"context"
	"net/http"
	"os/exec"
	"syscall"
)

// gitServer serves the repositories under git/ over smart HTTP (cmd/gitserver runs git http-backend).
type gitServer struct{}

func (gitServer) Name() string    { return Git }
func (gitServer) Needs() []string { return nil }

func (gitServer) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(Git)
	if err != nil {
		return nil, err
	}
	l.GitURL = "http://" + loopback(port)
	cmd := exec.Command(binary, "-listen", loopback(port), "-root", l.path("git"))
	// Not SIGKILL: on SIGTERM it ends the git processes of open requests as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd, nil
}

func (gitServer) Ready(ctx context.Context, l *Lab) error {
	return getOK(ctx, http.DefaultTransport, l.GitURL+"/healthz")
}
