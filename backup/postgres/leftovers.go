package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// scratchForm is the name that a scratch server's folder gets.
var scratchForm = regexp.MustCompile(`^` + scratchName + `[0-9]+$`)

// errInUse says that a folder is another process's, or gone.
var errInUse = errors.New("the folder is in use")

// lockFolder marks a folder as in use, until the file is closed or this process ends. It fails with errInUse if another process
// has it, or has removed it.
func lockFolder(dir string) (_ *os.File, err error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lock %s: %w", dir, errInUse)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errInUse
	} else if err != nil {
		return nil, err
	}
	ours, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if there, err := os.Lstat(dir); err != nil || !os.SameFile(ours, there) {
		return nil, errInUse
	}
	return f, nil
}

// RemoveLeftovers removes below dir the folders of scratch servers whose process has ended without, and ends what still runs of
// these servers. It leaves alone those that are in use, and whatever is no scratch server's. It says what it removed.
func RemoveLeftovers(ctx context.Context, dir string) (removed []string, err error) {
	fail := func(err error) ([]string, error) {
		return removed, fmt.Errorf("remove what an earlier scratch server left: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return fail(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fail(err)
	}
	for _, e := range entries {
		if !e.IsDir() || !scratchForm.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		lock, err := lockFolder(path)
		if errors.Is(err, errInUse) || errors.Is(err, fs.ErrPermission) { // another user's
			continue
		}
		if err != nil {
			return fail(err)
		}
		if ours, err := madeByUs(lock); !ours || err != nil {
			if err = errors.Join(err, lock.Close()); err != nil {
				return fail(err)
			}
			continue
		}
		err = endServer(ctx, path)
		if err == nil { // a process that is left is found by its folder
			err = os.RemoveAll(path)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return fail(err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// madeByUs says that a folder belongs to who we are, or to the user of scratch servers if we can become that.
func madeByUs(folder *os.File) (bool, error) {
	info, err := folder.Stat()
	if err != nil {
		return false, err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	return owner == uint32(os.Geteuid()) || owner == nobody && rights(), nil
}

// endServer ends the processes that a scratch server with this folder has left. They end with the process that started them, by
// the kernel; but not if that was killed in the moment in which it started them.
func endServer(ctx context.Context, folder string) error {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, process := range processes {
		if !serverProcess(process, folder) {
			continue
		}
		if err := endProcess(ctx, process, folder); err != nil {
			return fmt.Errorf("end process %s: %w", filepath.Base(process), err)
		}
	}
	return nil
}

// serverProcess says that a process works in a scratch server's folder and in a namespace that is not ours: nobody comes there but
// by confine. What cannot be read is another user's, or gone.
func serverProcess(process, folder string) bool {
	in, err := os.Readlink(process + "/cwd")
	if err != nil || in != folder && !strings.HasPrefix(in, folder+"/") {
		return false
	}
	for _, namespace := range []string{"/ns/pid", "/ns/net"} {
		theirs, err := os.Readlink(process + namespace)
		if err != nil {
			return false
		}
		if ours, err := os.Readlink("/proc/self" + namespace); err != nil || ours == theirs {
			return false
		}
	}
	return true
}

// endProcess kills a process of a server, and waits until it is gone.
func endProcess(ctx context.Context, process, folder string) error {
	pid, err := strconv.Atoi(filepath.Base(process))
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if !serverProcess(process, folder) { // it has gone, and another got its number
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	const step = 100 * time.Millisecond
	for waited := time.Duration(0); waited < stopTimeout; waited += step {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("it still runs after %s", stopTimeout)
}
