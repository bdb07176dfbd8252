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

// report gives the rate, and the processor time of each render, which hardly depends on what else runs.
func report(b *testing.B, renders int, start time.Duration) {
	b.ReportMetric(float64(renders*b.N)/b.Elapsed().Seconds(), "renders/s")
	b.ReportMetric(float64((processorTime(b)-start).Microseconds())/float64(renders*b.N), "cpu-µs/render")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
	dir := writeLargeEstate(b, n)
	git(b, dir, "init", "-q", "-b", "main")
	git(b, dir, "add", "-A")
	git(b, dir, "commit", "-q", "-m", "x")
	git(b, dir, "repack", "-q", "-a", "-d")
	memory := memoryOf(b, dir)
	mustRender(b, openTree(b, dir), overlay(0))
	b.Run("floor", func(b *testing.B) {
		start := processorTime(b)
		for b.Loop() {
			sideBySide(n, func(i int) {
				o := krusty.MakeDefaultOptions()
				o.Reorder = krusty.ReorderOptionUnspecified
				if _, err := krusty.MakeKustomizer(o).Run(memory, "/"+overlay(i)); err != nil {
					b.Error(err)
				}
			})
		}
		report(b, n, start)
	})
	b.Run("cold", func(b *testing.B) {
		start := processorTime(b)
		for b.Loop() {
			tree, _, err := sources.LocalTree(dir, "main", sources.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			r := New(Options{})
			sideBySide(n, func(i int) {
				res, err := r.Render(context.Background(), tree, overlay(i))
				if err == nil {
					_, err = NewRelease(res, nil, Binding{Environment: "e", Cluster: "c", Namespace: "n"})
				}
				if err != nil {
					b.Error(err)
				}
			})
			r.Close()
		}
		report(b, n, start)
	})
}
