package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/purser-gitops/purser/backup/store"
)

// maxPlanAge is how long a plan can be carried out: later, there may be other backups, and releases that refer to them.
const maxPlanAge = time.Hour

// ErrStale says that a plan is too old.
var ErrStale = errors.New("the plan is too old: make a new one")

// deleter deletes one version for good; one that is not there is deleted already. It fails with [store.ErrLocked] while a
// lock protects it.
type deleter interface {
	Delete(ctx context.Context, o store.Object) error
}

// extender lets the lock of a version end later.
type extender interface {
	Extend(ctx context.Context, o store.Object, until time.Time) (store.Object, error)
}

// maxErrors is how many errors are told of what goes on after each.
const maxErrors = 5

// A failures has the first errors, and how many there were.
type failures struct {
	first []error
	count int
}

func (f *failures) add(err error) {
	if f.count++; len(f.first) < maxErrors {
		f.first = append(f.first, err)
	}
}

func (f *failures) err() error {
	if f.count > len(f.first) {
		return errors.Join(append(slices.Clone(f.first), fmt.Errorf("and %d more errors", f.count-len(f.first)))...)
	}
	return errors.Join(f.first...)
}

// Expire deletes what the plan says. Packs are deleted only after all else was: a backup that is still there keeps its own.
// It goes on after errors, and returns the first of them and how many more there were.
func Expire(ctx context.Context, s deleter, p RetentionPlan, now time.Time) (deleted []store.Object, err error) {
	if age := now.Sub(p.At); age > maxPlanAge || age < -maxSkew {
		return nil, fmt.Errorf("delete expired backups of %s: %w", p.Environment, ErrStale)
	}
	if len(p.Blocked) > 0 && len(p.Expire) > 0 {
		return nil, fmt.Errorf("delete expired backups of %s: the plan is blocked: %s", p.Environment, p.Blocked[0])
	}
	var failed failures
	for _, e := range p.Expire {
		if e.ID == "" && failed.count > 0 {
			failed.add(errors.New("packs are left until the backups are gone"))
			break
		}
		for _, o := range e.Objects {
			if err := s.Delete(ctx, o); err != nil {
				failed.add(err)
				if e.ID != "" {
					break // unless its manifest is gone, a backup stays whole
				}
				continue
			}
			deleted = append(deleted, o)
		}
	}
	return deleted, failed.err()
}

// ExtendLocks extends the locks that the plan names, and returns the objects with their new locks. It goes on after errors,
// and returns the first of them and how many more there were.
func ExtendLocks(ctx context.Context, s extender, p RetentionPlan) (extended []store.Object, err error) {
	var failed failures
	for _, e := range p.Extend {
		o, err := s.Extend(ctx, e.Object, e.Until)
		if err != nil {
			failed.add(err)
			continue
		}
		extended = append(extended, o)
	}
	return extended, failed.err()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
