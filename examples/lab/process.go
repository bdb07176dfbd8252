package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// tailLines is how many of the last lines of a server's log an error shows.
const tailLines = 20

// A process is one running server: the leader of its own process group, which the kernel ends together with the
// process that started it.
type process struct {
	name   string
	log    string
	offset int64          // where this process begins in its log
	quit   syscall.Signal // asks it to end
	pid    int
	done   chan struct{} // closed when the process is gone and reaped
	state  string        // how it ended; read after done
}

// inUserNamespace makes a process an ordinary user in a user namespace of its own, which needs no rights; namespaces are
// flags of further ones. To the outside it is who this process is: files are theirs.
func inUserNamespace(namespaces uintptr) *syscall.SysProcAttr {
	const nobody = 65534 // has an entry in /etc/passwd everywhere
	return &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER | namespaces,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}},
	}
}

// startProcess starts cmd and appends its output to the log file.
func startProcess(name string, cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	offset, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log of %s: %w", name, err), out.Close())
	}
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	cmd.SysProcAttr.Setpgid = true

	p := &process{name: name, log: log, offset: offset, quit: syscall.SIGTERM, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that forked ends, so that thread stays for as long as the
		// process runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", name, err)
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		_ = cmd.Wait() // the state says how it ended
		p.state = cmd.ProcessState.String()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process and its children.
func (p *process) signal(sig syscall.Signal) {
	if p.running() {
		_ = syscall.Kill(-p.pid, sig) // ESRCH: it has just ended
	}
}

// stop asks the process to end, kills it after grace, and waits until it is gone.
func (p *process) stop(grace time.Duration) {
	p.signal(p.quit)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// output returns the last part, at most 64 KiB, of what this process wrote to its log.
func (p *process) output() string {
	const limit = 64 << 10
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	from := p.offset
	if info, err := f.Stat(); err == nil && info.Size()-limit > from {
		from = info.Size() - limit
	}
	data, err := io.ReadAll(io.NewSectionReader(f, from, limit))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(data))
}

// ended is the error that tells how the process ended, with the last lines of its log.
func (p *process) ended() error {
	lines := strings.Split(p.output(), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return fmt.Errorf("%s ended early (%s), last lines of %s:\n\t%s", p.name, p.state, p.log, strings.Join(lines, "\n\t"))
}
