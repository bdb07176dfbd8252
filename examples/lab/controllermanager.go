package lab

import (
	"context"
	"os/exec"
	"strconv"
)

// controllerManager runs the built-in controllers. Deployments, garbage collection, the deletion of namespaces,
// default service accounts and quotas need it.
type controllerManager struct{}

func (controllerManager) Name() string    { return ControllerManager }
func (controllerManager) Needs() []string { return []string{APIServer} }

func (controllerManager) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	args, err := componentArgs(l, ControllerManager)
	if err != nil {
		return nil, err
	}
	return exec.Command(binary, append(args,
		"--service-account-private-key-file="+l.path("pki", "service-account.key"),
		"--root-ca-file="+l.CAFile,
		"--use-service-account-credentials",
		"--kube-api-qps=100", // five times the defaults: nothing but the lab's own work asks for anything
		"--kube-api-burst=200",
	)...), nil
}

func (controllerManager) Ready(ctx context.Context, l *Lab) error {
	return componentReady(ctx, l, ControllerManager)
}

// componentArgs are the arguments common to the components that work on the API server.
func componentArgs(l *Lab, name string) ([]string, error) {
	port, err := l.port(name)
	if err != nil {
		return nil, err
	}
	config, err := l.KubeconfigFor(Identity{User: "system:" + name})
	if err != nil {
		return nil, err
	}
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--tls-cert-file=" + l.path("pki", "serving.crt"),
		"--tls-private-key-file=" + l.path("pki", "serving.key"),
		"--profiling=false",
	}, nil
}

// componentReady asks such a component for its health.
func componentReady(ctx context.Context, l *Lab, name string) error {
	port, err := l.port(name)
	if err != nil {
		return err
	}
	return getOK(ctx, l.transport, "https://"+loopback(port)+"/healthz")
}
