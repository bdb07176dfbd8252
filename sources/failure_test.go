package sources

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failing makes a repository with one good head, and a newer commit waiting on
// the server.
func failing(t *testing.T, o Options) (s *gitServer, r *Repository, good, next string) {
	t.Helper()
	return failingBy(t, 200<<10, o)
}

// failingBy is failing with a commit of so many bytes.
func failingBy(t *testing.T, bytes int, o Options) (s *gitServer, r *Repository, good, next string) {
	t.Helper()
	s = newGitServer(t)
	c := newClone(t, s.dir)
	good = c.commit(map[string]string{"f": "good\n"})
	c.push("main")
	o.URL = s.url()
	r = open(t, o)
	mustSync(t, r, "main")
	next = c.commit(map[string]string{"f": "next\n", "random": noise(bytes)})
	c.push("main")
	return s, r, good, next
}

// wantUnmoved checks that the last good head is there, readable, and nothing is
// left of the attempt.
func wantUnmoved(t *testing.T, r *Repository, good string) {
	t.Helper()
	wantHead(t, r, "main", good)
	if readAt(t, r, good, "f") != "good\n" {
		t.Error("the last good tree is not readable")
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "objects/pack/tmp_*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestServerFailures(t *testing.T) {
	s, r, good, next := failing(t, Options{Timeout: 20 * time.Second})
	isPack := func(req *http.Request) bool { return req.Method == http.MethodPost }
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		t.Errorf("the other host was asked for %s", req.URL)
	}))
	defer other.Close()
	cases := map[string]struct {
		answer func(w http.ResponseWriter, req *http.Request) bool
		want   string
	}{
		"refs 500": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }, "500"},
		"not git": {func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, "<html>Sign in</html>")
			return true
		}, "not Git's"},
		"refs garbage": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000zzzz")
			return true
		}, "list branches"},
		"refs cut": {s.cut(func(*http.Request) bool { return true }, 60), "list branches"},
		"error line": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = io.WriteString(w, "0019ERR too busy, \x1b[31mgo\n")
			return true
		}, "too busy"},
		"gone": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true }, "no such repository"},
		"pack 503": {func(w http.ResponseWriter, req *http.Request) bool {
			if isPack(req) {
				w.WriteHeader(503)
			}
			return isPack(req)
		}, "503"},
		"pack empty":     {func(_ http.ResponseWriter, req *http.Request) bool { return isPack(req) }, "truncated"},
		"pack cut early": {s.cut(isPack, 10), "pack"},
		"pack cut":       {s.cut(isPack, 100_000), "pack"},
		"pack altered":   {s.flip(isPack, 100_000), "pack"},
		"hang up":        {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, "EOF"},
		"redirect elsewhere": {func(w http.ResponseWriter, req *http.Request) bool {
			http.Redirect(w, req, other.URL+req.URL.Path, http.StatusFound)
			return true
		}, "redirects to http://127.0.0.1"},
		"redirect of the pack": {func(w http.ResponseWriter, req *http.Request) bool {
			if isPack(req) {
				http.Redirect(w, req, other.URL+req.URL.Path, http.StatusTemporaryRedirect)
			}
			return isPack(req)
		}, "307"},
		"redirect loop": {func(w http.ResponseWriter, req *http.Request) bool {
			http.Redirect(w, req, req.URL.String(), http.StatusFound)
			return true
		}, "redirects"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s.set(func() { s.before = tc.answer })
			changes, err := r.Sync(t.Context(), []string{"main"})
			if err == nil || !strings.Contains(err.Error(), tc.want) || len(changes) > 0 {
				t.Errorf("Sync = %v, %v; want an error that says %q", changes, err, tc.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\x00\n") {
				t.Errorf("the error has control characters: %q", err)
			}
			wantUnmoved(t, r, good)
		})
	}
	s.set(func() { s.before = nil })
	mustSync(t, r, "main")
	wantHead(t, r, "main", next)
	s.Server.Close()
	if _, err := r.Sync(t.Context(), []string{"main"}); err == nil {
		t.Error("Sync with a server that is down succeeded")
	}
	wantHead(t, r, "main", next)
}

// cut lets the real answer through up to n bytes, then breaks the connection.
func (s *gitServer) cut(when func(*http.Request) bool, n int) func(http.ResponseWriter, *http.Request) bool {
	return s.tamper(when, func(w http.ResponseWriter, body []byte) {
		_, _ = w.Write(body[:min(n, len(body))])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// flip alters one byte of the real answer.
func (s *gitServer) flip(when func(*http.Request) bool, at int) func(http.ResponseWriter, *http.Request) bool {
	return s.tamper(when, func(w http.ResponseWriter, body []byte) {
		body[at] ^= 0x55
		_, _ = w.Write(body)
	})
}

func (s *gitServer) tamper(when func(*http.Request) bool, answer func(http.ResponseWriter, []byte)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !when(r) {
			return false
		}
		rec := httptest.NewRecorder()
		s.backend.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		answer(w, bytes.Clone(rec.Body.Bytes()))
		return true
	}
}

func TestHangingServer(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		s, r, good, _ := failing(t, Options{Timeout: 500 * time.Millisecond})
		release := make(chan struct{})
		s.set(func() {
			s.before = func(_ http.ResponseWriter, req *http.Request) bool {
				if req.Method == method {
					_, _ = io.Copy(io.Discard, req.Body)
					<-release
				}
				return req.Method == method
			}
		})
		_, err := r.Sync(context.Background(), []string{"main"})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Sync with a server that hangs in %s = %v", method, err)
		}
		wantUnmoved(t, r, good)
		close(release)
	}
}

func TestSyncEndsWithItsContext(t *testing.T) {
	s, r, good, _ := failing(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	s.set(func() {
		s.before = func(http.ResponseWriter, *http.Request) bool { cancel(); <-release; return true }
	})
	if _, err := r.Sync(ctx, []string{"main"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync = %v", err)
	}
	close(release)
	wantUnmoved(t, r, good)
}

func TestRedirectOnTheSameHost(t *testing.T) {
	s, r, _, next := failing(t, Options{})
	s.set(func() {
		s.before = func(w http.ResponseWriter, req *http.Request) bool {
			rest, old := strings.CutPrefix(req.URL.Path, "/old/")
			if old {
				http.Redirect(w, req, "/"+rest+"?"+req.URL.RawQuery, http.StatusMovedPermanently)
			}
			return old
		}
	})
	moved := openAt(t, r.dir, Options{URL: s.URL + "/old/estate.git"})
	mustSync(t, moved, "main")
	wantHead(t, moved, "main", next)
}

func TestDamagedStore(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	head := c.commit(map[string]string{"f": "good\n", "random": noise(4 << 10)})
	c.push("main")
	dir := filepath.Join(t.TempDir(), "copy.git")
	mustSync(t, openAt(t, dir, Options{URL: s.url()}), "main")
	packs, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	pack, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	// Alter the middle of the incompressible file, which deflate stores as it is.
	at := bytes.Index(pack, []byte(noise(4 << 10)[1000:1040]))
	if at < 0 {
		t.Fatal("the file is not stored plainly")
	}
	altered := bytes.Clone(pack)
	altered[at] ^= 1
	if err := os.WriteFile(packs[0], altered, 0o600); err != nil {
		t.Fatal(err)
	}
	r := openAt(t, dir, Options{URL: s.url()})
	tree, err := r.Tree(head)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := tree.ReadFile("random"); !errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of an altered object = %d bytes, %v", len(data), err)
	}
	if got := readAt(t, r, head, "f"); got != "good\n" {
		t.Errorf("f = %q", got)
	}
	if err := os.Truncate(packs[0], 40); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.ReadDir(""); err != nil && (!errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist)) {
		t.Errorf("ReadDir = %v", err)
	}
	var h *HintError
	if r, err := Open(dir, Options{URL: s.url()}); !errors.Is(err, ErrDamaged) || !errors.As(err, &h) {
		t.Errorf("Open of a damaged repository = %v, %v", r, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "objects/pack")); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(dir, Options{URL: s.url()}); !errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without packs = %v, %v", r, err)
	}
}

// TestDiskFull lets writes fail as a full disk does: by the limit on a file's
// size, which is the process's own and needs no mount. It is larger than what the
// test's own log grows to, which may be written meanwhile.
func TestDiskFull(t *testing.T) {
	_, r, good, next := failingBy(t, 6<<20, Options{})
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Sync(t.Context(), []string{"main"})
	if rerr := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Sync on a full disk = %v", err)
	}
	wantUnmoved(t, r, good)
	mustSync(t, r, "main")
	wantHead(t, r, "main", next)
}

// TestRefsCannotBeWritten fails the last step of a Sync.
func TestRefsCannotBeWritten(t *testing.T) {
	_, r, good, next := failing(t, Options{})
	blocker := filepath.Join(r.dir, refsFile+".new")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	if changes, err := r.Sync(t.Context(), []string{"main"}); err == nil || len(changes) > 0 {
		t.Errorf("Sync = %v, %v", changes, err)
	}
	wantUnmoved(t, r, good)
	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
	mustSync(t, r, "main")
	wantHead(t, r, "main", next)
}
