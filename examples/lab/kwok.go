package lab

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
)

// podAnnotation on a pod makes KWOK keep it from becoming Ready: its value is "not-ready", "image-missing" or
// "crashing".
const podAnnotation = "lab.purser.dev/pod"

// podCIDR is where KWOK takes pod addresses from.
const podCIDR = "10.64.0.0/16"

// kwokNode is the one node of the lab, which has room for everything.
const kwokNode = "lab-node"

//go:embed kwok-stages.yaml
var kwokStages []byte

// kwok plays the kubelet: it moves pods through their life as kwok-stages.yaml says, without running anything.
type kwok struct{}

func (kwok) Name() string    { return KWOK }
func (kwok) Needs() []string { return []string{APIServer} }

func (kwok) Command(_ context.Context, l *Lab, binary string) (*exec.Cmd, error) {
	port, err := l.port(KWOK)
	if err != nil {
		return nil, err
	}
	config, err := l.KubeconfigFor(Identity{User: KWOK, Groups: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	if err := writeFile(l.path("kwok-stages.yaml"), kwokStages, 0o600); err != nil {
		return nil, err
	}
	return exec.Command(binary,
		"--kubeconfig="+config,
		"--config="+l.path("kwok-stages.yaml"),
		"--manage-all-nodes",
		"--node-lease-duration-seconds=40", // heartbeats: without them the node and its pods are unready after a minute
		"--cidr="+podCIDR,
		"--node-ip=127.0.0.1",
		"--server-address="+loopback(port),
		"--tls-cert-file="+l.path("pki", "serving.crt"),
		"--tls-private-key-file="+l.path("pki", "serving.key"),
	), nil
}

// Ready waits until the lab's node is Ready, which KWOK makes it.
func (kwok) Ready(ctx context.Context, l *Lab) error {
	node := map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{
			"name":        kwokNode,
			"labels":      map[string]string{"kubernetes.io/hostname": kwokNode, "kubernetes.io/os": "linux", "type": "kwok"},
			"annotations": map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
	}
	status, body, err := l.request(ctx, http.MethodGet, "/api/v1/nodes/"+kwokNode, nil)
	if err == nil && status == http.StatusNotFound {
		status, body, err = l.request(ctx, http.MethodPost, "/api/v1/nodes", node)
	}
	if err != nil {
		return err
	}
	if status >= 300 {
		return fmt.Errorf("create node: status %d: %s", status, body)
	}
	var got struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("read node: %w", err)
	}
	for _, c := range got.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready yet", kwokNode)
}

// request sends one request to the API server as cluster-admin.
func (l *Lab) request(ctx context.Context, method, path string, object any) (int, []byte, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return 0, nil, fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, l.APIURL+path, bytes.NewReader(data))
	if err != nil {
		return 0, nil, fmt.Errorf("build request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Transport: l.transport}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return response.StatusCode, body, nil
}
