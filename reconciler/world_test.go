package reconciler_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childConfig); file != "" {
		if err := beAgent(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	labtest.Main(m)
}

// world is an estate of one environment "dev" on real servers: a Git server, an API server, and an agent.
type world struct {
	t         *testing.T
	lab       *lab.Endpoints
	kube      kubernetes.Interface
	namespace string
	estate    *lab.Repo
	audit     *lab.Repo
	dir       string   // of the agent
	work      string   // work tree of the estate
	gitEnv    []string // of git in it, besides the tester's
	settings  settings
	logs      *logBuffer

	agent *reconciler.Agent
	stop  func()
}

// settings of a world that tests vary.
type settings struct {
	kubeconfig string // default: cluster-admin
	estateURL  string // default: the Git server
	auditURL   string
	estateAuth string       // YAML of the source's auth
	auth       sources.Auth // of who pushes statements
	interval   string       // between two polls of the source; default 1s
	timeout    string       // of the source; default 10s
	clusters   string       // YAML of further clusters
	more       string       // YAML of the agent's spec
	now        func() time.Time
	heartbeat  time.Duration
	stall      time.Duration
	registry   *prometheus.Registry // of the agent's metrics; default: a new one for each agent
}

const kustomization = "apps/dev/kustomization.yaml"

// newWorld prepares the servers' side of a world; run starts its agent.
func newWorld(t *testing.T, change func(*world)) *world {
	t.Helper()
	l := labtest.Shared(t)
	w := &world{t: t, lab: l, namespace: labtest.Namespace(t, l), dir: t.TempDir(), work: t.TempDir(), logs: &logBuffer{}}
	w.estate, w.audit = labtest.Repo(t, l), labtest.Repo(t, l)
	w.kube = kubernetes.NewForConfigOrDie(labtest.Config(t, l))
	w.allow("default", w.namespace)
	w.settings = settings{kubeconfig: l.Kubeconfig, estateURL: w.estate.URL, auditURL: w.audit.URL, now: time.Now}
	w.git("init", "--quiet", "--initial-branch", "main")
	w.git("remote", "add", "origin", w.estate.URL)
	w.write("purser/dev.yaml", w.environment("dev", "apps/dev", ""))
	w.write(kustomization, "resources: [objects.yaml]\n")
	w.write("apps/dev/objects.yaml", configMaps(5, "one"))
	if change != nil {
		change(w)
	}
	w.push("Declare dev")
	return w
}

// allow gives the tenant's user everything in a namespace.
func (w *world) allow(tenant, namespace string) {
	w.t.Helper()
	_, err := w.kube.RbacV1().RoleBindings(namespace).Create(w.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "purser-tenant-" + tenant},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:" + tenant}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// environment declares an environment in the world's namespace; more is further YAML of its spec.
func (w *world) environment(name, path, more string) string {
	return fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Environment
metadata: {name: %s}
spec:
  purpose: development
  namespace: %s
  cluster: lab
  source: {path: %s}
%s`, name, w.namespace, path, indent(more))
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

// configMaps is a manifest of n ConfigMaps "c0", "c1", … that hold a value.
func configMaps(n int, value string) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {value: %q}\n", i, value)
	}
	return text.String()
}

// configure writes the agent's configuration and key, and returns the configuration's file.
func (w *world) configure() string {
	w.t.Helper()
	file := filepath.Join(w.dir, "purser.yaml")
	text := fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: AgentConfig
spec:
  dataDir: data
  governance: {trust: {onFirstUse: true}}
  sources:
    - name: estate
      url: %s
      interval: %s
      timeout: %s
%s  clusters:
    - name: lab
      kubeconfig: %s
%s  audit:
    url: %s
    signingKeyFile: signing
%s`, w.settings.estateURL, cmp.Or(w.settings.interval, "1s"), cmp.Or(w.settings.timeout, "10s"), w.settings.estateAuth, w.settings.kubeconfig, w.settings.clusters, w.settings.auditURL, w.settings.more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "signing")); err != nil {
		if _, err := evidence.GenerateKey(filepath.Join(w.dir, "signing"), "test"); err != nil {
			w.t.Fatal(err)
		}
	}
	return file
}

// newAgent opens an agent in this process.
func (w *world) newAgent() (*reconciler.Agent, error) {
	w.t.Helper()
	config, err := declaration.LoadAgent(w.configure())
	if err != nil {
		w.t.Fatal(err)
	}
	return reconciler.New(w.t.Context(), config, reconciler.Options{
		Version: "test", Init: true, Now: w.settings.now, Heartbeat: w.settings.heartbeat, Leftovers: 300 * time.Millisecond, Stall: w.settings.stall,
		Logger: slog.New(slog.NewTextHandler(w.logs, nil)), Registerer: cmp.Or(w.settings.registry, prometheus.NewRegistry()),
	})
}

// run starts the agent; it is stopped at the end of the test, or by w.stop.
func (w *world) run() {
	w.t.Helper()
	agent, err := w.newAgent()
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent = agent
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.agent.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the agent ended: %v", err)
		}
		if err := w.agent.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", w.logs)
		}
	})
	w.t.Cleanup(func() { w.stop() })
}

// until waits for something to become true of the environments.
func (w *world) until(what string, true func(s reconciler.Status, dev reconciler.EnvironmentStatus) error) {
	w.t.Helper()
	labtest.Eventually(w.t, what, func(context.Context) error {
		s := w.agent.Status()
		return true(s, find(s, "dev"))
	})
}

func find(s reconciler.Status, name string) reconciler.EnvironmentStatus {
	for _, e := range s.Environments {
		if e.Name == name {
			return e
		}
	}
	return reconciler.EnvironmentStatus{}
}

// untilLive waits until an environment runs the newest commit's objects, and returns its live release.
func (w *world) untilLive(name, value string) string {
	w.t.Helper()
	var digest string
	labtest.Eventually(w.t, name+" is live with "+value, func(ctx context.Context) error {
		e := find(w.agent.Status(), name)
		if e.Live == nil || e.Approved.Release != e.Live.Release {
			return fmt.Errorf("%s is %s: %s", name, e.Outcome, e.Reason)
		}
		if err := w.runs(ctx, value); err != nil {
			return err
		}
		digest = e.Live.Release
		return nil
	})
	return digest
}

// runs checks that all five ConfigMaps hold a value.
func (w *world) runs(ctx context.Context, value string) error {
	for i := range 5 {
		object, err := w.kube.CoreV1().ConfigMaps(w.namespace).Get(ctx, fmt.Sprintf("c%d", i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if object.Data["value"] != value {
			return fmt.Errorf("c%d holds %q, not %q", i, object.Data["value"], value)
		}
	}
	return nil
}

// write puts a file into the work tree.
func (w *world) write(name, text string) {
	w.t.Helper()
	file := filepath.Join(w.work, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// push commits everything and pushes it.
func (w *world) push(message string) {
	w.t.Helper()
	w.git("add", "--all")
	w.git("commit", "--quiet", "--allow-empty", "--message", message)
	w.git("push", "--quiet", "--force", "origin", "main")
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = w.work
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=tester", "GIT_AUTHOR_EMAIL=tester@estate.example",
		"GIT_COMMITTER_NAME=tester", "GIT_COMMITTER_EMAIL=tester@estate.example")
	cmd.Env = append(cmd.Env, w.gitEnv...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// clone copies the audit repository, with all refs.
func (w *world) clone() string {
	w.t.Helper()
	clone := filepath.Join(w.t.TempDir(), "audit.git")
	if out, err := exec.CommandContext(w.t.Context(), "git", "clone", "--quiet", "--mirror", w.audit.URL, clone).CombinedOutput(); err != nil {
		w.t.Fatalf("clone the audit repository: %v\n%s", err, out)
	}
	return clone
}

// records stops the agent and reads its whole log from a fresh clone, after verifying it.
func (w *world) records() []evidence.Record {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	clone := w.clone()
	trusted, err := evidence.LoadTrusted(filepath.Join(w.dir, "signing.pub"))
	if err != nil {
		w.t.Fatal(err)
	}
	var records []evidence.Record
	report, err := evidence.Verify(w.t.Context(), clone, trusted, evidence.VerifyOptions{
		OnRecord: func(r evidence.Record, _ []byte) error { records = append(records, r); return nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if code := report.ExitCode(); code != 0 {
		w.t.Errorf("evidence verify exits with %d: %+v", code, report)
	}
	return records
}

// logBuffer collects what the agent logs.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// setByHand changes a ConfigMap as a person with kubectl would.
func (w *world) setByHand(name, value string) {
	w.t.Helper()
	patch := fmt.Appendf(nil, `{"data":{"value":%q}}`, value)
	if _, err := w.kube.CoreV1().ConfigMaps(w.namespace).Patch(w.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		w.t.Fatal(err)
	}
}

// decode reads what a record says.
func decode(t *testing.T, r evidence.Record, into any) {
	t.Helper()
	if err := json.Unmarshal(r.Predicate, into); err != nil {
		t.Fatal(err)
	}
}

// moveMachine gives the agent an empty disk; only its key comes along.
func (w *world) moveMachine() {
	w.t.Helper()
	old := w.dir
	w.dir = w.t.TempDir()
	copyFile(w.t, filepath.Join(old, "signing"), filepath.Join(w.dir, "signing"))
	copyFile(w.t, filepath.Join(old, "signing.pub"), filepath.Join(w.dir, "signing.pub"))
}
