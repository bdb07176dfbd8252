package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

// TestDaemon runs purser as a process on real servers: what it answers, what wakes it, how it ends.
func TestDaemon(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	first := d.purser(0, "init", "--config", d.config)
	if !strings.Contains(first, "signing key ") || !strings.Contains(first, "2 records") {
		t.Errorf("init said %q", first)
	}
	if again := d.purser(0, "init", "--config", d.config); strings.Contains(again, "signing key ") || !strings.Contains(again, "2 records") {
		t.Errorf("a second init said %q", again)
	}
	d.start()

	// Before the first governance commit: alive, not ready.
	d.answers(http.StatusOK, "/healthz", "ok")
	d.eventually("the missing branch is told", func(context.Context) error { return d.says(http.StatusOK, "/api/v1/status", "main") })
	d.answers(http.StatusServiceUnavailable, "/readyz", "no governance commit is approved yet")
	d.purser(1, "status", "--server", d.server)
	d.secondAgentIsRefused()

	// The interval is an hour: only a signal or a hook makes the agent look.
	d.declare("dev", "apps/dev", "")
	d.write("apps/dev/kustomization.yaml", "configMapGenerator: [{name: settings, literals: [value=one]}]\ngeneratorOptions: {disableNameSuffixHash: true}\n")
	d.push("Declare dev")
	d.signal(syscall.SIGHUP)
	d.untilLive("one")
	d.answers(http.StatusOK, "/readyz", "ok")
	d.api()
	d.metrics()
	d.hooks()
	d.reloads()
	d.statusCodes()
	d.killed()
	d.stop()
	d.lastRecordIsStop()
}

// TestListensOnLoopback makes sure that nobody else reaches an agent unless its configuration says so.
func TestListensOnLoopback(t *testing.T) {
	t.Parallel()
	d := &daemon{t: t, dir: t.TempDir()}
	d.configure("", "file:///estate.git", "file:///audit.git", "kubeconfig")
	config, err := declaration.LoadAgent(d.config)
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(config.Listen)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("listens on %q by default (%v)", config.Listen, err)
	}
}

// daemon is one "purser run" and what it works on.
type daemon struct {
	t             *testing.T
	dir, work     string // of the agent; of the estate's clone
	program       string
	config        string
	server        string // its address
	namespace     string
	kube          kubernetes.Interface
	estate, audit *lab.Repo
	process       *exec.Cmd
	ended         chan error
	log           *logBuffer
}

const hookSecret = "a shared secret of the forge"

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	l := labtest.Shared(t)
	d := &daemon{t: t, dir: t.TempDir(), work: t.TempDir(), namespace: labtest.Namespace(t, l), log: &logBuffer{}}
	d.estate, d.audit = labtest.Repo(t, l), labtest.Repo(t, l)
	d.kube = kubernetes.NewForConfigOrDie(labtest.Config(t, l))
	var err error
	if d.program, err = installPurser(d.dir); err != nil {
		t.Fatal(err)
	}
	_, err = d.kube.RbacV1().RoleBindings(d.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "purser-tenant-default"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "purser:tenant:default"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.configure("127.0.0.1:0", d.estate.URL, d.audit.URL, l.Kubeconfig)
	d.git("init", "--quiet", "--initial-branch", "main")
	d.git("remote", "add", "origin", d.estate.URL)
	return d
}

// configure writes the agent's configuration; listen may be "" for the default.
func (d *daemon) configure(listen, estate, audit, kubeconfig string) {
	d.t.Helper()
	if listen != "" {
		listen = "listen: " + listen
	}
	d.config = filepath.Join(d.dir, "purser.yaml")
	text := fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: AgentConfig
spec:
  dataDir: data
  governance: {trust: {onFirstUse: true}}
  %s
  sources:
    - name: estate
      url: %s
      interval: 1h
      timeout: 10s
      webhook: {secretFile: hook}
  clusters:
    - {name: lab, kubeconfig: %s}
  audit:
    url: %s
    signingKeyFile: signing
`, listen, estate, kubeconfig, audit)
	err := errors.Join(os.WriteFile(d.config, []byte(text), 0o600), os.WriteFile(filepath.Join(d.dir, "hook"), []byte(hookSecret+"\n"), 0o600))
	if err != nil {
		d.t.Fatal(err)
	}
}

// start runs "purser run"; it is killed at the end of the test if it still runs.
func (d *daemon) start() {
	d.t.Helper()
	d.process = exec.Command(d.program, "run", "--config", d.config)
	d.process.Stderr = d.log
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	process, ended := d.process, make(chan error, 1)
	d.ended = ended
	go func() { ended <- process.Wait() }()
	d.t.Cleanup(func() {
		if process == d.process && process.ProcessState == nil {
			_ = process.Process.Kill()
			<-ended
		}
		if d.t.Failed() {
			d.t.Logf("the agent's log:\n%s", d.log)
		}
	})
	d.eventually("the agent runs", func(context.Context) error { return d.findServer() })
}

// findServer reads from the log where the agent listens now.
func (d *daemon) findServer() error {
	found := regexp.MustCompile(`msg=running .*listen=(\S+)`).FindAllStringSubmatch(d.log.String(), -1)
	if found == nil {
		return errors.New("it has not said that it runs")
	}
	d.server = "http://" + found[len(found)-1][1]
	return nil
}

func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	if err := d.process.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// stop ends the agent as an init system does; it must end in order.
func (d *daemon) stop() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Fatalf("after SIGTERM: %v", err)
		}
	case <-time.After(labtest.Patience):
		d.t.Fatal("the agent does not end after SIGTERM")
	}
}

// killed ends the agent as nothing can be ended worse, and starts it at once on the same address and data directory.
func (d *daemon) killed() {
	d.t.Helper()
	text, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	for range 3 {
		text = bytes.Replace(text, []byte("127.0.0.1:0"), []byte(strings.TrimPrefix(d.server, "http://")), 1)
		if err := os.WriteFile(d.config, text, 0o600); err != nil {
			d.t.Fatal(err)
		}
		ended, running := d.ended, strings.Count(d.log.String(), "msg=running ")
		d.signal(syscall.SIGKILL)
		d.start()
		d.eventually("the agent runs again", func(context.Context) error {
			if strings.Count(d.log.String(), "msg=running ") == running {
				return errors.New("it has not said so")
			}
			return nil
		})
		<-ended
	}
	d.answers(http.StatusOK, "/healthz", "ok")
}

// secondAgentIsRefused starts agents on the data directory and on the address of the one that runs.
func (d *daemon) secondAgentIsRefused() {
	d.t.Helper()
	said := d.purser(1, "run", "--config", d.config)
	if want := "another agent uses the data directory " + filepath.Join(d.dir, "data"); !strings.Contains(said, want) {
		d.t.Errorf("a second agent said %q, not %q", said, want)
	}
	text, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	other := filepath.Join(d.dir, "other.yaml")
	text = bytes.Replace(text, []byte("127.0.0.1:0"), []byte(strings.TrimPrefix(d.server, "http://")), 1)
	text = bytes.Replace(text, []byte("dataDir: data"), []byte("dataDir: other"), 1)
	if err := os.WriteFile(other, text, 0o600); err != nil {
		d.t.Fatal(err)
	}
	if said := d.purser(1, "run", "--config", other); !strings.Contains(said, "is an agent running here already?") {
		d.t.Errorf("an agent on the same address said %q", said)
	}
	d.answers(http.StatusOK, "/healthz", "ok")
}

// api reads what programs read.
func (d *daemon) api() {
	d.t.Helper()
	var all []reconciler.EnvironmentStatus
	d.decode("/api/v1/environments", &all)
	if len(all) != 1 || all[0].Name != "dev" {
		d.t.Errorf("environments: %+v", all)
	}
	var dev reconciler.EnvironmentStatus
	d.decode("/api/v1/environments/dev", &dev)
	if dev.Name != "dev" || dev.Namespace != d.namespace || dev.Cluster != "lab" || dev.Live == nil || len(dev.Inventory) != 1 {
		d.t.Errorf("dev: %+v", dev)
	}
	d.answers(http.StatusNotFound, "/api/v1/environments/uat", "no such environment")
	d.answers(http.StatusNotFound, "/api/v1/secrets", "not found")
	response, err := http.Post(d.server+"/api/v1/environments/dev", "application/json", strings.NewReader("{}"))
	if err != nil {
		d.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		d.t.Errorf("POST to the API: %s", response.Status)
	}
}

// metrics checks the form of what Prometheus scrapes, and that the parts of the agent are all there.
func (d *daemon) metrics() {
	d.t.Helper()
	status, text := d.get("/metrics")
	if status != http.StatusOK {
		d.t.Fatalf("/metrics: %d", status)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		d.t.Errorf("parse metrics: %v", err)
	}
	for _, p := range problems {
		d.t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^(purser|go|process)_`).MatchString(found[1]) {
			d.t.Errorf("metric %s is not named after purser", found[1])
		}
		if !strings.Contains(text, "# HELP "+found[1]+" ") {
			d.t.Errorf("metric %s has no help", found[1])
		}
	}
	for _, want := range []string{
		`purser_source_fetch_total{result="changed",source="estate"} 1`,
		`purser_render_builds_total{outcome="ok"} `,
		`purser_applied_objects_total{action="created",environment="dev"} 1`,
		`purser_environment_health{environment="dev",status="Healthy"} 1`,
		`purser_live_timestamp_seconds{environment="dev"} `,
		`purser_reconcile_duration_seconds_count{`,
		`purser_evidence_spool_records `,
		`purser_alerts_firing{alertname="PurserReviewOverdue",severity="critical"} 0`,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, "\n"+want) {
			d.t.Errorf("no metric %s", want)
		}
	}
}

// hooks sends notices of a push as forges do.
func (d *daemon) hooks() {
	d.t.Helper()
	body := `{"ref":"refs/heads/main"}`
	syncs := d.syncs()
	d.release("two")
	for what, header := range map[string]http.Header{
		"no signature":                {},
		"a signature of another body": {"X-Hub-Signature-256": {"sha256=" + signature(hookSecret, "{}")}},
		"another secret":              {"X-Gitea-Signature": {signature("guess", body)}},
		"the wrong token":             {"X-Gitlab-Token": {"guess"}},
	} {
		if status := d.hook("estate", header, body); status != http.StatusUnauthorized {
			d.t.Errorf("hook with %s: %d", what, status)
		}
	}
	github := http.Header{"X-Hub-Signature-256": {"sha256=" + signature(hookSecret, body)}}
	if status := d.hook("addons", github, body); status != http.StatusUnauthorized {
		d.t.Errorf("hook of an unknown source: %d", status)
	}
	if now := d.syncs(); now != syncs {
		d.t.Errorf("after refused hooks there were %s polls, before %s", now, syncs)
	}
	if status := d.hook("estate", github, body); status != http.StatusAccepted {
		d.t.Errorf("hook signed as GitHub does: %d", status)
	}
	d.untilLive("two")
	d.release("three")
	if status := d.hook("estate", http.Header{"X-Gitea-Signature": {signature(hookSecret, body)}}, body); status != http.StatusAccepted {
		d.t.Errorf("hook signed as Gitea does: %d", status)
	}
	d.untilLive("three")
}

// syncs is how often the estate was polled, as /metrics says.
func (d *daemon) syncs() string {
	_, text := d.get("/metrics")
	return regexp.MustCompile(`(?m)^purser_source_sync_duration_seconds_count.*$`).FindString(text)
}

func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func (d *daemon) hook(source string, header http.Header, body string) int {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.server+"/hooks/"+source, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// reloads checks SIGHUP with a configuration that is broken, changed, and valid but unable to start.
func (d *daemon) reloads() {
	d.t.Helper()
	good, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	reload := func(text, says string, runs int) {
		d.t.Helper()
		if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
		d.signal(syscall.SIGHUP)
		d.eventually("the agent runs on after a reload", func(context.Context) error {
			log := d.log.String()
			if !strings.Contains(log, says) || strings.Count(log, "msg=running ") != runs {
				return fmt.Errorf("%q is not in the log, or it did not start %d times", says, runs)
			}
			return nil
		})
		if err := d.findServer(); err != nil {
			d.t.Fatal(err)
		}
		d.eventually("it is ready", func(context.Context) error { return d.says(http.StatusOK, "/readyz", "ok") })
	}
	reload("kind: AgentConfig\n", "configuration not reloaded", 1)
	reload(strings.Replace(string(good), "interval: 1h", "interval: 2h", 1), "configuration changed", 2)
	reload(strings.Replace(string(good), "signingKeyFile: signing", "signingKeyFile: nowhere", 1), "does not start; going on with the one before", 3)
	reload(string(good), "configuration changed", 4)
}

// statusCodes checks "purser status" on an estate that is in order, and on one that is not.
func (d *daemon) statusCodes() {
	d.t.Helper()
	table := d.purser(0, "status", "--server", d.server)
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], "ENVIRONMENT ") || !strings.HasPrefix(lines[1], "dev ") || !strings.Contains(lines[1], "Healthy") {
		d.t.Errorf("status said\n%s", table)
	}
	if said := d.purser(0, "status", "dev", "--server", d.server); !strings.Contains(said, "ConfigMap "+d.namespace+"/settings") {
		d.t.Errorf("status of dev said\n%s", said)
	}
	var s reconciler.Status
	if err := json.Unmarshal([]byte(d.purser(0, "status", "--server", d.server, "-o", "json")), &s); err != nil || len(s.Environments) != 1 {
		d.t.Errorf("status as JSON: %v, %+v", err, s)
	}
	if said := d.purser(1, "status", "uat", "--server", d.server); !strings.Contains(said, "no such environment") {
		d.t.Errorf("status of an unknown environment said %q", said)
	}

	// One environment does not render, one waits for it; dev is still in order.
	d.declare("broken", "apps/broken", "")
	d.write("apps/broken/kustomization.yaml", "resources: [nowhere.yaml]\n")
	d.declare("later", "apps/later", "dependsOn: [broken]")
	d.write("apps/later/kustomization.yaml", "namePrefix: later-\nresources: [../dev]\n")
	d.push("Declare two more")
	d.signal(syscall.SIGHUP)
	for environment, code := range map[string]int{"broken": 1, "later": onItsWay, "dev": 0} {
		d.eventually(fmt.Sprintf("status of %s ends with %d", environment, code), func(context.Context) error {
			got, said := d.command("status", environment, "--server", d.server)
			if got != code {
				return fmt.Errorf("it ends with %d: %s", got, said)
			}
			return nil
		})
	}
	if said := d.purser(1, "status", "--server", d.server); !strings.Contains(said, "apps/broken/nowhere.yaml") {
		d.t.Errorf("status said\n%s", said)
	}
	d.write("purser/broken.yaml", "kind: Environment\n")
	d.push("Break the declaration too")
	d.signal(syscall.SIGHUP)
	d.eventually("the declaration is refused", func(context.Context) error {
		_, said := d.command("status", "--server", d.server)
		if !strings.Contains(said, "is refused:\n  purser/broken.yaml:1:1: ") {
			return errors.New(said)
		}
		return nil
	})
}

// lastRecordIsStop reads the log as an auditor does.
func (d *daemon) lastRecordIsStop() {
	d.t.Helper()
	clone := filepath.Join(d.t.TempDir(), "audit.git")
	d.git("clone", "--quiet", "--mirror", d.audit.URL, clone)
	keys := []string{"--repo", clone, "--keys", filepath.Join(d.dir, "signing.pub")}
	d.purser(0, append([]string{"evidence", "verify"}, keys...)...)
	var records []record
	if err := json.Unmarshal([]byte(d.purser(0, append([]string{"evidence", "log", "-o", "json"}, keys...)...)), &records); err != nil {
		d.t.Fatal(err)
	}
	last := records[len(records)-1]
	var stop evidence.Stop
	if err := json.Unmarshal(last.Predicate, &stop); err != nil || last.Type != evidence.TypeStop || stop.Reason != "asked to stop" {
		d.t.Errorf("the last record is %s %s (%v)", last.Type, last.Predicate, err)
	}
	live := slices.DeleteFunc(records, func(r record) bool { return r.Type != evidence.TypeLive || r.Environment != "dev" })
	if len(live) != 3 {
		d.t.Errorf("%d records that dev is live, not 3", len(live))
	}
}

// declare writes the declaration of an environment; more is further YAML of its spec.
func (d *daemon) declare(name, path, more string) {
	d.write("purser/"+name+".yaml", fmt.Sprintf(`apiVersion: purser.dev/v1alpha1
kind: Environment
metadata: {name: %s}
spec:
  purpose: development
  namespace: %s
  source: {path: %s}
  %s
`, name, d.namespace, path, more))
}

// release changes the value that dev holds, and pushes.
func (d *daemon) release(value string) {
	d.t.Helper()
	d.write("apps/dev/kustomization.yaml", "configMapGenerator: [{name: settings, literals: [value="+value+"]}]\ngeneratorOptions: {disableNameSuffixHash: true}\n")
	d.push("Release " + value)
}

func (d *daemon) write(name, text string) {
	d.t.Helper()
	file := filepath.Join(d.work, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) push(message string) {
	d.t.Helper()
	d.git("add", "--all")
	d.git("commit", "--quiet", "--message", message)
	d.git("push", "--quiet", "origin", "main")
}

func (d *daemon) git(args ...string) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "git", args...)
	cmd.Dir, cmd.Env = d.work, append(os.Environ(), gitEnvironment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// purser runs a command that must end with the exit code, and returns what it said.
func (d *daemon) purser(code int, args ...string) string {
	d.t.Helper()
	got, said := d.command(args...)
	if got != code {
		d.t.Fatalf("purser %s ended with %d, not %d:\n%s", strings.Join(args, " "), got, code, said)
	}
	return said
}

func (d *daemon) command(args ...string) (code int, said string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), labtest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program, args...)
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		d.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// untilLive waits until dev is live with a value in the cluster.
func (d *daemon) untilLive(value string) {
	d.t.Helper()
	d.eventually("dev is live with "+value, func(ctx context.Context) error {
		settings, err := d.kube.CoreV1().ConfigMaps(d.namespace).Get(ctx, "settings", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if settings.Data["value"] != value {
			return fmt.Errorf("it holds %q", settings.Data["value"])
		}
		if code, said := d.command("status", "--server", d.server); code != 0 {
			return fmt.Errorf("status ends with %d: %s", code, said)
		}
		return nil
	})
}

func (d *daemon) eventually(what string, check func(context.Context) error) {
	d.t.Helper()
	labtest.Eventually(d.t, what, func(ctx context.Context) error {
		select {
		case err := <-d.ended:
			d.ended <- err
			d.t.Fatalf("%s: the agent ended: %v", what, err)
		default:
		}
		return check(ctx)
	})
}

func (d *daemon) get(path string) (status int, body string) {
	d.t.Helper()
	response, err := http.Get(d.server + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (d *daemon) decode(path string, into any) {
	d.t.Helper()
	status, body := d.get(path)
	if err := json.Unmarshal([]byte(body), into); status != http.StatusOK || err != nil {
		d.t.Errorf("%s: %d %v\n%s", path, status, err, body)
	}
}

// says checks an answer of the agent.
func (d *daemon) says(status int, path, text string) error {
	if got, body := d.get(path); got != status || !strings.Contains(body, text) {
		return fmt.Errorf("%s: %d %q, want %d %q", path, got, body, status, text)
	}
	return nil
}

func (d *daemon) answers(status int, path, text string) {
	d.t.Helper()
	if err := d.says(status, path, text); err != nil {
		d.t.Error(err)
	}
}

// logBuffer collects what a process says while it runs.
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
