package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
)

const (
	shop       = "prod-eu"
	shopFolder = "apps/odoo/overlays/prod-eu/"
)

// soak is how long a release must be well in staging before prod-eu.
const soak = 5 * time.Second

const classes = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: standard}
spec:
  rank: 10
  signatures: required
  approvals: [{count: 1, roles: [release-manager]}]
  promotion: {required: true}
  images: {digests: true}
---
apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: emergency}
spec:
  rank: 40
  signatures: required
  approvals:
    - {count: 1, roles: [release-manager], by: statement}
    - {count: 1, roles: [governance-owner], by: statement}
`

// govern declares who may do what: people with keys, classes, and that declarations need an owner from now on.
func (d *demo) govern(ctx context.Context) error {
	if err := errors.Join(
		d.declarePeople(ctx),
		os.WriteFile(filepath.Join(d.estate, "purser", "classes.yaml"), []byte(classes), 0o644),
		d.edit("purser/estate.yaml", "spec:\n", "spec:\n  governance:\n    approvals: [{count: 1, roles: [governance-owner]}]\n"),
		d.edit("purser/environments/staging.yaml", "spec:\n", "spec:\n  promotion: {from: qa}\n"),
		d.edit("purser/environments/prod-eu.yaml", "spec:\n", fmt.Sprintf("spec:\n  class: standard\n  promotion: {from: staging, soak: %s}\n", soak)),
		d.commit(ctx, "Declare people and classes"), d.push(ctx), d.untilGoverned(ctx),
	); err != nil {
		return err
	}
	d.say("   %d people and two classes are declared; prod-eu asks for a release manager, the declarations for an owner.", len(people))
	return nil
}

// approve lets a release of prod-eu wait for its approval. Its author's own does not count.
func (d *demo) approve(ctx context.Context) error {
	if err := errors.Join(
		d.govern(ctx),
		d.changeAs(ctx, "release-manager-1", shopFolder+"kustomization.yaml", "ODOO_LOG_LEVEL=info", "ODOO_LOG_LEVEL=warn", "Log less"),
		d.push(ctx),
	); err != nil {
		return err
	}
	d.say("   release-manager-1 pushes a signed change of %s.", shop)
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "needs 1 more of release-manager (release-manager-2)"); err != nil {
		return err
	}
	if _, err := d.tell(ctx, "release-manager-1", "approve", shop); err != nil {
		return err
	}
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "release-manager-1 had a part in it (signer)"); err != nil {
		return err
	}
	return d.goesLive(ctx, shop, func() error {
		_, err := d.tell(ctx, "release-manager-2", "approve", shop)
		return err
	})
}

// together merges two pull requests before the agent looks: one release, and each is judged against its own author.
func (d *demo) together(ctx context.Context) error {
	before, err := d.agent.environment(shop)
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.branch(ctx, "more-replicas"),
		d.changeAs(ctx, "developer-1", shopFolder+"autoscaler.yaml", "maxReplicas: 9", "maxReplicas: 12", "Let it grow"),
		d.branch(ctx, "more-memory"),
		d.changeAs(ctx, "release-manager-1", shopFolder+"web.yaml", "memory: 3Gi", "memory: 4Gi", "Give it memory"),
		d.checkout(ctx, "main"), d.merge(ctx, "more-replicas", "more-memory"),
	); err != nil {
		return err
	}
	d.say("   Two branches are merged and pushed at once: one by developer-1, one by release-manager-1.")
	if err := until(ctx, func() error { return d.authors("developer-1", "release-manager-1") }); err != nil {
		return err
	}
	if _, err := d.tell(ctx, "release-manager-1", "approve", shop); err != nil {
		return err
	}
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "needs 1 more of release-manager (release-manager-2); release-manager-1 had a part in it (signer)"); err != nil {
		return err
	}
	if err := d.goesLive(ctx, shop, func() error {
		_, err := d.tell(ctx, "release-manager-2", "approve", shop)
		return err
	}); err != nil {
		return err
	}
	after, err := d.agent.environment(shop)
	if err != nil {
		return err
	}
	if after.Deployment.Number != before.Deployment.Number+1 {
		return fmt.Errorf("deployment %d follows %d: the two were not released together", after.Deployment.Number, before.Deployment.Number)
	}
	d.say("   Both went live with deployment %d.", after.Deployment.Number)
	return nil
}

// branch makes a branch of main and checks it out.
func (d *demo) branch(ctx context.Context, name string) error {
	_, err := d.command(ctx, 0, "git", "checkout", "--quiet", "-b", name, "main")
	return err
}

func (d *demo) checkout(ctx context.Context, name string) error {
	_, err := d.command(ctx, 0, "git", "checkout", "--quiet", name)
	return err
}

// authors says what differs from a proposed release of prod-eu with one landed change of each.
func (d *demo) authors(want ...string) error {
	e, err := d.agent.explanation(shop)
	if err != nil {
		return err
	}
	var got []string
	for _, l := range e.Landed {
		for _, p := range l.Parts {
			got = append(got, p.Person)
		}
		if len(l.Parts) != 1 || l.Parts[0].As != policy.PartSigner {
			return fmt.Errorf("landed change %s is by %+v", l.Commit, l.Parts)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("it landed by %s, not by %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	return nil
}
