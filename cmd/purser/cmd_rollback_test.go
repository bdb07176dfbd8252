package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

const prodOverlay = "apps/odoo/overlays/prod-eu/"

// history gives prod-eu two releases after the first one: another image, then a broken one with a file more.
func (s *shop) history() (first, second, third string) {
	s.t.Helper()
	first = s.git("rev-parse", "HEAD")
	s.change(prodOverlay+"kustomization.yaml", "0c370491", "11111111")
	s.change(prodOverlay+"release.yaml", "18.0.14", "18.0.15")
	second = s.landed("Release 18.0.15")
	s.change(prodOverlay+"kustomization.yaml", "  - autoscaler.yaml\n", "  - autoscaler.yaml\n  - extra.yaml\n")
	if err := os.WriteFile(filepath.Join(s.dir, prodOverlay, "extra.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.change(prodOverlay+"release.yaml", "migration: none", "migration: breaking")
	s.change("apps/odoo/overlays/dev/kustomization.yaml", "debug", "info")
	return first, second, s.landed("Release 18.0.16, and log less in dev")
}

// digest is the release of an environment at a commit, as the agent would know it.
func (s *shop) digest(env, commit string) string {
	s.t.Helper()
	e := estate{repo: s.dir, path: "purser", cluster: "lab"}
	snapshot, err := e.at(commit)
	if err != nil {
		s.t.Fatal(err)
	}
	release, err := snapshot.build(s.t.Context(), snapshot.set.Environments[env])
	if err != nil {
		s.t.Fatal(err)
	}
	return release.Digest
}

func TestRollbackToWhatWasLive(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	_, second, third := s.history()
	s.says("prod-eu", "live", s.digest("prod-eu", third), third)
	s.says("prod-eu", "approved", s.digest("prod-eu", third), third)
	s.refused("no earlier live release", "rollback", "prod-eu", "--server", s.agent)
	s.says("prod-eu", "previous", s.digest("prod-eu", second), second)
	var done rollback
	s.purser(0, &done, "rollback", "prod-eu", "--server", s.agent)
	if done.Release != s.digest("prod-eu", done.Branch) || done.Release != s.digest("prod-eu", second) || s.git("rev-parse", done.Branch+"^") != third ||
		len(done.Also) != 0 || !slices.Equal(done.Restored, []string{prodOverlay + "kustomization.yaml", prodOverlay + "release.yaml"}) ||
		len(done.Warnings) != 1 || !strings.Contains(done.Warnings[0], "breaking migration") {
		t.Errorf("rollback did %+v", done)
	}
	if s.render("dev", done.Branch) != s.render("dev", third) {
		t.Error("dev went back too")
	}
	if changed := s.git("diff", "--name-only", "main", done.Branch); strings.Contains(changed, "dev") || !strings.HasPrefix(s.git("log", "-1", "--format=%B", done.Branch), "Roll back prod-eu to 18.0.15\n") {
		t.Errorf("it changed %s", changed)
	}
	if s.git("status", "--porcelain") != "" || s.git("rev-parse", "HEAD") != third {
		t.Error("the working directory changed")
	}
}

// TestRollbackOfWhatDidNotBecomeLive goes back to what is live, also when what is offered now does not render.
func TestRollbackOfWhatDidNotBecomeLive(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first, second, _ := s.history()
	s.says("prod-eu", "previous", s.digest("prod-eu", first), first)
	s.says("prod-eu", "live", s.digest("prod-eu", second), second)
	s.says("prod-eu", "approved", "sha256:other", second)
	if err := os.Remove(filepath.Join(s.dir, prodOverlay, "extra.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, prodOverlay, "kustomization.yml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.landed("Break it")
	var done rollback
	s.purser(0, &done, "rollback", "prod-eu", "--server", s.agent)
	if s.digest("prod-eu", done.Branch) != s.digest("prod-eu", second) || !slices.Equal(done.Removed, []string{prodOverlay + "kustomization.yml"}) ||
		!strings.Contains(done.Warnings[0], "does not render") {
		t.Errorf("rollback did %+v", done)
	}
	// A name given wins, the agent is asked because its address is given.
	s.purser(0, &done, "rollback", "prod-eu", "--to", "main@sha1:"+first, "--server", s.agent, "--branch", "further")
	if s.digest("prod-eu", "further") != s.digest("prod-eu", first) {
		t.Error("it went elsewhere")
	}
}

func TestRollbackOffline(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first, _, third := s.history()
	var done rollback
	s.purser(0, &done, "rollback", "prod-eu", "--to", "main~2")
	if s.digest("prod-eu", done.Branch) != s.digest("prod-eu", first) || len(done.Images) != 1 || !strings.Contains(done.Warnings[0], "was not asked") {
		t.Errorf("rollback did %+v", done)
	}
	done = rollback{}
	if s.purser(0, &done, "rollback", "prod-eu", "--to", "HEAD"); done.Commit != "" || len(done.Restored) != 0 {
		t.Errorf("there was something to change: %+v", done)
	}
	s.refused("rollback/prod-eu/18.0.14", "rollback", "prod-eu", "--to", first)
	s.refused("404", "rollback", "prod-eu", "--to", first, "--server", s.agent)
	s.says("prod-eu", "live", "sha256:other", third)
	s.refused("would be no rollback", "rollback", "prod-eu", "--to", first, "--server", s.agent)
	s.says("prod-eu", "previous", "sha256:another", first)
	s.refused("cannot come back", "rollback", "prod-eu", "--server", s.agent)
	s.refused(`find commit "nowhere"`, "rollback", "prod-eu", "--to", "nowhere")
	s.change(prodOverlay+"autoscaler.yaml", "maxReplicas: 9", "maxReplicas: 8")
	s.refused("not committed", "rollback", "prod-eu", "--to", first, "--branch", "dirty")
}

// TestClusterOfTheAgent has environments that name no cluster, and no Cluster declared: the digests are those of the agent all
// the same.
func TestClusterOfTheAgent(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	digest := s.digest("prod-eu", "HEAD")
	for _, env := range []string{"dev", "qa", "staging", "prod-eu", "uat", "training"} {
		s.change("purser/environments/"+env+".yaml", "  cluster: lab\n", "")
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "purser", "clusters")); err != nil {
		t.Fatal(err)
	}
	s.landed("Leave the cluster to the agent")
	config, err := declaration.LoadAgent(filepath.Join("testdata", "one-cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := sources.LocalTree(s.dir, "HEAD", sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := declaration.Parse(files, "purser", config.Known())
	if err != nil {
		t.Fatal(err)
	}
	release, err := reconciler.Build(t.Context(), render.New(render.Options{}), render.NewDecrypter(""), files, set.Environments["prod-eu"])
	if err != nil || release.Digest != digest {
		t.Fatalf("the agent's release is %v, %v, not %s", release, err, digest)
	}

	_, second, third := s.history()
	s.says("prod-eu", "live", s.digest("prod-eu", third), third)
	s.says("prod-eu", "previous", s.digest("prod-eu", second), second)
	var back rollback
	s.purser(0, &back, "rollback", "prod-eu", "--server", s.agent)
	if back.Release != s.digest("prod-eu", second) || strings.Contains(strings.Join(back.Warnings, " "), "cluster") {
		t.Errorf("rollback did %+v", back)
	}
	var told judgement
	s.purser(0, &told, "explain", "prod-eu", "--ref", third, "--base", second, "--cluster", "lab")
	if told.Release != s.digest("prod-eu", third) || strings.Contains(strings.Join(told.Notes, " "), "cluster") {
		t.Errorf("explain said %+v", told)
	}
	s.purser(0, &told, "explain", "prod-eu", "--ref", third, "--base", second)
	if told.Release == s.digest("prod-eu", third) || !strings.Contains(strings.Join(told.Notes, " "), "--cluster") {
		t.Errorf("explain, told no cluster, said %+v", told)
	}
	s.purser(0, &back, "rollback", "prod-eu", "--to", second, "--branch", "offline")
	if !strings.Contains(strings.Join(back.Warnings, " "), "--cluster") {
		t.Errorf("rollback, told no cluster, did %+v", back)
	}
}

// TestRollbackOfSharedBase would take the others along.
func TestRollbackOfSharedBase(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	first := s.git("rev-parse", "HEAD")
	s.change("apps/odoo/base/service.yaml", "8069", "8070")
	s.landed("Use another port")
	s.refused("it would change dev, qa, staging, training, uat too: nothing was committed", "rollback", "prod-eu", "--to", first)
	var done rollback
	s.purser(0, &done, "rollback", "prod-eu", "--to", first, "--shared")
	if !slices.Equal(done.Also, []string{"dev", "qa", "staging", "training", "uat"}) || !slices.Equal(done.Restored, []string{"apps/odoo/base/service.yaml"}) {
		t.Errorf("rollback did %+v", done)
	}
	// The declaration decides too: with another one the same files are another release.
	s.says("prod-eu", "live", "sha256:now", first)
	s.says("prod-eu", "previous", s.digest("prod-eu", first), first)
	s.change("purser/environments/prod-eu.yaml", "  prune:", "  health: {timeout: 9m}\n  prune:")
	s.landed("Give it more time")
	s.refused("cannot come back", "rollback", "prod-eu", "--server", s.agent, "--shared", "--branch", "b")
}

// TestRollbackToWhatARollbackLeft is refused for what it is.
func TestRollbackToWhatARollbackLeft(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	_, second, third := s.history()
	s.says("prod-eu", "live", s.digest("prod-eu", second), second)
	s.says("prod-eu", "approved", s.digest("prod-eu", second), second)
	s.says("prod-eu", "previous", s.digest("prod-eu", third), third)
	s.mu.Lock()
	left := s.live["prod-eu"]["previous"].(reconciler.Pointer)
	left.Left = true
	s.live["prod-eu"]["previous"] = left
	s.mu.Unlock()
	s.refused("a rollback left "+left.Release, "rollback", "prod-eu", "--server", s.agent)
	s.refused("would be no rollback", "rollback", "prod-eu", "--to", third, "--server", s.agent)
}
