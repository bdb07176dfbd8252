package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

// shop is an Odoo database with a filestore in which a till sells, and the store that it is backed up to.
type shop struct {
	*session
	lab     *lab.Lab
	dir     string
	bucket  string
	dump    string // file of the floor's dump, uncompressed
	estate  *age.HybridIdentity
	escrow  *age.HybridIdentity
	stopped func() error // ends the till
	main    *lab.Database
}

func newShop(ctx context.Context, s *session) (_ *shop, err error) {
	dir, err := os.MkdirTemp("", "purser-bench-") // every user may pass through, as scratch servers need it
	if err != nil {
		return nil, err
	}
	b := &shop{session: s, dir: dir, bucket: "backups", dump: filepath.Join(dir, "dump"), stopped: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if b.lab, err = lab.Start(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), Servers: []string{lab.PostgreSQL, lab.S3}, Progress: s.progress}); err != nil {
		return nil, err
	}
	if err := lab.CreateBucket(ctx, &b.lab.Endpoints, b.bucket); err != nil {
		return nil, err
	}
	if b.estate, err = age.GenerateHybridIdentity(); err != nil {
		return nil, err
	}
	if b.escrow, err = age.GenerateHybridIdentity(); err != nil {
		return nil, err
	}
	start := time.Now()
	b.main, err = b.seed(ctx, "shop", s.database, int(s.database/bytesPerFile))
	s.say("a database of %d MiB was filled in %.0f s", s.database>>20, time.Since(start).Seconds())
	return b, err
}

func (b *shop) stop() error {
	err := b.stopped()
	if b.lab != nil {
		err = errors.Join(err, b.lab.Stop())
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

func (b *shop) seed(ctx context.Context, name string, bytes int64, attachments int) (*lab.Database, error) {
	d, err := b.lab.CreateDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	return d, odoodb.Seed(ctx, odoodb.Options{DSN: d.DSN, Filestore: d.Filestore, Bytes: bytes, Attachments: attachments, AttachmentBytes: 1 << 10, Now: time.Now()})
}

// sell lets a till sell in the main database until the returned function is called.
func (b *shop) sell(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- odoodb.Write(ctx, odoodb.WriterOptions{
			DSN: b.main.DSN, Filestore: b.main.Filestore, Pause: 50 * time.Millisecond, Collect: time.Second,
		}, &odoodb.Sales{})
	}()
	return func() error {
		cancel()
		return <-ended
	}
}

// connection reaches a database as its owner.
func (b *shop) connection(database string) (postgres.Connection, error) {
	host, port, err := net.SplitHostPort(b.lab.PostgresAddress)
	if err != nil {
		return postgres.Connection{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return postgres.Connection{}, err
	}
	return postgres.Connection{
		Host: host, Port: number, User: lab.PostgresOdoo, Database: database, TLS: "disable", PasswordFile: b.lab.PostgresPasswordFile(),
	}, nil
}
