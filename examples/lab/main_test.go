package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// superviseEnv makes the test binary run a lab in the named directory until it is killed.
const superviseEnv = "PURSER_LAB_TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(superviseEnv); dir != "" {
		if _, err := Start(context.Background(), Options{Dir: dir, Servers: []string{Etcd, Git, Gitea, PostgreSQL, S3}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// startLab starts a lab for the test and stops it at the end.
func startLab(t *testing.T, dir string, servers ...string) *Lab {
	t.Helper()
	l, err := Start(t.Context(), Options{Dir: dir, Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// eventually waits until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("too late: %v", err)
		}
		if sleep(t.Context(), 10*time.Millisecond) != nil {
			t.Fatal(t.Context().Err())
		}
	}
}

// processesOf returns the processes whose arguments or working directory name dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range commands {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		cwd, err := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
		if err != nil {
			continue // not ours, or gone
		}
		if strings.Contains(string(data), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

// noProcessOf is for eventually.
func noProcessOf(t *testing.T, dir string) func() error {
	return func() error {
		if found := processesOf(t, dir); len(found) > 0 {
			return fmt.Errorf("still running: %q", found)
		}
		return nil
	}
}

// api sends one request to the API server and decodes nothing: the body is returned with the status.
func api(t *testing.T, l *Lab, method, path string, object any, want int) []byte {
	t.Helper()
	status, body, err := l.request(t.Context(), method, path, object)
	if err != nil {
		t.Fatal(err)
	}
	if status != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, status, want, body)
	}
	return body
}
