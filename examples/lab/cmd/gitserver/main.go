// Command gitserver serves the bare repositories of one folder over smart HTTP on loopback, for the lab. Reading and
// pushing are open unless a repository has a file "lab-users" with lines "user:password".
package main

import (
	"bufio"
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxBody bounds one pushed pack, in bytes.
const maxBody = 2 << 30

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "loopback `address` to listen on")
	root := flag.String("root", ".", "`folder` of the bare repositories")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *listen, *root); err != nil {
		fmt.Fprintln(os.Stderr, "gitserver:", err)
		os.Exit(1)
	}
	if pid := os.Getpid(); syscall.Getpgrp() == pid {
		// Leader of its own group: take the git processes of open requests along.
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

func run(ctx context.Context, listen, root string) error {
	git, err := exec.LookPath("git")
	if err != nil {
		return fmt.Errorf("find git: %w", err)
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return fmt.Errorf("find repositories: %w", err)
	}
	if host, _, err := net.SplitHostPort(listen); err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("listen on %q: not a loopback address", listen)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err // *net.OpError says it all
	}
	backend := &cgi.Handler{
		Path: git,
		Args: []string{"http-backend"},
		Dir:  root,
		Env: []string{
			"GIT_PROJECT_ROOT=" + root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_NOSYSTEM=1",
			"HOME=" + root,
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/", authorize(root, measure(backend)))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	closed := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer closed()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// authorize asks for basic authentication where the repository has a list of users.
func authorize(root string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if !filepath.IsLocal(repo) {
			http.NotFound(w, r)
			return
		}
		user, password, _ := r.BasicAuth()
		allowed, err := mayUse(filepath.Join(root, repo, "lab-users"), user, password)
		switch {
		case err != nil:
			http.Error(w, "cannot read the users of this repository", http.StatusInternalServerError)
		case !allowed:
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			http.Error(w, "unknown user or wrong password", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// mayUse reports whether the file is missing or lists the user with this password.
func mayUse(path, user, password string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	given := []byte(user + ":" + password)
	found := 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		found |= subtle.ConstantTimeCompare(lines.Bytes(), given)
	}
	return found == 1, lines.Err()
}

// measure takes in the whole request body before git sees it. CGI wants its length, and git sends large packs in
// chunks; and git http-backend waits for ever on a body that ends early, as that of a client killed mid-push.
func measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		spool, err := os.CreateTemp("", "gitserver-")
		if err != nil {
			http.Error(w, "cannot store the request", http.StatusInternalServerError)
			return
		}
		defer spool.Close()
		// The open file is enough; without a name it cannot be left behind.
		if err := os.Remove(spool.Name()); err != nil {
			http.Error(w, "cannot store the request", http.StatusInternalServerError)
			return
		}
		size, err := io.Copy(spool, http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			_, err = spool.Seek(0, io.SeekStart)
		}
		if err != nil {
			http.Error(w, "cannot store the request", http.StatusBadRequest)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(spool), size, nil
		next.ServeHTTP(w, r)
	})
}
