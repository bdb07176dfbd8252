package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/purser-gitops/purser/reconciler"
)

// agent is the purser process of the demo.
type agent struct {
	purser, config, log, server string
	cmd                         *exec.Cmd
	exited                      chan error
}

const agentConfig = `apiVersion: purser.dev/v1alpha1
kind: AgentConfig
spec:
  writer: demo
  dataDir: data
  governance: {trust: {onFirstUse: true}}
  listen: %s
  sources:
    - name: estate
      url: %s
      interval: 1s
  clusters:
    - name: lab
      kubeconfig: %s
  audit:
    url: %s
    signingKeyFile: signing
%s`

// newAgent writes the configuration of an agent.
func newAgent(dir, purser, kubeconfig, estate, audit, backups string) (*agent, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	a := &agent{purser: purser, config: filepath.Join(dir, "purser.yaml"), log: filepath.Join(dir, "purser.log"), server: "http://" + address}
	return a, os.WriteFile(a.config, fmt.Appendf(nil, agentConfig, address, estate, kubeconfig, audit, backups), 0o600)
}

// start runs "purser run" and returns when it answers.
func (a *agent) start(ctx context.Context) error {
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a.cmd = exec.Command(a.purser, "run", "--config", a.config)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- a.cmd.Wait() }()
	a.exited = exited
	return until(ctx, func() error {
		select {
		case err := <-exited:
			exited <- err
			return fmt.Errorf("purser run ended: %v%s", err, a.tail())
		default:
		}
		response, err := http.Get(a.server + "/healthz")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
}

// signal ends the process in the way of the signal, and waits.
func (a *agent) signal(s syscall.Signal) error {
	if a == nil || a.cmd == nil {
		return nil
	}
	if err := a.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-a.exited:
		a.cmd = nil
		if s == syscall.SIGTERM && err != nil {
			return fmt.Errorf("purser run ended: %w%s", err, a.tail())
		}
		return nil
	case <-time.After(patience):
		return errors.Join(errors.New("purser run does not end"), a.cmd.Process.Kill())
	}
}

func (a *agent) stop() error { return a.signal(syscall.SIGTERM) }

// ask reads one document of the agent's API.
func ask[T any](a *agent, path string) (answer T, err error) {
	response, err := http.Get(a.server + "/api/v1/" + path)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

// status asks for everything the agent knows.
func (a *agent) status() (reconciler.Status, error) { return ask[reconciler.Status](a, "status") }

// explanation asks what the gates answer about an environment.
func (a *agent) explanation(name string) (reconciler.Explanation, error) {
	return ask[reconciler.Explanation](a, "environments/"+name+"/explain")
}

// environment asks for one environment.
func (a *agent) environment(name string) (reconciler.EnvironmentStatus, error) {
	s, err := a.status()
	for _, e := range s.Environments {
		if e.Name == name {
			return e, nil
		}
	}
	return reconciler.EnvironmentStatus{}, errors.Join(err, fmt.Errorf("the agent does not know %q yet", name))
}

// tail is the end of the agent's log, for an error message.
func (a *agent) tail() string {
	if a == nil {
		return ""
	}
	file, err := os.Open(a.log)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 4096 {
		_, _ = file.Seek(-4096, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	return "\nthe agent's log ends with:\n" + strings.TrimSpace(string(text))
}
