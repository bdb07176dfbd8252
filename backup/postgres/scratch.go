package postgres

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// nobody is the user of scratch servers; it has an entry in /etc/passwd everywhere, which initdb wants.
	nobody       = 65534
	initTimeout  = 3 * time.Minute
	readyTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
	maxSocket    = 107 // bytes of the path of a Unix socket: unix(7)
	scratchName  = "scratch-"
	socketName   = ".s.PGSQL.5432"
)

// scratchSettings are those of a server whose data nobody needs after a crash, with memory that is bounded. Its only
// connections are ours.
var scratchSettings = []string{
	"listen_addresses=",
	"dynamic_shared_memory_type=sysv", // goes with the namespace
	"fsync=off", "synchronous_commit=off", "full_page_writes=off",
	"wal_level=minimal", "max_wal_senders=0", "max_wal_size=2GB", // tables that a transaction creates and fills need no log
	"checkpoint_timeout=1h", "autovacuum=off",
	"shared_buffers=128MB", "maintenance_work_mem=128MB", "max_parallel_maintenance_workers=1",
	"max_connections=20", "max_locks_per_transaction=2048", // one transaction reads all tables
	"log_min_messages=warning", "max_prepared_transactions=0", "archive_mode=off",
	"shared_preload_libraries=", "session_preload_libraries=", "local_preload_libraries=",
}

// A Server is a scratch server, with one superuser: ours.
type Server struct {
	tools Tools
	major int
	dir   string
	lock  *os.File // of dir: it is in use
	cmd   *exec.Cmd
	ended <-chan error
	pid   int
	user  string
	pass  string
	log   string
	roles bool // are restored
}

// Scratch starts a server in a new folder below dir, which must be one that every user may pass through. It cannot reach
// any network and listens on a Unix socket only. What servers left behind in dir that ended with their agent is removed.
// The caller ends it with Close.
func Scratch(ctx context.Context, dir string, t Tools, major int) (*Server, error) {
	s := &Server{tools: t, major: major, user: "purser-" + strings.ToLower(rand.Text()[:8]), pass: rand.Text()}
	if err := s.start(ctx, dir); err != nil {
		return nil, fmt.Errorf("start scratch server: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, dir string) error {
	initdb, err := s.tools.find(ctx, "initdb", s.major)
	if err != nil {
		return err
	}
	server, err := s.tools.find(ctx, "postgres", s.major)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if _, err := RemoveLeftovers(ctx, dir); err != nil {
		return err
	}
	if err := s.folder(dir); err != nil {
		return err
	}
	if err := s.initdb(ctx, initdb); err != nil {
		return err
	}
	if err := s.startServer(server); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.Isolated()
}

// folder creates the server's folder, which belongs to its user and is locked for as long as it is ours.
func (s *Server) folder(dir string) (err error) {
	if len(filepath.Join(dir, scratchName+"XXXXXXXXXX", socketName)) > maxSocket {
		return hint(fmt.Errorf("the folder %s has too long a path for a Unix socket", dir), "name a folder of %d bytes at most",
			maxSocket-len("//"+scratchName+"XXXXXXXXXX"+socketName))
	}
	for s.lock == nil { // until it is locked, another process may take it for a leftover
		if s.dir, err = os.MkdirTemp(dir, scratchName+"*"); err != nil {
			return err
		}
		if s.lock, err = lockFolder(s.dir); err != nil && !errors.Is(err, errInUse) {
			return err
		}
	}
	if rights() {
		if err := os.Chown(s.dir, nobody, nobody); err != nil {
			return err
		}
	}
	s.log = filepath.Join(s.dir, "log")
	return nil
}

// rights says whether we are root, and there is a nobody that we can become. In a user namespace there may be none.
func rights() bool {
	if os.Geteuid() != 0 {
		return false
	}
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(users)) {
		var from, to, count int64
		if n, _ := fmt.Sscan(line, &from, &to, &count); n == 3 && from <= nobody && nobody < from+count {
			return true
		}
	}
	return false
}

// confine puts a program where it has no network, sees no process but its own, and is nobody: as root by the rights of
// that user, else in a user namespace, to the outside of which it is who we are.
func confine(cmd *exec.Cmd) {
	attr := &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, Setpgid: true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if rights() {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	} else {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
}

// command is a program that runs confined, in the server's folder.
func (s *Server) command(t tool, args ...string) *exec.Cmd {
	cmd := exec.Command(t.path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + s.dir, "TMPDIR=" + s.dir, "LC_ALL=C", "TZ=UTC"}
	confine(cmd)
	return cmd
}

func (s *Server) initdb(ctx context.Context, t tool) error {
	password, err := memoryFile("password", s.pass+"\n")
	if err != nil {
		return err
	}
	defer password.Close()
	if rights() {
		if err := password.Chown(nobody, nobody); err != nil {
			return err
		}
	}
	cmd := s.command(t, "--pgdata=data", "--username="+s.user, "--pwfile=/proc/self/fd/3", "--auth=scram-sha-256", "--encoding=UTF8",
		"--locale=C", "--no-sync", "--no-instructions")
	cmd.ExtraFiles = []*os.File{password}
	var words tail
	cmd.Stdout, cmd.Stderr = &words, &words
	ended, err := start(cmd)
	if err != nil {
		return s.unable("initdb", err)
	}
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("run initdb: %w", context.Cause(ctx))
	}
	if err != nil {
		return s.unable("initdb", fmt.Errorf("%w: %s", err, words.text()))
	}
	return nil
}

// unable says why a program did not start or work.
func (s *Server) unable(program string, err error) error {
	var start *fs.PathError
	if errors.As(err, &start) && start.Err == unix.ENOSPC { // that is how Linux says that there may be no more namespaces
		err = errors.New("no more namespaces may be made (see /proc/sys/user)")
		return hint(fmt.Errorf("run %s: %w", program, err), "it needs namespaces of its own, as root or with unprivileged user namespaces")
	}
	err = fmt.Errorf("run %s: %w", program, err)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		return hint(err, "it needs namespaces of its own, as root or with unprivileged user namespaces, and a folder that every user may pass through")
	}
	return err
}

func (s *Server) startServer(t tool) error {
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd = s.command(t, "-D", "data", "-k", s.dir, "-p", strconv.Itoa(defaultPort))
	for _, setting := range scratchSettings {
		s.cmd.Args = append(s.cmd.Args, "-c", setting)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	ended, err := start(s.cmd)
	if err != nil {
		return s.unable("postgres", err)
	}
	s.ended, s.pid = ended, s.cmd.Process.Pid
	return nil
}

// Connection says how to reach a database of the server, as its superuser.
func (s *Server) Connection(database string) Connection {
	return Connection{Host: s.dir, User: s.user, Database: database, password: s.pass}
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		conn, err := s.Connection("postgres").connect(ctx, "purser backup: start")
		if err == nil {
			closeConn(conn)
			return nil
		}
		retry := time.NewTimer(20 * time.Millisecond)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return errors.Join(context.Cause(ctx), err, s.words())
		case ended := <-s.ended:
			retry.Stop()
			s.cmd = nil
			return errors.Join(fmt.Errorf("run postgres: it has ended: %w", ended), s.words())
		}
	}
}

// words are what the server has said of errors, as an error; nil for nothing.
func (s *Server) words() error {
	f, err := os.Open(s.log)
	if err != nil {
		return nil
	}
	defer f.Close()
	var said tail
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Bytes(); bytes.Contains(line, []byte("ERROR:")) || bytes.Contains(line, []byte("FATAL:")) || bytes.Contains(line, []byte("PANIC:")) {
			_, _ = said.Write(append(line, '\n'))
		}
	}
	if text := said.text(); text != "" {
		return fmt.Errorf("the server says: %s", text)
	}
	return nil
}

// Isolated makes sure that the server is in a network of its own that leads nowhere.
func (s *Server) Isolated() error {
	proc := "/proc/" + strconv.Itoa(s.pid)
	theirs, err := os.Readlink(proc + "/ns/net")
	if err != nil {
		return fmt.Errorf("look at the server's network: %w", err)
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("look at the server's network: %w", err)
	}
	devices, err := os.ReadFile(proc + "/net/dev")
	if err != nil {
		return fmt.Errorf("look at the server's network: %w", err)
	}
	routes, err := os.ReadFile(proc + "/net/fib_trie")
	if err != nil {
		return fmt.Errorf("look at the server's network: %w", err)
	}
	if lines := strings.Count(string(devices), ":"); theirs == ours || lines != 1 || !strings.Contains(string(devices), " lo:") || len(routes) > 0 {
		return fmt.Errorf("the server is not isolated: network %s (ours %s) has %q and the routes %q", theirs, ours, devices, routes)
	}
	return nil
}

// Close ends the server and removes its data. Without an error neither a process nor a file of it is left: its first
// process is gone only after all others of its namespace are, and the folder is looked for.
func (s *Server) Close() error {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // nobody needs the data
		timeout := time.NewTimer(stopTimeout)
		defer timeout.Stop()
		select {
		case <-s.ended:
			s.cmd = nil
		case <-timeout.C:
			return fmt.Errorf("stop scratch server: process %d still runs after %s", s.pid, stopTimeout)
		}
	}
	if s.dir == "" {
		return nil
	}
	err := os.RemoveAll(s.dir)
	if err == nil {
		if _, gone := os.Lstat(s.dir); !errors.Is(gone, fs.ErrNotExist) {
			err = fmt.Errorf("%s is still there", s.dir)
		}
	}
	if err != nil {
		return fmt.Errorf("remove scratch server: %w", err)
	}
	s.dir = ""
	if s.lock != nil {
		err = s.lock.Close()
		s.lock = nil
	}
	return err
}
