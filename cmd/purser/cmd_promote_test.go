package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// shop is a clone of the sample estate, as somebody works in it, with a remote and an agent that says what it is told.
type shop struct {
	t                *testing.T
	dir, program     string
	env              []string
	agent            string // its address
	overlays, remote string

	mu   sync.Mutex
	live map[string]map[string]any // what it says: environment → pointer → release, "cluster" → its name
}

func newShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{t: t, dir: filepath.Join(dir, "estate"), remote: filepath.Join(dir, "estate.git"), live: map[string]map[string]any{}}
	s.overlays = filepath.Join(s.dir, "apps", "odoo", "overlays")
	s.env = append(os.Environ(), gitEnvironment...)
	var err error
	if s.program, err = installPurser(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.dir, os.DirFS(filepath.Join("..", "..", "examples", "estate"))); err != nil {
		t.Fatal(err)
	}
	s.command("git", "init", "--quiet", "--bare", "--initial-branch", "main", s.remote)
	s.git("init", "--quiet", "--initial-branch", "main")
	s.git("remote", "add", "origin", s.remote)
	s.commit("Declare the estate")
	s.git("push", "--quiet", "--set-upstream", "origin", "main")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		env, ok := s.live[strings.TrimPrefix(r.URL.Path, "/api/v1/environments/")]
		if !ok {
			http.Error(w, "no such environment", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(env)
	}))
	t.Cleanup(server.Close)
	s.agent = server.URL
	return s
}

func (s *shop) command(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = filepath.Dir(s.dir), s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *shop) git(args ...string) string {
	s.t.Helper()
	return s.command("git", append([]string{"-C", s.dir}, args...)...)
}

func (s *shop) commit(message string) string {
	s.t.Helper()
	s.git("add", "--all")
	s.git("commit", "--quiet", "--message", message)
	return s.git("rev-parse", "HEAD")
}

// landed is a commit on main that the remote has.
func (s *shop) landed(message string) string {
	s.t.Helper()
	commit := s.commit(message)
	s.git("push", "--quiet", "origin", "main")
	return commit
}

// change replaces text in a file of the clone.
func (s *shop) change(file, old, new string) {
	s.t.Helper()
	file = filepath.Join(s.dir, file)
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		s.t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// purser runs a command in the clone that must end with a code; into gets its output as JSON.
func (s *shop) purser(code int, into any, args ...string) (said string) {
	s.t.Helper()
	cmd := exec.Command(s.program, append(args, "--repo", s.dir, "-o", "json")...)
	cmd.Dir, cmd.Env = filepath.Dir(s.dir), s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	got := 0
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	if got != code {
		s.t.Fatalf("purser %q ended with %d, not %d:\n%s%s", args, got, code, stdout.String(), stderr.String())
	}
	if into != nil {
		if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
			s.t.Fatalf("purser %q: %v\n%s", args, err, stdout.String())
		}
	}
	return stderr.String()
}

// refused runs a command that must fail, say why, and leave no branch behind.
func (s *shop) refused(why string, args ...string) {
	s.t.Helper()
	before := s.git("for-each-ref")
	if said := s.purser(1, nil, args...); !strings.Contains(said, why) {
		s.t.Errorf("purser %q said %q, not %q", args, said, why)
	}
	if after := s.git("for-each-ref"); after != before {
		s.t.Errorf("purser %q changed the refs to\n%s", args, after)
	}
}

// says makes the agent tell a pointer of an environment; "" is none.
func (s *shop) says(env, pointer, release, commit string, images ...string) {
	s.saysOf("estate", env, pointer, release, commit, images...)
}

func (s *shop) saysOf(source, env, pointer, release, commit string, images ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[env] == nil {
		s.live[env] = map[string]any{"cluster": "lab"}
	}
	if pointer != "" {
		s.live[env][pointer] = reconciler.Pointer{
			Release: release, Revision: evidence.Revision{Source: source, Revision: "main@sha1:" + commit}, Images: images,
		}
	}
}

func (s *shop) render(env, ref string) string {
	s.t.Helper()
	return s.command(s.program, "render", env, "--repo", s.dir, "--ref", ref)
}

func TestPromoteWhatIsLive(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	live := s.git("rev-parse", "HEAD")
	s.change("apps/odoo/overlays/qa/kustomization.yaml", "03d75713", "99999999")
	s.change("apps/odoo/overlays/staging/kustomization.yaml", "images:\n", "# Ours.\n\nimages: # by digest\n")
	head := s.landed("Offer the next one to qa")
	s.says("qa", "live", "sha256:x", live)
	var done promotion
	s.purser(0, &done, "promote", "qa", "staging", "--server", s.agent)
	if done.Commit != s.git("rev-parse", done.Branch) || s.git("rev-parse", done.Branch+"^") != head || done.Downgrade || done.Pushed ||
		done.Version != (versions{"18.0.14", "18.0.15"}) || len(done.Images) != 1 || done.Images[0].Container != "web/odoo" {
		t.Errorf("promote did %+v", done)
	}
	want := "apps/odoo/overlays/staging/kustomization.yaml\napps/odoo/overlays/staging/release.yaml"
	if changed := s.git("diff", "--name-only", "main", done.Branch); changed != want {
		t.Errorf("it changed %s", changed)
	}
	if diff := s.git("diff", "--unified=0", "main", done.Branch, "--", "*kustomization.yaml"); strings.Count(diff, "\n+") != 2 || strings.Count(diff, "\n-") != 2 || !strings.Contains(diff, "+    digest: sha256:03d75713") {
		t.Errorf("the kustomization changed more than its digest:\n%s", diff)
	}
	if status := s.git("status", "--porcelain", "--branch"); status != "## main...origin/main" {
		t.Errorf("the clone is now\n%s", status)
	}
	if message := s.git("log", "-1", "--format=%an %B", done.Branch); !strings.HasPrefix(message, "tester Promote 18.0.15 from qa to staging\n\nweb/odoo: ") {
		t.Errorf("the message is %q", message)
	}
	s.refused("there is a branch", "promote", "qa", "staging", "--server", s.agent)
	// Once more, when it landed: nothing to do.
	s.git("merge", "--quiet", done.Branch)
	s.git("push", "--quiet")
	done = promotion{}
	if s.purser(0, &done, "promote", "qa", "staging", "--server", s.agent); done.Commit != "" {
		t.Errorf("there was something to change: %+v", done)
	}
}

func TestPromoteDowngrade(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.change("apps/odoo/overlays/qa/release.yaml", "migration: additive", "migration: breaking\n  class: low")
	s.landed("Say what it is")
	var done promotion
	s.purser(0, &done, "promote", "training", "qa", "--ref", "main", "--branch", "back", "-m", "Go back\n\nWe must.")
	if !done.Downgrade || done.Branch != "back" || len(done.Warnings) != 2 || !strings.HasPrefix(done.Warnings[0], "DOWNGRADE: qa has 18.0.15") || !strings.Contains(done.Warnings[1], "breaking") {
		t.Errorf("promote did %+v", done)
	}
	if message := s.git("log", "-1", "--format=%B", "back"); message != "Go back\n\nWe must." {
		t.Errorf("the message is %q", message)
	}
	if text := s.git("show", "back:apps/odoo/overlays/qa/release.yaml"); !strings.Contains(text, "class: low") || !strings.Contains(text, "ERP-219") || strings.Contains(text, "breaking") {
		t.Errorf("release.yaml is\n%s", text)
	}
}

func TestPromoteRefuses(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.change("purser/environments/prod-eu.yaml", "  prune:", "  promotion: {from: staging}\n  prune:")
	head := s.landed("Promote prod-eu from staging")
	s.refused(`is promoted from "staging", not from "qa"`, "promote", "qa", "prod-eu", "--ref", "main")
	var done promotion
	if s.purser(0, &done, "promote", "qa", "prod-eu", "--ref", "main", "--skip-stage"); len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0], "skips staging") {
		t.Errorf("promote did %+v", done)
	}
	s.refused("same folder", "promote", "qa", "qa", "--ref", "main")
	s.refused(`no environment "nowhere"`, "promote", "qa", "nowhere", "--ref", "main")
	s.refused("404", "promote", "qa", "staging", "--server", s.agent)
	s.says("qa", "", "", "")
	s.refused("nothing is live", "promote", "qa", "staging", "--server", s.agent)
	s.says("qa", "live", "sha256:x", strings.Repeat("ab", 20))
	s.refused("or fetch it", "promote", "qa", "staging", "--server", s.agent)
	s.says("qa", "live", "sha256:x", head, "web/odoo=registry.example/odoo:other")
	s.refused("other images are live", "promote", "qa", "staging", "--server", s.agent)
	s.purser(2, nil, "promote", "qa", "staging", "--forge", "gitea")
	s.purser(2, nil, "promote", "qa", "staging", "--ref", "main", "--branch", "no..name")

	s.change("apps/odoo/overlays/staging/kustomization.yaml", "count: 2", "count: 3")
	s.refused("changes that are not committed", "promote", "qa", "staging", "--ref", "main")
	s.git("restore", ".")

	// A container more, and one that images: does not decide about.
	s.change("apps/odoo/overlays/staging/kustomization.yaml", "replicas:", "patches:\n  - target: {kind: Deployment, name: web}\n    patch: |-\n      - {op: add, path: /spec/template/spec/containers/-, value: {name: exporter, image: registry.example/exporter}}\nreplicas:")
	s.landed("Export figures in staging")
	s.refused("it has web/exporter", "promote", "qa", "staging", "--ref", "main")
	s.refused("it lacks web/exporter", "promote", "staging", "qa", "--ref", "main")
	s.git("revert", "--no-edit", "HEAD")
	s.change("apps/odoo/overlays/staging/kustomization.yaml", "replicas:", "replacements:\n  - source: {kind: Deployment, name: web, fieldPath: metadata.name}\n    targets:\n      - select: {kind: Deployment, name: web}\n        fieldPaths: [\"spec.template.spec.containers.0.image\"]\nreplicas:")
	s.landed("Replace the image")
	s.refused("nothing was committed: web/odoo is web", "promote", "qa", "staging", "--ref", "main")
}

// TestPromoteImages has two roles with images of their own, a mirror, a tag, and none of them in TO's file before.
func TestPromoteImages(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cron := `apiVersion: apps/v1
kind: Deployment
metadata: {name: cron}
spec:
  selector: {matchLabels: {app: cron}}
  template:
    metadata: {labels: {app: cron}}
    spec:
      initContainers: [{name: wait, image: "registry.example/tools:1"}]
      containers: [{name: odoo, image: NAME}]
      volumes: [{name: addons, image: {reference: "registry.example/addons:1"}}]
`
	file := filepath.Join(s.dir, "apps", "odoo", "base", "cron.yaml")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(strings.Replace(cron, "NAME", "registry.example/odoo-cron", 1))
	s.change("apps/odoo/base/kustomization.yaml", "  - web.yaml", "  - web.yaml\n  - cron.yaml")
	s.change("apps/odoo/overlays/qa/kustomization.yaml", "images:", "images:\n  - {name: registry.example/odoo-cron, newName: \"mirror.example:5000/odoo\", newTag: \"18.0\"}\n  - {name: registry.example/addons, newTag: \"2\"}")
	s.landed("Run jobs")
	var done promotion
	s.purser(0, &done, "promote", "qa", "staging", "--ref", "main", "--branch", "two")
	if text := s.git("show", "two:apps/odoo/overlays/staging/kustomization.yaml"); len(done.Images) != 3 ||
		!strings.Contains(text, "  - name: registry.example/odoo-cron\n    newName: mirror.example:5000/odoo\n    newTag: \"18.0\"\n") ||
		!strings.Contains(text, "  - name: registry.example/addons\n    newTag: \"2\"\n") || strings.Contains(text, "tools") {
		t.Errorf("promote did %+v and wrote\n%s", done, text)
	}
	// One name for two images that differ in FROM cannot be carried by images:.
	put(strings.Replace(cron, "NAME", "registry.example/odoo", 1))
	s.change("apps/odoo/overlays/qa/kustomization.yaml", "replicas:", "patches:\n  - target: {kind: Deployment, name: cron}\n    patch: |-\n      - {op: replace, path: /spec/template/spec/containers/0/image, value: registry.example/other}\nreplicas:")
	s.landed("Run jobs with the same name")
	s.refused("one entry cannot say both", "promote", "qa", "staging", "--ref", "main")
}

func TestPromoteAttestations(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	folder := filepath.Join(s.overlays, "qa", "attestations")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "unit.dsse.json"), []byte("{\r\n}\n"), 0o600),
		os.WriteFile(filepath.Join(s.dir, ".gitattributes"), []byte("*.json -text\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.change("apps/odoo/overlays/qa/release.yaml", "  migration: additive\n", "  migration: additive\n  modules: [sale_pricing]\n  attestations: [attestations/unit.dsse.json]\n")
	s.landed("Attest")
	var done promotion
	s.purser(0, &done, "promote", "qa", "prod-eu", "--ref", "main", "--branch", "b")
	if s.git("rev-parse", "b:apps/odoo/overlays/prod-eu/attestations") != s.git("rev-parse", "main:apps/odoo/overlays/qa/attestations") {
		t.Error("the attestation is not the same")
	}
	if err := os.Remove(filepath.Join(s.overlays, "qa", "release.yaml")); err != nil {
		t.Fatal(err)
	}
	s.landed("Say nothing")
	s.refused("would describe another release", "promote", "qa", "prod-eu", "--ref", "main", "--branch", "c")
}

// TestPromoteSigns has an SSH key in Git's configuration, as people do.
func TestPromoteSigns(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	key := filepath.Join(filepath.Dir(s.dir), "key")
	s.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key+".allowed", append([]byte("tester@estate.example "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"gpg.format": "ssh", "user.signingKey": key + ".pub", "commit.gpgSign": "true", "gpg.ssh.allowedSignersFile": key + ".allowed"} {
		s.git("config", name, value)
	}
	s.purser(0, nil, "promote", "qa", "staging", "--ref", "main", "--branch", "signed")
	s.git("verify-commit", "signed")
	s.git("config", "user.signingKey", key+".gone")
	s.refused("commit-tree", "promote", "qa", "staging", "--ref", "main", "--branch", "unsigned")
}

// TestPromotePushes works on a forge: what the remote has counts, not the clone's stale branch.
func TestPromotePushes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	g := labtest.NewGitea(t, labtest.Shared(t, lab.Gitea))
	owner := g.User("developer")
	repo := g.Repo(owner)
	token, err := os.ReadFile(owner.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	address := g.URL + "/" + repo.Project + ".git"
	s.git("remote", "set-url", "origin", address)
	s.env = append(s.env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: token "+strings.TrimSpace(string(token)))
	s.git("push", "--quiet", "--force", "origin", "main")
	stale := s.git("rev-parse", "main")
	s.change("apps/odoo/overlays/dev/kustomization.yaml", "debug", "info")
	head := s.landed("Log less")
	s.git("reset", "--quiet", "--hard", stale)
	s.git("update-ref", "refs/remotes/origin/main", stale)
	var done promotion
	s.purser(0, &done, "promote", "qa", "staging", "--ref", "main", "--push", "--forge", "gitea", "--forge-token-file", owner.TokenFile)
	if !done.Pushed || done.PullRequest == nil || done.PullRequest.Number < 1 || done.PullRequest.Base != "main" || done.PullRequest.Branch != done.Branch ||
		done.PullRequest.Head != done.Commit || done.PullRequest.Title != "Promote 18.0.15 from qa to staging" || s.git("rev-parse", done.Branch+"^") != head {
		t.Errorf("promote did %+v: %+v", done, done.PullRequest)
	}
	// A push that is refused leaves the commit, and says so.
	s.git("config", "remote.origin.pushurl", s.remote+".gone")
	if said := s.purser(1, &done, "promote", "qa", "prod-eu", "--ref", "main", "--push"); !strings.Contains(said, "is committed and not pushed") || done.Pushed {
		t.Errorf("promote said %q and did %+v", said, done)
	}
}

// TestPromoteElsewhere has the declarations in a repository of their own.
func TestPromoteElsewhere(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	home := filepath.Join(filepath.Dir(s.dir), "governance")
	s.command("git", "init", "--quiet", "--initial-branch", "main", home)
	if err := os.Rename(filepath.Join(s.dir, "purser"), filepath.Join(home, "purser")); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"dev", "qa", "staging", "prod-eu", "uat", "training"} {
		s.change("../governance/purser/environments/"+env+".yaml", "  source:\n", "  source:\n    repository: apps\n")
	}
	s.command("git", "-C", home, "add", "--all")
	s.command("git", "-C", home, "commit", "--quiet", "--message", "Declare")
	head := s.landed("Declare elsewhere")
	s.says("qa", "live", "sha256:x", head)
	s.refused(`is of the repository "estate", this is "apps"`, "promote", "qa", "staging", "--declarations", home, "--source", "apps", "--server", s.agent)
	s.saysOf("apps", "qa", "live", "sha256:x", head)
	var done promotion
	s.purser(0, &done, "promote", "qa", "staging", "--declarations", home, "--source", "apps", "--server", s.agent)
	if s.git("rev-parse", done.Branch+"^") != head || len(done.Images) != 1 {
		t.Errorf("promote did %+v", done)
	}
	var back rollback
	s.git("merge", "--quiet", done.Branch)
	s.git("push", "--quiet")
	s.purser(0, &back, "rollback", "staging", "--declarations", home, "--source", "apps", "--to", head)
	if s.git("rev-parse", back.Branch+"^{tree}") != s.git("rev-parse", head+"^{tree}") {
		t.Errorf("rollback did %+v", back)
	}
	s.purser(2, nil, "promote", "qa", "staging", "--declarations", home)
}

func TestNewer(t *testing.T) {
	t.Parallel()
	order := []string{"18.0.9-beta2", "18.0.9-rc1", "18.0.9-rc2", "18.0.9", "18.0.14", "18.0.14.1", "18.1-rc1", "v18.1", "2026.11.1"}
	for i, a := range order {
		for j, b := range order {
			if got := newer(a, b); got != (i > j) {
				t.Errorf("%s newer than %s: %v", a, b, got)
			}
		}
	}
	for _, pair := range [][2]string{{"blue", "red"}, {"red", "blue"}, {"", "1"}, {"1", ""}, {"1.0+b", "1.0+a"}, {"1.a", "1.1"}, {"1.1", "1.a"}, {"007", "7"}} {
		if newer(pair[0], pair[1]) {
			t.Errorf("%q is newer than %q", pair[0], pair[1])
		}
	}
}

func TestForgeOf(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string][2]string{
		"https://git.example/shop/estate.git":        {"https://git.example", "shop/estate"},
		"http://127.0.0.1:3000/shop/estate":          {"http://127.0.0.1:3000", "shop/estate"},
		"https://user:secret@git.example/shop/e.git": {"https://git.example", "shop/e"},
		"git@git.example:group/shop/estate.git":      {"https://git.example", "group/shop/estate"},
		"ssh://git@git.example:2222/shop/estate.git": {"https://git.example", "shop/estate"},
		"/srv/estate.git":                            {"", ""},
		"file:///srv/estate.git":                     {"", ""},
	} {
		address, project := forgeOf(remote)
		if got := [2]string{address, project}; got != want {
			t.Errorf("%s: got %q", remote, got)
		}
	}
}

func TestRestored(t *testing.T) {
	t.Parallel()
	entry := func(path, mode, blob string) fileEdit { return fileEdit{path: path, mode: mode, blob: blob} }
	tree := func(edits ...fileEdit) map[string]fileEdit {
		files := map[string]fileEdit{}
		for _, e := range edits {
			files[e.path] = e
		}
		return files
	}
	then := tree(entry("a/same", "100644", "1"), entry("a/changed", "100644", "1"), entry("a/mode", "100755", "1"), entry("a/gone", "100644", "1"),
		entry("b/other", "100644", "1"), entry("link", "120000", "1"), entry("dir/in/x", "100644", "1"))
	now := tree(entry("a/same", "100644", "1"), entry("a/changed", "100644", "2"), entry("a/mode", "100644", "1"), entry("a/new", "100644", "1"),
		entry("b/other", "100644", "2"), entry("link/x", "100644", "1"), entry("dir/in/y", "100644", "1"), entry("dirty", "100644", "1"))
	edits := restored(then, now, []string{"a/same", "a/changed", "a/mode", "a/gone", "a/new", "link/x", "dir"})
	got := map[string]string{}
	for _, e := range edits {
		got[e.path] = e.mode + " " + e.blob
	}
	want := map[string]string{"a/changed": "100644 1", "a/mode": "100755 1", "a/gone": "100644 1", "a/new": " ", "link": "120000 1", "link/x": " ", "dir/in/x": "100644 1", "dir/in/y": " "}
	if !maps.Equal(got, want) || !slices.IsSortedFunc(edits, func(a, b fileEdit) int { return strings.Compare(a.path, b.path) }) {
		t.Errorf("got %v", got)
	}
}
