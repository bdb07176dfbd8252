package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purser-gitops/purser/backup/store"
)

// looks is how many objects are looked at at the same time.
const looks = 8

// clock is the time at the store. It fails with [store.ErrSkew] if that is not about the time here: locks and ages are
// meaningless then, of which no backup is to blame.
func (p *proof) clock(ctx context.Context) (time.Time, error) {
	now, err := p.Store.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the store for its time: %w", err)
	}
	if here := p.o.Now(); now.Sub(here).Abs() > maxSkew {
		return time.Time{}, store.Skew(now, here)
	}
	return now, nil
}

// present is level 0: everything is there, unchanged as far as the store tells, and locked. It reads the manifest.
func (p *proof) present(ctx context.Context) error {
	now, err := p.clock(ctx)
	if err != nil {
		return err
	}
	if err := p.manifest(ctx, now); err != nil || p.m == nil {
		return err
	}
	// Store and machine agree, so the clock was wrong by which the backup was made: its age is not what it says.
	if finished := p.m.Times.Finished; finished.Sub(now) > maxSkew {
		p.findings.add(L0, p.Manifest.Key, "find out which clock was wrong, and back up anew", "the backup was finished %s, and at the store it is %s: a clock was ahead by at least %s",
			finished.Format(time.RFC3339), now.UTC().Format(time.RFC3339), finished.Sub(now).Round(time.Second))
	}
	for _, e := range p.m.Entries() {
		p.meter.expect(e.Size)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(looks)
	for _, e := range p.m.Entries() {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error { return p.look(groupCtx, e.Object, now) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// manifest reads the recorded manifest, into m.
func (p *proof) manifest(ctx context.Context, now time.Time) error {
	if p.Manifest.Key == ManifestKey(p.Environment, p.ID) && p.Manifest.Version != "" {
		if err := p.look(ctx, p.Manifest, now); err != nil {
			return err
		}
	}
	m, err := Open(ctx, p.Store, p.Environment, p.ID, p.Manifest)
	switch {
	case err == nil:
		p.m = m
	case ctx.Err() == nil && (damaged(err) || p.ID.check(p.Environment) != nil):
		remedy := remedyBad
		if errors.Is(err, ErrManifest) {
			remedy = remedyRecord
		}
		if !p.findings.found(L0) || !errors.Is(err, store.ErrMissing) { // else it was told
			p.findings.add(L0, p.Manifest.Key, remedy, "%v", err)
		}
	default:
		return err
	}
	return nil
}

// look compares a version with its record.
func (p *proof) look(ctx context.Context, o store.Object, now time.Time) error {
	o.LockedUntil = later(o.LockedUntil, p.Locks[o.Key])
	info, err := p.Store.Stat(ctx, o)
	p.objects.Add(1)
	switch {
	case err != nil && !damaged(err):
		return err
	case errors.Is(err, store.ErrMissing):
		p.findings.add(L0, o.Key, remedyGone, "%v", err)
	case err != nil && (info.DeleteMarker || info.Newer != ""):
		p.findings.add(L0, o.Key, remedyHide, "%v", err)
	case err != nil && info.Lock.Until.Before(o.LockedUntil.Truncate(time.Second)):
		p.findings.add(L0, o.Key, remedyLock, "%v", err)
	case err != nil:
		p.findings.add(L0, o.Key, remedyBad, "%v", err)
	case o.LockedUntil.IsZero():
		p.findings.note(L0, o.Key, "let the policy lock backups", "nothing but the rights of users keeps it from being deleted: it has no lock")
	case !info.Lock.Until.After(now):
		p.findings.add(L0, o.Key, remedyLock, "its lock ended %s: whoever may delete can delete it", info.Lock.Until.Format(time.RFC3339))
	}
	return nil
}
