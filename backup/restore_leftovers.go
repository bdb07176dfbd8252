package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/purser-gitops/purser/backup/postgres"
)

// mark is what the database beside the target says of itself.
func (r *restore) mark() postgres.Mark {
	return postgres.Mark{Name: r.beside(), Place: r.t.Database.Database, Backup: string(r.ID), Folder: r.folder, Target: r.t.Filestore}
}

// leftBy says that a mark is that of a restore into this target: folder and database have the same random end.
func (r *restore) leftBy(m postgres.Mark) bool {
	folder, is := strings.CutPrefix(m.Folder, r.t.Filestore+".purser-")
	return is && len(folder) == len(r.suffix) && !strings.ContainsRune(folder, '/') && strings.HasSuffix(m.Name, "-purser-"+folder) && m.Target == r.t.Filestore
}

func (r *restore) tell(format string, args ...any) {
	if r.o.Tell != nil {
		r.o.Tell(fmt.Sprintf(format, args...))
	}
}

// removeLeftovers removes what restores into this target have left that were killed. What another process restores, or to another
// folder, is left alone.
func (r *restore) removeLeftovers(ctx context.Context) error {
	marks, err := r.t.Database.Marked(ctx)
	if err != nil {
		return err
	}
	for _, m := range marks {
		if !r.leftBy(m) {
			r.tell("left alone: database %s, of a restore of %s whose filestore is %s", m.Name, m.Backup, m.Folder)
			continue
		}
		if err := r.remove(ctx, m); err != nil {
			return fmt.Errorf("remove what an earlier restore left: %w", err)
		}
	}
	return nil
}

func (r *restore) remove(ctx context.Context, m postgres.Mark) error {
	hold, err := r.t.Database.Hold(ctx, m.Name)
	if errors.Is(err, postgres.ErrBusy) {
		r.tell("left alone: database %s, into which another process is restoring %s", m.Name, m.Backup)
		return nil
	}
	if err != nil {
		return err
	}
	defer hold.Close()
	// Whoever had it may have finished, or have been killed at another point: what is so now counts.
	if marks, err := r.t.Database.Marked(ctx); err != nil || !slices.Contains(marks, m) {
		return err
	}
	r.tell("removing what a restore of %s left that was killed: database %s, folder %s", m.Backup, m.Name, m.Folder)
	// The database last: it says what the folder is.
	if err := errors.Join(os.RemoveAll(m.Folder), os.RemoveAll(m.Folder+".partial")); err != nil {
		return err
	}
	if err := r.t.Database.Drop(ctx, m.Name); err != nil {
		return err
	}
	r.r.Removed = append(r.r.Removed, m.Name)
	return nil
}

// halfSwapped refuses a target whose database is that of a restore which was killed before the filestore got its name.
func (r *restore) halfSwapped(m *postgres.Mark) error {
	if m == nil || !r.leftBy(*m) {
		return nil
	}
	if _, err := os.Lstat(m.Folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for the filestore of an earlier restore: %w", err)
	}
	return &postgres.HintError{Err: fmt.Errorf("%w: the database is already that of %s, and its filestore still is %s", ErrOccupied, m.Backup, m.Folder),
		Hint: fmt.Sprintf("that restore was killed between its last two steps: to finish it, move %s away, if it is there, and rename %s to that", m.Target, m.Folder)}
}
