package lab

import (
	"context"
	"os/exec"
	"strconv"
)

// apiServer is the Kubernetes API with RBAC and its default admission plugins.
type apiServer struct{}

func (apiServer) Name() string    { return APIServer }
func (apiServer) Needs() []string { return []string{Etcd} }

func (apiServer) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(APIServer)
	if err != nil {
		return nil, err
	}
	etcdPort, err := l.port(Etcd)
	if err != nil {
		return nil, err
	}
	l.APIURL = "https://" + loopback(port)
	if l.Kubeconfig, err = l.KubeconfigFor(Identity{User: "admin", Groups: []string{"system:masters"}}); err != nil {
		return nil, err
	}
	return exec.Command(binary,
		"--etcd-servers=http://"+loopback(etcdPort),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port="+strconv.Itoa(port),
		"--endpoint-reconciler-type=none", // loopback is no valid endpoint
		"--tls-cert-file="+l.path("pki", "serving.crt"),
		"--tls-private-key-file="+l.path("pki", "serving.key"),
		"--client-ca-file="+l.CAFile,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+l.path("pki", "service-account.pub"),
		"--service-account-signing-key-file="+l.path("pki", "service-account.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--allow-privileged=true",
		"--profiling=false",
	), nil
}

func (apiServer) Ready(ctx context.Context, l *Lab) error {
	return getOK(ctx, l.transport, l.APIURL+"/readyz")
}
