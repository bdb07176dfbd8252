package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
	"github.com/purser-gitops/purser/reconciler/upkeep"
)

// copied is a backup in a bucket that can be silent, and in a folder.
type copied struct {
	lab        *lab.Endpoints
	connection postgres.Connection
	identity   age.Identity
	copies     []upkeep.Copy
	near       *store.S3
	proxy      *lab.Proxy
	folder     string
	scratch    string
}

func newCopied(t *testing.T) *copied {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l := labtest.Shared(t, lab.PostgreSQL, lab.S3)
	c := &copied{lab: l, folder: t.TempDir()}
	shop := labtest.Database(t, l)
	must(odoodb.Seed(t.Context(), odoodb.Options{DSN: shop.DSN, Filestore: shop.Filestore, Attachments: 40, AttachmentBytes: 2048, Now: time.Now()}))
	host, port, err := net.SplitHostPort(l.PostgresAddress)
	must(err)
	number, err := strconv.Atoi(port)
	must(err)
	c.connection = postgres.Connection{Host: host, Port: number, User: lab.PostgresOdoo, Database: shop.Name, TLS: "disable", PasswordFile: l.PostgresPasswordFile()}
	key, err := age.GenerateX25519Identity()
	must(err)
	c.identity = key
	c.scratch, err = os.MkdirTemp("", "pc-")
	must(err)
	t.Cleanup(func() { os.RemoveAll(c.scratch) })
	must(os.Chmod(c.scratch, 0o711))
	c.proxy, err = l.S3Proxy(nil)
	must(err)
	c.near, err = store.NewS3(store.S3Options{
		Endpoint: c.proxy.URL, Region: lab.S3Region, Bucket: labtest.Bucket(t, l), CA: l.CAFile, Credentials: l.S3CredentialsFile(lab.S3Writer),
		Name: "near", Stall: 500 * time.Millisecond, Silence: time.Second,
	})
	must(err)
	t.Cleanup(func() {
		if err := errors.Join(c.near.Close(), c.proxy.Close()); err != nil {
			t.Error(err)
		}
	})
	lock := store.Lock{Mode: store.Governance, Until: time.Now().Add(time.Hour)}
	taken, err := backup.Take(t.Context(), c.near, backup.TakeOptions{
		Environment: "dev", Policy: "shop", Store: "near", Reason: "by schedule", Configuration: backup.Configuration{Commit: strings.Repeat("c", 40)},
		Settings: []byte("{}"), SettingsType: "application/json", Connection: c.connection, Filestore: shop.Filestore,
		Recipients: []string{key.Recipient().String()}, Lock: lock, Scratch: c.scratch,
	})
	must(err)
	far := c.far(t)
	id := taken.Manifest.ID
	made, err := backup.Replicate(t.Context(), backup.Stored{Store: c.near, Environment: "dev", ID: id, Manifest: taken.Ref}, far, backup.ReplicateOptions{Store: "far", Lock: lock})
	must(err)
	must(far.Close())
	c.copies = []upkeep.Copy{{ID: id, Store: "near", Manifest: taken.Ref}, {ID: id, Store: "far", Manifest: made.Ref}}
	return c
}

func (c *copied) far(t *testing.T) *store.Directory {
	t.Helper()
	far, err := store.OpenDirectory(c.folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	return far
}

// restore restores into a target of that name, and returns what it said meanwhile.
func (c *copied) restore(t *testing.T, name string, copies []upkeep.Copy) (restoredFrom, *lab.Database, string, error) {
	t.Helper()
	d := c.lab.Database(c.connection.Database[:min(len(c.connection.Database), 40)] + "-" + name)
	t.Cleanup(func() {
		if err := c.lab.DropDatabase(context.WithoutCancel(t.Context()), d); err != nil {
			t.Log(err)
		}
	})
	at := backup.Target{Database: postgres.Place{Connection: c.connection}, Filestore: filepath.Join(t.TempDir(), "filestore")}
	at.Database.Database, d.Filestore = d.Name, at.Filestore
	far := c.far(t)
	defer far.Close()
	var said bytes.Buffer
	o := backup.RestoreOptions{ProofOptions: backup.ProofOptions{Scratch: c.scratch}}
	r, err := (&restoring{}).oneOf(t.Context(), &said, copies, at, o, newMeter(&said), func(one upkeep.Copy) (backup.Stored, error) {
		b := backup.Stored{Environment: "dev", ID: one.ID, Manifest: one.Manifest, Identities: []age.Identity{c.identity}}
		switch one.Store {
		case "near":
			b.Store = c.near
		case "far":
			b.Store = far
		default:
			return b, errors.New("its disk is not mounted")
		}
		return b, nil
	})
	return r, d, said.String(), err
}

func (c *copied) sound(t *testing.T, d *lab.Database) {
	t.Helper()
	if report, err := odoodb.Check(t.Context(), d.DSN, d.Filestore); err != nil || report.Err() != nil || report.Attachments < 40 {
		t.Errorf("restored is %+v, %v", report, err)
	}
}

// Where one copy cannot be restored, the next one is, and what was tried is said; not where a copy was chosen.
func TestRestoreTakesAnotherCopy(t *testing.T) {
	t.Parallel()
	c := newCopied(t)
	gone := upkeep.Copy{ID: c.copies[0].ID, Store: "gone"}
	hang := lab.Fault{Mode: lab.Hang, Match: func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/filestore/")
	}}
	for name, fault := range map[string]lab.Fault{"silent": {Mode: lab.Hang}, "middle": hang} {
		if err := c.proxy.Set(fault); err != nil {
			t.Fatal(err)
		}
		r, d, said, err := c.restore(t, name, append([]upkeep.Copy{gone}, c.copies...))
		if err != nil || r.Store != "far" || r.ID != gone.ID {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		for _, want := range []string{`The copy in store "gone" cannot be restored: its disk is not mounted`, `The copy in store "near" cannot be restored: `,
			`"near" at https://`, "Nothing of it is left at the target", `It is tried with the copy in store "far"`} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, said)
			}
		}
		c.sound(t, d)
	}
	if _, _, said, err := c.restore(t, "chosen", c.copies[:1]); !errors.Is(err, store.ErrUnanswered) || strings.Contains(said, "tried") {
		t.Errorf("of the copy that was chosen: %v\n%s", err, said)
	}
	// A damaged copy is no reason for another exit code while nobody knows of the other one.
	id := c.copies[1].ID
	file := filepath.Join(c.folder, filepath.FromSlash(backup.Key("dev", id, backup.DatabaseName)))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	var code exit
	_, _, _, err = c.restore(t, "none", c.copies)
	if !errors.Is(err, store.ErrUnanswered) || !errors.Is(err, backup.ErrUnfit) || errors.As(err, &code) || !strings.Contains(err.Error(), `store "far": `) {
		t.Errorf("of no copy: %v", err)
	}
	if err := c.proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	r, d, said, err := c.restore(t, "damaged", []upkeep.Copy{c.copies[1], c.copies[0]})
	if err != nil || r.Store != "near" || !strings.Contains(said, `The copy in store "far" cannot be restored`) {
		t.Fatalf("of a damaged copy: %+v, %v\n%s", r, err, said)
	}
	c.sound(t, d)
	if _, _, _, err := c.restore(t, "bad", c.copies[1:]); !errors.As(err, &code) || code.code != notGood {
		t.Errorf("of a damaged copy alone: %v", err)
	}
}
