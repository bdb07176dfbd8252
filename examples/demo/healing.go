package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// heal changes the image of a running Deployment by hand, as "kubectl edit" does, and deletes a Service.
func (d *demo) heal(ctx context.Context) error {
	const namespace = "north-qa"
	deployments, services := d.kube.AppsV1().Deployments(namespace), d.kube.CoreV1().Services(namespace)
	before, err := deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	container := before.Spec.Template.Spec.Containers[0]
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":%q,"image":"registry.example/odoo:hotfix"}]}}}}`, container.Name)
	start := time.Now()
	if _, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		return err
	}
	if err := services.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		return err
	}
	d.say("   Somebody edits the Deployment web of %s and deletes its Service.", namespace)
	if err := until(ctx, func() error {
		web, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err == nil && web.Spec.Template.Spec.Containers[0].Image != container.Image {
			err = errors.New("the image is not restored")
		}
		if err != nil {
			return err
		}
		_, err = services.Get(ctx, "web", metav1.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	d.say("   Both are as declared again %.2f s later.", time.Since(start).Seconds())
	return d.showDrift(ctx, "qa")
}

// showDrift reads from the audit repository what was found and who did it.
func (d *demo) showDrift(ctx context.Context, environment string) error {
	clone, keys := filepath.Join(d.dir, "drift.git"), filepath.Join(d.dir, "signing.pub")
	evidence := func(args ...string) (string, error) {
		return d.command(ctx, 0, d.purser, append([]string{"evidence", args[0], "--repo", clone, "--keys", keys}, args[1:]...)...)
	}
	var records []struct{ Index uint64 }
	if err := until(ctx, func() error { // the records of a repair are published after it
		if _, err := d.command(ctx, 0, "git", "clone", "--quiet", "--mirror", d.audit.URL, clone); err != nil {
			if _, err := d.command(ctx, 0, "git", "-C", clone, "fetch", "--quiet"); err != nil {
				return err
			}
		}
		out, err := evidence("log", "--environment", environment, "--type", "drift", "--output", "json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &records); err != nil {
			return err
		}
		if len(records) == 0 {
			return errors.New("no drift is recorded yet")
		}
		return nil
	}); err != nil {
		return err
	}
	out, err := evidence("log", "--environment", environment, "--type", "drift")
	if err != nil {
		return err
	}
	d.say("   purser evidence log --environment %s --type drift", environment)
	d.show(out)
	index := strconv.FormatUint(records[0].Index, 10)
	if out, err = evidence("show", index); err != nil {
		return err
	}
	var drift struct {
		Predicate struct{ Objects json.RawMessage }
	}
	if err := json.Unmarshal([]byte(out), &drift); err != nil {
		return err
	}
	objects, err := json.MarshalIndent(drift.Predicate.Objects, "", "  ")
	if err != nil {
		return err
	}
	d.say("   purser evidence show %s (its objects: which field manager wrote what, and when)", index)
	d.show(string(objects))
	if out, err = evidence("show", index, "--blob", "diff"); err != nil {
		return err
	}
	d.say("   purser evidence show %s --blob diff", index)
	d.show(out)
	return nil
}
