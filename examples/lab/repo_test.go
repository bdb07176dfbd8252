package lab

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// git runs git without the machine's configuration and returns its output.
func git(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=lab", "GIT_AUTHOR_EMAIL=lab@example.invalid",
		"GIT_COMMITTER_NAME=lab", "GIT_COMMITTER_EMAIL=lab@example.invalid",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := git(t, dir, args...); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// workTree returns a repository with one commit on main. Its file is larger than what git sends in one piece.
func workTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mustGit(t, dir, "init", "--quiet", "--initial-branch=main")
	data := make([]byte, 3<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustGit(t, dir, "add", "data")
	mustGit(t, dir, "commit", "--quiet", "--message=Add data")
	return dir
}

func TestPushAndClone(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), Git)
	repo, err := l.CreateRepo(t.Context(), "estate")
	if err != nil {
		t.Fatal(err)
	}
	tree := workTree(t)
	mustGit(t, tree, "push", "--quiet", repo.URL, "main")
	clone := filepath.Join(t.TempDir(), "clone")
	mustGit(t, tree, "clone", "--quiet", repo.URL, clone)
	pushed, err := os.ReadFile(filepath.Join(tree, "data"))
	if err != nil {
		t.Fatal(err)
	}
	cloned, err := os.ReadFile(filepath.Join(clone, "data"))
	if err != nil || string(cloned) != string(pushed) {
		t.Errorf("the clone differs from what was pushed (%v)", err)
	}

	if err := repo.RejectPushes("closed for today's stocktaking"); err != nil {
		t.Fatal(err)
	}
	mustGit(t, tree, "commit", "--quiet", "--allow-empty", "--message=Second")
	if out, err := git(t, tree, "push", repo.URL, "main"); err == nil || !strings.Contains(out, "closed for today's stocktaking") {
		t.Errorf("a rejected push said %v: %s", err, out)
	}
	if err := repo.AcceptPushes(); err != nil {
		t.Fatal(err)
	}
	mustGit(t, tree, "push", "--quiet", repo.URL, "main")
}

func TestRepoUsers(t *testing.T) {
	t.Parallel()
	l := startLab(t, t.TempDir(), Git)
	repo, err := l.CreateRepo(t.Context(), "private")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	try := func(url string, allowed bool) {
		t.Helper()
		if out, err := git(t, dir, "ls-remote", url); (err == nil) != allowed {
			t.Errorf("ls-remote: allowed is %t, want %t: %s", err == nil, allowed, out)
		}
	}
	with := func(login string) string { return strings.Replace(repo.URL, "//", "//"+login+"@", 1) }
	if err := repo.SetUsers(map[string]string{"reader": "first"}); err != nil {
		t.Fatal(err)
	}
	try(repo.URL, false)
	try(with("reader:wrong"), false)
	try(with("reader:first"), true)
	if err := repo.SetUsers(map[string]string{"reader": "second"}); err != nil {
		t.Fatal(err)
	}
	try(with("reader:first"), false)
	try(with("reader:second"), true)
	if err := repo.SetUsers(nil); err != nil {
		t.Fatal(err)
	}
	try(repo.URL, true)
}

func TestCreateRepoRefusesUnsafeNames(t *testing.T) {
	t.Parallel()
	e := &Endpoints{Dir: t.TempDir()}
	for _, name := range []string{"", "../up", "a/b", ".hidden", "UPPER"} {
		if _, err := e.CreateRepo(t.Context(), name); err == nil {
			t.Errorf("created repository %q", name)
		}
	}
}
