package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
)

// ErrOther says that there is something else in a store under a key of the backup that is to be copied there.
var ErrOther = errors.New("the store has something else under a key of the backup")

// other says what else there is.
func other(err error) error {
	return &postgres.HintError{Err: fmt.Errorf("%w: %w", ErrOther, err),
		Hint: "find out who wrote it, and let the expirer remove it, or copy to another store or prefix"}
}

// find finds an object of the backup in the store that it is copied to.
func (r *replication) find(ctx context.Context, want store.Object) (_ store.Object, found bool, err error) {
	if o, ok := r.known[want.Key]; ok && o.SHA256 == want.SHA256 && o.Size == want.Size {
		if _, err = unchanged(ctx, r.to, o, r.o.Lock.Mode); err == nil {
			o, err = outlast(ctx, r.to, o, r.o.Lock)
			return o, err == nil, err
		}
		if !damaged(err) {
			return store.Object{}, false, err
		}
	}
	o, ok := r.there[want.Key]
	if !ok {
		return store.Object{}, false, nil
	}
	o, err = r.adopt(ctx, o, want)
	return o, err == nil, err
}

// current is what the store lists under a key under which nothing can be created.
func (r *replication) current(ctx context.Context, key string) (store.Object, error) {
	for o, err := range r.to.List(ctx, key) {
		if err != nil {
			return store.Object{}, err
		}
		if o.Key == key {
			return o, nil
		}
	}
	return store.Object{}, other(fmt.Errorf("object %s: %w, and a delete marker hides it", key, store.ErrExists))
}

// adopt takes an object that is there if it has the content and the lock that are wanted, and extends the lock.
func (r *replication) adopt(ctx context.Context, there, want store.Object) (store.Object, error) {
	o := store.Object{Key: there.Key, Version: there.Version, Size: there.Size}
	info, err := unchanged(ctx, r.to, o, r.o.Lock.Mode)
	if err == nil {
		o.SHA256, o.Parts = want.SHA256, info.Parts
		err = r.compare(ctx, o, info, want)
	}
	if damaged(err) {
		return store.Object{}, other(err)
	}
	if err != nil {
		return store.Object{}, err
	}
	return outlast(ctx, r.to, o, r.o.Lock)
}

// compare reads an object whose SHA-256 the store does not know: it knows that of objects of one part, and a sum over the parts
// of others, which is the same if they were cut alike.
func (r *replication) compare(ctx context.Context, o store.Object, info store.Info, want store.Object) error {
	switch {
	case o.Size != want.Size:
		return fmt.Errorf("object %s: %w: it has %d bytes instead of %d", o.Key, store.ErrChanged, o.Size, want.Size)
	case info.SHA256 == want.SHA256, info.SHA256 == "" && info.Parts != "" && info.Parts == want.Parts:
		return nil
	case info.SHA256 != "":
		return fmt.Errorf("object %s: %w: its SHA-256 is another one", o.Key, store.ErrChanged)
	}
	in, err := r.to.Open(ctx, o)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, in.Close())
}
