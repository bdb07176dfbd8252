package evidence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxClone     = 16 << 30    // bytes of a pack
	cloneTimeout = time.Minute // to list refs
)

// Clone fetches what auditors read of a remote, the audit branches and what lies beside them, into a folder that is empty. Nothing of it
// is verified then: see [Verify].
func Clone(ctx context.Context, from Remote, dir string) (err error) {
	r, err := newRemote(from, cloneTimeout)
	if err != nil {
		return err
	}
	defer r.close()
	all, err := r.list(ctx)
	if err != nil {
		return err
	}
	want := refs{}
	for name, hash := range all {
		if strings.HasPrefix(name, "refs/heads/audit/") || strings.HasPrefix(name, "refs/purser/") {
			want[name] = hash
		}
	}
	if len(want) == 0 {
		return fmt.Errorf("the audit remote %s has no audit branch", r.address)
	}
	storage := openStorage(dir)
	defer func() { err = errors.Join(err, storage.Close()) }()
	if err := storage.Init(); err != nil {
		return fmt.Errorf("create clone: %w", err)
	}
	return r.fetch(ctx, storage, want, maxClone)
}
