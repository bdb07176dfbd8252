package render

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

// refusals gives what is refused, where, and a part of the message. The
// kustomization is env/kustomization.yaml unless the archive brings files.
var refusals = []struct {
	name, files string
	at          string // file:line:column
	part        string
}{
	// Remote, in every field that holds a path.
	{"resource over https", "resources:\n- a.yaml\n- https://host.example/x.yaml\n", "env/kustomization.yaml:3:3", "an HTTP address"},
	{"resource over http, odd case", "Resources: [\"HTTP://host/a\"]\n", "env/kustomization.yaml:1:13", "an HTTP address"},
	{"base on GitHub", "resources:\n- github.com/org/repo?ref=v1\n", "env/kustomization.yaml:2:3", "a Git repository"},
	{"base by scp", "bases:\n- git@host.example:org/repo\n", "env/kustomization.yaml:2:3", "a Git repository"},
	{"base by ssh", "resources: ['ssh://git@host/a/b']\n", "env/kustomization.yaml:1:13", "a Git repository"},
	{"base by git::", "resources: ['git::https://host/a/b']\n", "env/kustomization.yaml:1:13", "a Git repository"},
	{"base by file://", "resources: ['file:///srv/a']\n", "env/kustomization.yaml:1:13", "a Git repository"},
	{"base in a registry", "resources: ['oci://host/a']\n", "env/kustomization.yaml:1:13", "a remote address"},
	{"component", "components:\n  - https://host/org/repo//c\n", "env/kustomization.yaml:2:5", "an HTTP address"},
	{"component on GitHub", "components: [github.com/a/b]\n", "env/kustomization.yaml:1:14", "a Git repository"},
	{"patch", "patches:\n- target: {kind: Pod}\n  path: https://host/p.yaml\n", "env/kustomization.yaml:3:9", "an HTTP address"},
	{"old patch", "patchesStrategicMerge:\n- http://host/p.yaml\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"JSON patch", "patchesJson6902:\n- target: {kind: Pod, name: a, version: v1}\n  path: http://host/p.yaml\n", "env/kustomization.yaml:3:9", "an HTTP address"},
	{"openapi", "openapi:\n  path: https://host/schema.json\n", "env/kustomization.yaml:2:9", "an HTTP address"},
	{"crds", "crds: [https://host/crd.json]\n", "env/kustomization.yaml:1:8", "an HTTP address"},
	{"configurations", "configurations: [https://host/c.yaml]\n", "env/kustomization.yaml:1:18", "an HTTP address"},
	{"replacements", "replacements:\n- path: https://host/r.yaml\n", "env/kustomization.yaml:2:9", "an HTTP address"},
	{"configMap file", "configMapGenerator:\n- name: a\n  files:\n  - k=https://host/f\n", "env/kustomization.yaml:4:5", "an HTTP address"},
	{"configMap envs", "configMapGenerator:\n- {name: a, envs: ['https://host/f']}\n", "env/kustomization.yaml:2:20", "an HTTP address"},
	{"secret file", "secretGenerator:\n- {name: a, files: ['https://host/f']}\n", "env/kustomization.yaml:2:21", "an HTTP address"},
	{"secret env", "secretGenerator:\n- {name: a, env: 'https://host/f'}\n", "env/kustomization.yaml:2:18", "an HTTP address"},
	{"generators", "generators:\n- https://host/g.yaml\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"transformers", "transformers:\n- github.com/a/b\n", "env/kustomization.yaml:2:3", "a Git repository"},
	{"validators", "validators:\n- ssh://h/a/b\n", "env/kustomization.yaml:2:3", "a Git repository"},
	{"text that Kustomize falls back to cloning", "transformers:\n- |-\n  git@github.com:org/repo: x\n  apiVersion: builtin\n  kind: PrefixTransformer\n  metadata: {name: a}\n",
		"env/kustomization.yaml:2:3", "a Git repository"},

	// Programs.
	{"helm charts", "helmCharts:\n- {name: odoo, repo: 'https://charts.example'}\n", "env/kustomization.yaml:1:1", "helm"},
	{"helm globals", "helmGlobals: {chartHome: charts}\n", "env/kustomization.yaml:1:1", "helm"},
	{"helm inflation", "resources: []\nhelmChartInflationGenerator:\n- {chartName: odoo}\n", "env/kustomization.yaml:2:1", "helm"},
	{"helm as a builtin generator", "generators:\n- |-\n  apiVersion: builtin\n  kind: HelmChartInflationGenerator\n  metadata: {name: a}\n", "env/kustomization.yaml:2:3", "helm"},
	{"plugin inline", "generators:\n- |-\n  apiVersion: example.org/v1\n  kind: Maker\n  metadata: {name: a}\n", "env/kustomization.yaml:2:3", "plugin of its own"},
	{"plugin by file", "-- env/kustomization.yaml --\ntransformers: [t.yaml]\n-- env/t.yaml --\napiVersion: example.org/v1\nkind: Maker\nmetadata: {name: a}\n", "env/t.yaml:2:7", "plugin of its own"},
	{"container function", "-- env/kustomization.yaml --\ntransformers: [t.yaml]\n-- env/t.yaml --\napiVersion: v1\nkind: F\nmetadata:\n  name: a\n  annotations:\n    config.kubernetes.io/function: |\n      container: {image: x}\n",
		"env/t.yaml:6:5", "function (container)"},
	{"exec function", "-- env/kustomization.yaml --\nvalidators: [t.yaml]\n-- env/t.yaml --\napiVersion: v1\nkind: F\nmetadata: {name: a, annotations: {config.k8s.io/function: 'exec: {path: ./x}'}}\n", "env/t.yaml:3:35", "function (exec)"},
	{"starlark function", "generators:\n- |-\n  apiVersion: v1\n  kind: F\n  metadata: {name: a, annotations: {config.kubernetes.io/function: 'starlark: {path: x}'}}\n", "env/kustomization.yaml:2:3", "function (starlark)"},
	{"function on a builtin", "transformers:\n- |-\n  apiVersion: builtin\n  kind: PrefixTransformer\n  metadata: {name: a, annotations: {config.kubernetes.io/function: 'exec: {path: x}'}}\n  prefix: x\n", "env/kustomization.yaml:2:3", "function (exec)"},
	{"builtin with a remote path", "-- env/kustomization.yaml --\ntransformers: [t.yaml]\n-- env/t.yaml --\napiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: a}\nPath: https://host/p.yaml\n", "env/t.yaml:4:7", "an HTTP address"},
	{"builtin with remote paths", "transformers:\n- |-\n  apiVersion: builtin\n  kind: PatchStrategicMergeTransformer\n  metadata: {name: a}\n  paths: ['http://host/p.yaml']\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"builtin with a remote replacement", "transformers:\n- |-\n  apiVersion: builtin\n  kind: ReplacementTransformer\n  metadata: {name: a}\n  replacements:\n  - path: http://host/p.yaml\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"builtin with a remote file", "generators:\n- |-\n  apiVersion: builtin\n  kind: ConfigMapGenerator\n  metadata: {name: a}\n  files: ['k=http://host/p']\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"builtin that adds a remote value", "transformers:\n- |-\n  apiVersion: builtin\n  kind: ValueAddTransformer\n  metadata: {name: a}\n  targetFilePath: http://host/p\n", "env/kustomization.yaml:2:3", "an HTTP address"},
	{"second document of a list", "-- env/kustomization.yaml --\ntransformers: [t.yaml]\n-- env/t.yaml --\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: builtin, kind: PrefixTransformer, metadata: {name: a}, prefix: x}\n- {apiVersion: example.org/v1, kind: Maker, metadata: {name: b}}\n", "env/t.yaml:5:38", "plugin of its own"},
	{"plugin configuration by directory", "-- env/kustomization.yaml --\ntransformers: [t]\n-- env/t/kustomization.yaml --\nresources: [x.yaml]\n-- env/t/x.yaml --\n" + configMap, "env/kustomization.yaml:1:16", "is a directory"},

	// In a base, a component, under another name, over a link.
	{"in a base", "-- env/kustomization.yaml --\nresources: [../base]\n-- base/kustomization.yml --\n# base\nresources:\n- http://host/x\n", "base/kustomization.yml:3:3", "an HTTP address"},
	{"in a component", "-- env/kustomization.yaml --\ncomponents: [../c]\n-- c/Kustomization --\nkind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nresources: [github.com/a/b]\n", "c/Kustomization:3:13", "a Git repository"},
	{"over a link", "-- env/kustomization.yaml --\n-> settings.txt\n-- env/settings.txt --\nresources: [github.com/a/b]\n", "env/settings.txt:1:13", "a Git repository"},
	{"with an alias", "x: &a github.com/a/b\n", "env/kustomization.yaml:1:1", `no field "x"`},
	{"below an alias", "resources: [&a github.com/a/b]\ncomponents: [*a]\n", "env/kustomization.yaml:1:13", "a Git repository"},

	// Paths.
	{"link out of the tree", "-- env/kustomization.yaml --\nresources:\n- a.yaml\n-- env/a.yaml --\n-> ../../etc/passwd\n", "env/kustomization.yaml:2:3", "out of the tree"},
	{"absolute link", "-- env/kustomization.yaml --\nconfigMapGenerator:\n- {name: a, files: [k=a.txt]}\n-- env/a.txt --\n-> /etc/passwd\n", "env/kustomization.yaml:2:21", "out of the tree"},
	{"dangling link", "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n-> b.yaml\n", "env/kustomization.yaml:1:13", "link"},
	{"LFS pointer", "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\nversion https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "env/kustomization.yaml:1:13", "LFS"},
	{"path out of the repository", "resources: [../../x]\n", "env/kustomization.yaml:1:13", "leads out of the repository"},
	{"path out and back", "resources: [../../tree/env]\n", "env/kustomization.yaml:1:13", "leads out of the repository"},
	{"absolute path", "resources: [/etc/passwd]\n", "env/kustomization.yaml:1:13", "absolute"},
	{"missing resource", "resources:\n- gone.yaml\n", "env/kustomization.yaml:2:3", `no "env/gone.yaml"`},
	{"missing patch", "patches: [{path: gone.yaml}]\n", "env/kustomization.yaml:1:18", `no "env/gone.yaml"`},
	{"base without kustomization", "-- env/kustomization.yaml --\nresources: [../base]\n-- base/a.yaml --\n" + configMap, "env/kustomization.yaml:1:13", "no kustomization.yaml"},
	{"file above the kustomization", "-- env/kustomization.yaml --\nresources: [../a.yaml]\n-- a.yaml --\n" + configMap, "env/kustomization.yaml:1:13", "not in or below"},
	{"component that is a file", "-- env/kustomization.yaml --\ncomponents: [a.yaml]\n-- env/a.yaml --\n" + configMap, "env/kustomization.yaml:1:14", "is a file"},
	{"crds that is a directory", "-- env/kustomization.yaml --\ncrds: [d]\n-- env/d/a --\nx\n", "env/kustomization.yaml:1:8", "is a directory"},

	// Content.
	{"unknown field", "resources: []\nnamspace: x\n", "env/kustomization.yaml:2:1", `no field "namspace"`},
	{"wrong type", "namePrefix: x\nresources: a.yaml\n", "env/kustomization.yaml:2:1", "malformed kustomization"},
	{"malformed kustomization", "resources:\n- a\n  b: [\n", "env/kustomization.yaml:3:1", "malformed kustomization"},
	{"malformed resource", "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\napiVersion: v1\nkind: ConfigMap\n  metadata: [\n", "env/a.yaml:3:1", "malformed YAML"},
	{"empty kustomization", "kind: Kustomization\n", "env/kustomization.yaml:1:1", "empty"},
	{"aliases that grow", "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n" + configMap + growingAliases, "env/a.yaml:1:1", "aliases expand"},
	{"SOPS in literals", "secretGenerator:\n- name: a\n  literals: ['k=ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]']\n", "env/kustomization.yaml:3:14", "SOPS value in literals"},
	{"SOPS in envs", "-- env/kustomization.yaml --\nsecretGenerator:\n- name: a\n  envs: [a.env]\n-- env/a.env --\nk=ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]\nsops_mac=x\n", "env/kustomization.yaml:3:10", "splits it before"},
	{"SOPS file in a ConfigMap", "-- env/kustomization.yaml --\nconfigMapGenerator:\n- name: a\n  files: [a.txt]\n-- env/a.txt --\nk: ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]\n", "env/kustomization.yaml:3:11", "ConfigMap is not for secrets"},
}

var growingAliases = func() string {
	var b strings.Builder
	b.WriteString("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := 1; i < 8; i++ {
		p := fmt.Sprintf("*x%d, ", i-1)
		fmt.Fprintf(&b, "x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(p, 10), ", "))
	}
	return b.String()
}()

func refusalTree(files string) string {
	if !strings.HasPrefix(files, "-- ") {
		files = "-- env/kustomization.yaml --\n" + files + "-- env/a.yaml --\n" + configMap
	}
	return files
}

func TestRefusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, refusalTree(c.files)), "env")
			var refused *RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("error is %v, want a RefusedError", err)
			}
			if at := fmt.Sprintf("%s:%d:%d", refused.File, refused.Line, refused.Column); at != c.at {
				t.Errorf("refused at %s, want %s (%v)", at, c.at, err)
			}
			if !strings.Contains(refused.Reason, c.part) || refused.Remedy == "" {
				t.Errorf("error %q does not say %q, or has no remedy", err, c.part)
			}
		})
	}
}

// None of the refused builds, nor a build of the corpus, may open a connection
// or start a process. Kustomize, given the same files, does both: that shows
// that the listener and the fake git would notice.
func TestNoConnectionAndNoProcess(t *testing.T) {
	connections, host := countConnections(t)
	marks := fakePrograms(t)
	started := func() int {
		entries, err := os.ReadDir(marks)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	here := func(files string) string {
		for _, h := range []string{"host.example", "HTTP://host", "//host", "//h/"} {
			files = strings.ReplaceAll(files, h, strings.NewReplacer("host.example", host, "host", host, "//h/", "//"+host+"/").Replace(h))
		}
		return files
	}
	for _, c := range refusals {
		_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, here(refusalTree(c.files))), "env")
		if err == nil {
			t.Errorf("%s: not refused", c.name)
		}
	}
	tree := openTree(t, corpus)
	for _, dir := range kustomizationDirs(t, corpus) {
		_, _ = newRenderer(t, Options{}).Render(testContext(t), tree, dir) // two of them are refused, as by Kustomize
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
	if n := started(); n != 0 {
		t.Errorf("%d processes were started", n)
	}

	for _, address := range []string{"http://" + host + "/x.yaml", "http://" + host + "/a/b"} {
		mem := filesys.MakeFsInMemory()
		if err := mem.WriteFile("/env/kustomization.yaml", []byte("resources: ['"+address+"']\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(mem, "/env"); err == nil {
			t.Error("kustomize built a remote resource")
		}
	}
	if connections.Load() == 0 || started() == 0 {
		t.Errorf("kustomize alone opened %d connections and started %d processes; the test notices nothing", connections.Load(), started())
	}
}

func countConnections(t *testing.T) (n *atomic.Int64, host string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			fmt.Fprint(c, "HTTP/1.0 404 Not Found\r\n\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return n, l.Addr().String()
}

// fakePrograms makes a PATH whose programs only leave a file in marks.
func fakePrograms(t *testing.T) (marks string) {
	bin, marks := t.TempDir(), t.TempDir()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"git", "helm", "docker", "ssh", "podman"} {
		script := fmt.Sprintf("#!%s\necho started > %s/%s.$$\nexit 1\n", sh, marks, name)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	return marks
}

func TestMissingDirectory(t *testing.T) {
	tree := treeOf(t, "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n"+configMap)
	r := newRenderer(t, Options{})
	if _, err := r.Render(testContext(t), tree, "gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want fs.ErrNotExist", err)
	}
	for _, dir := range []string{"..", "/env", "../env", "env/a.yaml", "env/../.."} {
		if _, err := r.Render(testContext(t), tree, dir); err == nil {
			t.Errorf("Render(%q) gives no error", dir)
		}
	}
	for _, dir := range []string{"env", "./env/", "env/."} {
		if _, err := r.Render(testContext(t), tree, dir); err != nil {
			t.Errorf("Render(%q): %v", dir, err)
		}
	}
}

func TestEmptyRender(t *testing.T) {
	for name, files := range map[string]string{
		"no fields":       "-- env/kustomization.yaml --\n# nothing\n",
		"no objects":      "-- env/kustomization.yaml --\nnamespace: x\n",
		"all local":       "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {config.kubernetes.io/local-config: 'true'}}\n",
		"comments alone":  "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n# nothing\n",
		"everything gone": "-- env/kustomization.yaml --\nresources: [a.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, $patch: delete}'}]\n-- env/a.yaml --\n" + configMap,
	} {
		if _, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env"); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: error is %v, want ErrEmpty", name, err)
		}
	}
}

func TestErrorsTellNoSecret(t *testing.T) {
	const value = "s3cret-in-clear"
	files := "-- env/kustomization.yaml --\nresources: [a.yaml]\nsecretGenerator:\n- {name: g, literals: [p=" + value + "2]}\n" +
		"patches: [{target: {kind: Secret}, patch: '[{op: replace, path: /nothing/here, value: 1}]'}]\n" +
		"-- env/a.yaml --\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {p: " + value + ", t: 2020-01-01}\n"
	_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
	if err == nil || strings.Contains(err.Error(), value) {
		t.Errorf("error is %v", err)
	}
}
