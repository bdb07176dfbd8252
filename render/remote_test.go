package render

import (
	"math/rand/v2"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kustomizeClones asks Kustomize itself whether it takes p for a Git repository:
// with no git program to be found, that is the only error it can give then.
func kustomizeClones(p string) bool {
	_, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsInMemory(), p)
	return err != nil && strings.Contains(err.Error(), "no 'git' program on path")
}

var addresses = []string{
	"https://github.com/org/repo", "http://host/org/repo?ref=v1", "HTTPS://Host/org/repo", "git::https://gitlab.com/a/b",
	"git::http://h/a/b", "git::git@github.com:org/repo", "git::___", "GIT::https://h/a/b", "github.com/org/repo", "gitHub.com/org/repo",
	"github.com:org/repo", "github.com/org", "github.com!org/repo.git//path", "gh:org/repo", "git@github.com:org/repo",
	"git@github.com/org/repo/path", "org-12345@github.com:a/b", "git@bitbucket.org:company/project.git//path?ref=branch",
	"git@bitbucket.org/company/project.git//path", "git@host", "git@host:x", "git@host:x/y", "a@b:c.git", "1user@host:a/b",
	"ssh://git@bitbucket.org/company/project.git", "ssh://git.example.com", "ssh://git.example.com:7999/a/b", "ssh:/host/a/b",
	"file:///a/b", "file://a//b", "file:////a//b", "file://", "file:/a/b", "git@ssh://github.com/org/repo.git//path", "git@scp://github.com/org/repo.git//path",
	"https://host?ref=x", "https://github.com/org/repo.git//path/../../exits", "https://itfs.example.com/c/p/_git/repo/dir",
	"https://h/_git/", "https://h//x", "https://h/x", "https://h/x.git", "https:///a/b", "https:a/b", "http:/x",
	"../base", "base", ".", "", "/abs", "/abs/.git", "src/github.com/org/repo", "base.git", "_git/x", "a//b", "a/b//../..",
	"oci://host/a/b", "s3::https://x/y", "hg::https://x/y/z", "htxxxtp://github.com/", "git@github.com:org/repo: x\nfoo", "x@y:z/w\n",
	"github.com/org/repo\n", " https://h/a/b", "https://h/a/b ", "user@host:~/a/b", "user@[::1]:a/b", "ssh://[::1]/a/b", "http://%zz/a/b",
	"git::file:///a/b", "ssh://git@github.com/a/b", "git@github.com/../a/b", "https://github.com/../../..",
}

func TestGitRepositoryIsWhatKustomizeClones(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, p := range addresses {
		if p == "" {
			continue
		}
		if got, want := isGitRepository(p), kustomizeClones(p); got != want {
			t.Errorf("isGitRepository(%q) = %v, Kustomize says %v", p, got, want)
		}
	}
}

// Strings put together from what addresses are made of.
func TestGitRepositoryIsWhatKustomizeClonesForMadeUpAddresses(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	parts := []string{"git::", "GIT::", "ssh://", "https://", "Https://", "http://", "file://", "git@", "a-b@", "@", "github.com",
		"github.com/", "github.com:", "host", "org", "repo", ":", "::", "/", "//", ".git", "_git/", "?ref=", ".", "..", "../", "\n", "%", "#", "~"}
	rnd := rand.New(rand.NewPCG(1, 2))
	remote := 0
	for range 5000 {
		var p strings.Builder
		for range rnd.IntN(7) + 1 {
			p.WriteString(parts[rnd.IntN(len(parts))])
		}
		got, want := isGitRepository(p.String()), kustomizeClones(p.String())
		if want {
			remote++
		}
		if got != want {
			t.Errorf("isGitRepository(%q) = %v, Kustomize says %v", p.String(), got, want)
		}
	}
	if remote < 100 {
		t.Errorf("only %d of the addresses are remote", remote)
	}
}

func FuzzGitRepositoryIsWhatKustomizeClones(f *testing.F) {
	for _, p := range addresses {
		f.Add(p)
	}
	f.Setenv("PATH", f.TempDir())
	f.Fuzz(func(t *testing.T, p string) {
		if got, want := isGitRepository(p), kustomizeClones(p); got != want {
			t.Errorf("isGitRepository(%q) = %v, Kustomize says %v", p, got, want)
		}
	})
}

func TestRemoteKind(t *testing.T) {
	for _, p := range []string{"../base", "base", "a.yaml", "dir/with:colon", "user@file.yaml", "a//b", "patch: https://x/y\n"} {
		if k := remoteKind(p); k != "" {
			t.Errorf("remoteKind(%q) = %q, want local", p, k)
		}
	}
	for _, p := range []string{"http://x", "https:/x", "oci://host/a", "git::x", "git@host:a", "ssh://h", "s3://b/k", "file:///x"} {
		if remoteKind(p) == "" {
			t.Errorf("remoteKind(%q) is local", p)
		}
	}
}
