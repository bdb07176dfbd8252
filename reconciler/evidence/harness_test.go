package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// day is the clock of most tests.
var day = time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	goleak.VerifyTestMain(m)
}

// git runs Git without the machine's own configuration.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := gitOutput(dir, nil, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func gitOutput(dir string, stdin []byte, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*"}, args...)...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(string(stdin))
	cmd.Env = gitEnv()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func gitEnv() []string {
	return append(os.Environ(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=mallory", "GIT_AUTHOR_EMAIL=mallory@invalid", "GIT_COMMITTER_NAME=mallory", "GIT_COMMITTER_EMAIL=mallory@invalid",
	)
}

// newBare makes an audit repository as an operator should: no rewinds, no
// deletes, objects checked.
func newBare(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit.git")
	git(t, ".", "init", "-q", "--bare", dir)
	for _, c := range []string{"receive.denyNonFastForwards", "receive.denyDeletes", "receive.fsckObjects", "http.receivepack"} {
		git(t, dir, "config", c, "true")
	}
	return dir
}

// gitServer serves repositories with Git's own HTTP backend, and can fail.
type gitServer struct {
	*httptest.Server
	down     atomic.Bool  // answer 503
	loseAcks atomic.Int32 // do what the next n pushes want, then cut the answer off
	pushed   atomic.Int64 // bytes of the newest push
	requests atomic.Int64
}

func serve(t testing.TB, root string) *gitServer {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "REMOTE_USER=purser"},
	}
	s := &gitServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		// git-http-backend spins for ever on a body shorter than announced, which
		// is what a killed client leaves.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasSuffix(r.URL.Path, "/git-receive-pack") && r.Method == http.MethodPost {
			s.pushed.Store(r.ContentLength)
			if s.loseAcks.Add(-1) >= 0 {
				backend.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func newKeyFile(t testing.TB) (*Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := GenerateKey(path, "hq"); err != nil {
		t.Fatal(err)
	}
	key, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key, path
}

// fixture is a log with its remote.
type fixture struct {
	t      testing.TB
	bare   string
	key    *Key
	keyAt  string
	o      Options
	pace   pace // none, so that tests are quick
	log    *Log
	cancel context.CancelFunc
	done   chan error
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, bare: newBare(t)}
	f.key, f.keyAt = newKeyFile(t)
	f.o = Options{
		Dir: filepath.Join(t.TempDir(), "evidence"), Remote: Remote{URL: f.bare}, Writer: "hq",
		Key: f.key, Trusted: Trust(f.key.Public()), Init: true,
		Now: func() time.Time { return day }, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		Timeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(f.close)
	return f
}

// open opens the log; run also publishes.
func (f *fixture) open() *Log {
	f.t.Helper()
	l, err := Open(f.t.Context(), f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	l.pace = f.pace
	f.log = l
	return l
}

func (f *fixture) run() *Log {
	f.t.Helper()
	if f.log == nil {
		f.open()
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.done = cancel, make(chan error, 1)
	go func(l *Log) { f.done <- l.Run(ctx) }(f.log)
	return f.log
}

// publish publishes what is spooled.
func (f *fixture) publish() {
	f.t.Helper()
	for some, _ := f.log.due(); some; some, _ = f.log.due() {
		if err := f.log.publish(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
}

// stop ends publishing without flushing the spool.
func (f *fixture) stop() {
	f.t.Helper()
	if f.cancel != nil {
		f.cancel()
		if err := <-f.done; err != nil {
			f.t.Errorf("run: %v", err)
		}
		f.cancel = nil
	}
}

func (f *fixture) close() {
	f.stop()
	if f.log != nil {
		if err := f.log.Close(context.Background()); err != nil {
			f.t.Errorf("close: %v", err)
		}
		f.log = nil
	}
}

// record adds a record and makes it durable.
func (l *Log) record(ctx context.Context, d Draft) (Record, error) {
	r, err := l.Add(d)
	if err != nil {
		return Record{}, err
	}
	return r, l.Durable(ctx, r.Index)
}

// add records n applies, keyed by their number.
func (f *fixture) add(n int) Record {
	f.t.Helper()
	var r Record
	var err error
	for range n {
		count := f.log.Status().Records
		r, err = f.log.record(f.t.Context(), applyDraft(int(count)))
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return r
}

func applyDraft(n int) Draft {
	return Draft{
		Type: "apply", Environment: "north-dev", Deployment: n, Key: []string{"apply", fmt.Sprint(n)},
		Subjects:  []Subject{{Name: "release", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}},
		Predicate: map[string]any{"outcome": "applied", "n": n, "html": "<&>"},
	}
}

func (f *fixture) wait(index uint64) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	if err := f.log.Published(ctx, index); err != nil {
		f.t.Fatalf("published: %v", err)
	}
	eventually(f.t, "the spool forgets", func() bool {
		s := f.log.Status()
		return s.Records-uint64(s.Spooled) > index
	})
}

// fill makes a published log of n records and closes it.
func (f *fixture) fill(n int) {
	f.t.Helper()
	f.run()
	f.wait(f.add(n).Index)
	f.close()
}

// clone is a mirror clone, as an auditor makes it.
func (f *fixture) clone() string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "clone.git")
	git(f.t, ".", "clone", "-q", "--mirror", f.bare, dir)
	return dir
}

func (f *fixture) verify(dir string, o VerifyOptions) Report {
	f.t.Helper()
	r, err := Verify(f.t.Context(), dir, f.o.Trusted, o)
	if err != nil {
		f.t.Fatalf("verify: %v", err)
	}
	return r
}

// verified asserts a complete log of n records on the remote.
func (f *fixture) verified(n int) Report {
	f.t.Helper()
	r := f.verify(f.bare, VerifyOptions{})
	for _, p := range r.Problems {
		f.t.Errorf("problem: %s", p)
	}
	if r.ExitCode() != ExitComplete || r.Records != uint64(n) {
		f.t.Fatalf("exit %d with %d records, want 0 with %d", r.ExitCode(), r.Records, n)
	}
	git(f.t, f.bare, "fsck", "--full", "--strict")
	return r
}

func (f *fixture) records() []Record {
	f.t.Helper()
	var out []Record
	if err := f.log.Replay(func(r Record) error { out = append(out, r); return nil }); err != nil {
		f.t.Fatalf("replay: %v", err)
	}
	return out
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func wantStalled(t testing.TB, err error, words ...string) {
	t.Helper()
	var stalled *StalledError
	if !errors.As(err, &stalled) {
		t.Fatalf("want a StalledError, have %v", err)
	}
	if stalled.Hint == "" || !strings.Contains(err.Error(), "("+stalled.Hint+")") {
		t.Errorf("no hint in %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// freePort is an address nothing listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
