package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// goLive pushes the sample estate and waits until all of it runs.
func (d *demo) goLive(ctx context.Context) error {
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"}, {"remote", "add", "origin", d.estates.URL},
		{"config", "user.name", "Release Manager"}, {"config", "user.email", "release-manager@estate.example"},
	} {
		if _, err := d.command(ctx, 0, "git", args...); err != nil {
			return err
		}
	}
	out, err := d.command(ctx, 0, d.purser, "validate")
	if err != nil {
		return err
	}
	d.say("   purser validate")
	d.show(out)
	if err := errors.Join(d.commit(ctx, "Declare the estate"), d.push(ctx)); err != nil {
		return err
	}
	if out, err = d.command(ctx, 0, d.purser, "init", "--config", d.agent.config); err != nil {
		return err
	}
	d.say("   purser init")
	d.show(out)
	start := time.Now()
	if err := d.agent.start(ctx); err != nil {
		return err
	}
	if err := until(ctx, func() error { return d.allLive(ctx) }); err != nil {
		return err
	}
	d.say("   All environments are live and healthy %.1f s after the agent's start.", time.Since(start).Seconds())
	return d.status(ctx)
}

// allLive says which environment does not yet run what is approved for it.
func (d *demo) allLive(ctx context.Context) error {
	s, err := d.agent.status()
	if err != nil {
		return err
	}
	if len(s.Environments) != len(namespaces) {
		return fmt.Errorf("%d of %d environments are known", len(s.Environments), len(namespaces))
	}
	for _, e := range s.Environments {
		if e.Live == nil || e.Approved == nil || e.Live.Release != e.Approved.Release {
			return fmt.Errorf("%s is %s: %s", e.Name, e.Outcome, e.Reason)
		}
	}
	return nil
}

// status shows what the agent knows, once everything is in order.
func (d *demo) status(ctx context.Context) error {
	out := ""
	if err := until(ctx, func() (err error) {
		out, err = d.command(ctx, 0, d.purser, "status", "--server", d.agent.server)
		return err
	}); err != nil {
		return err
	}
	d.say("   purser status")
	d.show(out)
	return nil
}

// release changes one environment and follows the change to the cluster.
func (d *demo) release(ctx context.Context) error {
	const file = "apps/odoo/overlays/dev/kustomization.yaml"
	before, err := d.environments()
	if err != nil {
		return err
	}
	digest := strings.Repeat("ab12", 16)
	if err := d.setDigest(file, digest); err != nil {
		return err
	}
	out, err := d.command(ctx, 1, d.purser, "diff", "dev")
	if err != nil {
		return err
	}
	d.say("   purser diff dev")
	d.show(out)
	if err := d.commit(ctx, "Release the next image to dev"); err != nil {
		return err
	}
	start := time.Now()
	if err := d.push(ctx); err != nil {
		return err
	}
	pushed := time.Since(start)
	if err := until(ctx, func() error { return d.runsImage(ctx, "north-dev", digest) }); err != nil {
		return err
	}
	applied := time.Since(start)
	if err := until(ctx, func() error { return d.liveAfter("dev", before["dev"]) }); err != nil {
		return err
	}
	d.say("   pushed after %.2f s, applied after %.2f s (of which up to 1 s until the next poll), live after %.2f s",
		pushed.Seconds(), applied.Seconds(), time.Since(start).Seconds())
	after, err := d.environments()
	if err != nil {
		return err
	}
	delete(before, "dev")
	delete(after, "dev")
	if !maps.Equal(before, after) {
		return fmt.Errorf("other environments moved: %v became %v", before, after)
	}
	return nil
}

// environments gives the live release of each environment.
func (d *demo) environments() (map[string]string, error) {
	s, err := d.agent.status()
	live := map[string]string{}
	for _, e := range s.Environments {
		if e.Live != nil {
			live[e.Name] = e.Live.Release
		}
	}
	return live, err
}

// setDigest changes the image digest of an overlay.
func (d *demo) setDigest(file, digest string) error {
	text, err := os.ReadFile(filepath.Join(d.estate, file))
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(string(text), "sha256:")
	if !found || len(rest) < 64 {
		return fmt.Errorf("%s pins no image by digest", file)
	}
	return d.edit(file, "sha256:"+rest[:64], "sha256:"+digest)
}

// runsImage says what the Deployment web of a namespace runs instead of an image digest.
func (d *demo) runsImage(ctx context.Context, namespace, digest string) error {
	web, err := d.kube.AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if image := web.Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, digest) {
		return fmt.Errorf("it runs %s", image)
	}
	return nil
}

// liveAfter says what keeps an environment from having a release live other than the one before.
func (d *demo) liveAfter(name, before string) error {
	e, err := d.agent.environment(name)
	if err != nil {
		return err
	}
	if e.Live == nil || e.Live.Release == before || e.Live.Release != e.Approved.Release {
		return fmt.Errorf("%s is %s: %s", name, e.Outcome, e.Reason)
	}
	return nil
}

// refuse pushes a declaration with a typing error and an overlay that lost its base.
func (d *demo) refuse(ctx context.Context) error {
	before, err := d.environments()
	if err != nil {
		return err
	}
	web, err := d.kube.AppsV1().Deployments("north-dev").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	declarations, err := filepath.Glob(filepath.Join(d.estate, "purser", "environments", "*.yaml"))
	if err != nil || len(declarations) == 0 {
		return fmt.Errorf("the estate declares no environments: %w", err)
	}
	file, err := filepath.Rel(d.estate, declarations[0])
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.edit(file, "  namespace:", "  namspace:"),
		d.edit("apps/odoo/overlays/dev/kustomization.yaml", "../../base", "../../bass"),
		d.commit(ctx, "Break two things"), d.push(ctx),
	); err != nil {
		return err
	}
	var refusals []string
	if err := until(ctx, func() error {
		s, err := d.agent.status()
		if err != nil {
			return err
		}
		dev, err := d.agent.environment("dev")
		if err != nil {
			return err
		}
		if s.Refused == nil || dev.Refused == nil {
			return errors.New("the bad commit is not refused yet")
		}
		refusals = append(slices.Clone(s.Refused.Errors), dev.Refused.Errors...)
		return nil
	}); err != nil {
		return err
	}
	d.say("   refused:")
	d.show(strings.Join(refusals, "\n"))
	after, err := d.environments()
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("live releases changed: %v became %v", before, after)
	}
	now, err := d.kube.AppsV1().Deployments("north-dev").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if now.Generation != web.Generation || now.UID != web.UID {
		return errors.New("the Deployment of dev was changed")
	}
	d.say("   Every environment still runs what it ran.")
	if _, err := d.command(ctx, 0, "git", "revert", "--no-edit", "HEAD"); err != nil {
		return err
	}
	if err := d.push(ctx); err != nil {
		return err
	}
	return until(ctx, func() error {
		s, err := d.agent.status()
		if err != nil {
			return err
		}
		dev, err := d.agent.environment("dev")
		if err != nil {
			return err
		}
		if s.Refused != nil || dev.Refused != nil {
			return errors.New("the revert is not seen yet")
		}
		return nil
	})
}

// qaDigest is of the image that qa gets.
var qaDigest = strings.Repeat("cd34", 16)

// kill ends the agent with SIGKILL while it carries out a release, and starts it again.
func (d *demo) kill(ctx context.Context) error {
	before, err := d.environments()
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.setDigest("apps/odoo/overlays/qa/kustomization.yaml", qaDigest),
		d.commit(ctx, "Release the next image to qa"), d.push(ctx),
	); err != nil {
		return err
	}
	if err := until(ctx, func() error {
		e, err := d.agent.environment("qa")
		if err == nil && (e.Proposed == nil || e.Proposed.Release == before["qa"]) {
			err = errors.New("the release is not proposed yet")
		}
		return err
	}); err != nil {
		return err
	}
	if err := d.agent.signal(syscall.SIGKILL); err != nil {
		return err
	}
	d.say("   kill -9, then start again")
	if err := d.agent.start(ctx); err != nil {
		return err
	}
	if err := until(ctx, func() error { return d.liveAfter("qa", before["qa"]) }); err != nil {
		return err
	}
	if err := d.runsImage(ctx, "north-qa", qaDigest); err != nil {
		return err
	}
	if err := until(ctx, func() error { return d.allLive(ctx) }); err != nil {
		return err
	}
	return d.status(ctx)
}

// verify stops the agent and checks its log as an auditor would.
func (d *demo) verify(ctx context.Context) error {
	if err := d.agent.stop(); err != nil {
		return err
	}
	clone, keys := filepath.Join(d.dir, "audit.git"), filepath.Join(d.dir, "signing.pub")
	if _, err := d.command(ctx, 0, "git", "clone", "--quiet", "--mirror", d.audit.URL, clone); err != nil {
		return err
	}
	for _, words := range [][]string{{"log", "--environment", "qa"}, {"log", "--type", "statement"}, {"verify"}} {
		out, err := d.command(ctx, 0, d.purser, append([]string{"evidence", words[0], "--repo", clone, "--keys", keys}, words[1:]...)...)
		if err != nil {
			return err
		}
		const refused = "review by release-manager-2, does not count: nobody reviews an override of their own"
		if words[len(words)-1] == "statement" && !strings.Contains(out, refused) {
			return fmt.Errorf("the log does not say %q:\n%s", refused, out)
		}
		d.say("   purser evidence %s", strings.Join(words, " "))
		d.show(out)
	}
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
