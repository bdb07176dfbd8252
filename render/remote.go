package render

import (
	"net/url"
	"path"
	"regexp"
	"strings"
)

// remoteKind tells how Kustomize would reach beyond the tree for a path, or ""
// for a local one.
func remoteKind(p string) string {
	switch {
	case !strings.ContainsAny(p, ":@") && !hasPrefixFold(p, "github.com/"):
		return "" // every address has one of these
	case isHTTP(p):
		return "an HTTP address"
	case isGitRepository(p):
		return "a Git repository"
	case strings.Contains(p, "\n"):
		return ""
	case schemeRE.MatchString(p), hasPrefixFold(p, "git::"), scpRE.MatchString(p):
		// Kustomize takes these for local paths, but nobody means a local path.
		return "a remote address"
	}
	return ""
}

var (
	schemeRE = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://`)
	scpRE    = regexp.MustCompile(`^[a-zA-Z0-9_.-]+@[a-zA-Z0-9.-]+:`)
	userRE   = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9-]*)@`)
)

// isHTTP is Kustomize's test for files it fetches with its HTTP client
// (sigs.k8s.io/kustomize/api/internal/loader, IsRemoteFile).
func isHTTP(p string) bool {
	u, err := url.Parse(p)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// isGitRepository is Kustomize's test for what it hands to the git program: it
// accepts the same strings as NewRepoSpecFromURL of
// sigs.k8s.io/kustomize/api/internal/git (Apache-2.0), which cannot be imported.
// A test compares the two.
func isGitRepository(n string) bool {
	if path.IsAbs(n) {
		return false
	}
	n, _, _ = strings.Cut(n, "?")
	if hasPrefixFold(n, "git::") {
		n = n[len("git::"):]
	}
	scheme, n := cutScheme(n)
	user := userRE.FindString(n)
	n = n[len(user):]
	github := hasPrefixFold(n, "github.com/") || hasPrefixFold(n, "github.com:")
	scp := scheme == "" && (user != "" || github)
	if scheme == "" && !scp {
		return false
	}
	if scheme == "file://" {
		return splitsIntoRepository(user+n, 1)
	}
	host, rest := n, ""
	if i := hostEnd(n, scp); i >= 0 {
		host, rest = n[:i+1], n[i+1:]
	}
	if scheme+user+host == "" || (host == "" && !github) {
		return false
	}
	return splitsIntoRepository(rest, 2)
}

func cutScheme(n string) (scheme, rest string) {
	for _, s := range []string{"ssh://", "https://", "http://", "file://"} {
		if hasPrefixFold(n, s) {
			return s, n[len(s):]
		}
	}
	return "", n
}

func hostEnd(n string, scp bool) int {
	slash := strings.Index(n, "/")
	if scp {
		if colon := strings.Index(n, ":"); slash == -1 || (colon > 0 && colon < slash) {
			return colon
		}
	}
	return slash
}

// splitsIntoRepository reports whether n names a repository of at least that
// many path segments, and a path inside it.
func splitsIntoRepository(n string, segments int) bool {
	var repo, inside string
	if i := strings.Index(n, "_git/"); i >= 0 {
		name, rest, _ := strings.Cut(n[i+len("_git/"):], "/")
		repo, inside = n[:i]+"_git/"+name, rest
	} else if before, after, ok := strings.Cut(n, "//"); ok {
		repo, inside = before, after
	} else if before, after, ok := strings.Cut(n, ".git"); ok {
		repo, inside = before+".git", after
	} else if segments == 1 {
		repo = n
	} else if parts := strings.Split(n, "/"); len(parts) >= segments {
		repo, inside = strings.Join(parts[:segments], "/"), strings.Join(parts[segments:], "/")
	}
	if repo == "" {
		return false
	}
	first, _, _ := strings.Cut(path.Clean(strings.TrimPrefix(inside, "/")), "/")
	return first != ".."
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
