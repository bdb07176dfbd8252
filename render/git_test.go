package render

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/sources"
)

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// committed gives the tree of a commit of everything below dir.
func committed(t *testing.T, dir string) *sources.Tree {
	t.Helper()
	git(t, dir, "commit", "-q", "-m", "files")
	repo, err := sources.Open(t.TempDir(), sources.Options{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := repo.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := repo.Sync(testContext(t), []string{"main"}); err != nil {
		t.Fatal(err)
	}
	tree, err := repo.Tree(git(t, dir, "rev-parse", "HEAD"))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestRenderFromGitEqualsWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(corpus)); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	commit, work := committed(t, dir), openTree(t, dir)
	r := newRenderer(t, Options{})
	for _, env := range []string{"links", "names", "components", "plugins", "crds", "openapi-below"} {
		a, err := r.Render(testContext(t), commit, env)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Render(testContext(t), work, env)
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("%s: a commit and the same files on disk are rendered apart", env)
		}
	}
}

func TestSubmoduleIsRefused(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, "-- env/kustomization.yaml --\nnamespace: x\nresources:\n- ../sub\n- ../sub/dir\n")
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",sub")
	_, err := newRenderer(t, Options{}).Render(testContext(t), committed(t, dir), "env")
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "submodule") || refused.Line != 3 || refused.Column != 3 || refused.File != "env/kustomization.yaml" {
		t.Errorf("error is %v", err)
	}
	var inner *sources.RefusedError
	if !errors.As(err, &inner) {
		t.Error("the tree's own error is not behind it")
	}
}
