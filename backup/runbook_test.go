package backup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purser-gitops/purser/examples/lab"
)

// runbook is the script of docs/backup.md for restores without Purser.
func runbook(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## Restoring with stock tools\n")
	_, rest, _ = strings.Cut(rest, "\n```sh\n")
	script, _, ok := strings.Cut(rest, "\n```\n")
	if !ok {
		t.Fatal("docs/backup.md has no script")
	}
	return script
}

// The runbook restores, with stock tools and the key in escrow; what is damaged it does not restore.
func TestRunbook(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	tool, err := lab.Binary(t.Context(), lab.Age)
	if err != nil {
		t.Fatal(err)
	}
	taken := s.take(t, nil)
	dir := t.TempDir()
	at := s.target(t)
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Symlink(tool, filepath.Join(dir, "age")); err != nil {
		t.Fatal(err)
	}
	credentials, err := os.ReadFile(s.lab.S3CredentialsFile(lab.S3Writer))
	if err != nil {
		t.Fatal(err)
	}
	_, secret, ok := strings.Cut(string(credentials), "aws_secret_access_key = ")
	if !ok {
		t.Fatal("no secret")
	}
	pgRestore, err := lab.PostgresTool("pg_restore")
	if err != nil {
		t.Fatal(err)
	}
	run := func(work string, ref string) (string, error) {
		t.Helper()
		if err := os.Mkdir(work, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", write("restore.sh", runbook(t)))
		cmd.Env = []string{
			"PATH=" + dir + ":" + filepath.Dir(pgRestore) + ":" + os.Getenv("PATH"), "HOME=" + dir,
			"ENDPOINT=" + s.lab.S3URL, "REGION=" + lab.S3Region, "BUCKET=" + s.bucket, "PREFIX=estate/", "CURL_CA_BUNDLE=" + s.lab.CAFile,
			"CREDENTIALS=" + write("credentials", fmt.Sprintf("user = \"%s:%s\"\n", lab.S3Writer, strings.TrimSpace(secret))),
			"KEY=" + write("key", fmt.Sprint(s.escrow)+"\n"), "WORK=" + work, "DATABASE=" + at.Database.Database,
			"MANIFEST=" + taken.Ref.Key, "MANIFEST_VERSION=" + taken.Ref.Version, "MANIFEST_SHA256=" + ref,
			"PGHOST=" + s.options.Connection.Host, fmt.Sprintf("PGPORT=%d", s.options.Connection.Port), "PGUSER=" + lab.PostgresOdoo,
			"PGPASSFILE=" + s.lab.PostgresPassFile(),
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(filepath.Join(dir, "another"), strings.Repeat("0", 64)); err == nil || !strings.Contains(out, "manifest.json: FAILED") {
		t.Errorf("another manifest: %v: %s", err, out)
	}
	for _, e := range []Entry{taken.Manifest.Streams.Database, taken.Manifest.Packs[0]} {
		undo := s.onDisk(t)["bit flip: middle"](e.Key, "")
		if out, err := run(filepath.Join(dir, "flipped-"+filepath.Base(e.Key)), taken.Ref.SHA256); err == nil || !strings.Contains(out, "FAILED") {
			t.Errorf("bit flip of %s: %v: %s", e.Key, err, out)
		}
		undo()
	}
	if left := s.databases(t, t.Context(), at.Database.Database); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	work := filepath.Join(dir, "work")
	out, err := run(work, taken.Ref.SHA256)
	if err != nil || !strings.Contains(out, "restored: database") {
		t.Fatalf("%v: %s", err, out)
	}
	at.Filestore = filepath.Join(work, "filestore")
	s.sound(t, at)
}
