package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
)

// A stand is a shop whose backups are made by hand, and the store that they are in.
type stand struct {
	*shop
	store provenStore
	keys  []age.Identity // one opens every stream

	targets int // so far
}

// provenStore is what backups are written to and proven from.
type provenStore interface {
	creator
	examiner
}

// openStand keeps backups in a bucket.
func openStand(t testing.TB) *stand {
	t.Helper()
	s := openShop(t, 60)
	return &stand{shop: s, store: s.s3, keys: s.options.Identities}
}

// execute runs SQL in the shop's database.
func (s *stand) execute(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A making says how a backup is made. Zero makes a sound one.
type making struct {
	environment string
	lock        store.Lock
	dumped      func()                          // between the facts and the dump, which then are of two snapshots
	listed      func(filestore.Attachment) bool // which rows the copy of the filestore knows; nil for all
	roles       func([]byte) []byte             // changes the roles before they are sealed
	manifest    func(*Manifest)                 // changes it before it is written
}

// backedUp is a backup and its snapshot's time by the test's own clock.
type backedUp struct {
	Stored
	m        *Manifest
	snapshot time.Time
}

// backUp makes a backup by hand: of what was wrong when it was made, no program makes one.
func (s *stand) backUp(t testing.TB, o making) backedUp {
	t.Helper()
	if o.environment == "" {
		o.environment = "prod-eu"
	}
	if o.lock == (store.Lock{}) {
		o.lock = hourLock()
	}
	start := time.Now().UTC()
	m := sample(t, o.environment)
	m.ID = NewID(o.environment, start)
	m.Recipients = s.options.Recipients
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func() *postgres.Snapshot {
		snapshot, err := postgres.Begin(t.Context(), s.options.Connection, postgres.Tools{}, postgres.Options{})
		must(err)
		t.Cleanup(snapshot.Close)
		return snapshot
	}
	snapshot := begin()
	at := time.Now()
	var err error
	m.Postgres, err = snapshot.Facts(t.Context())
	must(err)
	m.Fingerprints, err = snapshot.Fingerprints(t.Context())
	must(err)
	rows := func(yield func(filestore.Attachment, error) bool) {
		for a, err := range attachments(snapshot.Attachments(t.Context())) {
			if (err != nil || o.listed == nil || o.listed(a)) && !yield(a, err) {
				return
			}
		}
	}
	plan, err := planOf(t.Context(), t.TempDir(), rows)
	must(err)
	defer plan.Close()
	if o.dumped != nil {
		snapshot.Close()
		o.dumped()
		snapshot = begin()
	}
	put := func(key, contentType string, fill func(io.Writer) error) Entry {
		t.Helper()
		e, err := s.put(t.Context(), key, contentType, o.lock, fill)
		must(err)
		return e
	}
	key := func(name string) string { return Key(m.Environment, m.ID, name) }
	m.Streams.Database = put(key(DatabaseName), "application/vnd.postgresql.custom-dump", func(w io.Writer) error { return snapshot.Dump(t.Context(), w) })
	m.Streams.Roles = put(key(RolesName), "application/sql", func(w io.Writer) error {
		var roles bytes.Buffer
		if err := snapshot.Roles(t.Context(), &roles); err != nil {
			return err
		}
		text := roles.Bytes()
		if o.roles != nil {
			text = o.roles(text)
		}
		_, err := w.Write(text)
		return err
	})
	m.Streams.Configuration = put(key(ConfigurationName), "application/json", func(w io.Writer) error {
		_, err := io.WriteString(w, `{"environment": "`+m.Environment+`"}`+"\n")
		return err
	})
	packs := &madePacks{stand: s, environment: m.Environment, lock: o.lock, generation: Generation(start)}
	_, err = plan.Copy(t.Context(), s.Filestore, packs, filestore.CopyOptions{PackBytes: 80 << 10})
	must(err)
	m.Streams.Attachments = put(key(AttachmentsName), "text/tab-separated-values", func(w io.Writer) (err error) {
		m.Filestore.Index, err = plan.Write(t.Context(), w)
		return err
	})
	m.Packs = packs.entries
	m.Filestore.New, m.Filestore.Rows, m.Filestore.InDatabase = plan.New, plan.Rows, plan.InDatabase
	m.Times = Times{Began: start, Snapshot: at.UTC(), Finished: time.Now().UTC()}
	if o.manifest != nil {
		o.manifest(m)
	}
	ref, err := Write(t.Context(), s.store, m, o.lock)
	must(err)
	snapshot.Close()
	return backedUp{Stored{Store: s.store, Environment: m.Environment, ID: m.ID, Manifest: ref, Identities: s.keys}, m, at}
}

func planOf(ctx context.Context, dir string, rows iter.Seq2[filestore.Attachment, error]) (*filestore.Plan, error) {
	return filestore.NewPlan(ctx, dir, rows, nil, nil)
}

// put seals and stores what fill writes.
func (s *stand) put(ctx context.Context, key, contentType string, lock store.Lock, fill func(io.Writer) error) (Entry, error) {
	var sealed bytes.Buffer
	recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(s.options.Recipients, "\n")))
	if err != nil {
		return Entry{}, err
	}
	w, err := seal.NewWriter(&sealed, recipients...)
	if err != nil {
		return Entry{}, err
	}
	if err := fill(w); err != nil {
		w.Abort()
		return Entry{}, err
	}
	sums, err := w.Close()
	if err != nil {
		return Entry{}, err
	}
	o, err := s.store.Create(ctx, key, &sealed, lock)
	return Entry{Object: o, PlainSHA256: sums.PlainSHA256, PlainBytes: sums.PlainBytes, ContentType: contentType}, err
}

// madePacks stores packs.
type madePacks struct {
	stand                   *stand
	environment, generation string
	lock                    store.Lock
	entries                 []Entry
}

func (p *madePacks) WritePack(ctx context.Context, fill func(io.Writer) error) (string, error) {
	name := fmt.Sprintf("%s/pack-%04d-%d", p.generation, len(p.entries), time.Now().UnixNano())
	e, err := p.stand.put(ctx, PackKey(p.environment, name), "application/x-tar", p.lock, fill)
	if err == nil {
		p.entries = append(p.entries, e)
	}
	return name, err
}

// scratchFolder is one that every user may pass through, of which nothing is left in the end.
func scratchFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the scratch folder: %v, %v", left, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func proofOptions(t testing.TB) ProofOptions { return ProofOptions{Scratch: scratchFolder(t)} }

// newKey is an identity that opens nothing.
func newKey(t testing.TB) age.Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A sound backup passes every level, with any of its keys, from a bucket and from a folder.
func TestSoundBackupPasses(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t testing.TB) *stand{
		"s3": openStand,
		"directory": func(t testing.TB) *stand {
			s := openStand(t)
			d, err := store.OpenDirectory(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			s.store = d
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			b := s.backUp(t, making{})
			if len(b.m.Packs) < 2 {
				t.Fatalf("it has %d packs", len(b.m.Packs))
			}
			sum := int64(0)
			for _, e := range b.m.Entries() {
				sum += e.Size
			}
			o := proofOptions(t)
			for _, level := range []Level{L0, L1, L2} {
				if level == L2 {
					b.Identities = []age.Identity{newKey(t), s.escrow}
				}
				v, err := Verify(bound(t), b.Stored, level, o)
				if err != nil || !v.Passed() || v.Reached != level || len(v.Notes) > 0 {
					t.Errorf("%s: %+v, %v", level, v, err)
				}
				if v.Objects != 5+len(b.m.Packs) || level > L0 && v.Bytes != sum {
					t.Errorf("%s: looked at %d objects, read %d bytes of %d", level, v.Objects, v.Bytes, sum)
				}
			}
		})
	}
}

// What Take makes is sound.
func TestTakenBackupPasses(t *testing.T) {
	t.Parallel()
	s := openShop(t, 60)
	stop := s.sell(t)
	taken := s.take(t, nil)
	taken = s.take(t, &taken)
	stop()
	v, err := Verify(bound(t), Stored{Store: s.s3, Environment: "prod-eu", ID: taken.Manifest.ID, Manifest: taken.Ref, Identities: []age.Identity{s.escrow}}, L2, proofOptions(t))
	if err != nil || !v.Passed() {
		t.Errorf("%+v, %v", v, err)
	}
}

// ask asks the shop's server for texts.
func (s *stand) ask(ctx context.Context, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, s.AdminDSN)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// listen listens on a Unix socket as a server of PostgreSQL does, in a folder that everybody may enter, which it returns.
func listen(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
		<-done
	})
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, ".s.PGSQL.5432"): 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
