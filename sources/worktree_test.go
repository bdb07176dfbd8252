package sources

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(target, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// git runs the git command, which the tests need, away from the user's configuration.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return gitInput(t, dir, "", args...)
}

func gitInput(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=North", "GIT_AUTHOR_EMAIL=north@example.com", "GIT_COMMITTER_NAME=North", "GIT_COMMITTER_EMAIL=north@example.com",
		"GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestWorkTreeHasGitsIDs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.yaml": "a: 1\n", "a/x": "x", "a.d/y": "y", "deep/er/file": strings.Repeat("z", 5000),
		"run.sh": "#!/bin/sh\n", "link": "-> deep/er", "empty": "",
	})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "nothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q", ".")
	git(t, dir, "add", ".")
	want := git(t, dir, "write-tree")
	tree, err := WorkTree(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if tree.ID() != want {
		t.Errorf("ID = %s, git says %s", tree.ID(), want)
	}
	if _, err := tree.Lookup(".git/config"); !isRefused(err) {
		t.Errorf("Lookup(.git/config) = %v, want a refusal", err)
	}
}

func TestWorkTreeNoticesAChange(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": "one", "g": "two"})
	tree, err := WorkTree(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"f": "six"})
	if err := os.Remove(filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"f", "g"} {
		if data, err := tree.ReadFile(p); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%s) = %q, %v; want an error that is not absence", p, data, err)
		}
	}
}

func TestWorkTreeIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1", "b": "2", "c": "3"})
	if _, err := WorkTree(dir, Limits{TreeEntries: 2}); !isRefused(err) {
		t.Errorf("WorkTree = %v, want a refusal", err)
	}
}

func isRefused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r) && r.Reason != "" && r.Remedy != ""
}
