package render

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/purser-gitops/purser/sources"
)

// neighbours are files that a made-up kustomization can refer to.
const neighbours = `
-- env/a.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {k: v}
-- env/plugin.yaml --
apiVersion: builtin
kind: PrefixTransformer
metadata: {name: p}
prefix: x
-- env/a.env --
A=b
-- base/kustomization.yaml --
resources: [b.yaml]
-- base/b.yaml --
apiVersion: v1
kind: Service
metadata: {name: b}
`

// noTransport fails the test when the library's HTTP client is used.
type noTransport struct{ used atomic.Int64 }

func (n *noTransport) RoundTrip(*http.Request) (*http.Response, error) {
	n.used.Add(1)
	return nil, errors.New("no network")
}

func interceptHTTP(tb testing.TB) *noTransport {
	n, before := &noTransport{}, http.DefaultTransport
	http.DefaultTransport = n
	tb.Cleanup(func() { http.DefaultTransport = before })
	return n
}

// tryKustomization renders one kustomization and fails when the library got as
// far as a network or the git program.
func tryKustomization(t *testing.T, r *Renderer, n *noTransport, tree *sources.Tree, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := r.Render(ctx, tree, "env")
	if n.used.Load() > 0 {
		t.Fatalf("a request was made for\n%s", text)
	}
	if err == nil {
		return
	}
	if strings.Contains(err.Error(), "'git' program") || strings.Contains(err.Error(), "no network") {
		t.Fatalf("%v for\n%s", err, text)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it takes too long for\n%s", text)
	}
}

func seeds(tb testing.TB) []string {
	var out []string
	for _, c := range refusals {
		for _, f := range txtar.Parse([]byte(refusalTree(c.files))).Files {
			if f.Name == "env/kustomization.yaml" {
				out = append(out, string(f.Data))
			}
		}
	}
	for _, dir := range kustomizationDirs(tb, corpus) {
		data, err := os.ReadFile(filepath.Join(corpus, dir, "kustomization.yaml"))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, string(data))
	}
	return out
}

func FuzzKustomizationCheck(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Setenv("PATH", f.TempDir())
	n := interceptHTTP(f)
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		writeFiles(t, dir, neighbours)
		if err := os.WriteFile(filepath.Join(dir, "env", "kustomization.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r := New(Options{CacheBytes: 1})
		defer r.Close()
		tryKustomization(t, r, n, openTree(t, dir), text)
	})
}

// Kustomizations mixed from each other's lines and from addresses: a short run
// of what the fuzz test does at length.
func TestMixedKustomizationsReachNothing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	n := interceptHTTP(t)
	dir := t.TempDir()
	writeFiles(t, dir, neighbours)
	rnd := rand.New(rand.NewPCG(3, 4))
	all := seeds(t)
	pick := func(s []string) string { return s[rnd.IntN(len(s))] }
	r := newRenderer(t, Options{CacheBytes: 1})
	for range 400 {
		lines := strings.SplitAfter(pick(all), "\n")
		for range rnd.IntN(4) + 1 {
			i := rnd.IntN(len(lines))
			switch rnd.IntN(5) {
			case 0:
				lines[i] = pick(strings.SplitAfter(pick(all), "\n"))
			case 1:
				lines[i] = lines[i] + pick(strings.SplitAfter(pick(all), "\n"))
			case 2:
				lines[i] = strings.Replace(lines[i], pick([]string{"a.yaml", "https://", "resources", ":", "-"}), pick(addresses), 1)
			case 3:
				lines[i] = pick([]string{"resources: ", "components: ", "transformers: ", "patchesStrategicMerge: ", "crds: "}) + "[" + pick([]string{"a.yaml", "plugin.yaml", "../base", "'" + pick(addresses) + "'"}) + "]\n"
			case 4:
				lines = append(lines[:i], lines[min(i+1, len(lines)-1):]...)
			}
			if len(lines) == 0 {
				lines = []string{"\n"}
			}
		}
		text := strings.Join(lines, "")
		if err := os.WriteFile(filepath.Join(dir, "env", "kustomization.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		tryKustomization(t, r, n, openTree(t, dir), text)
	}
}
