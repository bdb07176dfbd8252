package sources

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

const lfsPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

func sampleTree(t *testing.T) *Tree {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"base/kustomization.yaml": "resources: [web.yaml]\n",
		"base/web.yaml":           "kind: Deployment\n",
		"envs/dev/link":           "-> ../../base",
		"envs/dev/file":           "-> link/web.yaml",
		"envs/dev/dangling":       "-> ../nowhere/x",
		"out":                     "-> ../../etc/passwd",
		"out-and-back":            "-> base/../../../x/base",
		"abs":                     "-> /etc/passwd",
		"git":                     "-> .git/config",
		"loop-a":                  "-> loop-b",
		"loop-b":                  "-> loop-a",
		"self":                    "-> .",
		"large":                   strings.Repeat("x", 4097),
		"pointer.bin":             lfsPointer,
	})
	tree, err := WorkTree(dir, Limits{FileBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTreeReads(t *testing.T) {
	tree := sampleTree(t)
	for path, at := range map[string]string{
		"base/web.yaml": "base/web.yaml", "./base//web.yaml": "base/web.yaml", "envs/dev/link/web.yaml": "base/web.yaml",
		"envs/dev/file": "base/web.yaml", "self/self/base/web.yaml": "base/web.yaml",
	} {
		data, err := tree.ReadFile(path)
		if err != nil || string(data) != "kind: Deployment\n" {
			t.Errorf("ReadFile(%q) = %q, %v", path, data, err)
		}
		e, err := tree.Lookup(path)
		if err != nil || e.Path != at || e.Name != "web.yaml" || e.IsDir || !isHash(e.Hash) {
			t.Errorf("Lookup(%q) = %+v, %v", path, e, err)
		}
		if e.IsLink != (path == "envs/dev/file") {
			t.Errorf("Lookup(%q).IsLink = %v", path, e.IsLink)
		}
	}
	for _, root := range []string{"", ".", "./", "self"} {
		e, err := tree.Lookup(root)
		if err != nil || !e.IsDir || e.Path != "" || e.Hash != tree.ID() {
			t.Errorf("Lookup(%q) = %+v, %v", root, e, err)
		}
	}
	entries, err := tree.ReadDir("envs/dev")
	if err != nil || len(entries) != 3 {
		t.Fatalf("ReadDir = %+v, %v", entries, err)
	}
	for i, want := range []string{"dangling", "file", "link"} {
		if e := entries[i]; e.Name != want || e.Path != "envs/dev/"+want || !e.IsLink || e.IsDir {
			t.Errorf("entry %d = %+v, want the link %s", i, e, want)
		}
	}
}

func TestTreeSaysWhatIsAbsent(t *testing.T) {
	tree := sampleTree(t)
	for _, path := range []string{"nothing", "base/nothing", "base/web.yaml/x", "envs/dev/link/nothing", "envs/dev/link/no/thing"} {
		if _, err := tree.Lookup(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lookup(%q) = %v, want fs.ErrNotExist", path, err)
		}
		if _, err := tree.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q) = %v, want fs.ErrNotExist", path, err)
		}
	}
	if _, err := tree.ReadFile("base"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of a directory = %v", err)
	}
	if _, err := tree.ReadDir("base/web.yaml"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadDir of a file = %v", err)
	}
}

func TestTreeRefuses(t *testing.T) {
	tree := sampleTree(t)
	for path, reason := range map[string]string{
		"../x": "leads out", "base/../../x": "leads out", "/etc/passwd": "leads out", ".git/config": "no file", "base/.GIT/x": "no file",
		"a\x00b": "no file", strings.Repeat("x/", 3000): "longer than", "out": "leads out", "out/x": "leads out", "out-and-back": "leads out",
		"abs": "leads out", "git": "leads out", "loop-a": "links", "loop-b/x": "links",
		"envs/dev/dangling": "a link on the way leads to something", "large": "too large", "pointer.bin": "Git LFS",
	} {
		_, err := tree.ReadFile(path)
		if !isRefused(err) || !strings.Contains(err.Error(), reason) {
			t.Errorf("ReadFile(%.40q) = %v, want a refusal that says %q", path, err, reason)
		}
	}
}

func TestParseTreeRefusesHostileNames(t *testing.T) {
	id := strings.Repeat("\x01", 20)
	for _, raw := range []string{
		"100644 ..\x00" + id, "100644 .git\x00" + id, "40000 .GiT\x00" + id, "100644 a/b\x00" + id, "100644 \x00" + id,
		"100644 a\x00" + id + "100644 a\x00" + id, "100644 a\x00" + id[:19], "100644", "10 a\x00" + id, "x a\x00" + id,
	} {
		if nodes, err := parseTree([]byte(raw)); err == nil {
			t.Errorf("parseTree(%q) = %v, want an error", raw, nodes)
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("\x01", 20) + "40000 b\x00" + strings.Repeat("\x02", 20)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		nodes, err := parseTree(raw)
		for i, n := range nodes {
			if err != nil || badName(n.name) || n.name == "" || (i > 0 && nodes[i-1].name >= n.name) {
				t.Fatalf("parseTree(%q) = %v, %v", raw, nodes, err)
			}
		}
	})
}
