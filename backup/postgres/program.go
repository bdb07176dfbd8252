package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/sources/credential"
)

const (
	pipeBytes = 1 << 20 // asked of the kernel; it may give less
	stopGrace = 10 * time.Second
	// Of what a program says, an error has the first lines and the last.
	saidLines = 6
	saidBytes = 16 << 10
)

// A program is a run of one of PostgreSQL's programs.
type program struct {
	tool tool
	args []string
	on   Connection // zero for none
	in   io.Reader  // nil for nothing; read to its end, where it shows whether it is whole
	out  io.Writer  // nil for nothing
	file *os.File   // nil for none; its last argument is a path of it
	// stall is how long it may write nothing while it could; 0 for any time.
	stall time.Duration
}

// run runs the program to its end, and returns what it said. The program ends with us, however we end; processes that it has
// started end with the run.
func (p program) run(ctx context.Context) (said string, err error) {
	name := filepath.Base(p.tool.path)
	env, password := []string{"LC_ALL=C", "HOME=/nonexistent"}, (*os.File)(nil)
	if p.on != (Connection{}) {
		if env, password, err = p.on.environment(); err != nil {
			return "", fmt.Errorf("run %s: %w", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var inherited []*os.File // as descriptors from 3 on
	if password != nil {
		defer password.Close()
		inherited = append(inherited, password)
	}
	args := p.args
	if p.file != nil {
		inherited = append(inherited, p.file)
		args = append(args[:len(args):len(args)], "/proc/self/fd/"+strconv.Itoa(2+len(inherited)))
	}
	cmd := exec.CommandContext(ctx, p.tool.path, args...)
	cmd.Env, cmd.Dir = env, "/"
	var words tail
	cmd.Stderr = &words
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cancels what it asked of the server
	cmd.WaitDelay = stopGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.ExtraFiles = inherited
	err = p.pipe(ctx, cancel, cmd)
	if cmd.Process != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // those that outlive it, if any
	}
	said = words.text()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the program was ended because of it
	}
	if err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	if err != nil {
		return said, fmt.Errorf("run %s: %w", name, err)
	}
	return said, nil
}

// pipe starts the program, moves its input and output, and waits for it. What fails to move ends the program.
func (p program) pipe(ctx context.Context, cancel context.CancelCauseFunc, cmd *exec.Cmd) (err error) {
	var theirs [2]*os.File // input, output
	ours := [2]*pipeEnd{{fd: -1}, {fd: -1}}
	defer func() {
		for i := range ours {
			_ = ours[i].Close()
			_ = theirs[i].Close() // an error for the second time, and for none
		}
	}()
	if p.in != nil {
		if theirs[0], ours[0], err = widePipe(true); err != nil {
			return err
		}
		cmd.Stdin = theirs[0]
	}
	if p.out != nil {
		if theirs[1], ours[1], err = widePipe(false); err != nil {
			return err
		}
		cmd.Stdout = theirs[1]
	}
	ended, err := start(cmd)
	if err != nil {
		return err
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	fed := make(chan error, 1)
	go func() {
		var err error
		if p.in != nil {
			err = feed(ours[0], p.in)
			_ = ours[0].Close()
		}
		if err != nil {
			cancel(fmt.Errorf("read input: %w", err))
		}
		fed <- err
	}()
	if p.out != nil {
		from, unwatch := p.watch(onlyReader{ours[1]}, cancel)
		defer unwatch()
		if _, err := io.CopyBuffer(onlyWriter{p.out}, from, make([]byte, pipeBytes)); err != nil {
			cancel(fmt.Errorf("write output: %w", err))
		}
	}
	if err = errors.Join(<-ended, <-fed); err != nil || p.in == nil {
		return err
	}
	if _, err = io.Copy(io.Discard, onlyReader{p.in}); err != nil { // what it did not want; at the end shows whether all was whole
		return fmt.Errorf("read input: %w", err)
	}
	return nil
}

// watch ends the program if nothing comes of it for too long.
func (p program) watch(output io.Reader, cancel context.CancelCauseFunc) (_ io.Reader, stop func()) {
	if p.stall <= 0 {
		return output, func() {}
	}
	s := &silence{limit: p.stall}
	s.begin(func() { cancel(stalled(p.stall)) })
	return awaited{output, s}, s.pause
}

// start starts the program on a thread that lives as long as it does: when the thread that forked ends, the kernel takes
// that for our end. The channel yields how the program ended.
func start(cmd *exec.Cmd) (<-chan error, error) {
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}

// feed moves in to a program, to its end or until the program wants no more, which is no error.
func feed(program io.Writer, in io.Reader) error {
	buffer := make([]byte, pipeBytes)
	for {
		n, err := in.Read(buffer)
		if n > 0 {
			if _, err := program.Write(buffer[:n]); err != nil {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// onlyReader and onlyWriter hide the methods with which io.Copy does without a buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// PostgreSQL's programs read and write 4 KiB at a time. To be woken for each of these costs more than the work on it, so
// that we leave a pipe alone for a moment when there is little to do, and keep it from Go's poller, which is woken as well.
const batchPause = 2 * time.Millisecond

// A pipeEnd is ours of a pipe to a program. Reading ends when the program does.
type pipeEnd struct {
	fd    int
	empty bool // when it was read last
}

// Read blocks a thread.
func (e *pipeEnd) Read(p []byte) (int, error) {
	if e.empty {
		time.Sleep(batchPause)
	}
	for {
		n, err := unix.Read(e.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, os.NewSyscallError("read pipe", err)
		case n == 0:
			return 0, io.EOF
		default:
			e.empty = n < len(p)/2
			return n, nil
		}
	}
}

// Write writes all of p, or fails because the program wants no more.
func (e *pipeEnd) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := unix.Write(e.fd, p[written:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			time.Sleep(batchPause)
		case err != nil:
			return written, os.NewSyscallError("write pipe", err)
		default:
			written += n
		}
	}
	return written, nil
}

// Close may be called again.
func (e *pipeEnd) Close() error {
	if e.fd < 0 {
		return nil
	}
	fd := e.fd
	e.fd = -1
	return unix.Close(fd)
}

// widePipe is a pipe to a program, or from it.
func widePipe(to bool) (theirs *os.File, ours *pipeEnd, err error) {
	var fds [2]int
	ours = &pipeEnd{fd: -1}
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, ours, os.NewSyscallError("create pipe", err)
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeBytes) // else it is narrow
	if !to {
		ours.fd = fds[0]
		return os.NewFile(uintptr(fds[1]), "output"), ours, nil
	}
	ours.fd = fds[1]
	theirs = os.NewFile(uintptr(fds[0]), "input")
	if err := unix.SetNonblock(ours.fd, true); err != nil {
		return theirs, ours, os.NewSyscallError("prepare pipe", err)
	}
	return theirs, ours, nil
}

// A tail keeps the beginning and the end of what a program says.
type tail struct{ first, last []byte }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if room := saidBytes - len(t.first); room > 0 {
		t.first = append(t.first, p[:min(room, n)]...)
		p = p[min(room, n):]
	}
	t.last = append(t.last, p...)
	if over := len(t.last) - saidBytes; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

// text is fit for a log.
func (t *tail) text() string {
	var lines []string
	for line := range bytes.Lines(append(append([]byte(nil), t.first...), t.last...)) {
		if line := credential.Scrub(string(line)); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > saidLines {
		lines = append(append(lines[:saidLines/2:saidLines/2], "…"), lines[len(lines)-saidLines/2:]...)
	}
	return strings.Join(lines, "; ")
}
