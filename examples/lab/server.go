package lab

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Names of the servers of a lab.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KWOK              = "kwok"
	Git               = "gitserver"
	Gitea             = "gitea"
	Alertmanager      = "alertmanager"
	PostgreSQL        = "postgres"
	S3                = "versitygw"
)

// A server is one process of a lab.
type server interface {
	// Name is the name of the server and of its binary.
	Name() string
	// Needs names the servers that must be ready before this one starts.
	Needs() []string
	// Command writes the files the server needs and returns how to run it. It may be called again, to restart the
	// server on the same ports or, when a port was taken, on others.
	Command(ctx context.Context, l *Lab, binary string) (*exec.Cmd, error)
	// Ready returns nil once the server does its work.
	Ready(ctx context.Context, l *Lab) error
}

// servers lists every server in the order in which they start. A new one is added here.
var servers = []server{etcd{}, apiServer{}, controllerManager{}, scheduler{}, kwok{}, gitServer{}, gitea{}, alertmanager{}, postgres{},
	versitygw{}}

// Servers returns the names of all servers, in the order in which they start.
func Servers() []string {
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.Name())
	}
	return names
}

// withNeeds returns the named servers and all that they need, in the order in which they start.
func withNeeds(names []string) ([]server, error) {
	wanted := map[string]bool{}
	queue := slices.Clone(names)
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		i := slices.IndexFunc(servers, func(s server) bool { return s.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown server %q: the lab has %s", name, strings.Join(Servers(), ", "))
		}
		if !wanted[name] {
			wanted[name] = true
			queue = append(queue, servers[i].Needs()...)
		}
	}
	var list []server
	for _, s := range servers {
		if wanted[s.Name()] {
			list = append(list, s)
		}
	}
	return list, nil
}
