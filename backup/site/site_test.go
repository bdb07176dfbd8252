package site_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/site"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/backup/store/storetest"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/sources/declaration"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// open reads an agent's configuration of backups in dir, and opens it.
func open(t *testing.T, dir, backup string) *site.Site {
	t.Helper()
	s, err := site.Open(load(t, dir, backup), filepath.Join(dir, "data"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func load(t *testing.T, dir, backup string) declaration.AgentBackup {
	t.Helper()
	file := filepath.Join(dir, "purser.yaml")
	write(t, file, `apiVersion: purser.dev/v1alpha1
kind: AgentConfig
spec:
  dataDir: data
  sources: [{name: estate, url: "file:///srv/git/estate.git"}]
  clusters: [{name: lab, inCluster: true}]
  audit: {url: "file:///srv/git/audit.git", signingKeyFile: signing}
  backup:
`+backup)
	c, err := declaration.LoadAgent(file)
	if err != nil {
		t.Fatal(err)
	}
	return c.Backup
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func bound(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), storetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// put creates an object in a store of the site.
func put(t *testing.T, s *site.Site, name string) store.Object {
	t.Helper()
	in, err := s.Store(name)
	if err != nil {
		t.Fatal(err)
	}
	o, err := in.Create(bound(t), "dev/"+name, strings.NewReader("content"), store.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A bucket is written with one identity and deleted from with another; a folder with the agent's own rights.
func TestStores(t *testing.T) {
	t.Parallel()
	l, dir := labtest.Shared(t, lab.S3), t.TempDir()
	bucket := labtest.Bucket(t, l)
	if err := os.Mkdir(filepath.Join(dir, "backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	s3 := func(prefix, more string) string {
		return fmt.Sprintf("{endpoint: %q, region: %s, bucket: %s, prefix: %s, caFile: %s, credentialsFile: %s%s}",
			l.S3URL, lab.S3Region, bucket, prefix, l.CAFile, l.S3CredentialsFile(lab.S3Writer), more)
	}
	s := open(t, dir, fmt.Sprintf(`    stores:
      - {name: main, s3: %s}
      - {name: archive, s3: %s}
      - {name: nearby, directory: {path: backups}}
`, s3("main/", ", expiry: {credentialsFile: "+l.S3CredentialsFile(lab.S3Expirer)+"}"), s3("archive/", "")))

	for _, name := range []string{"main", "nearby"} {
		o := put(t, s, name)
		in, err := s.Store(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Probe(bound(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if writer, deletes := in.(site.Deleter); deletes && name == "main" {
			if err := writer.Delete(bound(t), o); !errors.Is(err, store.ErrDenied) {
				t.Errorf("%s: the writer deletes: %v", name, err)
			}
		}
		expirer, configured := s.Expirer(name)
		if !configured {
			t.Fatalf("%s: nobody deletes", name)
		}
		if err := expirer.Delete(bound(t), o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := in.Stat(bound(t), o); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: after it was deleted: %v", name, err)
		}
	}
	if o := put(t, s, "archive"); o.Version == "" {
		t.Errorf("archive: got %+v", o)
	}
	if _, configured := s.Expirer("archive"); configured {
		t.Error("archive: somebody deletes")
	}
}

// A folder that is not there, such as one that is not mounted, is missing as long as it is, and keeps nobody else from anything.
func TestStoreThatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, `    stores:
      - {name: nearby, directory: {path: backups}}
      - {name: main, s3: {bucket: shop, credentialsFile: writer, caFile: ca.pem, expiry: {credentialsFile: expirer}}}
`)
	for name, missing := range map[string]string{"nearby": "backups", "main": "ca.pem"} {
		_, err := s.Store(name)
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), fmt.Sprintf("open store %q", name)) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: %v", name, err)
		}
		expirer, configured := s.Expirer(name)
		if !configured {
			t.Fatalf("%s: nobody deletes", name)
		}
		if err := expirer.Delete(bound(t), store.Object{Key: "a", Version: "b"}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: deleting says %v", name, err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, s, "nearby")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nearby", "main"} {
		if in, err := s.Store(name); err == nil {
			t.Errorf("%s: after the end there is %v", name, in)
		}
	}
}

// A folder that is another one than the one that was opened, such as one that was unmounted and mounted again, is opened anew, and
// nobody writes into the old one any more.
func TestStoreThatWasMountedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder, away := filepath.Join(dir, "backups"), filepath.Join(dir, "away")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(folder, 0o700))
	s := open(t, dir, "    stores: [{name: nearby, directory: {path: backups}}]\n")
	before := put(t, s, "nearby")
	held, err := s.Store("nearby")
	must(err)
	expirer, _ := s.Expirer("nearby")

	must(os.Rename(folder, away))
	if in, err := s.Store("nearby"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("while it is away: %v, %v", in, err)
	}
	must(os.Mkdir(folder, 0o700))
	for what, err := range map[string]error{
		"create": func() error {
			_, err := held.Create(bound(t), "dev/a", strings.NewReader("a"), store.Lock{})
			return err
		}(),
		"open":   func() error { _, err := held.Open(bound(t), before); return err }(),
		"stat":   func() error { _, err := held.Stat(bound(t), before); return err }(),
		"extend": func() error { _, err := held.Extend(bound(t), before, time.Now().Add(time.Hour)); return err }(),
		"list": func() error {
			for _, err := range held.List(bound(t), "") {
				return err
			}
			return nil
		}(),
		"probe":  held.Probe(bound(t)),
		"forget": func() error { _, err := held.Abandoned(bound(t), "", 0); return err }(),
		"delete": expirer.Delete(bound(t), before),
	} {
		if !errors.Is(err, store.ErrDetached) {
			t.Errorf("%s in a folder that is away: %v", what, err)
		}
	}
	after := put(t, s, "nearby") // the same key
	if _, err := os.Stat(filepath.Join(folder, after.Key)); err != nil {
		t.Errorf("it is not in the folder: %v", err)
	}
	must(os.Rename(folder, folder+"-2"))
	must(os.Rename(away, folder))
	in, err := s.Store("nearby")
	must(err)
	if _, err := in.Stat(bound(t), before); err != nil {
		t.Errorf("mounted again: %v", err)
	}
	same, err := s.Store("nearby")
	must(err)
	if same != in {
		t.Error("it is opened at each use")
	}
}

// The clock of the agent is that of its stores.
func TestClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	s, err := site.Open(load(t, dir, "    stores: [{name: nearby, directory: {path: .}}]\n"), dir, func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, err := s.Store("nearby")
	if err != nil {
		t.Fatal(err)
	}
	if there, err := in.Now(bound(t)); err != nil || !there.Equal(now) {
		t.Errorf("it is %s there, %v", there, err)
	}
}

// Databases are reached as the file says, and what it leaves out has a default.
func TestDatabases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := identity(t)
	text := fmt.Sprintf(`    stores: [{name: nearby, directory: {path: .}}]
    databases:
      - {environment: prod-eu, host: db.example, port: 5433, user: backup, database: shop, passwordFile: password, tls: verify-ca, caFile: ca.pem, filestore: files}
      - {environment: dev, host: /run/postgresql, user: odoo, database: dev, filestore: /srv/odoo/filestore/dev}
    recipients: [%s]
    identityFile: key
    programs: [bin, /opt/postgresql/bin]
`, key.Recipient())
	s := open(t, dir, text)
	for environment, want := range map[string]site.Database{
		"prod-eu": {Connection: postgres.Connection{Host: "db.example", Port: 5433, User: "backup", Database: "shop",
			PasswordFile: filepath.Join(dir, "password"), TLS: "verify-ca", CAFile: filepath.Join(dir, "ca.pem")}, Filestore: filepath.Join(dir, "files")},
		"dev": {Connection: postgres.Connection{Host: "/run/postgresql", Port: 5432, User: "odoo", Database: "dev", TLS: "verify-full"}, Filestore: "/srv/odoo/filestore/dev"},
	} {
		if got, configured := s.Database(environment); !configured || got != want {
			t.Errorf("%s: got %+v, want %+v", environment, got, want)
		}
	}
	if got := s.Programs().Folders; !reflect.DeepEqual(got, []string{filepath.Join(dir, "bin"), "/opt/postgresql/bin"}) {
		t.Errorf("programs are in %v", got)
	}
	if got := s.Recipients(); len(got) != 1 || got[0] != key.Recipient().String() {
		t.Errorf("recipients are %v", got)
	}
	bad := load(t, dir, text)
	bad.Databases[0].CAFile = ""
	if _, err := site.Open(bad, dir, nil, nil); err == nil || !strings.Contains(err.Error(), `environment "prod-eu"`) {
		t.Errorf("nobody vouches for the server: %v", err)
	}
}

// What the configuration does not name, there is not.
func TestNotConfigured(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "    concurrency: 1\n")
	_, store := s.Store("main")
	_, opens := s.Identities()
	_, drills := s.DrillIdentities()
	for what, err := range map[string]error{"store": store, "identities": opens, "identities for drills": drills} {
		if !errors.Is(err, site.ErrNotConfigured) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, configured := s.Expirer("main"); configured {
		t.Error("somebody deletes")
	}
	if _, configured := s.Database("dev"); configured {
		t.Error("there is a database")
	}
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Keys are read again each time; what is wrong with the file is told without what is in it.
func TestIdentities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, escrow := identity(t), identity(t), identity(t)
	file := filepath.Join(dir, "key")
	plain, own := open(t, dir, "    identityFile: key\n"), open(t, dir, "    identityFile: key\n    drillIdentityFile: escrow\n")
	write(t, file, "# estate\n"+one.String()+"\n")
	write(t, filepath.Join(dir, "escrow"), escrow.String()+"\n")
	read := func(of func() ([]age.Identity, error), want ...*age.X25519Identity) {
		t.Helper()
		got, err := of()
		if err != nil || len(got) != len(want) {
			t.Fatalf("got %d identities, %v", len(got), err)
		}
		for i := range want {
			if got[i].(*age.X25519Identity).String() != want[i].String() {
				t.Errorf("identity %d is another one", i)
			}
		}
	}
	read(plain.Identities, one)
	read(plain.DrillIdentities, one)
	read(own.DrillIdentities, escrow)
	write(t, file, one.String()+"\n"+two.String()+"\n")
	read(plain.Identities, one, two)
	read(own.DrillIdentities, escrow)

	const secret = "SECRET-THAT-NOBODY-MAY-SEE"
	for name, text := range map[string]string{
		"empty": "", "only comments": "# " + secret, "no key": secret, "half a key": "AGE-SECRET-KEY-1" + secret,
		"a key and more": one.String() + " " + secret, "too long": one.String() + "\n# " + strings.Repeat(secret, 10_000), "binary": "\x00\xff" + secret,
	} {
		write(t, file, text)
		_, err := plain.Identities()
		switch {
		case err == nil:
			t.Errorf("%s: no error", name)
		case !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "identityFile"):
			t.Errorf("%s: the error does not name the file: %v", name, err)
		case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), one.String()):
			t.Errorf("%s: the error repeats a secret", name)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Identities(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

// Credentials of a store are read again when they change.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	l, dir := labtest.Shared(t, lab.S3), t.TempDir()
	s := open(t, dir, fmt.Sprintf("    stores: [{name: main, s3: {endpoint: %q, bucket: %s, caFile: %s, credentialsFile: writer}}]\n", l.S3URL, labtest.Bucket(t, l), l.CAFile))
	in, err := s.Store("main")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "wrong-secret-that-nobody-may-see"
	write(t, filepath.Join(dir, "writer"), "[default]\naws_access_key_id = nobody\naws_secret_access_key = "+secret+"\n")
	if err := in.Probe(bound(t)); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("wrong credentials: %v", err)
	}
	right, err := os.ReadFile(l.S3CredentialsFile(lab.S3Writer))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "writer"), string(right))
	if err := in.Probe(bound(t)); err != nil {
		t.Errorf("right credentials: %v", err)
	}
}

// The scratch folder is below the data folder or where the configuration says, and every user may pass through it. One that is
// there is left as it is.
func TestScratch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := load(t, dir, "    concurrency: 1\n")
	for _, test := range []struct {
		configured, want string
	}{{"", filepath.Join(dir, "data", "scratch")}, {filepath.Join(dir, "own"), filepath.Join(dir, "own")}} {
		c.ScratchDir = test.configured
		s, err := site.Open(c, filepath.Join(dir, "data"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Scratch(); got != test.want {
			t.Errorf("scratch is %s, want %s", got, test.want)
		}
		for _, mode := range []os.FileMode{0o711, 0o750} {
			s.Scratch()
			info, err := os.Stat(test.want)
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", test.want, info, err)
			}
			if err := os.Chmod(test.want, 0o750); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What the documents show can be loaded.
func TestDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "```yaml\nbackup:\n")
	sample, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("the documents show no configuration")
	}
	s := open(t, t.TempDir(), "  "+strings.ReplaceAll(sample, "\n", "\n  "))
	if d, configured := s.Database("prod-eu"); !configured || d.Host != "db.example" {
		t.Errorf("the database is %+v", d)
	}
	if _, configured := s.Expirer("main"); !configured {
		t.Error("nobody deletes")
	}
}
