package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

// A shop is an Odoo database with a filestore, and what backs it up.
type shop struct {
	*lab.Database
	lab     *lab.Endpoints
	bucket  string
	s3      *store.S3
	escrow  age.Identity
	options TakeOptions
}

// openShop seeds a database for the test.
func openShop(t testing.TB, attachments int) *shop {
	t.Helper()
	l := labtest.Shared(t, lab.PostgreSQL, lab.S3)
	s := &shop{Database: labtest.Database(t, l), lab: l, bucket: labtest.Bucket(t, l)}
	err := odoodb.Seed(t.Context(), odoodb.Options{
		DSN: s.DSN, Filestore: s.Filestore, Attachments: attachments, AttachmentBytes: 2048, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.s3 = s.open(t, l.S3URL, lab.S3Writer)
	estate, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	escrow, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s.escrow = escrow
	s.options = TakeOptions{
		Environment: "prod-eu", Policy: "nightly", Store: "primary", Reason: "by schedule",
		Configuration: Configuration{Commit: strings.Repeat("c", 40), Release: "sha256:" + strings.Repeat("d", 64)},
		Settings:      []byte("workers = 4\n"), SettingsType: "text/plain",
		Connection: connection(t, l, s.Name), Filestore: s.Filestore,
		Recipients: []string{estate.Recipient().String(), escrow.Recipient().String()}, Identities: []age.Identity{estate},
		Lock:    store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)},
		Scratch: t.TempDir(), Versions: map[string]string{"purser": "test"},
	}
	return s
}

// open opens the shop's bucket.
func (s *shop) open(t testing.TB, endpoint, user string) *store.S3 {
	t.Helper()
	opened, err := store.NewS3(s.s3Options(endpoint, user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened
}

func (s *shop) s3Options(endpoint, user string) store.S3Options {
	return store.S3Options{Endpoint: endpoint, Region: lab.S3Region, Bucket: s.bucket, Prefix: "estate/", CA: s.lab.CAFile,
		Credentials: s.lab.S3CredentialsFile(user), Backoff: 200 * time.Millisecond}
}

// connection reaches a database of the lab as its owner.
func connection(t testing.TB, l *lab.Endpoints, database string) postgres.Connection {
	t.Helper()
	host, port, err := net.SplitHostPort(l.PostgresAddress)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return postgres.Connection{Host: host, Port: number, User: lab.PostgresOdoo, Database: database, TLS: "disable", PasswordFile: l.PostgresPasswordFile()}
}

// take makes a backup.
func (s *shop) take(t testing.TB, previous *Taken) Taken {
	t.Helper()
	o := s.options
	if previous != nil {
		o.Previous = &Earlier{previous.Manifest.ID, previous.Ref}
	}
	taken, err := Take(t.Context(), s.s3, o)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// sell runs shops, with the collection of attachments, until the returned function is called or the test ends.
func (s *shop) sell(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- odoodb.Write(ctx, odoodb.WriterOptions{DSN: s.DSN, Filestore: s.Filestore, Tills: 2, Pause: 10 * time.Millisecond, Collect: 50 * time.Millisecond}, &odoodb.Sales{})
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

// unseal opens an entry of a backup. What is read is verified at its end.
func (s *shop) unseal(ctx context.Context, e Entry) (io.ReadCloser, error) {
	sealed, err := s.s3.Open(ctx, e.Object)
	if err != nil {
		return nil, err
	}
	plain, err := seal.NewReader(sealed, e.Sealed(), s.escrow)
	if err != nil {
		return nil, errors.Join(err, sealed.Close())
	}
	return unsealed{plain, sealed}, nil
}

type unsealed struct {
	*seal.Reader
	sealed io.Closer
}

func (u unsealed) Close() error { return errors.Join(u.Reader.Close(), u.sealed.Close()) }

// packsOf opens packs of a backup.
type packsOf struct {
	*shop
	m *Manifest
}

func (p packsOf) OpenPack(ctx context.Context, name string) (io.ReadCloser, error) {
	for _, e := range p.m.Packs {
		if e.Key == PackKey(p.m.Environment, name) {
			return p.unseal(ctx, e)
		}
	}
	return nil, fmt.Errorf("pack %s is not in the manifest", name)
}

// listed is what the store says of the environment.
func (s *shop) listed(t testing.TB) Listing {
	t.Helper()
	l, err := List(t.Context(), s.s3, s.options.Environment)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Strange) > 0 {
		t.Errorf("strange objects: %v", l.Strange)
	}
	return l
}

func TestTake(t *testing.T) {
	t.Parallel()
	s := openShop(t, 300)
	stop := s.sell(t)
	var progress []Progress
	s.options.Progress, s.options.every = func(p Progress) { progress = append(progress, p) }, 10*time.Millisecond
	first := s.take(t, nil)
	if len(progress) == 0 || progress[len(progress)-1].Bytes == 0 || progress[len(progress)-1].Total == 0 {
		t.Errorf("progress: %+v", progress)
	}
	s.options.Progress = nil
	if first.Anew != "" || first.Problems.Count() > 0 || first.Manifest.Filestore.New.Contents < 200 || len(first.Manifest.Packs) != 1 {
		t.Errorf("first backup: %+v", first)
	}
	second := s.take(t, &first)
	stop()
	m := second.Manifest
	if second.Anew != "" || second.Problems.Count() > 0 || m.Filestore.New.Contents >= first.Manifest.Filestore.New.Contents || len(m.Packs) != 2 {
		t.Errorf("second backup: %+v", second)
	}
	third := s.take(t, &second)
	fourth := s.take(t, &third)
	if n := fourth.Manifest.Filestore.New; n.Contents != 0 || len(fourth.Manifest.Packs) != len(third.Manifest.Packs) { // nobody sells
		t.Errorf("fourth backup copied %+v", n)
	}
	l := s.listed(t)
	if len(l.Backups) != 4 || len(l.Halves) != 0 {
		t.Errorf("listed: %+v", l)
	}
	for f, err := range l.Read(t.Context(), s.s3) {
		if err != nil || f.Problem != nil {
			t.Errorf("%s: %v, %v", f.ID, err, f.Problem)
		}
	}
	for _, b := range []Taken{first, second, fourth} {
		s.restore(t, b)
	}
}

// restore restores a backup and compares it with what it was made of.
func (s *shop) restore(t testing.TB, b Taken) {
	t.Helper()
	m, err := Open(t.Context(), s.s3, s.options.Environment, b.Manifest.ID, b.Ref)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "take-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	server, err := postgres.Scratch(t.Context(), dir, postgres.Tools{}, m.Postgres.Major)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.through(t, m.Streams.Database, func(r io.Reader) error { return server.Restore(t.Context(), m.Postgres.Database, r, 2) })
	reader, err := postgres.Read(t.Context(), server.Connection(m.Postgres.Database.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	differences, err := reader.Compare(t.Context(), m.Fingerprints)
	if err != nil || len(differences) > 0 {
		t.Errorf("%s: the database differs from its fingerprints: %v, %v", m.ID, differences, err)
	}
	folder := filepath.Join(dir, "filestore")
	s.through(t, m.Streams.Attachments, func(r io.Reader) error {
		_, err := filestore.Restore(t.Context(), r, packsOf{s, m}, folder)
		return err
	})
	checked, err := filestore.Check(t.Context(), attachments(reader.Attachments(t.Context())), folder)
	if err != nil || checked.Problems.Count() > 0 || checked.Rows == 0 {
		t.Errorf("%s: attachments: %+v, %v", m.ID, checked, err)
	}
}

// through has an entry read to its end.
func (s *shop) through(t testing.TB, e Entry, to func(io.Reader) error) {
	t.Helper()
	r, err := s.unseal(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := to(r); err != nil {
		t.Fatal(err)
	}
}
