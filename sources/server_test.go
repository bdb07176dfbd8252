package sources

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == syncForever {
		os.Exit(runSyncForever(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// gitServer is a real Git server over HTTP: git-http-backend behind a handler
// that counts, checks credentials and can misbehave.
type gitServer struct {
	dir string // the bare repository
	*httptest.Server
	backend http.Handler

	mu       sync.Mutex
	requests []string // "GET /info/refs", "POST /git-upload-pack"
	user     string   // with password: what is wanted
	password string
	before   func(w http.ResponseWriter, r *http.Request) bool // true: it answered
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	s := &gitServer{dir: filepath.Join(t.TempDir(), "estate.git")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, s.dir, "init", "-q", "--bare", "-b", "main", ".")
	git(t, s.dir, "config", "http.receivepack", "true")
	git(t, s.dir, "config", "receive.denyDeleteCurrent", "ignore")
	s.backend = newBackend(t, s.dir)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Server.Close)
	return s
}

func newBackend(t *testing.T, dir string) http.Handler {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("git --exec-path: %v: install git", err)
	}
	return &cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
		Logger: log.New(io.Discard, "", 0), // it reports clients that hang up, as these tests do
		Stderr: io.Discard,
	}
}

func (s *gitServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/estate.git"))
	user, password, before := s.user, s.password, s.before
	s.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	if u, p, _ := r.BasicAuth(); password != "" && (u != user || p != password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="estate"`)
		http.Error(w, "no entry for "+u+" with "+p, http.StatusUnauthorized)
		return
	}
	s.backend.ServeHTTP(w, r)
}

func (s *gitServer) url() string { return s.URL + "/estate.git" }

func (s *gitServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *gitServer) takeRequests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// clone is a developer's clone, which pushes with the git command.
type clone struct {
	t   *testing.T
	dir string
}

func newClone(t *testing.T, url string) *clone {
	t.Helper()
	c := &clone{t: t, dir: t.TempDir()}
	git(t, c.dir, "init", "-q", "-b", "main", ".")
	git(t, c.dir, "remote", "add", "origin", url)
	return c
}

func (c *clone) git(args ...string) string { c.t.Helper(); return git(c.t, c.dir, args...) }

// commit writes files and commits everything; it gives the commit's id.
func (c *clone) commit(files map[string]string) string {
	c.t.Helper()
	write(c.t, c.dir, files)
	c.git("add", "-A")
	c.git("commit", "-q", "--allow-empty", "-m", "Change the estate")
	return c.git("rev-parse", "HEAD")
}

func (c *clone) push(args ...string) {
	c.t.Helper()
	c.git(append([]string{"push", "-q", "origin"}, args...)...)
}

func open(t *testing.T, o Options) *Repository {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "copy.git"), o)
}

func openAt(t *testing.T, dir string, o Options) *Repository {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	r, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func mustSync(t *testing.T, r *Repository, branches ...string) []HeadChange {
	t.Helper()
	changes, err := r.Sync(t.Context(), branches)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func wantHead(t *testing.T, r *Repository, branch, commit string) {
	t.Helper()
	if rev, ok := r.Head(branch); !ok || rev.Commit != commit || rev.Branch != branch {
		t.Fatalf("Head(%s) = %v, %v; want %s", branch, rev, ok, commit)
	}
}

func readAt(t *testing.T, r *Repository, commit, path string) string {
	t.Helper()
	tree, err := r.Tree(commit)
	if err != nil {
		t.Fatal(err)
	}
	data, err := tree.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const syncForever = "sync-forever"

// runSyncForever is the child process that the kill -9 test ends: it syncs main
// from the URL into the directory until then.
func runSyncForever(args []string) int {
	r, err := Open(args[0], Options{URL: args[1], Timeout: time.Minute})
	if err != nil {
		return 1
	}
	for {
		if _, err := r.Sync(context.Background(), []string{"main"}); errors.Is(err, ErrDamaged) {
			return 2
		}
	}
}
