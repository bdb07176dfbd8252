package statement

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/sources"
)

func git(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=owner-1", "GIT_AUTHOR_EMAIL=owner-1@example.com", "GIT_COMMITTER_NAME=owner-1", "GIT_COMMITTER_EMAIL=owner-1@example.com")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// governance is a bare repository with one commit.
func governance(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "", "init", "-q", "--bare", "-b", "main", ".")
	first := git(t, dir, "", "commit-tree", "-m", "First", git(t, dir, "", "mktree"))
	git(t, dir, "", "update-ref", "refs/heads/main", first)
	return dir
}

func signedExample(t *testing.T, verb string) (Signed, string) {
	t.Helper()
	path, public := keygen(t, "", "-t", "ed25519")
	signer, err := LoadSigner(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Sign(encode(t, examples()[verb]), signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed, public
}

func synced(t *testing.T, url string) (*sources.Repository, sources.News) {
	t.Helper()
	r, err := sources.Open(filepath.Join(t.TempDir(), "copy.git"), sources.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	news, err := r.SyncAll(t.Context(), sources.Wanted{Branches: []string{"main"}, Refs: []string{RefPrefix}})
	if err != nil {
		t.Fatal(err)
	}
	return r, news
}

// TestPushAndRead goes the whole way from a signature to a verdict, and the way of an auditor with git and ssh-keygen.
func TestPushAndRead(t *testing.T) {
	dir := governance(t)
	signed, public := signedExample(t, "approve")
	for range 2 {
		ref, err := Push(t.Context(), dir, sources.Auth{}, signed)
		if err != nil {
			t.Fatal(err)
		}
		if ref != RefPrefix+signed.ID() {
			t.Errorf("ref = %s", ref)
		}
	}
	r, news := synced(t, dir)
	if len(news.Refs) != 1 || news.Refs[0].Err != nil {
		t.Fatalf("news = %+v", news.Refs)
	}
	got, err := Read(r, news.Refs[0].Ref, news.Refs[0].To)
	if err != nil {
		t.Fatal(err)
	}
	if s, sig := Verify(keyring(t, public, nil), got, now); !sig.Counts() || s.Environment != "prod-eu" {
		t.Errorf("Verify = %+v, %s", s, sig)
	}
	ref := news.Refs[0].Ref
	if !opensshVerifies(t, public, Namespace, Signed{Payload: []byte(git(t, dir, "", "show", ref+":statement.json") + "\n"), Signature: []byte(git(t, dir, "", "show", ref+":statement.sig") + "\n")}) {
		t.Error("what git shows, ssh-keygen does not verify")
	}
	another, _ := signedExample(t, "approve")
	if _, err := Push(t.Context(), dir, sources.Auth{}, Signed{signed.Payload, another.Signature}); !errors.Is(err, sources.ErrRefTaken) {
		t.Errorf("the same statement with another signature: %v", err)
	}
	if _, err := Push(t.Context(), dir, sources.Auth{}, Signed{Payload: []byte("{}\n")}); err == nil {
		t.Error("nonsense is pushed")
	}
}

// TestReadRefuses has commits that anybody with a right to push can make.
func TestReadRefuses(t *testing.T) {
	dir := governance(t)
	signed, _ := signedExample(t, "approve")
	ref := RefPrefix + signed.ID()
	blob := func(data string) string { return git(t, dir, data, "hash-object", "-w", "--stdin") }
	payload, signature := blob(string(signed.Payload)), blob(string(signed.Signature))
	entry := func(mode, kind, id, name string) string { return mode + " " + kind + " " + id + "\t" + name + "\n" }
	good := entry("100644", "blob", payload, payloadFile) + entry("100644", "blob", signature, signatureFile)
	empty := git(t, dir, "", "mktree")
	large := blob(strings.Repeat("x", maxPayload+1))
	for name, c := range map[string]struct {
		ref, tree string
		args      []string
		want      string
	}{
		"good":            {ref, good, nil, ""},
		"with parent":     {ref, good, []string{"-p", "refs/heads/main"}, "has parents"},
		"another ID":      {RefPrefix + strings.Repeat("1", 64), good, nil, "its statement is"},
		"below the ID":    {ref + "/x", good, nil, "its statement is"},
		"one more file":   {ref, good + entry("100644", "blob", payload, "x"), nil, "something else"},
		"one file":        {ref, entry("100644", "blob", payload, payloadFile), nil, "something else"},
		"nothing":         {ref, "", nil, "something else"},
		"a folder":        {ref, entry("040000", "tree", empty, payloadFile) + entry("100644", "blob", signature, signatureFile), nil, "something else"},
		"a link":          {ref, entry("120000", "blob", blob(signatureFile), payloadFile) + entry("100644", "blob", signature, signatureFile), nil, "something else"},
		"large":           {ref, entry("100644", "blob", payload, payloadFile) + entry("100644", "blob", large, signatureFile), nil, "more than"},
		"not a statement": {RefPrefix + (Signed{Payload: []byte("{}\n")}).ID(), entry("100644", "blob", blob("{}\n"), payloadFile) + entry("100644", "blob", signature, signatureFile), nil, "decode statement"},
	} {
		id := git(t, dir, "", append([]string{"commit-tree", "-m", "x", git(t, dir, c.tree, "mktree")}, c.args...)...)
		git(t, dir, "", "update-ref", "refs/purser/statements/x", id)
		r, _ := synced(t, dir)
		_, err := Read(r, c.ref, id)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
