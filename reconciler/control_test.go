package reconciler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// shortDir is a folder that every user may enter, with a path short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ordering is an agent that knows no declarations yet, and whoever orders from it.
type ordering struct {
	*testing.T
	socket string
	client *http.Client
}

func newOrdering(t *testing.T) *ordering {
	t.Helper()
	dir := shortDir(t)
	listener, err := listenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	a := &Agent{config: &declaration.AgentConfig{DataDir: dir}, now: time.Now, logger: logger}
	a.backups = &backups{agent: a, logger: logger, wake: make(chan struct{}, 1), lanes: map[laneKey]*laneState{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.serveControl(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the end of the control socket: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	})
	o := &ordering{T: t, socket: ControlSocket(dir)}
	o.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", o.socket) },
	}}
	return o
}

func (o *ordering) post(path string, body io.Reader) (status int, answer string) {
	o.Helper()
	response, err := o.client.Post("http://agent"+path, "application/json", body)
	if err != nil {
		o.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		o.Fatal(err)
	}
	return response.StatusCode, string(text)
}

const ordersOfDev = "/api/v1/environments/dev/orders"

// What is no order gets nowhere.
func TestControlRefuses(t *testing.T) {
	t.Parallel()
	o := newOrdering(t)
	for body, says := range map[string]string{
		"": "EOF", "nonsense": "invalid", "[]": "cannot unmarshal", `{"task":"backup","task2":1}`: "unknown field", `{"task":"backup"}{}`: "something follows",
		`{}`: "none that can be ordered", `{"task":"retain","store":"near"}`: "none that can be ordered", `{"task":"replicate"}`: "none that can be ordered",
		`{"task":"verify"}`: "level", `{"task":"verify","level":"L3"}`: "level", `{"task":"backup","level":"L1"}`: "level",
		`{"task":"backup","point":"latest"}`: "is for a drill", `{"task":"backup","id":"x"}`: "what is done with a backup",
		`{"task":"drill","point":"oldest"}`: "neither latest nor random", `{"task":"drill","point":"latest","id":"x"}`: "not both",
		`{"task":"backup","reason":"a\u001b[2J"}`: "control characters", `{"task":"backup","reason":"a\nb"}`: "control characters",
		`{"task":"backup","reason":"a\u202eb"}`:                                 "control characters",
		`{"task":"backup","reason":"` + strings.Repeat("x", maxReason+1) + `"}`: "bytes at most",
		`{"task":"verify","level":"L0","id":"a\u0000"}`:                         "control characters",
		`{"task":"backup","reason":"` + strings.Repeat("x", maxOrder) + `"}`:    "too large",
	} {
		if status, answer := o.post(ordersOfDev, strings.NewReader(body)); status != http.StatusBadRequest || !strings.Contains(answer, says) || !strings.HasPrefix(answer, `{"error":`) {
			t.Errorf("%.60s is answered %d %s", body, status, answer)
		}
	}
	if status, answer := o.post(ordersOfDev, strings.NewReader(`{"task":"backup"}`)); status != http.StatusOK || !strings.Contains(answer, errNoGovernance.Error()) {
		t.Errorf("an order before there are declarations is answered %d %s", status, answer)
	}
	for path, want := range map[string]int{"/api/v1/status": http.StatusNotFound, "/metrics": http.StatusNotFound, "/": http.StatusNotFound, "/api/v1/environments/a%2fb/orders": http.StatusOK} {
		if status, answer := o.post(path, strings.NewReader(`{"task":"backup"}`)); status != want {
			t.Errorf("%s is answered %d %s", path, status, answer)
		}
	}
}

// Whoever says little and slowly, or too much, does not hold the socket.
func TestControlOutlastsClients(t *testing.T) {
	t.Parallel()
	o := newOrdering(t)
	for _, says := range []string{"", "POST", "POST " + ordersOfDev + " HTTP/1.1\r\nHost: agent\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("unix", o.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
	}
	endless := io.MultiReader(strings.NewReader(`{"reason":"`), &forever{})
	response, err := o.client.Post("http://agent"+ordersOfDev, "application/json", endless)
	if err == nil { // the answer may be lost when the connection is closed
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("a body without end: %s", response.Status)
		}
	}
	if status, _ := o.post(ordersOfDev, strings.NewReader(`{"task":"backup"}`)); status != http.StatusOK {
		t.Errorf("beside them the answer is %d", status)
	}
}

type forever struct{}

func (*forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// Nobody else may open the socket, whatever the umask and the folder let.
func TestControlSocketIsPrivate(t *testing.T) { // not parallel: the umask is the process's
	was := syscall.Umask(0)
	o := newOrdering(t)
	syscall.Umask(was)
	info, err := os.Lstat(o.socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("the socket is %v, %v", info.Mode(), err)
	}
	if os.Getuid() != 0 {
		return // only root can try as somebody else
	}
	for user, want := range map[uint32]string{0: "http 404", 65534: "exit status 7"} {
		cmd := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--unix-socket", o.socket, "--output", "/dev/null", "--write-out", "http %{http_code}", "http://agent/")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		out, err := cmd.CombinedOutput()
		if got := fmt.Sprintf("%s %v", bytes.TrimSpace(out), err); !strings.Contains(got, want) {
			t.Errorf("user %d: %s, not %s", user, got, want)
		}
	}
}

// The socket is made anew where one is left, and nowhere else.
func TestListenControl(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for range 2 { // the second time one is left
		listener, err := listenControl(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there are %v, %v", left, err)
	}
	var hint *sources.HintError
	for what, put := range map[string]func(string) error{
		"a file":   func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":   func(path string) error { return os.Symlink("elsewhere", path) },
	} {
		dir := shortDir(t)
		if err := put(ControlSocket(dir)); err != nil {
			t.Fatal(err)
		}
		if _, err := listenControl(dir); !errors.As(err, &hint) || !strings.Contains(err.Error(), "is no socket") {
			t.Errorf("where %s is: %v", what, err)
		}
		if _, err := os.Lstat(ControlSocket(dir)); err != nil {
			t.Errorf("%s is gone: %v", what, err)
		}
	}
	long := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)-len("//control.sock")))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(long); !errors.As(err, &hint) || !strings.Contains(err.Error(), "choose a dataDir of at most") {
		t.Errorf("a path that is too long: %v", err)
	}
	short := long[:len(long)-1]
	if err := os.Mkdir(short, 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := listenControl(short)
	if err != nil {
		t.Fatalf("the longest path: %v", err)
	}
	listener.Close()
}

// A socket that somebody removed is no failure of the agent's end.
func TestControlSocketThatIsGone(t *testing.T) {
	t.Parallel()
	o := newOrdering(t) // its end is looked at there
	if err := os.Remove(o.socket); err != nil {
		t.Fatal(err)
	}
}

// Orders that nobody waits for any more keep nobody else from ordering.
func TestOrdersOfThoseWhoLeft(t *testing.T) {
	t.Parallel()
	b := &backups{wake: make(chan struct{}, 1), lanes: map[laneKey]*laneState{}}
	key := laneKey{environment: "dev"}
	left, leave := context.WithCancel(t.Context())
	for range maxOrders {
		if err := b.take(key, &order{ctx: left}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.take(key, &order{ctx: t.Context()}); err == nil {
		t.Errorf("more than %d orders wait", maxOrders)
	}
	leave()
	if err := b.take(key, &order{ctx: t.Context()}); err != nil || len(b.lanes[key].orders) != 1 {
		t.Errorf("after they left %d orders wait: %v", len(b.lanes[key].orders), err)
	}
}
