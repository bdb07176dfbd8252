package sources

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// benchRepository is an estate of n environments with 4 files each.
func benchRepository(b *testing.B, n int, limits Limits) (*Repository, string) {
	b.Helper()
	src := b.TempDir()
	for i := range n {
		for j := range 4 {
			p := filepath.Join(src, fmt.Sprintf("envs/e%d/f%d.yaml", i, j))
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(fmt.Sprintf("kind: ConfigMap\nname: c%d-%d\n", i, j)), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=North", "-c", "user.email=north@example.com", "commit", "-q", "-m", "x"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	r, err := Open(filepath.Join(b.TempDir(), "copy"), Options{URL: src, Limits: limits})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	if _, err := r.Sync(b.Context(), []string{"main"}); err != nil {
		b.Fatal(err)
	}
	head, _ := r.Head("main")
	return r, head.Commit
}

func BenchmarkReadFile(b *testing.B) {
	for name, limits := range map[string]Limits{"cached": {}, "uncached": {CacheBytes: 1}} {
		b.Run(name, func(b *testing.B) {
			r, commit := benchRepository(b, 200, limits)
			tree, err := r.Tree(commit)
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if _, err := tree.ReadFile(fmt.Sprintf("envs/e%d/f%d.yaml", i%200, i%4)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadFileParallel(b *testing.B) {
	r, commit := benchRepository(b, 200, Limits{})
	tree, err := r.Tree(commit)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := tree.ReadFile(fmt.Sprintf("envs/e%d/f%d.yaml", i%200, i%4)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
