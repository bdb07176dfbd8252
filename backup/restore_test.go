package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/odoodb"
)

// dsnOf reaches a restored database as its owner.
func (s *stand) dsnOf(at Target) string {
	return s.lab.PostgresDSN(lab.PostgresOdoo, at.Database.Database)
}

// sound says that a target has what the shop had.
func (s *stand) sound(t testing.TB, at Target) {
	t.Helper()
	report, err := odoodb.Check(t.Context(), s.dsnOf(at), at.Filestore)
	if err != nil || report.Err() != nil || report.Orders < 100 || report.Attachments < 50 || report.Unreferenced != 0 {
		t.Errorf("restored is %+v, %v", report, err)
	}
}

// A restore fills what is not there; what is there it replaces only if that is confirmed, and keeps it.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	o := RestoreOptions{ProofOptions: proofOptions(t)}
	at := s.target(t)
	var told []Progress
	o.Progress, o.every = func(p Progress) { told = append(told, p) }, time.Millisecond
	r, err := Restore(bound(t), b.Stored, at, o)
	if err != nil || r.Err() != nil || r.AsideDatabase != "" || r.AsideFilestore != "" || !r.Snapshot.Equal(b.m.Times.Snapshot) {
		t.Fatalf("%+v, %v", r, err)
	}
	last := Progress{}
	for _, p := range told {
		if p.Bytes < last.Bytes {
			t.Errorf("progress goes from %+v to %+v", last, p)
		}
		last = p
	}
	if last.Total == 0 || last.Bytes == 0 {
		t.Errorf("the last progress is %+v", last)
	}
	o.Progress = nil
	s.sound(t, at)

	// What is there now is not what will be there.
	mark(t, s.dsnOf(at), "CREATE TABLE mine (i int)")
	if err := os.WriteFile(filepath.Join(at.Filestore, "mine"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := s.backUp(t, making{})
	elsewhere := at
	elsewhere.Filestore += "-other"
	for what, confirmation := range map[string]string{
		"nothing": "", "yes": "yes", "another backup": at.Confirmation(other.ID), "another target": elsewhere.Confirmation(b.ID),
		"almost": at.Confirmation(b.ID) + " ",
	} {
		o.Confirmation = confirmation
		var hint *postgres.HintError
		if r, err := Restore(bound(t), b.Stored, at, o); !errors.Is(err, ErrOccupied) || !errors.As(err, &hint) || !strings.Contains(hint.Hint, "confirm with") || len(r.Segments) != 1 {
			t.Errorf("confirmed by %s: %+v, %v", what, r, err)
		}
	}
	o.Confirmation = at.Confirmation(b.ID)
	conn, err := pgx.Connect(t.Context(), s.lab.PostgresDSN(lab.PostgresAdmin, at.Database.Database)) // another user's session
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Restore(bound(t), b.Stored, at, o); !errors.Is(err, postgres.ErrBusy) || len(r.Segments) != 1 {
		t.Errorf("while somebody is connected: %+v, %v", r, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err = Restore(bound(t), b.Stored, at, o)
	if err != nil || r.AsideDatabase == "" || r.AsideFilestore == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	s.sound(t, at)
	mark(t, s.lab.PostgresDSN(lab.PostgresOdoo, r.AsideDatabase), "SELECT FROM mine")
	if kept, err := os.ReadFile(filepath.Join(r.AsideFilestore, "mine")); err != nil || string(kept) != "mine" {
		t.Errorf("the folder that was there: %q, %v", kept, err)
	}
}

func mark(t testing.TB, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

// A restore that cannot be finished leaves what was there, and nothing else.
func TestRestoreThatFails(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	at := s.target(t)
	o := RestoreOptions{ProofOptions: proofOptions(t)}
	full := o
	full.free = func(string) (int64, error) { return 1 << 20, nil }
	if _, err := Restore(bound(t), b.Stored, at, full); !errors.Is(err, ErrNoRoom) {
		t.Errorf("on a full disk: %v", err)
	}
	s.untouched(t, "a full disk", at)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Restore(cancelled, b.Stored, at, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	s.untouched(t, "cancelled", at)
	// It ends in the midst of everything.
	late, cancelLate := context.WithCancel(t.Context())
	defer cancelLate()
	o.Progress, o.every = func(p Progress) {
		if p.Segment == SegmentAttachments || p.Segment == SegmentDatabase {
			cancelLate()
		}
	}, time.Millisecond
	if _, err := Restore(late, b.Stored, at, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the midst: %v", err)
	}
	s.untouched(t, "cancelled in the midst", at)
	relative := at
	relative.Filestore = "filestore"
	if _, err := Restore(bound(t), b.Stored, relative, o); err == nil || !strings.Contains(err.Error(), "is not the path of a folder") {
		t.Errorf("relative folder: %v", err)
	}
	// A folder is put in the place of a folder only, which is said before anything is restored.
	beside := t.TempDir()
	link, dangling, file := filepath.Join(beside, "link"), filepath.Join(beside, "dangling"), filepath.Join(beside, "file")
	if err := errors.Join(os.Symlink(beside, link), os.Symlink("nowhere", dangling), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		link:     "is a symbolic link, and the restored folder takes the place of a folder only (name the folder that it leads to, " + beside + ")",
		dangling: "is a symbolic link that leads nowhere (remove the link", file: "is no folder (move it away",
		filepath.Join(file, "filestore"): "has no folder to lie in (create the folder " + file,
	} {
		elsewhere := at
		elsewhere.Filestore = path
		if r, err := Restore(bound(t), b.Stored, elsewhere, o); err == nil || !strings.Contains(err.Error(), path+" "+words) || len(r.Segments) != 1 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		if _, err := RestoreScratch(bound(t), b.Stored, path, o.ProofOptions); err == nil || !strings.Contains(err.Error(), path+" "+words) {
			t.Errorf("%s: look into it: %v", path, err)
		}
	}
	nowhere := at
	nowhere.Filestore = filepath.Join(at.Filestore, "in", "none")
	o.Progress = nil
	if _, err := Restore(bound(t), b.Stored, nowhere, o); err == nil {
		t.Error("restored to a folder in none")
	}
	s.untouched(t, "folder in none", at)
}

// A backup can be looked into with stock tools, while its server is there; its filestore stays.
func TestRestoreScratch(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	o := proofOptions(t)
	folder := filepath.Join(t.TempDir(), "filestore")
	r, err := RestoreScratch(bound(t), b.Stored, folder, o)
	if err != nil {
		t.Fatal(err)
	}
	environment, err := r.Server.Reach(r.Database)
	if err != nil {
		t.Error(err)
	}
	tool, err := lab.PostgresTool("psql")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "--no-psqlrc", "--tuples-only", "--no-align", "--command=SELECT count(*) FROM ir_attachment")
	cmd.Env = environment
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "60" {
		t.Errorf("asked, it says %q, %v", out, err)
	}
	if err := r.Server.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) == 0 || !r.Snapshot.Equal(b.m.Times.Snapshot) || r.Err() != nil {
		t.Errorf("%d folders are in the filestore, %v: %+v", len(entries), err, r)
	}
	if r, err := RestoreScratch(bound(t), b.Stored, folder, o); !errors.Is(err, ErrOccupied) || r.Server != nil {
		t.Errorf("once more: %v", err)
	}
	undo := s.onDisk(t)["bit flip: middle"](b.m.Packs[0].Key, "")
	defer undo()
	other := folder + "-other"
	if r, err := RestoreScratch(bound(t), b.Stored, other, o); !errors.Is(err, ErrUnfit) || r.Server != nil || r.Err() == nil {
		t.Errorf("of a damaged pack: %v", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a damaged pack there is a filestore: %v", err)
	}
}
