package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/purser-gitops/purser/examples/lab"
)

type options struct {
	kubeconfig string // "": start a control plane
	dir        string // "": a temporary one, removed afterwards
	out        io.Writer
}

// demo is one run: its servers, its repositories, its agent.
type demo struct {
	options
	root    string // of this project's source
	purser  string // binary
	git     *lab.Endpoints
	estate  string // work tree of the estate
	estates *lab.Repo
	audit   *lab.Repo
	kube    kubernetes.Interface
	agent   *agent
	scratch string // of restores
	started time.Time
}

// chapters in the order in which they are told.
var chapters = []struct {
	title string
	tell  func(*demo, context.Context) error
}{
	{"An estate of six environments goes live", (*demo).goLive},
	{"A push releases to one environment", (*demo).release},
	{"A bad commit is refused, and nothing is lost", (*demo).refuse},
	{"Somebody edits what runs by hand, and it is healed", (*demo).heal},
	{"The agent is killed in the middle of a release", (*demo).kill},
	{"A release waits for an approval", (*demo).approve},
	{"Two pull requests are released together", (*demo).together},
	{"A release is promoted, and no stage is skipped", (*demo).promote},
	{"Backups are proven by restoring them, or nothing is released", (*demo).backUp},
	{"A freeze, and the way through it", (*demo).freeze},
	{"An auditor checks the log, offline", (*demo).verify},
}

// run tells every chapter, and ends everything it started.
func run(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	d := &demo{options: o}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "purser-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(d.dir)
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	stop, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	d.started = time.Now()
	for i, chapter := range chapters {
		start := time.Now()
		d.say("\n%d. %s", i+1, chapter.title)
		if err := chapter.tell(d, ctx); err != nil {
			return fmt.Errorf("chapter %d (%s): %w%s", i+1, chapter.title, err, d.agent.tail())
		}
		d.say("   done in %.1f s", time.Since(start).Seconds())
	}
	d.say("\nThe whole line took %.1f s.", time.Since(d.started).Seconds())
	return nil
}

func (d *demo) say(format string, values ...any) { fmt.Fprintf(d.out, format+"\n", values...) }

// show prints text indented, as something a program said.
func (d *demo) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprintf(d.out, "   | %s", line)
	}
}

// prepare builds the program, starts the servers and fills the repositories.
func (d *demo) prepare(ctx context.Context) (stop func() error, err error) {
	if d.root, err = projectRoot(ctx); err != nil {
		return nil, err
	}
	d.purser = filepath.Join(d.dir, "bin", "purser")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", d.purser, "./cmd/purser")
	build.Dir, build.Env = d.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build purser: %w\n%s", err, out)
	}
	start := time.Now()
	servers := []string{lab.Git, lab.PostgreSQL, lab.S3}
	if d.kubeconfig == "" {
		servers = nil // all of them
	}
	l, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(d.dir, "lab"), Servers: servers, Progress: d.out})
	if err != nil {
		return nil, err
	}
	d.git = &l.Endpoints
	stop = func() error { return errors.Join(d.agent.stop(), l.Stop(), os.RemoveAll(d.scratch)) }
	if err := d.connect(ctx, l); err != nil {
		return nil, errors.Join(err, stop())
	}
	d.say("Servers are up after %.1f s: %s", time.Since(start).Seconds(), strings.Join(l.Servers, ", "))
	return stop, nil
}

// connect prepares the cluster's side, the repositories and the agent's configuration.
func (d *demo) connect(ctx context.Context, l *lab.Lab) error {
	admin := d.kubeconfig
	agent := d.kubeconfig
	if admin == "" {
		admin = l.Kubeconfig
		var err error
		// The agent is nobody special: what it may do is what examples/deploy/rbac gives it.
		if agent, err = l.KubeconfigFor(lab.Identity{User: "system:serviceaccount:purser:purser"}); err != nil {
			return err
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", admin)
	if err != nil {
		return err
	}
	config.QPS = -1
	if d.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := d.grant(ctx, config); err != nil {
		return err
	}
	if d.estates, err = l.CreateRepo(ctx, "estate"); err != nil {
		return err
	}
	if d.audit, err = l.CreateRepo(ctx, "audit"); err != nil {
		return err
	}
	d.estate = filepath.Join(d.dir, "estate")
	if err := os.CopyFS(d.estate, os.DirFS(filepath.Join(d.root, "examples", "estate"))); err != nil {
		return err
	}
	backups, err := d.prepareShop(ctx, l)
	if err != nil {
		return fmt.Errorf("prepare the shop of qa: %w", err)
	}
	d.agent, err = newAgent(d.dir, d.purser, agent, d.estates.URL, d.audit.URL, backups)
	return err
}

// command runs a program and returns what it printed; exit codes other than want are errors.
func (d *demo) command(ctx context.Context, want int, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = d.estate
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && want == 0, errors.As(err, &exit) && exit.ExitCode() == want:
		return out.String(), nil
	case err == nil:
		err = fmt.Errorf("exit status 0, not %d", want)
	}
	return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out.String())
}

// commit commits everything in the estate's work tree.
func (d *demo) commit(ctx context.Context, message string) error {
	for _, args := range [][]string{{"add", "--all"}, {"commit", "--quiet", "--message", message}} {
		if _, err := d.command(ctx, 0, "git", args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) push(ctx context.Context) error {
	_, err := d.command(ctx, 0, "git", "push", "--quiet", "origin", "main")
	return err
}

// edit replaces text in a file of the estate, which must be there.
func (d *demo) edit(file, before, after string) error {
	path := filepath.Join(d.estate, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(before)) {
		return fmt.Errorf("%s does not contain %q", file, before)
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(before), []byte(after), 1), 0o644)
}

// patience is how long anything may take on a busy machine.
const patience = 3 * time.Minute

// until asks again until the answer is good or patience ends.
func until(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", patience, err)
		case <-ticker.C:
		}
	}
}

// projectRoot is the folder of this project's go.mod.
func projectRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/purser-gitops/purser").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
