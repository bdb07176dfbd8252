package render

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/purser-gitops/purser/sources"
)

// writeLargeEstate gives a directory with n overlays on one base, as an estate has them: a namespace, a label, an image
// digest and a setting of its own each.
func writeLargeEstate(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, largeBase)
	for i := range n {
		path := filepath.Join(dir, overlay(i), "kustomization.yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("{{N}}", fmt.Sprintf("%04d", i), "{{DIGEST}}", fmt.Sprintf("%064x", i+1)).Replace(largeOverlay)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func overlay(i int) string { return fmt.Sprintf("overlays/env-%04d", i) }

const largeBase = `-- base/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - configmap.yaml
  - serviceaccount.yaml
  - service.yaml
  - deployment.yaml
-- base/configmap.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: odoo-conf
data:
  ODOO_LOG_LEVEL: info
  ODOO_WORKERS: "4"
-- base/serviceaccount.yaml --
apiVersion: v1
kind: ServiceAccount
metadata:
  name: odoo
automountServiceAccountToken: false
-- base/service.yaml --
apiVersion: v1
kind: Service
metadata:
  name: odoo
spec:
  selector:
    app.kubernetes.io/name: odoo
  ports:
    - name: http
      port: 80
      targetPort: http
-- base/deployment.yaml --
apiVersion: apps/v1
kind: Deployment
metadata:
  name: odoo
spec:
  replicas: 0
  selector:
    matchLabels:
      app.kubernetes.io/name: odoo
  template:
    metadata:
      labels:
        app.kubernetes.io/name: odoo
        purser.dev/role: web
    spec:
      serviceAccountName: odoo
      containers:
        - name: odoo
          image: registry.example/odoo
          envFrom:
            - configMapRef:
                name: odoo-conf
          ports:
            - name: http
              containerPort: 8069
          resources:
            requests:
              cpu: 100m
              memory: 256Mi
`

const largeOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: env-{{N}}
resources:
  - ../../base
labels:
  - pairs:
      purser.dev/environment: env-{{N}}
images:
  - name: registry.example/odoo
    digest: sha256:{{DIGEST}}
patches:
  - patch: |-
      apiVersion: v1
      kind: ConfigMap
      metadata:
        name: odoo-conf
      data:
        ODOO_DATABASE: env-{{N}}
`

func TestEqualsKustomizeBuildOverLargeEstate(t *testing.T) { expectEqual(t, writeLargeEstate(t, 3)) }

// synced gives a repository at copy that fetched the large estate, and its commits. All but the first are pushes of a
// neighbour: they change nothing that the n overlays render.
func synced(t testing.TB, copy string, n, pushes int) (repo *sources.Repository, commits []string) {
	t.Helper()
	dir := writeLargeEstate(t, n)
	git(t, dir, "init", "-q", "-b", "main")
	repo = openCopy(t, copy, dir)
	for i := range 1 + pushes {
		if i > 0 {
			writeFiles(t, dir, fmt.Sprintf("-- NEWS.md --\n%d\n-- overlays/env-9999/kustomization.yaml --\nresources: [../../base] # %d\n", i, i))
		}
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "-m", "x")
		if _, err := repo.Sync(testContext(t), []string{"main"}); err != nil {
			t.Fatal(err)
		}
		head, _ := repo.Head("main")
		commits = append(commits, head.Commit)
	}
	return repo, commits
}

func openCopy(t testing.TB, dir, remote string) *sources.Repository {
	t.Helper()
	repo, err := sources.Open(dir, sources.Options{URL: "file://" + remote})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := repo.Close(); err != nil {
			t.Error(err)
		}
	})
	return repo
}

func treeAt(t testing.TB, repo *sources.Repository, commit string) *sources.Tree {
	t.Helper()
	tree, err := repo.Tree(commit)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// BenchmarkUnchanged asks for 1,000 environments whether a commit can change them.
func BenchmarkUnchanged(b *testing.B) {
	const n, pushes = 1000, 12 // more than the repository keeps trees of
	copy := b.TempDir()
	repo, commits := synced(b, copy, n, pushes)
	tree := treeAt(b, repo, commits[0])
	r := newRenderer(b, Options{CacheBytes: 1})
	inputs := make([]Inputs, n)
	sideBySide(n, func(i int) {
		res, err := r.Render(context.Background(), tree, overlay(i))
		if err != nil {
			b.Error(err)
			return
		}
		inputs[i] = res.Inputs
	})
	ask := func(t *sources.Tree) {
		for i := range inputs {
			if !inputs[i].Unchanged(t) {
				b.Fatalf("%s counts as changed", overlay(i))
			}
		}
	}
	b.Run("after-push", func(b *testing.B) { // each time another commit
		for i := 0; b.Loop(); i++ {
			ask(treeAt(b, repo, commits[1+i%pushes]))
		}
	})
	b.Run("after-restart", func(b *testing.B) { // the repository is opened, and its directories are read from the pack
		for b.Loop() {
			repo := openCopy(b, copy, copy)
			ask(treeAt(b, repo, commits[1]))
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ask(tree)
		}
	})
}

func memoryOf(t testing.TB, dir string) filesys.FileSystem {
	t.Helper()
	memory := filesys.MakeFsInMemory()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(p, ".git/") {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return memory.WriteFile("/"+filepath.ToSlash(rel), data)
	})
	if err != nil {
		t.Fatal(err)
	}
	return memory
}

// side by side runs f for 0 to n-1 on two goroutines.
func sideBySide(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func BenchmarkLargeEstate(b *testing.B) {
	const n = 500
	copy := b.TempDir()
	_, commits := synced(b, copy, n, 0)
	memory := memoryOf(b, writeLargeEstate(b, n))
	mustRender(b, treeAt(b, openCopy(b, copy, copy), commits[0]), overlay(0))
	floor := func() {
		sideBySide(n, func(i int) {
			o := krusty.MakeDefaultOptions()
			o.Reorder = krusty.ReorderOptionUnspecified
			if _, err := krusty.MakeKustomizer(o).Run(memory, "/"+overlay(i)); err != nil {
				b.Error(err)
			}
		})
	}
	cold := func() {
		repo, err := sources.Open(copy, sources.Options{URL: "file://" + copy})
		if err != nil {
			b.Fatal(err)
		}
		defer repo.Close()
		tree := treeAt(b, repo, commits[0])
		r := New(Options{})
		defer r.Close()
		sideBySide(n, func(i int) {
			res, err := r.Render(context.Background(), tree, overlay(i))
			if err == nil {
				_, err = NewRelease(res, nil, Binding{Environment: "env", Cluster: "main", Namespace: "env"})
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	// In turn, so that both meet the same disturbances.
	var took, busy [2]time.Duration
	for b.Loop() {
		for i, pass := range []func(){floor, cold} {
			start, worked := time.Now(), processorTime(b)
			pass()
			took[i] += time.Since(start)
			busy[i] += processorTime(b) - worked
		}
	}
	for i, name := range []string{"floor", "cold"} {
		b.ReportMetric(float64(n*b.N)/took[i].Seconds(), name+"-renders/s")
		b.ReportMetric(float64(busy[i].Microseconds())/float64(n*b.N), name+"-cpu-µs")
	}
}

// processorTime of all threads so far. It depends less on what else runs than the time that passed.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
