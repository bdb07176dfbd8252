package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// agent is a purser process with a configuration of its own: the real program, and nothing of it in this one.
type agent struct {
	surface
	dir, purser, config, log string

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	err    error         // how it ended, once exited is closed
}

// agentConfig leaves to the defaults whatever can be left to them.
const agentConfig = `apiVersion: purser.dev/v1alpha1
kind: AgentConfig
spec:
  dataDir: data
  governance: {trust: {onFirstUse: true}}
  listen: %s
  sources:
    - name: estate
      url: %s
      webhook: {secretFile: hook}
  clusters:
    - name: lab
      kubeconfig: %s
  audit:
    url: %s
    signingKeyFile: signing
`

// newAgent writes the configuration of an agent into a folder of its own and lets it begin its log.
func newAgent(ctx context.Context, dir, purser, kubeconfig, estateURL, auditURL string) (*agent, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	a := &agent{
		surface: surface{url: "http://" + address, source: "estate", secret: "bench"},
		dir:     dir, purser: purser, config: filepath.Join(dir, "purser.yaml"), log: filepath.Join(dir, "purser.log"),
	}
	if err := errors.Join(
		os.WriteFile(a.config, fmt.Appendf(nil, agentConfig, address, estateURL, kubeconfig, auditURL), 0o600),
		os.WriteFile(filepath.Join(dir, "hook"), []byte(a.secret+"\n"), 0o600),
	); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, purser, "init", "--config", a.config).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("purser init: %w\n%s", err, out)
	}
	return a, nil
}

// start runs "purser run". It does not wait for anything.
func (a *agent) start() error {
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a.cmd = exec.Command(a.purser, "run", "--config", a.config, "--log-format", "json")
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		return fmt.Errorf("start purser: %w", err)
	}
	a.exited = make(chan struct{})
	go func() {
		a.err = a.cmd.Wait()
		close(a.exited)
	}()
	return nil
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

// alive is an error when the process has ended.
func (a *agent) alive() error {
	select {
	case <-a.exited:
		return fmt.Errorf("purser run ended: %v%s", a.err, a.tail())
	default:
		return nil
	}
}

// stop ends the process in order and waits until it is gone.
func (a *agent) stop() error {
	if a == nil || a.cmd == nil {
		return nil
	}
	defer a.close()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-a.exited:
	case <-time.After(time.Minute):
		err := errors.Join(errors.New("purser run does not end"), a.cmd.Process.Kill())
		<-a.exited
		a.cmd = nil
		return err
	}
	a.cmd = nil
	if a.err != nil {
		return fmt.Errorf("purser run ended: %w%s", a.err, a.tail())
	}
	return nil
}

// tail is the end of the agent's log, for an error message.
func (a *agent) tail() string {
	const most = 4096 // bytes
	file, err := os.Open(a.log)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		_, _ = file.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, most))
	return "\nthe agent's log ends with:\n" + strings.TrimSpace(string(text))
}
