package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purser-gitops/purser/backup/postgres"
)

// A Scratched is a backup that was restored to be looked into: in a server that reaches nothing and that goes with its Close,
// and in a folder that stays.
type Scratched struct {
	ID        ID        `json:"id"`
	Snapshot  time.Time `json:"snapshot"`
	Database  string    `json:"database"` // its name in the server
	Filestore string    `json:"filestore"`
	Segments  []Segment `json:"segments"`
	Findings

	Server *postgres.Server `json:"-"` // nil after an error; see [postgres.Server.Reach]
}

// RestoreScratch restores a backup into a scratch server and a folder, which has to be empty or missing, and checks it. The
// caller closes the server. What [Restore] refuses is refused here as well, and leaves nothing.
func RestoreScratch(ctx context.Context, b Stored, folder string, o ProofOptions) (*Scratched, error) {
	o = o.withDefaults()
	s := &Scratched{ID: b.ID, Filestore: filepath.Clean(folder)}
	p := newProof(b, o, &s.Findings, &s.Segments)
	stop := p.meter.report(o.Progress, o.every)
	defer stop()
	r := &restoration{proof: p, folder: s.Filestore + ".purser-" + strings.ToLower(rand.Text()[:8])}
	if err := s.restore(ctx, r); err != nil {
		err = errors.Join(err, os.RemoveAll(r.folder), os.RemoveAll(r.folder+".partial"))
		if r.server != nil {
			err = errors.Join(err, r.server.Close())
		}
		return s, fmt.Errorf("restore backup %s to look into it: %w", b.ID, err)
	}
	s.Server = r.server
	return s, nil
}

func (s *Scratched) restore(ctx context.Context, r *restoration) error {
	if !filepath.IsAbs(s.Filestore) {
		return fmt.Errorf("%q is not the path of a folder", s.Filestore)
	}
	if left, err := targetFolder(s.Filestore); err != nil {
		return err
	} else if len(left) > 0 {
		return fmt.Errorf("%w: the folder %s has %d entries: name another one", ErrOccupied, s.Filestore, len(left))
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{SegmentChoose, r.present}, {ConfigurationName, r.readConfiguration},
		{SegmentServer, func(ctx context.Context) error { return s.start(ctx, r) }},
		{SegmentDatabase, r.database}, {SegmentAttachments, r.filestore}, {SegmentChecks, r.check},
	} {
		if err := r.segment(ctx, step.name, step.do); err != nil {
			return err
		}
		if err := s.fatal(); err != nil {
			return err
		}
	}
	if err := unix.Rename(r.folder, s.Filestore); err != nil { // replaces an empty folder, and no other
		return fmt.Errorf("rename filestore: %w", err)
	}
	return nil
}

// start starts the server of a restoration whose filestore lies elsewhere.
func (s *Scratched) start(ctx context.Context, r *restoration) error {
	if err := r.room(filepath.Dir(s.Filestore), r.filestoreRoom()); err != nil {
		return err
	}
	started, err := r.start(ctx)
	if err != nil {
		return err
	}
	r.server, s.Database, s.Snapshot = started.server, r.m.Postgres.Database.Name, r.m.Times.Snapshot
	return nil
}
