package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/examples/lab"
)

// managedKind is a kind that every environment of a generated estate has one object of.
type managedKind struct {
	kind     string
	resource schema.GroupVersionResource
	name     string // of the object
}

var managed = []managedKind{
	{"ConfigMap", schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "settings"},
	{"ServiceAccount", schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, "odoo"},
	{"Service", schema.GroupVersionResource{Version: "v1", Resource: "services"}, "web"},
	{"Deployment", schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "web"},
}

// kindOf finds a managed kind by its name.
func kindOf(kind string) managedKind {
	for _, k := range managed {
		if k.kind == kind {
			return k
		}
	}
	panic("the generated estate has no " + kind)
}

// place is one environment of a generated estate.
type place struct{ environment, tenant, namespace string }

// places names environments, one after the other of each tenant.
func places(environments, tenants int) []place {
	list := make([]place, environments)
	for i := range list {
		tenant := tenantName(i % tenants)
		name := fmt.Sprintf("shop-%04d", i+1)
		list[i] = place{environment: name, tenant: tenant, namespace: tenant + "-" + name}
	}
	return list
}

// tenantName is north, south, tenant-3, tenant-4, …; none begins as another does.
func tenantName(i int) string {
	if i < 2 {
		return []string{"north", "south"}[i]
	}
	return fmt.Sprintf("tenant-%d", i+1)
}

const baseFolder, overlayFolder = "apps/odoo/base", "apps/odoo/overlays"

// base of every environment. The Deployment has no replicas, so that nothing but the control plane is needed.
var base = map[string]string{
	"kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [settings.yaml, serviceaccount.yaml, service.yaml, web.yaml]
labels:
  - pairs: {app.kubernetes.io/name: odoo}
    includeSelectors: true
`,
	"settings.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  log_level: info
  workers: "4"
  database: template
  changed: "0"
`,
	"serviceaccount.yaml": `apiVersion: v1
kind: ServiceAccount
metadata: {name: odoo}
automountServiceAccountToken: false
`,
	"service.yaml": `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app.kubernetes.io/component: web}
  ports:
    - {name: http, port: 8069, targetPort: http}
    - {name: websocket, port: 8072, targetPort: websocket}
`,
	"web.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector:
    matchLabels: {app.kubernetes.io/component: web}
  template:
    metadata:
      labels: {app.kubernetes.io/component: web}
    spec:
      serviceAccountName: odoo
      containers:
        - name: odoo
          image: registry.example/odoo
          envFrom: [{configMapRef: {name: settings}}]
          ports:
            - {name: http, containerPort: 8069}
            - {name: websocket, containerPort: 8072}
          readinessProbe: {httpGet: {path: /web/health, port: http}}
          resources:
            requests: {cpu: 250m, memory: 512Mi}
            limits: {memory: 1Gi}
`,
}

const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: %s
resources: [../../base]
patches: [{path: settings.yaml}]
images:
  - name: registry.example/odoo
    digest: sha256:03d75713c1328cb333ff913fe64302c27314dd2150910c02d4c2d07d5b5c66c6
`

const settings = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  database: %s
  changed: "%d"
`

const declared = `apiVersion: purser.dev/v1alpha1
kind: Environment
metadata: {name: %s}
spec:
  purpose: production
  tenant: %s
  cluster: lab
  namespace: %s
  source: {path: %s/%s}
`

const declaredTenant = `apiVersion: purser.dev/v1alpha1
kind: Tenant
metadata: {name: %s}
spec:
  namespaces: ["%[1]s-*"]
  kinds: [{kind: ConfigMap}, {kind: ServiceAccount}, {kind: Service}, {group: apps, kind: Deployment}]
`

const declaredDefaults = `apiVersion: purser.dev/v1alpha1
kind: Estate
metadata: {name: generated}
spec:
  defaults:
    reconcile: {interval: %s}
`

// generated is the work tree of an estate of many environments on one shared base, and the repository it is pushed to.
type generated struct {
	dir    string
	repo   *lab.Repo
	places []place
}

// newGenerated writes, commits and pushes an estate whose environments are compared with the cluster at an interval.
func newGenerated(ctx context.Context, dir string, repo *lab.Repo, environments []place, interval time.Duration) (*generated, error) {
	g := &generated{dir: dir, repo: repo, places: environments}
	files := map[string]string{}
	for name, text := range base {
		files[filepath.Join(baseFolder, name)] = text
	}
	for _, p := range environments {
		files[filepath.Join("purser", "tenants", p.tenant+".yaml")] = fmt.Sprintf(declaredTenant, p.tenant)
		files[filepath.Join("purser", "environments", p.environment+".yaml")] = fmt.Sprintf(declared, p.environment, p.tenant, p.namespace, overlayFolder, p.environment)
		files[filepath.Join(overlayFolder, p.environment, "kustomization.yaml")] = fmt.Sprintf(overlay, p.namespace)
	}
	for name, text := range files {
		if err := g.write(name, text); err != nil {
			return nil, err
		}
	}
	for _, p := range environments {
		if err := g.change(p, 0); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(
		g.compareEvery(interval),
		g.git(ctx, "init", "--quiet", "--initial-branch", "main"), g.git(ctx, "remote", "add", "origin", repo.URL),
	); err != nil {
		return nil, err
	}
	_, err := g.push(ctx, "Declare the estate")
	return g, err
}

// change gives the ConfigMap of one environment another value.
func (g *generated) change(p place, value int) error {
	return g.write(filepath.Join(overlayFolder, p.environment, "settings.yaml"), fmt.Sprintf(settings, p.environment, value))
}

// compareEvery sets the interval of the full comparison of all environments.
func (g *generated) compareEvery(interval time.Duration) error {
	return g.write(filepath.Join("purser", "estate.yaml"), fmt.Sprintf(declaredDefaults, interval))
}

func (g *generated) write(name, text string) error {
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// push commits everything and pushes it. It returns when the commit was to be seen on the Git server: when the server
// wrote the branch, which is before the push command ends.
func (g *generated) push(ctx context.Context, message string) (visible time.Time, err error) {
	if err := errors.Join(
		g.git(ctx, "add", "--all"), g.git(ctx, "commit", "--quiet", "--message", message), g.git(ctx, "push", "--quiet", "origin", "main"),
	); err != nil {
		return time.Time{}, err
	}
	ref, err := os.Stat(filepath.Join(g.repo.Dir, "refs", "heads", "main"))
	if err != nil {
		return time.Time{}, fmt.Errorf("look at the pushed branch: %w", err)
	}
	return ref.ModTime(), nil
}

func (g *generated) git(ctx context.Context, args ...string) error {
	return runGit(ctx, g.dir, args...)
}

// runGit runs git in a folder, with no settings but its own.
func runGit(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@estate.example",
		"GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@estate.example")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

// objects renders one environment with the Kustomize library.
func (g *generated) objects(p place) ([]*unstructured.Unstructured, error) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(g.dir, overlayFolder, p.environment))
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", p.environment, err)
	}
	list := make([]*unstructured.Unstructured, 0, len(managed))
	for _, resource := range rendered.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", p.environment, err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("render %s: %w", p.environment, err)
		}
		list = append(list, object)
	}
	if len(list) != len(managed) {
		return nil, fmt.Errorf("%s renders to %d objects, not %d", p.environment, len(list), len(managed))
	}
	return list, nil
}

// allObjects renders every environment.
func (g *generated) allObjects() ([]*unstructured.Unstructured, error) {
	var list []*unstructured.Unstructured
	for _, p := range g.places {
		objects, err := g.objects(p)
		if err != nil {
			return nil, err
		}
		list = append(list, objects...)
	}
	return list, nil
}

// head is the newest commit.
func (g *generated) head(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "rev-parse", "HEAD")
	cmd.Dir = g.dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
