package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	readyTimeout = 3 * time.Minute // for one server, on a slow and busy machine
	stopGrace    = 10 * time.Second
	portTries    = 5
)

// Options say what a lab consists of.
type Options struct {
	// Dir is the data directory, created when missing. Required.
	Dir string
	// Servers are the servers to start; what they need is started too. Empty means all of them.
	Servers []string
	// Progress is told about slow steps and servers that die. Nil means standard error.
	Progress io.Writer
}

// A Lab is a set of running servers. Its methods may be called concurrently.
type Lab struct {
	Endpoints

	progress  io.Writer
	lock      *os.File
	transport *http.Transport // cluster-admin

	mu        sync.Mutex // guards the fields below and Endpoints; never held while waiting for a server
	processes map[string]*process
	ending    map[string]bool
	further   map[string][]string // arguments by server, besides those it always gets
	watchers  sync.WaitGroup

	change sync.Mutex // one start, stop or restart at a time
}

// Start starts a lab and returns when all its servers are ready. What an earlier lab in the same directory left
// running is ended first; its data are kept. When ctx ends before, or a server fails, everything is stopped again.
func Start(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{progress: o.Progress, processes: map[string]*process{}, ending: map[string]bool{}, further: map[string][]string{}}
	if l.progress == nil {
		l.progress = os.Stderr
	}
	names := o.Servers
	if len(names) == 0 {
		names = Servers()
	}
	if err := l.open(o.Dir); err != nil {
		return nil, fmt.Errorf("start lab: %w", err)
	}
	if err := l.StartServer(ctx, names...); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab: %w", err), l.Stop())
	}
	return l, nil
}

// open takes the data directory and clears what a crashed lab left in it.
func (l *Lab) open(dir string) error {
	if dir == "" {
		return errors.New("no data directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find data directory: %w", err)
	}
	for _, sub := range []string{"pids", "logs", "pki", "kubeconfigs", "etcd", "git"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("create data directory: %w", err)
		}
	}
	lock, err := tryLock(filepath.Join(dir, "lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("take data directory: another lab runs in %s", dir)
	}
	if err != nil {
		return err
	}
	if err := l.prepare(dir); err != nil {
		return errors.Join(err, lock.Close())
	}
	l.lock = lock
	return nil
}

func (l *Lab) prepare(dir string) error {
	l.Endpoints = Endpoints{Dir: dir, Ports: map[string]int{}, CAFile: filepath.Join(dir, "pki", "ca.crt")}
	if err := endLeftovers(l.path("pids")); err != nil {
		return err
	}
	// Ports of an earlier lab in this directory are used again when they are free, so that kubeconfigs stay valid.
	if data, err := os.ReadFile(l.path("lab.json")); err == nil {
		l.Ports = earlierPorts(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read earlier lab: %w", err)
	}
	if _, err := ensurePKI(l.path("pki")); err != nil {
		return err
	}
	var err error
	l.transport, err = l.Transport(Identity{User: "purser-lab", Groups: []string{"system:masters"}})
	return err
}

// StartServer starts the named servers and those they need, unless they run already, and waits until they are
// ready. A server that ran before gets the same ports as before.
func (l *Lab) StartServer(ctx context.Context, names ...string) error {
	list, err := withNeeds(names)
	if err != nil {
		return err
	}
	l.change.Lock()
	defer l.change.Unlock()
	binaries := map[string]string{}
	for _, s := range list {
		if binaries[s.Name()], err = binary(ctx, s.Name(), l.progress); err != nil {
			return err
		}
	}
	ready := map[string]chan struct{}{}
	for _, s := range list {
		ready[s.Name()] = make(chan struct{})
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range list {
		group.Go(func() error {
			for _, need := range s.Needs() {
				select {
				case <-ready[need]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := l.run(ctx, s, binaries[s.Name()]); err != nil {
				return err
			}
			close(ready[s.Name()])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return writeJSON(l.path("lab.json"), l.Endpoints)
}

// run starts one server unless it runs, with other ports when one of them turns out to be taken.
func (l *Lab) run(ctx context.Context, s server, binary string) error {
	if p := l.process(s.Name()); p != nil && p.running() {
		return nil
	}
	l.mu.Lock()
	restart := l.Has(s.Name())
	l.mu.Unlock()
	for try := 1; ; try++ {
		p, err := l.launch(ctx, s, binary)
		if err != nil {
			return err
		}
		err = l.awaitReady(ctx, s, p)
		if err == nil {
			l.started(s.Name())
			return nil
		}
		taken := !p.running() && strings.Contains(strings.ToLower(p.output()), "address already in use")
		l.end(s.Name(), (*process).kill)
		if !taken || try == portTries {
			return err
		}
		if restart { // it was promised its old port: whatever holds it, such as a closing socket, may let go
			if err := sleep(ctx, 200*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		l.forgetPort(s.Name())
	}
}

// launch starts the process of a server and watches it.
func (l *Lab) launch(ctx context.Context, s server, binary string) (*process, error) {
	cmd, err := s.Command(ctx, l, binary)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.Name(), err)
	}
	// Servers read many settings from the environment; they get none that was meant for something else.
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+l.Dir, "TMPDIR="+os.TempDir())
	cmd.Dir = l.Dir
	l.mu.Lock()
	cmd.Args = append(cmd.Args, l.further[s.Name()]...)
	l.mu.Unlock()
	p, err := startProcess(s.Name(), cmd, l.path("logs", s.Name()+".log"))
	if err != nil {
		return nil, err
	}
	if s, ok := s.(interface{ Quit() syscall.Signal }); ok {
		p.quit = s.Quit()
	}
	l.mu.Lock()
	l.processes[s.Name()] = p
	l.ending[s.Name()] = false
	l.mu.Unlock()
	if err := writePIDFile(l.path("pids", s.Name()+".json"), p); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// awaitReady polls the server until it is ready, has ended, or is given up.
func (l *Lab) awaitReady(ctx context.Context, s server, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %s", readyTimeout))
	defer cancel()
	for {
		check, cancelCheck := context.WithTimeout(ctx, 5*time.Second)
		err := s.Ready(check, l)
		cancelCheck()
		if !p.running() {
			return p.ended()
		}
		if err == nil {
			return nil
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("wait for %s: %w (last check: %w, log: %s)", s.Name(), context.Cause(ctx), err, p.log)
		}
	}
}

// started notes that a server is up and from now on reports when it dies.
func (l *Lab) started(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.processes[name]
	if !l.Has(name) {
		l.Servers = append(l.Servers, name)
	}
	l.watchers.Go(func() {
		<-p.done
		l.mu.Lock()
		expected := l.ending[name]
		l.mu.Unlock()
		if !expected {
			fmt.Fprintf(l.progress, "lab: %v\n", p.ended())
		}
	})
}

// process returns the process of a server, running or not; nil when there was none.
func (l *Lab) process(name string) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.processes[name]
}

// end ends a server in the given way, which waits until it is gone.
func (l *Lab) end(name string, how func(*process)) {
	l.mu.Lock()
	p := l.processes[name]
	l.ending[name] = true
	l.mu.Unlock()
	if p == nil {
		return
	}
	how(p)
	// A file that cannot be removed names a process that is gone: the next start sees that.
	_ = os.Remove(l.path("pids", name+".json"))
}

func gently(p *process) { p.stop(stopGrace) }

// StopServer stops one server as an administrator would and waits until it is gone. The others keep running.
func (l *Lab) StopServer(name string) error { return l.endKnown(name, gently) }

// Kill ends one server at once, as a crash would, and waits until it is gone.
func (l *Lab) Kill(name string) error { return l.endKnown(name, (*process).kill) }

// Restart stops one server and starts it again on the same ports, with further arguments that it keeps until the next
// Restart.
func (l *Lab) Restart(ctx context.Context, name string, further ...string) error {
	if err := l.StopServer(name); err != nil {
		return err
	}
	l.mu.Lock()
	l.further[name] = further
	l.mu.Unlock()
	return l.StartServer(ctx, name)
}

func (l *Lab) endKnown(name string, how func(*process)) error {
	l.change.Lock()
	defer l.change.Unlock()
	if l.process(name) == nil {
		return fmt.Errorf("end %s: it was not started", name)
	}
	l.end(name, how)
	return nil
}

// Pause stops one server from doing anything while its connections stay open, as an overloaded machine would.
func (l *Lab) Pause(ctx context.Context, name string) error {
	p, err := l.signalKnown(name, syscall.SIGSTOP)
	if err != nil {
		return err
	}
	// The signal reaches the threads one by one.
	for {
		stopped, err := allStopped(p.pid)
		if err != nil || stopped {
			return err
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("pause %s: %w", name, err)
		}
	}
}

// Resume lets a paused server go on.
func (l *Lab) Resume(name string) error {
	_, err := l.signalKnown(name, syscall.SIGCONT)
	return err
}

func (l *Lab) signalKnown(name string, sig syscall.Signal) (*process, error) {
	p := l.process(name)
	if p == nil || !p.running() {
		return nil, fmt.Errorf("signal %s: it does not run", name)
	}
	p.signal(sig)
	return p, nil
}

// Stop stops all servers, those started last first, and waits until they are gone. The data stay.
func (l *Lab) Stop() error {
	l.change.Lock()
	defer l.change.Unlock()
	if l.lock == nil {
		return nil
	}
	// Servers that nothing needs go together; the API server and etcd after them, one by one.
	var group sync.WaitGroup
	for _, s := range servers {
		if s.Name() != APIServer && s.Name() != Etcd {
			group.Go(func() { l.end(s.Name(), gently) })
		}
	}
	group.Wait()
	l.transport.CloseIdleConnections()
	l.end(APIServer, gently)
	l.end(Etcd, gently)
	l.watchers.Wait()
	err := l.lock.Close()
	l.lock = nil
	return err
}
