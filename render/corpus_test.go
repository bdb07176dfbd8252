package render

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
)

const corpus = "testdata/corpus"

// kustomizationDirs lists every directory below root that has a kustomization.
func kustomizationDirs(t testing.TB, root string) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && isKustomizationName(d.Name()) {
			rel, _ := filepath.Rel(root, filepath.Dir(p))
			dirs = append(dirs, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

var kustomizeBinary = sync.OnceValues(func() (string, error) { return lab.Binary(context.Background(), "kustomize") })

// kustomizeBuild runs the real command; ok is false when it refuses.
func kustomizeBuild(t testing.TB, dir string) (out []byte, ok bool) {
	t.Helper()
	bin, err := kustomizeBinary()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(testContext(t), bin, "build", dir)
	cmd.Env = append(os.Environ(), "PATH=/nowhere")
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	if err != nil {
		t.Logf("kustomize build %s: %s", dir, strings.TrimSpace(stderr.String()))
	}
	return out, err == nil
}

// expectEqual renders every kustomization below root and compares the bytes.
func expectEqual(t *testing.T, root string) {
	tree := openTree(t, root)
	r := newRenderer(t, Options{})
	dirs := kustomizationDirs(t, root)
	if len(dirs) == 0 {
		t.Fatalf("no kustomization below %s", root)
	}
	for _, dir := range dirs {
		t.Run(dir, func(t *testing.T) {
			want, ok := kustomizeBuild(t, filepath.Join(root, dir))
			res, err := r.Render(testContext(t), tree, dir)
			if !ok {
				if err == nil {
					t.Fatal("kustomize refuses, Render does not")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := res.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("output differs from kustomize build\n%s", firstDifference(string(got), string(want)))
			}
			if !res.Inputs.Unchanged(tree) {
				t.Error("inputs count as changed in the tree they were traced in")
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := line(g, i), line(w, i)
		if a != b {
			return "line " + lineContext(g, i) + "\n--- want\n" + lineContext(w, i)
		}
	}
	return ""
}

func line(l []string, i int) string {
	if i < len(l) {
		return l[i]
	}
	return "<end>"
}

func lineContext(l []string, i int) string {
	return strings.Join(l[max(0, min(i-3, len(l))):min(len(l), i+4)], "\n")
}

func TestEqualsKustomizeBuildOverCorpus(t *testing.T) { expectEqual(t, corpus) }

func TestEqualsKustomizeBuildOverSampleEstate(t *testing.T) { expectEqual(t, "../examples/estate") }

// The globals that openapi builds change must not show in any other build,
// before, beside or after them.
func TestConcurrentBuildsNextToOpenAPIAndCRDs(t *testing.T) {
	tree := openTree(t, corpus)
	dirs := kustomizationDirs(t, corpus)
	want := map[string]string{}
	for _, dir := range dirs {
		if out, ok := kustomizeBuild(t, filepath.Join(corpus, dir)); ok {
			want[dir] = string(out)
		}
	}
	var wg sync.WaitGroup
	for round := range 4 {
		shuffled := slices.Clone(dirs)
		if round%2 == 1 {
			slices.Reverse(shuffled)
		}
		wg.Go(func() {
			r := New(Options{CacheBytes: 1, Concurrency: 4})
			defer r.Close()
			var inner sync.WaitGroup
			for _, dir := range shuffled {
				inner.Go(func() {
					res, err := r.Render(testContext(t), tree, dir)
					if err != nil {
						if want[dir] != "" {
							t.Errorf("%s: %v", dir, err)
						}
						return
					}
					got, err := res.YAML()
					if err != nil || string(got) != want[dir] {
						t.Errorf("%s: differs from kustomize build next to other builds (%v)\n%s", dir, err, firstDifference(string(got), want[dir]))
					}
				})
			}
			inner.Wait()
		})
	}
	wg.Wait()
}
