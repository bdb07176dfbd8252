package lab

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Two labs that miss the same binary build it once, and the next one finds it.
func TestMissingBinaryIsBuiltOnce(t *testing.T) {
	goCache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var progress lockedBuilder
	var group errgroup.Group
	for range 2 {
		group.Go(func() error { _, err := binary(t.Context(), Git, &progress); return err })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	path, err := binary(t.Context(), Git, io.Discard)
	if err != nil || !executable(path) {
		t.Errorf("found %q: %v", path, err)
	}
	if n := strings.Count(progress.String(), "building gitserver"); n != 1 {
		t.Errorf("built %d times:\n%s", n, progress.String())
	}
}

// Every program has a version, named by the go.mod file of its module alone.
func TestProgramsHaveVersions(t *testing.T) {
	t.Parallel()
	source, err := sourceDir()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range programs {
		if version, err := p.version(source); err != nil || version == "" {
			t.Errorf("%s: version %q, %v", name, version, err)
		}
	}
	if _, err := Binary(t.Context(), "kubectl"); err == nil {
		t.Error("found a program that the lab does not have")
	}
}

// lockedBuilder is a strings.Builder for several writers.
type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuilder) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
