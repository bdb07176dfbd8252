package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/purser-gitops/purser/examples/lab"
)

// auditPolicy has every request written down when it was answered, but for watches and for what the benches themselves
// read of the API server's metrics. See https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: None, verbs: [watch]}
  - {level: None, users: [admin], nonResourceURLs: [/metrics]}
  - {level: Metadata}
`

// auditLog is what an API server writes down about requests, which tells whose they are.
type auditLog struct {
	file *os.File
	rest []byte // of a line that is not written to its end
}

// auditEvent is what the benches read of an event of group audit.k8s.io.
type auditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"` // who came in, not whom it impersonates
	} `json:"user"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"` // nil: the path is of no resource
}

// startAudit restarts the API server, which from then on writes an audit log. That costs it time: no other bench may use
// the cluster afterwards.
func (c *cluster) startAudit(ctx context.Context) (*auditLog, error) {
	policy, path := filepath.Join(c.lab.Dir, "audit.yaml"), filepath.Join(c.lab.Dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, err
	}
	// Without a size, the file would be moved away when it is full.
	err := c.lab.Restart(ctx, lab.APIServer, "--audit-policy-file="+policy, "--audit-log-path="+path, "--audit-log-maxsize=65536")
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &auditLog{file: file}, nil
}

func (l *auditLog) close() error { return l.file.Close() }

// next counts the requests that were written down since the last call.
func (l *auditLog) next() (requests, error) {
	text, err := io.ReadAll(l.file)
	if err != nil {
		return nil, err
	}
	counted := requests{}
	l.rest = append(l.rest, text...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return counted, nil
		}
		l.rest = rest
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		counted[e.request()]++
	}
}

func (e auditEvent) request() request {
	path, query, _ := strings.Cut(e.RequestURI, "?")
	r := request{user: e.User.Username, verb: strings.ToUpper(e.Verb)}
	if e.ObjectRef == nil {
		r.subresource = path
		return r
	}
	r.group, r.resource, r.subresource = e.ObjectRef.APIGroup, e.ObjectRef.Resource, e.ObjectRef.Subresource
	if strings.Contains(query, "dryRun=") {
		r.dryRun = "All"
	}
	return r
}

// ofAgent: the agent asked, in its own name or in that of a tenant.
func ofAgent(r request) bool { return r.user == agentUser }

func ofOthers(r request) bool { return !ofAgent(r) }
