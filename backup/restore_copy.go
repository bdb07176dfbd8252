package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/purser-gitops/purser/backup/store"
)

// ErrCopy says that a backup was not restored because of its store, or of what that has, and that nothing of it is left at
// the target: another copy can be restored there.
var ErrCopy = errors.New("the copy is not restored, and nothing of it is left at the target")

// A copyError is [ErrCopy], and says what its cause says.
type copyError struct{ error }

func (e copyError) Unwrap() error        { return e.error }
func (e copyError) Is(target error) bool { return target == ErrCopy }

// asked is a store that remembers whether it failed. Of versions that are missing or changed there are findings.
type asked struct {
	examiner
	failed atomic.Bool
}

func (a *asked) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !damaged(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrSkew) {
		a.failed.Store(true)
	}
	return err
}

func (a *asked) Open(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	in, err := a.examiner.Open(ctx, o)
	if err != nil {
		return nil, a.note(err)
	}
	return askedContent{in, a}, nil
}

func (a *asked) Stat(ctx context.Context, o store.Object) (store.Info, error) {
	info, err := a.examiner.Stat(ctx, o)
	return info, a.note(err)
}

func (a *asked) Now(ctx context.Context) (time.Time, error) {
	now, err := a.examiner.Now(ctx)
	return now, a.note(err)
}

type askedContent struct {
	io.ReadCloser
	from *asked
}

func (c askedContent) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	return n, c.from.note(err)
}

// blame marks the error of a restore that came of the copy.
func (r *restore) blame(ctx context.Context, from *asked, err error) error {
	last := r.r.Segments[len(r.r.Segments)-1].Name
	if ctx.Err() != nil || last == SegmentSwap || !from.failed.Load() && !r.damagedHere() {
		return err
	}
	if left := r.gone(ctx); left != nil {
		return errors.Join(err, left)
	}
	return copyError{err}
}

// damagedHere says that something was found that other copies need not have.
func (r *restore) damagedHere() bool {
	return slices.ContainsFunc(r.r.Findings.Findings, func(f Finding) bool {
		return f.Remedy == remedyGone || f.Remedy == remedyBad || f.Remedy == remedyRecord
	})
}

// gone makes sure that nothing is left of a restore that failed.
func (r *restore) gone(ctx context.Context) error {
	for _, folder := range []string{r.folder, r.folder + ".partial"} {
		if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is left, or may be", folder), err)
		}
	}
	beside := r.t.Database
	beside.Database = r.beside()
	state, err := beside.Look(ctx)
	if err != nil || state.Exists {
		return errors.Join(fmt.Errorf("database %s is left, or may be", beside.Database), err)
	}
	return nil
}
