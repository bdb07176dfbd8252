// Package labtest gives tests real servers: the lab that "make test" has started (environment variable PURSER_LAB), or
// else one that is started for the test binary and stopped at its end. A package whose tests use it has
//
//	func TestMain(m *testing.M) { labtest.Main(m) }
//
// and its tests share the servers, each with namespaces and repositories of its own:
//
//	l := labtest.Shared(t)
//	ns := labtest.Namespace(t, l)
//	config := labtest.Config(t, l)
//
// A test that stops servers or changes what belongs to the whole cluster starts a lab for itself with [Start].
package labtest

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/purser-gitops/purser/examples/lab"
)

// startTimeout bounds the start of a lab, including the build of binaries that are missing.
const startTimeout = 40 * time.Minute

// shared is the lab of this test binary.
var shared struct {
	sync.Mutex
	inMain bool
	joined *lab.Endpoints // the lab of "make test"
	own    *lab.Lab       // or the one that this binary started
	dir    string         // data directory of own
}

// globals are goroutines that belong to nobody: client-go keeps transports, and with them idle connections, in a cache
// for the life of the process.
var globals = []goleak.Option{
	goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
	goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
	goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	goleak.IgnoreAnyFunction("net/http.(*http2ClientConn).readLoop"),
	goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*ClientConn).readLoop"),
}

// Main runs the tests of a package, stops the lab they shared, fails when goroutines are left, and exits.
func Main(m *testing.M, leaks ...goleak.Option) {
	flag.Parse()
	shared.inMain = true
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stop lab:", err)
		code = max(code, 1)
	}
	leaks = append(leaks, globals...)
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.own == nil {
		return nil
	}
	return errors.Join(shared.own.Stop(), os.RemoveAll(shared.dir))
}

// Shared returns the lab of this test binary with at least the named servers and what they need; by default the API
// server, the controller manager and the Git server.
func Shared(t testing.TB, servers ...string) *lab.Endpoints {
	t.Helper()
	if len(servers) == 0 {
		servers = []string{lab.APIServer, lab.ControllerManager, lab.Git}
	}
	shared.Lock()
	defer shared.Unlock()
	if !shared.inMain {
		t.Fatal("labtest.Shared needs labtest.Main: add func TestMain(m *testing.M) { labtest.Main(m) } to the package")
	}
	if dir := os.Getenv(lab.EnvDir); dir != "" {
		return join(t, dir, servers)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if shared.own == nil {
		dir, err := os.MkdirTemp("", "purser-lab-")
		if err != nil {
			t.Fatalf("create data directory of the lab: %v", err)
		}
		shared.dir = dir
		shared.own, err = lab.Start(ctx, lab.Options{Dir: dir, Servers: servers})
		if err != nil {
			t.Fatalf("start shared lab: %v", errors.Join(err, os.RemoveAll(dir)))
		}
	} else if err := shared.own.StartServer(ctx, servers...); err != nil {
		t.Fatalf("start servers of shared lab: %v", err)
	}
	return snapshot(shared.own)
}

// join returns the lab in dir, which must have the servers.
func join(t testing.TB, dir string, servers []string) *lab.Endpoints {
	t.Helper()
	if shared.joined == nil {
		e, err := lab.Join(dir)
		if err != nil {
			t.Fatalf("%s is set: %v", lab.EnvDir, err)
		}
		shared.joined = e
	}
	for _, server := range servers {
		if !shared.joined.Has(server) {
			t.Fatalf("the lab in %s runs without %s", dir, server)
		}
	}
	return shared.joined
}

// snapshot copies the endpoints, which change when another test starts more servers.
func snapshot(l *lab.Lab) *lab.Endpoints {
	e := l.Endpoints
	e.Servers = slices.Clone(e.Servers)
	return &e
}

// Start starts a lab for one test, with the named servers and what they need, and stops it at the end of the test.
func Start(t testing.TB, servers ...string) *lab.Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Dir: t.TempDir(), Servers: servers})
	if err != nil {
		t.Fatalf("start lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Stop(); err != nil {
			t.Errorf("stop lab: %v", err)
		}
	})
	return l
}

// Name returns a name that no other test uses, valid for namespaces and repositories.
func Name(t testing.TB) string {
	t.Helper()
	var short strings.Builder
	for _, r := range strings.ToLower(t.Name()) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			short.WriteRune(r)
		} else {
			short.WriteByte('-')
		}
	}
	return fmt.Sprintf("t-%s-%s", strings.Trim(fmt.Sprintf("%.32s", short.String()), "-"), strings.ToLower(rand.Text()[:8]))
}

// Config returns a client configuration with cluster-admin rights and without client-side rate limits.
func Config(t testing.TB, l *lab.Endpoints) *rest.Config {
	t.Helper()
	return load(t, l.Kubeconfig)
}

// ConfigFor returns a client configuration of the identity; RBAC rules say what it may do.
func ConfigFor(t testing.TB, l *lab.Endpoints, id lab.Identity) *rest.Config {
	t.Helper()
	path, err := l.KubeconfigFor(id)
	if err != nil {
		t.Fatalf("write kubeconfig: %v", err)
	}
	return load(t, path)
}

func load(t testing.TB, path string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatalf("load kubeconfig: %v", err)
	}
	config.QPS = -1
	return config
}

// Namespace creates a namespace for the test, which is deleted at its end.
func Namespace(t testing.TB, l *lab.Endpoints) string {
	t.Helper()
	name := Name(t)
	CreateNamespace(t, l, name)
	return name
}

// CreateNamespace creates the named namespace, which is deleted at the end of the test. With a controller manager in the
// lab it is returned only when pods can be created in it.
func CreateNamespace(t testing.TB, l *lab.Endpoints, name string) {
	t.Helper()
	config := Config(t, l)
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatalf("create client: %v", err)
	}
	client, err := dynamic.NewForConfigAndClient(config, http)
	if err != nil {
		t.Fatalf("create client: %v", err)
	}
	namespaces := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	ns := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
	if _, err := namespaces.Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		defer http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Logf("delete namespace: %v", err) // the test may have taken the API server down
		}
	})
	if !l.Has(lab.ControllerManager) {
		return
	}
	accounts := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace(name)
	Eventually(t, "default service account of "+name, func(ctx context.Context) error {
		_, err := accounts.Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Patience is how long anything may take on a busy machine.
const Patience = 3 * time.Minute

// Eventually calls check until it returns nil and fails the test with its last error when that takes longer than Patience.
func Eventually(t testing.TB, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not after %s: %v", what, Patience, err)
		case <-tick.C:
		}
	}
}

// Repo creates an empty repository for the test on the lab's Git server.
func Repo(t testing.TB, l *lab.Endpoints) *lab.Repo {
	t.Helper()
	r, err := l.CreateRepo(t.Context(), Name(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Binary returns the path of a program of the lab, such as "kustomize", built when it is missing.
func Binary(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	path, err := lab.Binary(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
