package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/purser-gitops/purser/backup/filestore"
	"github.com/purser-gitops/purser/backup/seal"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
)

// file is where the lab's server keeps the current version of an object.
func (s *stand) file(key string) string {
	return filepath.Join(s.lab.Dir, "s3", "buckets", s.bucket, "estate", key)
}

// objects of a backup, the manifest first.
func (b backedUp) objects() []store.Object {
	list := []store.Object{b.Manifest}
	for _, e := range b.m.Entries() {
		list = append(list, e.Object)
	}
	return list
}

// found says at which level a verification has found something of an object; "" for none.
func found(v *Verification, object string) Level {
	var levels []Level
	for _, f := range v.Findings.Findings {
		if strings.HasPrefix(f.Object, object) {
			levels = append(levels, f.Level)
		}
	}
	if len(levels) == 0 {
		return ""
	}
	return slices.Min(levels)
}

// expect verifies up to a level, at which something is to be found of an object, and not before.
func expect(t testing.TB, what string, b Stored, level Level, object string, o ProofOptions) {
	t.Helper()
	expectAt(t, what, b, level, level, object, o)
}

// expectAt verifies up to one level, and expects a finding of another.
func expectAt(t testing.TB, what string, b Stored, asked, level Level, object string, o ProofOptions) {
	t.Helper()
	v, err := Verify(bound(t), b, asked, o)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if v.Passed() || v.Reached >= level {
		t.Errorf("%s: passes, reached %q", what, v.Reached)
	}
	if got := found(v, object); got != level {
		t.Errorf("%s: found at level %q of %s, not at %s: %v", what, got, object, level, v.Findings.Findings)
	}
	for _, f := range v.Findings.Findings {
		if f.What == "" || f.Remedy == "" || f.Object == "" {
			t.Errorf("%s: %+v is no finding", what, f)
		}
	}
}

// onDisk are the ways in which the bytes of an object change behind the store's back. Each is undone by what it returns.
func (s *stand) onDisk(t testing.TB) map[string]func(key, other string) (undo func()) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rewrite := func(key string, change func([]byte) []byte) func() {
		was, err := os.ReadFile(s.file(key))
		must(err)
		must(os.WriteFile(s.file(key), change(bytes.Clone(was)), 0o600)) // in place: its attributes stay
		return func() { must(os.WriteFile(s.file(key), was, 0o600)) }
	}
	flip := func(at func(n int) int) func(key, other string) func() {
		return func(key, _ string) func() {
			return rewrite(key, func(b []byte) []byte { b[at(len(b))] ^= 1 << (at(len(b)) % 8); return b })
		}
	}
	rename := func(from, to string) { must(os.Rename(s.file(from), s.file(to))) }
	return map[string]func(key, other string) func(){
		"bit flip: first":  flip(func(int) int { return 0 }),
		"bit flip: middle": flip(func(n int) int { return n / 2 }),
		"bit flip: last":   flip(func(n int) int { return n - 1 }),
		"truncation":       func(key, _ string) func() { return rewrite(key, func(b []byte) []byte { return b[:len(b)/2] }) },
		"missing":          func(key, _ string) func() { rename(key, key+"-away"); return func() { rename(key+"-away", key) } },
		"swapped": func(key, other string) func() {
			swap := func() { rename(key, "x"); rename(other, key); rename("x", other) }
			swap()
			return swap
		},
		"header for others": func(key, _ string) func() {
			return rewrite(key, func(b []byte) []byte { copy(b, s.header(t)); return b })
		},
		// Another sealed content of the same keys.
		"swapped content": func(key, other string) func() {
			content, err := os.ReadFile(s.file(other))
			must(err)
			return rewrite(key, func([]byte) []byte { return content })
		},
	}
}

// header is what a sealed stream begins with that only others can open.
func (s *stand) header(t testing.TB) []byte {
	t.Helper()
	var recipients []age.Recipient
	for range s.options.Recipients {
		recipients = append(recipients, newKey(t).(*age.X25519Identity).Recipient())
	}
	var sealed bytes.Buffer
	w, err := seal.NewWriter(&sealed, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	end := bytes.Index(sealed.Bytes(), []byte("\n--- "))
	return sealed.Bytes()[:end]
}

// promised is the level at which each class is found, or which is not reached: in the manifest, and in another object.
// docs/backup.md has this table.
var promised = map[string][2]Level{
	"bit flip": {L0, L1}, "header for others": {L0, L1}, "truncation": {L0, L0}, "missing": {L0, L0}, "swapped": {L0, L0}, "swapped content": {L0, L0},
	"swapped version": {L0, L0}, "delete marker": {L0, L0}, "deleted version": {L0, L0}, "shortened lock": {L0, L0}, "expired lock": {L0, L0},
	"wrong key": {"", L1}, "clock skew": {L0, ""}, "manifest from the future": {L0, ""}, "manifest of another environment": {L0, ""}, "manifest of another backup": {L0, ""},
	"dropped table": {"", L1}, "lost rows": {"", L1}, "changed rows": {"", L2}, "empty database": {"", L1}, "emptied database": {"", L1},
	"pending module": {"", L2}, "attachment without a file": {"", L1}, "attachment that was not listed": {"", L2},
	"roles that end early": {"", L1}, "stream for others": {"", L1}, "wrong count of attachments": {"", L1},
}

// The page promises what is tested.
func TestPromisesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		levels, ok := promised[strings.TrimSpace(cells[1])]
		if !ok {
			continue
		}
		rows++
		for i, level := range levels {
			if got := strings.TrimSpace(cells[2+i]); got != string(level) && (got != "–" || level != "") {
				t.Errorf("docs/backup.md promises %s of %s, and tested is %q", got, cells[1], level)
			}
		}
	}
	if rows != len(promised) {
		t.Errorf("docs/backup.md has %d of %d classes", rows, len(promised))
	}
}

// What happens to any object of a backup is found at the level that is promised, and after it is undone nothing is.
func TestCorruptionOfObjects(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	o := proofOptions(t)
	target := s.target(t)
	objects := b.objects()
	for where, harm := range s.onDisk(t) {
		class, _, _ := strings.Cut(where, ":")
		for i, object := range objects {
			level := promised[class][min(i, 1)]
			what := where + " of " + object.Key
			undo := harm(object.Key, objects[1+i%(len(objects)-1)].Key)
			expect(t, what, b.Stored, level, object.Key, o)
			// Where a restore has to read much before it finds it, one place suffices.
			if level == L0 || where == "bit flip: middle" {
				s.refused(t, what, b, target, o)
			}
			undo()
		}
	}
	if v, err := Verify(bound(t), b.Stored, L1, o); err != nil || !v.Passed() {
		t.Errorf("after all was undone: %+v, %v", v, err)
	}
}

// unfinished says that what is no fault of a backup is no finding of it, and that it passes neither a verification nor a drill, and
// is not restored.
func (s *stand) unfinished(t testing.TB, what string, b Stored, level Level, want error, says ...string) {
	t.Helper()
	o := proofOptions(t)
	told := func(by string, found Findings, unfinished string, err error) {
		t.Helper()
		if !errors.Is(err, want) || len(found.Findings) > 0 {
			t.Errorf("%s, %s: found %v, %v", what, by, found.Findings, err)
		}
		for _, said := range says {
			if !strings.Contains(unfinished, said) {
				t.Errorf("%s, %s: it does not say %q: %s", what, by, said, unfinished)
			}
		}
	}
	for _, asked := range []Level{L0, L1, L2} {
		if asked < level {
			continue
		}
		v, err := Verify(bound(t), b, asked, o)
		told("verification at "+string(asked), v.Findings, v.Unfinished, err)
		if v.Passed() || v.Reached >= level {
			t.Errorf("%s: passes %s, reached %q", what, asked, v.Reached)
		}
	}
	from, drilling := s.drillOf(t, backedUp{Stored: b})
	from.Store, from.Identities = b.Store, b.Identities
	d, err := Drill(bound(t), from, drilling)
	told("drill", d.Findings, d.Unfinished, err)
	if d.Passed() || d.RTO != 0 {
		t.Errorf("%s: a drill passes: %+v", what, d)
	}
	at := s.target(t)
	r, err := Restore(bound(t), b, at, RestoreOptions{ProofOptions: o})
	told("restore", r.Findings, fmt.Sprint(err), err)
	s.untouched(t, what, at)
	folder := filepath.Join(t.TempDir(), "filestore")
	scratched, err := RestoreScratch(bound(t), b, folder, o)
	told("restore to look into it", scratched.Findings, fmt.Sprint(err), err)
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: there is a filestore: %v", what, err)
	}
}

// target is a place where there is nothing, which goes with the test.
func (s *stand) target(t testing.TB) Target {
	t.Helper()
	s.targets++
	name := fmt.Sprintf("%s_r%d", s.Name, s.targets)
	at := Target{Filestore: filepath.Join(t.TempDir(), "filestore")}
	at.Database.Connection = s.options.Connection
	at.Database.Database = name
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, d := range s.databases(t, ctx, name) {
			if err := s.lab.DropDatabase(ctx, &lab.Database{Name: d, Filestore: at.Filestore}); err != nil {
				t.Error(err)
			}
		}
	})
	return at
}

// refused restores, which has to fail without a trace.
func (s *stand) refused(t testing.TB, what string, b backedUp, at Target, o ProofOptions) {
	t.Helper()
	r, err := Restore(bound(t), b.Stored, at, RestoreOptions{ProofOptions: o})
	if !errors.Is(err, ErrUnfit) || len(r.Findings.Findings) == 0 {
		t.Errorf("%s: restored, %v", what, err)
	}
	s.untouched(t, what, at)
}

// untouched says that there is nothing at a target that was empty, nor beside it.
func (s *stand) untouched(t testing.TB, what string, at Target) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Dir(at.Filestore)); err != nil || len(left) > 0 {
		t.Errorf("%s: left are the folders %v, %v", what, left, err)
	}
	if left := s.databases(t, t.Context(), at.Database.Database); len(left) > 0 {
		t.Errorf("%s: left are the databases %v", what, left)
	}
}

// What is done to a store with its own means is found at level 0.
func TestCorruptionOfVersions(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	o := proofOptions(t)
	writer, closeWriter, err := lab.S3Client(s.lab, lab.S3Writer)
	if err != nil {
		t.Fatal(err)
	}
	defer closeWriter()
	expirer, closeExpirer, err := lab.S3Client(s.lab, lab.S3Expirer)
	if err != nil {
		t.Fatal(err)
	}
	defer closeExpirer()
	admin, closeAdmin, err := lab.S3Client(s.lab, lab.S3Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAdmin()
	key := func(o store.Object) *string { return aws.String("estate/" + o.Key) }
	for class, harm := range map[string]func(o store.Object) error{
		"swapped version": func(o store.Object) error {
			content, err := os.ReadFile(s.file(o.Key))
			if err == nil {
				_, err = writer.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: key(o), Body: bytes.NewReader(content)})
			}
			return err
		},
		"delete marker": func(o store.Object) error {
			_, err := expirer.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: key(o)})
			return err
		},
		"shortened lock": func(o store.Object) error {
			_, err := admin.PutObjectRetention(t.Context(), &s3.PutObjectRetentionInput{Bucket: &s.bucket, Key: key(o), VersionId: &o.Version,
				BypassGovernanceRetention: aws.Bool(true), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
				Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeGovernance, RetainUntilDate: aws.Time(time.Now().Add(time.Minute))}})
			return err
		},
		"deleted version": func(o store.Object) error {
			_, err := admin.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: key(o), VersionId: &o.Version, BypassGovernanceRetention: aws.Bool(true)})
			return err
		},
	} {
		b := s.backUp(t, making{})
		for i, object := range slices.Backward(b.objects()) {
			if err := harm(object); err != nil {
				t.Fatalf("%s: %v", class, err)
			}
			expect(t, class+" of "+object.Key, b.Stored, promised[class][min(i, 1)], object.Key, o)
		}
		at := s.target(t)
		if class == "deleted version" {
			s.refused(t, class, b, at, o)
			continue
		}
		// All that was recorded is still there: it can be restored, but not silently.
		r, err := Restore(bound(t), b.Stored, at, RestoreOptions{ProofOptions: o})
		if err != nil || len(r.Findings.Findings) != len(b.objects()) || r.Err() == nil {
			t.Errorf("%s: restored with %v, %v", class, r.Findings.Findings, err)
		}
	}
}

// later is a store whose clock, and that of who asks it, is ahead.
type ahead struct {
	examiner
	by time.Duration
}

func (a ahead) Now(ctx context.Context) (time.Time, error) {
	now, err := a.examiner.Now(ctx)
	return now.Add(a.by), err
}

// What is wrong with keys, clocks, records and locks.
func TestCorruptionOfCircumstances(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	o := proofOptions(t)
	b := s.backUp(t, making{})
	stored := func(change func(*Stored)) Stored {
		copied := b.Stored
		change(&copied)
		return copied
	}
	wrong := stored(func(b *Stored) { b.Identities = []age.Identity{newKey(t)} })
	s.unfinished(t, "wrong key", wrong, promised["wrong key"][1], seal.ErrIdentity, "which is sealed to age1", "give the identity of one of these")
	for _, by := range []time.Duration{-time.Hour / 4, time.Hour / 4} {
		skewed := stored(func(b *Stored) { b.Store = ahead{s.store, by} })
		s.unfinished(t, "clock skew", skewed, promised["clock skew"][0], store.ErrSkew, "the store's shows", "set the wrong one right")
	}
	options := s.s3Options(s.lab.S3URL, lab.S3Writer)
	options.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	slow, err := store.NewS3(options)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	s.unfinished(t, "clock skew of a bucket", stored(func(b *Stored) { b.Store = slow }), L0, store.ErrSkew, "ahead of this machine's", "set the wrong one right")
	in2Hours := o
	in2Hours.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	expired := stored(func(b *Stored) { b.Store = ahead{s.store, 2 * time.Hour} })
	for i, object := range b.objects() {
		expect(t, "expired lock of "+object.Key, expired, promised["expired lock"][min(i, 1)], object.Key, in2Hours)
	}
	extended := stored(func(b *Stored) { b.Locks = map[string]time.Time{b.Manifest.Key: time.Now().Add(48 * time.Hour)} })
	expect(t, "lock that was extended by the record", extended, L0, b.Manifest.Key, o)
	future := s.backUp(t, making{lock: store.Lock{Mode: store.Governance, Until: time.Now().Add(3 * time.Hour)}, manifest: func(m *Manifest) {
		m.Times.Finished = time.Now().Add(time.Hour)
	}})
	expect(t, "manifest from the future", future.Stored, promised["manifest from the future"][0], future.Manifest.Key, o)

	other := s.backUp(t, making{environment: "staging"})
	second := s.backUp(t, making{})
	for what, record := range map[string]store.Object{"manifest of another environment": other.Manifest, "manifest of another backup": second.Manifest} {
		expect(t, what, stored(func(b *Stored) { b.Manifest = record }), promised[what][0], record.Key, o)
	}
	// Its bytes lie under the key of this one, and are recorded so.
	copyOf := func(from backedUp) backedUp {
		id := NewID("prod-eu", time.Now())
		content, err := os.ReadFile(s.file(from.Manifest.Key))
		if err != nil {
			t.Fatal(err)
		}
		ref, err := s.store.Create(bound(t), ManifestKey("prod-eu", id), bytes.NewReader(content), hourLock())
		if err != nil {
			t.Fatal(err)
		}
		return backedUp{Stored{Store: s.store, Environment: "prod-eu", ID: id, Manifest: ref, Identities: s.keys}, from.m, from.snapshot}
	}
	for what, from := range map[string]backedUp{"manifest of another environment": other, "manifest of another backup": second} {
		forged := copyOf(from)
		expect(t, "copied "+what, forged.Stored, promised[what][0], forged.Manifest.Key, o)
		s.refused(t, "copied "+what, forged, s.target(t), o)
	}
	expect(t, "another environment", Stored{Store: s.store, Environment: "staging", ID: b.ID, Manifest: b.Manifest}, L0, b.Manifest.Key, o)
}

// A backup of which all bytes are what was written, but not what they should have been.
func TestCorruptionOfContent(t *testing.T) {
	t.Parallel()
	for class, test := range map[string]struct {
		object string // the beginning; in a backup's folder unless it has a space
		make   func(t testing.TB, s *stand) making
	}{
		"dropped table": {DatabaseName, func(t testing.TB, s *stand) making {
			return making{dumped: func() { s.execute(t, "DROP TABLE pos_order_line") }}
		}},
		"lost rows": {DatabaseName, func(t testing.TB, s *stand) making {
			return making{dumped: func() { s.execute(t, "DELETE FROM pos_order_line WHERE id < 10") }}
		}},
		"changed rows": {"database public.res_partner", func(t testing.TB, s *stand) making {
			return making{dumped: func() { s.execute(t, "UPDATE res_partner SET name = 'changed' WHERE id = 3") }}
		}},
		"empty database": {DatabaseName, func(t testing.TB, s *stand) making {
			s.execute(t, "TRUNCATE pos_order, sale_order, account_move, stock_move CASCADE")
			return making{}
		}},
		"emptied database": {DatabaseName, func(t testing.TB, s *stand) making {
			return making{dumped: func() { s.execute(t, "TRUNCATE pos_order, sale_order, account_move, stock_move CASCADE") }}
		}},
		"pending module": {"database ir_module_module", func(t testing.TB, s *stand) making {
			s.execute(t, "UPDATE ir_module_module SET state = 'to upgrade' WHERE name = 'stock'")
			return making{}
		}},
		"attachment without a file": {AttachmentsName, func(t testing.TB, s *stand) making {
			s.execute(t, `INSERT INTO ir_attachment (name, type, store_fname, checksum, file_size) VALUES
				('lost.pdf', 'binary', 'ab/ab00000000000000000000000000000000000000', 'ab00000000000000000000000000000000000000', 5)`)
			return making{}
		}},
		"attachment that was not listed": {"filestore ", func(t testing.TB, s *stand) making {
			return making{listed: func(a filestore.Attachment) bool { return a.ID != 7 }}
		}},
		"roles that end early": {RolesName, func(t testing.TB, s *stand) making {
			return making{roles: func(text []byte) []byte { return text[:len(text)/2] }}
		}},
		"stream for others": {ConfigurationName, func(t testing.TB, s *stand) making {
			return making{roles: func(text []byte) []byte { // the streams before are sealed to those that the manifest names
				s.options.Recipients = []string{newKey(t).(*age.X25519Identity).Recipient().String()}
				return text
			}}
		}},
		"wrong count of attachments": {AttachmentsName, func(t testing.TB, s *stand) making {
			return making{manifest: func(m *Manifest) { m.Filestore.Index.Contents.Contents++ }}
		}},
	} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			s := openStand(t)
			o := proofOptions(t)
			b := s.backUp(t, test.make(t, s))
			object, level := test.object, promised[class][1]
			if !strings.Contains(object, " ") {
				object = Key(b.Environment, b.ID, object)
			}
			if level == L2 {
				if v, err := Verify(bound(t), b.Stored, L1, o); err != nil || !v.Passed() {
					t.Errorf("level 1: %v, %v", v.Findings.Findings, err)
				}
			}
			expect(t, class, b.Stored, level, object, o)
			s.refused(t, class, b, s.target(t), o)
		})
	}
}

// databases lists those whose names begin so.
func (s *stand) databases(t testing.TB, ctx context.Context, prefix string) []string {
	t.Helper()
	list, err := s.ask(ctx, fmt.Sprintf("SELECT datname FROM pg_database WHERE starts_with(datname, '%s') ORDER BY 1", prefix))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
