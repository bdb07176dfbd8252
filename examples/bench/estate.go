package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// estate is the work tree of an estate, and the agent's copy of its repository.
type estate struct {
	work, copy   string
	environments []*declaration.Environment
	commits      []string // the first declares the estate, the others are pushes of a neighbour and change nothing that is rendered
}

// pushes of a neighbour are more than a repository remembers the trees of, so that each is as new as the first time.
const pushes = 12

// newSampleEstate copies the sample estate into a folder that does not exist yet.
func newSampleEstate(ctx context.Context, dir string) (*estate, error) {
	root, err := projectRoot(ctx)
	if err != nil {
		return nil, err
	}
	e := &estate{work: filepath.Join(dir, "work"), copy: filepath.Join(dir, "copy")}
	if err := os.CopyFS(e.work, os.DirFS(filepath.Join(root, "examples", "estate"))); err != nil {
		return nil, fmt.Errorf("copy estate: %w", err)
	}
	tree, err := sources.WorkTree(e.work, sources.Limits{})
	if err != nil {
		return nil, err
	}
	set, err := declaration.Parse(tree, "purser", declaration.Known{})
	if err != nil {
		return nil, fmt.Errorf("parse estate: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(set.Environments)) {
		e.environments = append(e.environments, set.Environments[name])
	}
	return e, e.publish(ctx)
}

// newLargeEstate writes an estate whose environments differ in a namespace, a label, an image digest and a setting.
func newLargeEstate(ctx context.Context, dir string, environments int) (*estate, error) {
	e := &estate{work: filepath.Join(dir, "work"), copy: filepath.Join(dir, "copy")}
	files := map[string]string{}
	for name, text := range sharedBase {
		files["base/"+name] = text
	}
	for i := range environments {
		name := fmt.Sprintf("shop-%04d", i+1)
		environment := &declaration.Environment{Meta: declaration.Meta{Name: name}}
		environment.Spec.Cluster, environment.Spec.Namespace, environment.Spec.Source.Path = "lab", name, "overlays/"+name
		e.environments = append(e.environments, environment)
		files["overlays/"+name+"/kustomization.yaml"] = fmt.Sprintf(ownOverlay, name, i+1)
	}
	for name, text := range files {
		path := filepath.Join(e.work, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return nil, err
		}
	}
	return e, e.publish(ctx)
}

var sharedBase = map[string]string{
	"kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [settings.yaml, serviceaccount.yaml, service.yaml, web.yaml]
`,
	"settings.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  log_level: info
  workers: "4"
`,
	"serviceaccount.yaml": `apiVersion: v1
kind: ServiceAccount
metadata:
  name: odoo
automountServiceAccountToken: false
`,
	"service.yaml": `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector:
    app.kubernetes.io/component: web
  ports:
    - name: http
      port: 8069
      targetPort: http
`,
	"web.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 0
  selector:
    matchLabels:
      app.kubernetes.io/component: web
  template:
    metadata:
      labels:
        app.kubernetes.io/component: web
    spec:
      serviceAccountName: odoo
      containers:
        - name: odoo
          image: registry.example/odoo
          envFrom:
            - configMapRef:
                name: settings
          ports:
            - name: http
              containerPort: 8069
          resources:
            requests:
              cpu: 250m
              memory: 512Mi
`,
}

const ownOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: %[1]s
resources: [../../base]
labels:
  - pairs: {purser.dev/environment: %[1]s}
images:
  - name: registry.example/odoo
    digest: sha256:%064[2]x
patches:
  - patch: |-
      apiVersion: v1
      kind: ConfigMap
      metadata:
        name: settings
      data:
        database: %[1]s
`

// publish commits the work tree and the pushes of a neighbour, and fetches each as the agent does.
func (e *estate) publish(ctx context.Context) error {
	repo, err := e.open()
	if err != nil {
		return err
	}
	fetch := func(message string) error {
		if err := errors.Join(e.git(ctx, "add", "--all"), e.git(ctx, "commit", "--quiet", "--message", message)); err != nil {
			return err
		}
		if _, err := repo.Sync(ctx, []string{"main"}); err != nil {
			return err
		}
		head, _ := repo.Head("main")
		e.commits = append(e.commits, head.Commit)
		return nil
	}
	err = errors.Join(e.git(ctx, "init", "--quiet", "--initial-branch", "main"), fetch("Declare the estate"))
	for i := 0; i < pushes && err == nil; i++ {
		err = errors.Join(
			os.WriteFile(filepath.Join(e.work, "NEWS.md"), fmt.Appendf(nil, "Change %d of a neighbour\n", i), 0o644),
			fetch("Touch nothing that is rendered"))
	}
	return errors.Join(err, repo.Close())
}

// open opens the agent's copy. Nothing is remembered of earlier calls.
func (e *estate) open() (*sources.Repository, error) {
	return sources.Open(e.copy, sources.Options{URL: "file://" + e.work})
}

// inMemory puts the estate's files into a filesystem in memory, below "/".
func (e *estate) inMemory() (filesys.FileSystem, error) {
	memory := filesys.MakeFsInMemory()
	err := fs.WalkDir(os.DirFS(e.work), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git":
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		text, err := os.ReadFile(filepath.Join(e.work, name))
		if err != nil {
			return err
		}
		return memory.WriteFile("/"+name, text)
	})
	return memory, err
}

func (e *estate) git(ctx context.Context, args ...string) error { return runGit(ctx, e.work, args...) }

// projectRoot is the folder of this project's go.mod.
func projectRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/purser-gitops/purser").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
