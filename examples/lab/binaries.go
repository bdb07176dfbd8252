package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/modfile"
)

// modulePath is the module that holds this package.
const modulePath = "github.com/purser-gitops/purser"

// A program is something that the lab builds.
type program struct {
	dir     string // folder of its module, relative to this package; "" for a program of this module
	pkg     string // Go package
	module  string // module whose version in dir/go.mod is the program's; "" for a program of this module
	cpuTime string // about how much CPU time the first build takes
	tags    string // build tags; a program with SQLite is linked with C
}

// Age is the program with which people open sealed backups without Purser.
const Age = "age"

// Promtool is Prometheus' own checker of rules.
const Promtool = "promtool"

// programs are the binaries of the servers and of the tools that tests compare Purser with.
var programs = map[string]program{
	Etcd:              {"etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "2 minutes", ""},
	APIServer:         {"kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes", "8 minutes", ""},
	ControllerManager: {"kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes", "4 minutes", ""},
	Scheduler:         {"kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "k8s.io/kubernetes", "1 minute", ""},
	KWOK:              {"kwok", "sigs.k8s.io/kwok/cmd/kwok", "sigs.k8s.io/kwok", "4 minutes", ""},
	Gitea:             {"gitea", giteaModule, giteaModule, "6 minutes", "sqlite sqlite_unlock_notify"},
	Alertmanager:      {"alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager", "github.com/prometheus/alertmanager", "2 minutes", ""},
	S3:                {"versitygw", "github.com/versity/versitygw/cmd/versitygw", "github.com/versity/versitygw", "2 minutes", ""},
	"kustomize":       {"kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "sigs.k8s.io/kustomize/kustomize/v5", "1 minute", ""},
	Age:               {"age", "filippo.io/age/cmd/age", "filippo.io/age", "10 seconds", ""},
	Promtool:          {"promtool", "github.com/prometheus/prometheus/cmd/promtool", "github.com/prometheus/prometheus", "3 minutes", "remove_all_sd"}, // it discovers nothing
	Git:               {"", modulePath + "/examples/lab/cmd/gitserver", "", "10 seconds", ""},
}

// workingDir is the working directory at the start of the process, before a test changes it.
var workingDir, workingDirErr = os.Getwd()

// sourceDir returns the folder of this package in the checkout that the process was started in.
func sourceDir() (string, error) {
	if workingDirErr != nil {
		return "", fmt.Errorf("find checkout: %w", workingDirErr)
	}
	for dir := workingDir; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && modfile.ModulePath(data) == modulePath {
			return filepath.Join(dir, "examples", "lab"), nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find checkout: %w", err)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find checkout: %s is not inside a checkout of %s", workingDir, modulePath)
		}
	}
}

// Binary returns the path of a server's binary, of "kustomize", of [Age] or of [Promtool], building it when it is missing, unless it is a
// package of Debian's. Progress goes to standard error.
func Binary(ctx context.Context, name string) (string, error) {
	return binary(ctx, name, os.Stderr)
}

// Build builds every binary that is missing.
func Build(ctx context.Context, progress io.Writer) error {
	for _, name := range append(Servers(), "kustomize", Age, Promtool) {
		if _, err := binary(ctx, name, progress); err != nil {
			return err
		}
	}
	return nil
}

func binary(ctx context.Context, name string, progress io.Writer) (string, error) {
	if name == PostgreSQL { // not built
		return PostgresTool(name)
	}
	p, ok := programs[name]
	if !ok {
		return "", fmt.Errorf("find binary: the lab has no program %q", name)
	}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		path := filepath.Join(assets, name)
		if executable(path) {
			return path, nil
		}
	}
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	version, err := p.version(source)
	if err != nil {
		return "", fmt.Errorf("find version of %s: %w", name, err)
	}
	dir, err := cacheDir(name + "-" + version)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if executable(path) {
		return path, nil
	}
	// One lock per module: its programs share most packages, so that the second build is short.
	lock, err := waitLock(ctx, filepath.Join(filepath.Dir(dir), p.lockName()), func() {
		fmt.Fprintf(progress, "waiting for another build of %s %s\n", name, version)
	})
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if executable(path) {
		return path, nil
	}
	fmt.Fprintf(progress, "building %s %s (about %s of CPU once)\n", name, version, p.cpuTime)
	ldflags := "-s -w"
	if p.module == "k8s.io/kubernetes" { // else the API server tells its clients that it is v0.0.0
		ldflags += " -X k8s.io/component-base/version.gitVersion=" + version
	}
	if err := p.goBuild(ctx, filepath.Join(source, p.dir), ldflags, path); err != nil {
		return "", fmt.Errorf("build %s %s: %w", name, version, err)
	}
	return path, nil
}

func (p program) lockName() string {
	if p.dir == "" {
		return "purser.lock"
	}
	return p.dir + ".lock"
}

// version is the version of the program: its module's, or a digest of its source for a program of this module.
func (p program) version(source string) (string, error) {
	if p.module != "" {
		return moduleVersion(filepath.Join(source, p.dir, "go.mod"), p.module)
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version())
	files, err := filepath.Glob(filepath.Join(source, "cmd", filepath.Base(p.pkg), "*.go"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(file), len(data), data)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// moduleVersion reads the version of a required module from a go.mod file.
func moduleVersion(path, module string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read versions: %w", err)
	}
	file, err := modfile.Parse(path, data, nil)
	if err != nil {
		return "", fmt.Errorf("parse versions: %w", err)
	}
	for _, require := range file.Require {
		if require.Mod.Path == module {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", path, module)
}

// cacheDir returns a folder of the lab's cache and creates it.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache: %w", err)
	}
	dir := filepath.Join(base, "purser-lab", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("create cache: %w", err)
	}
	return dir, nil
}

// goBuild builds a binary to a temporary name and renames it. Without C it is static.
func (p program) goBuild(ctx context.Context, dir, ldflags, path string) error {
	tmp, cgo := path+".tmp", "0"
	if strings.Contains(p.tags, "sqlite") { // it is C
		cgo = "1"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", dir, "-trimpath", "-tags", p.tags, "-ldflags", ldflags, "-o", tmp, p.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOWORK=off", "GOFLAGS=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", p.pkg, err, bytes.TrimSpace(out.Bytes()))
	}
	return os.Rename(tmp, path)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
