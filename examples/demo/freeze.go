package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
)

const calendar = `apiVersion: purser.dev/v1alpha1
kind: Calendar
metadata: {name: retail}
spec:
  timeZone: Etc/UTC
  freezes:
    - {name: peak, reason: peak trade, start: %s, end: %s}
`

// declareFreeze has one owner of the governance declare a freeze of prod-eu, and the other approve it. It gives its end.
func (d *demo) declareFreeze(ctx context.Context) (end time.Time, err error) {
	const local = "2006-01-02T15:04"
	now := time.Now().UTC()
	end = now.Add(12 * time.Hour).Truncate(time.Minute)
	text := fmt.Appendf(nil, calendar, now.Add(-24*time.Hour).Format(local), end.Format(local))
	if err := errors.Join(
		d.actAs(ctx, "owner-1"),
		os.WriteFile(filepath.Join(d.estate, "purser", "calendar.yaml"), text, 0o644),
		d.edit("purser/environments/prod-eu.yaml", "spec:\n", "spec:\n  calendar: retail\n"),
		d.commit(ctx, "Freeze prod-eu"), d.push(ctx),
	); err != nil {
		return end, err
	}
	d.say("   owner-1 declares a freeze of %s.", shop)
	if _, err := d.tell(ctx, "owner-2", "approve", policy.Governance); err != nil {
		return end, err
	}
	return end, d.untilGoverned(ctx)
}

// freeze holds an emergency until two roles approve it and a third person opens the calendar, who has to be reviewed.
func (d *demo) freeze(ctx context.Context) error {
	end, err := d.declareFreeze(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(
		d.actAs(ctx, "developer-1"),
		d.edit(shopFolder+"autoscaler.yaml", "minReplicas: 3", "minReplicas: 5"),
		d.changeAs(ctx, "developer-1", shopFolder+"release.yaml", "spec:\n", "spec:\n  class: emergency\n", "Take the load"),
		d.push(ctx),
	); err != nil {
		return err
	}
	d.say("   developer-1 pushes an emergency: more replicas.")
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "calendar wait "+end.Format(time.RFC3339), `freeze "peak" is in force: peak trade`,
		"needs 1 more of release-manager, by a signed statement (release-manager-1, release-manager-2) and 1 more of governance-owner, by a signed statement (owner-1, owner-2)"); err != nil {
		return err
	}
	for _, person := range []string{"release-manager-1", "owner-1"} {
		if _, err := d.tell(ctx, person, "approve", shop); err != nil {
			return err
		}
	}
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "calendar wait", "approvals allow"); err != nil {
		return err
	}
	override := ""
	if err := d.goesLive(ctx, shop, func() (err error) {
		override, err = d.tell(ctx, "release-manager-2", "override", shop, "--gate", "calendar", "--reason", "orders are lost", "--ticket", "INC-911", "--expires", "1h")
		return err
	}); err != nil {
		return err
	}
	return d.reviewed(ctx, override, end)
}

// reviewed shows that nothing new goes to prod-eu once the review of an override is overdue, until somebody else made it, and
// that the next release has to wait for the end of the freeze all the same: the override was for one.
func (d *demo) reviewed(ctx context.Context, override string, end time.Time) error {
	used := time.Now()
	if err := errors.Join(
		d.edit(shopFolder+"release.yaml", "  class: emergency\n", ""),
		d.changeAs(ctx, "developer-2", shopFolder+"kustomization.yaml", "ODOO_LOG_LEVEL=warn", "ODOO_LOG_LEVEL=info", "Log more"),
		d.push(ctx),
	); err != nil {
		return err
	}
	d.say("   developer-2 pushes the next release. Unless somebody reviews the override, this is how it is in three days:")
	late := used.Add(policy.ReviewDue + time.Hour)
	if err := d.explain(ctx, shop, late, denyExit, "review deny", "by release-manager-2 was to be reviewed by"); err != nil {
		return err
	}
	for _, person := range []string{"release-manager-2", "release-manager-1"} { // nobody reviews their own
		if _, err := d.tell(ctx, person, "review", override[:12]); err != nil {
			return err
		}
	}
	if _, err := d.tell(ctx, "release-manager-1", "approve", shop); err != nil {
		return err
	}
	if err := d.explain(ctx, shop, time.Time{}, waitExit, "review allow", "approvals allow", "calendar wait", "is for another release"); err != nil {
		return err
	}
	return d.explain(ctx, shop, end.Add(time.Minute), 0, "calendar allow")
}
