package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func deployment(name string, annotations map[string]string) map[string]any {
	labels := map[string]string{"app": name}
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"replicas": 3, "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{
				"metadata": map[string]any{"labels": labels, "annotations": annotations},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "web", "image": "web:1"}}},
			},
		},
	}
}

func TestDeploymentBecomesAvailable(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), ControllerManager, Scheduler, KWOK)
	path := "/apis/apps/v1/namespaces/default/deployments"
	api(t, l, http.MethodPost, path, deployment("good", nil), http.StatusCreated)
	api(t, l, http.MethodPost, path, deployment("broken", map[string]string{podAnnotation: "crashing"}), http.StatusCreated)

	replicas := func(name string) (available, updated int) {
		var d struct {
			Status struct{ AvailableReplicas, UpdatedReplicas int }
		}
		if err := json.Unmarshal(api(t, l, http.MethodGet, path+"/"+name, nil, http.StatusOK), &d); err != nil {
			t.Fatal(err)
		}
		return d.Status.AvailableReplicas, d.Status.UpdatedReplicas
	}
	eventually(t, func() error {
		if n, _ := replicas("good"); n != 3 {
			return fmt.Errorf("%d replicas are available", n)
		}
		return nil
	})
	eventually(t, func() error {
		body := api(t, l, http.MethodGet, "/api/v1/namespaces/default/pods?labelSelector=app%3Dbroken", nil, http.StatusOK)
		if n := strings.Count(string(body), "CrashLoopBackOff"); n != 3 {
			return fmt.Errorf("%d pods crash", n)
		}
		return nil
	})
	if n, _ := replicas("broken"); n != 0 {
		t.Errorf("%d replicas of a crashing deployment are available", n)
	}
}

func TestStopLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startLab(t, dir, APIServer, Git)
	if len(processesOf(t, dir)) < 3 {
		t.Fatalf("expected three servers, found %q", processesOf(t, dir))
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if found := processesOf(t, dir); len(found) > 0 {
		t.Errorf("still running after Stop: %q", found)
	}
	if _, err := Join(dir); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("joining a stopped lab: %v", err)
	}
}

// A supervisor that is killed takes along its servers and the hook of a push that is under way.
func TestKilledSupervisorLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	supervisor := supervise(t, dir)
	e, err := Join(dir)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := e.CreateRepo(t.Context(), "slow")
	if err != nil {
		t.Fatal(err)
	}
	started := dir + "/hook-started"
	if err := repo.SetHook("pre-receive", "#!/bin/sh\ntouch "+started+"\nexec sleep 600\n"); err != nil {
		t.Fatal(err)
	}
	push := exec.CommandContext(t.Context(), "git", "push", "--quiet", repo.URL, "main")
	push.Dir = workTree(t)
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { _, err := os.Stat(started); return err })

	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait() // it was killed
	if push.Wait() == nil {
		t.Error("the push succeeded without a server")
	}
	eventually(t, noProcessOf(t, dir))
}

// supervise runs a lab in a process of its own.
func supervise(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), superviseEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("supervisor said %q: %v", line, err)
	}
	return cmd
}

func TestRestartAfterCrashInTheSameDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	supervisor := supervise(t, dir)
	before, err := Join(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.CreateRepo(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir, Servers: []string{Etcd}}); err == nil ||
		!strings.Contains(err.Error(), "another lab runs") {
		t.Fatalf("a second lab in a directory in use: %v", err)
	}
	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait() // it was killed

	// A server that survived all the same, and a file of a process whose number something else has now.
	left := exec.Command("sleep", "600")
	left.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	other := exec.Command("sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, cmd := range []*exec.Cmd{left, other} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	leftEnded := make(chan error, 1)
	go func() { leftEnded <- left.Wait() }()
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	remember := func(name string, pid int, start string) {
		was, err := describeProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if start != "" {
			was.Start = start
		}
		if err := writeJSON(dir+"/pids/"+name+".json", was); err != nil {
			t.Fatal(err)
		}
	}
	remember("left", left.Process.Pid, "")
	remember("other", other.Process.Pid, "1")

	l := startLab(t, dir, Etcd, Git)
	select {
	case <-leftEnded:
	case <-time.After(10 * time.Second):
		t.Error("a leftover of the crashed lab still runs")
	}
	if _, err := describeProcess(other.Process.Pid); err != nil {
		t.Errorf("a process that is not the lab's was ended: %v", err)
	}
	if _, err := os.Stat(l.path("git", "kept.git", "HEAD")); err != nil {
		t.Errorf("data of the crashed lab: %v", err)
	}
}

func TestSideBySide(t *testing.T) {
	t.Parallel()
	one := startLab(t, t.TempDir(), APIServer)
	two := startLab(t, t.TempDir(), APIServer)
	path := "/api/v1/namespaces"
	ns := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "only-one"}}
	api(t, one, http.MethodPost, path, ns, http.StatusCreated)
	api(t, two, http.MethodGet, path+"/only-one", nil, http.StatusNotFound)
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	api(t, two, http.MethodGet, path+"/default", nil, http.StatusOK)
}

func TestServerOutages(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), APIServer)
	url := l.APIURL
	check := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return getOK(ctx, l.transport, url+"/readyz")
	}
	if err := l.Kill(APIServer); err != nil {
		t.Fatal(err)
	}
	if check() == nil {
		t.Error("a killed API server answers")
	}
	if err := l.StartServer(t.Context(), APIServer); err != nil {
		t.Fatal(err)
	}
	if err := l.Pause(t.Context(), APIServer); err != nil {
		t.Fatal(err)
	}
	if check() == nil {
		t.Error("a paused API server answers")
	}
	if err := l.Resume(APIServer); err != nil {
		t.Fatal(err)
	}
	eventually(t, check)
	if l.Restart(t.Context(), APIServer, "--no-such-argument") == nil {
		t.Error("it does not get its further argument")
	}
	if err := l.Restart(t.Context(), APIServer); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil || l.APIURL != url {
		t.Errorf("after a restart at %s: %v", l.APIURL, err)
	}
}

func TestExpiredIdentityIsRefused(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), APIServer)
	transport, err := l.Transport(Identity{User: "late", Groups: []string{"system:masters"}, NotAfter: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(l.APIURL + "/api/v1/namespaces")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %s, want 401", response.Status)
	}
}

func TestPortTakenByAnother(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	l := &Lab{progress: os.Stderr, processes: map[string]*process{}, ending: map[string]bool{}}
	if err := l.open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	names := []string{Git, Etcd, PostgreSQL, S3}
	for _, name := range names {
		l.Ports[name] = port
	}
	if err := l.StartServer(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if l.Ports[name] == port {
			t.Errorf("the port of %s is %d, which is taken", name, port)
		}
	}
}

// A broken server ends before it is ready.
type broken struct{ etcd }

func (broken) Name() string { return "broken" }

func (broken) Command(context.Context, *Lab, string) (*exec.Cmd, error) {
	return exec.Command("sh", "-c", "echo no such flag >&2; exit 3"), nil
}

func (broken) Ready(context.Context, *Lab) error { return fmt.Errorf("not ready") }

func TestServerThatDiesEarlyShowsItsLog(t *testing.T) {
	t.Parallel()
	l := &Lab{progress: os.Stderr, processes: map[string]*process{}, ending: map[string]bool{}}
	if err := l.open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	err := l.run(t.Context(), broken{}, "")
	if err == nil || !strings.Contains(err.Error(), "no such flag") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error is %v", err)
	}
}

func TestUnknownServer(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Servers: []string{"etcdd"}})
	if err == nil || !strings.Contains(err.Error(), `unknown server "etcdd"`) {
		t.Errorf("error is %v", err)
	}
}
