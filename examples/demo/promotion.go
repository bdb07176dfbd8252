package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// promote brings what qa runs to staging and to prod-eu. Past staging there is no way, nor before its soak is over.
func (d *demo) promote(ctx context.Context) error {
	if err := d.actAs(ctx, "developer-1"); err != nil {
		return err
	}
	words := []string{"promote", "dev", shop, "--server", d.agent.server}
	out, err := d.command(ctx, 1, d.purser, words...)
	if err != nil {
		return err
	}
	if !strings.Contains(out, `is promoted from "staging", not from "dev"`) {
		return fmt.Errorf("promoting past staging said\n%s", out)
	}
	d.say("   purser promote dev %s", shop)
	d.show(out)
	if err := d.propose(ctx, "dev", shop, "--skip-stage"); err != nil {
		return err
	}
	if err := d.explain(ctx, shop, time.Time{}, denyExit, "promotion deny", `was never live in "staging" → promote to "staging" first`); err != nil {
		return err
	}
	if err := d.goesLive(ctx, "staging", func() error { return d.propose(ctx, "qa", "staging") }); err != nil {
		return err
	}
	staging, err := d.agent.environment("staging")
	if err != nil {
		return err
	}
	if err := d.propose(ctx, "staging", shop); err != nil {
		return err
	}
	since := staging.Live.At
	if err := d.explain(ctx, shop, since.Add(2*time.Second), waitExit, `the same images were healthy in "staging" for`, "of "+soak.String()); err != nil {
		return err
	}
	if err := d.goesLive(ctx, shop, func() error {
		_, err := d.tell(ctx, "release-manager-1", "approve", shop)
		return err
	}); err != nil {
		return err
	}
	return d.soaked(ctx, since)
}

// propose has purser promote commit and push a branch, and merges it.
func (d *demo) propose(ctx context.Context, from, to string, more ...string) error {
	branch := "promote-" + from + "-" + to
	if err := d.actAs(ctx, "developer-1"); err != nil {
		return err
	}
	words := append([]string{"promote", from, to, "--push"}, more...)
	out, err := d.command(ctx, 0, d.purser, append(words, "--branch", branch, "--server", d.agent.server)...)
	if err != nil {
		return err
	}
	d.say("   purser %s", strings.Join(words, " "))
	d.show(out)
	return d.merge(ctx, branch)
}

// soaked checks that prod-eu runs the image of staging, and since when it may.
func (d *demo) soaked(ctx context.Context, since time.Time) error {
	e, err := d.agent.environment(shop)
	if err != nil {
		return err
	}
	waited := e.Approved.At.Sub(since)
	if waited < soak {
		return fmt.Errorf("it was let go %s after staging was live, before the soak of %s was over", waited, soak)
	}
	if err := d.runsImage(ctx, "north-prod-eu", qaDigest); err != nil {
		return errors.Join(errors.New("not the image that was promoted"), err)
	}
	d.say("   It was let go %.1f s after staging was live; the soak is %s.", waited.Seconds(), soak)
	return nil
}
