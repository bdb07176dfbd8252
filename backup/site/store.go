package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Store is what [store.S3] and [store.Directory] have in common, but for deleting.
type Store interface {
	Create(ctx context.Context, key string, r io.Reader, lock store.Lock) (store.Object, error)
	Open(ctx context.Context, o store.Object) (io.ReadCloser, error)
	Stat(ctx context.Context, o store.Object) (store.Info, error)
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
	Extend(ctx context.Context, o store.Object, until time.Time) (store.Object, error)
	Probe(ctx context.Context) error
	Now(ctx context.Context) (time.Time, error)
	Abandoned(ctx context.Context, prefix string, age time.Duration) (int, error)
}

// Deleter deletes versions for good, as far as their locks let it.
type Deleter interface {
	Delete(ctx context.Context, o store.Object) error
}

// closed is the deleter of a store that cannot be opened.
type closed struct{ err error }

func (c closed) Delete(context.Context, store.Object) error { return c.err }

// opened is a store that is opened when it is used first, and again as long as that fails.
type opened struct {
	config declaration.AgentStore
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	ended   bool
	writer  Store // nil: not opened
	expirer Deleter
	closers []io.Closer
}

// expires says that the configuration names an identity that deletes. In a folder that is the agent itself.
func (o *opened) expires() bool {
	return o.config.Directory.Path != "" || o.config.S3.Expiry.CredentialsFile != ""
}

// open returns the store with the rights of either identity; no expirer where none is configured. A folder whose disk was
// unmounted is closed, and opened where it is now.
func (o *opened) open() (Store, Deleter, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d, is := o.writer.(*store.Directory); is && !o.ended && d.Attached() != nil {
		err := d.Close() // whoever still uses it has errors
		if o.writer, o.expirer, o.closers = nil, nil, nil; err != nil {
			return nil, nil, fmt.Errorf("open store %q: %w", o.config.Name, err)
		}
	}
	if o.writer != nil || o.ended {
		return o.writer, o.expirer, o.ifEnded()
	}
	connect := o.bucket
	if o.config.Directory.Path != "" {
		connect = o.directory
	}
	if err := connect(); err != nil {
		return nil, nil, fmt.Errorf("open store %q: %w", o.config.Name, err)
	}
	return o.writer, o.expirer, nil
}

func (o *opened) ifEnded() error {
	if o.ended {
		return fmt.Errorf("open store %q: the agent ends", o.config.Name)
	}
	return nil
}

func (o *opened) directory() error {
	d, err := store.OpenDirectory(o.config.Directory.Path, o.now)
	if err != nil {
		return err
	}
	o.writer, o.expirer, o.closers = d, d, []io.Closer{d}
	return nil
}

func (o *opened) bucket() error {
	c := o.config.S3
	options := store.S3Options{
		Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix, Credentials: c.CredentialsFile, CA: c.CAFile, Now: o.now,
		Name: o.config.Name, Log: o.logger,
	}
	writer, err := store.NewS3(options)
	if err != nil {
		return err
	}
	closers := []io.Closer{writer}
	if o.expires() {
		options.Credentials = c.Expiry.CredentialsFile
		expirer, err := store.NewS3(options)
		if err != nil {
			return errors.Join(err, writer.Close())
		}
		o.expirer, closers = expirer, append(closers, expirer)
	}
	o.writer, o.closers = writer, closers
	return nil
}

func (o *opened) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	var errs []error
	for _, c := range o.closers {
		errs = append(errs, c.Close())
	}
	o.closers = nil
	return errors.Join(errs...)
}
