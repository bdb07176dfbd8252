package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/purser-gitops/purser/backup"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// TestMain is purser itself when it is started by that name, see [installPurser].
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "purser" {
		main()
	}
	labtest.Main(m)
}

// installPurser makes this test binary a program "purser" in a folder, and returns its path.
func installPurser(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "purser")
	return program, os.Symlink(self, program)
}

// gitEnvironment keeps Git from what this machine's user configured.
var gitEnvironment = []string{
	"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
	"GIT_AUTHOR_NAME=tester", "GIT_AUTHOR_EMAIL=tester@estate.example",
	"GIT_COMMITTER_NAME=tester", "GIT_COMMITTER_EMAIL=tester@estate.example",
}

// TestScripts runs the commands that need no server as people type them.
func TestScripts(t *testing.T) {
	t.Parallel()
	kustomize := labtest.Binary(t, "kustomize")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, ".bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			if _, err := installPurser(bin); err != nil {
				return err
			}
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+filepath.Dir(kustomize)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Vars = append(env.Vars, gitEnvironment...)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "estate": copyEstate, "commit": commit, "mode": mode, "log": writeLog,
		},
		RequireUniqueNames: true,
	})
}

// exits is "exits CODE PROGRAM ARGUMENT…": it runs a program that must end with the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			ts.Fatalf("%v", err)
		}
		code = ended.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

// copyEstate is "estate DIR": it makes a clone of the sample estate.
func copyEstate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: estate DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "examples", "estate"))))
	ts.Check(ts.Exec("git", "init", "--quiet", "--initial-branch", "main", dir))
	commit(ts, false, []string{dir, "Declare the estate"})
}

// commit is "commit DIR MESSAGE": it commits everything in a work tree.
func commit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: commit DIR MESSAGE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(ts.Exec("git", "-C", dir, "add", "--all"))
	ts.Check(ts.Exec("git", "-C", dir, "commit", "--quiet", "--message", args[1]))
}

// mode is "mode PERMISSIONS FILE": the file has the octal permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, not %s", args[1], got, args[0])
	}
}

// writeLog is "log REPOSITORY KEY [backups]": it makes an audit repository with a short log, of releases or of backups, and the key
// that signs it.
func writeLog(ts *testscript.TestScript, neg bool, args []string) {
	drafts := releaseRecords
	switch {
	case !neg && len(args) == 3 && args[2] == "backups":
		drafts = backupRecords
	case neg || len(args) != 2:
		ts.Fatalf("usage: log REPOSITORY KEY [backups]")
	}
	ts.Check(makeLog(ts.MkAbs(args[0]), ts.MkAbs(args[1]), ts.MkAbs(".log"), drafts()))
}

// makeLog makes an audit repository, the key that signs it, and the folder that the log is kept in meanwhile.
func makeLog(repository, file, dir string, drafts []evidence.Draft) error {
	if said, err := exec.Command("git", "init", "--quiet", "--bare", repository).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, said)
	}
	if _, err := evidence.GenerateKey(file, "agent"); err != nil {
		return err
	}
	key, err := evidence.LoadKey(file)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, err := evidence.Open(ctx, evidence.Options{
		Dir: dir, Remote: evidence.Remote{URL: "file://" + repository},
		Writer: "agent", Key: key, Trusted: evidence.Trust(key.Public()), Init: true,
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	var last evidence.Record
	for _, d := range drafts {
		if last, err = log.Add(d); err != nil {
			break
		}
	}
	if err == nil {
		err = log.Published(ctx, last.Index)
	}
	return errors.Join(err, log.Close(ctx), <-ended)
}

func releaseRecords() []evidence.Draft {
	release := []evidence.Subject{{Name: "release/dev", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}}
	return []evidence.Draft{
		{Type: evidence.TypeStart, Key: []string{"1"}, Predicate: evidence.Start{Version: "v1", Renderer: "r1"}},
		{Type: evidence.TypePlan, Environment: "dev", Deployment: 1, Subjects: release,
			Predicate: evidence.Plan{Purpose: evidence.PurposeRelease, Summary: map[string]int{"created": 2}}},
		{Type: evidence.TypeRefused, Environment: "qa", Key: []string{"1"},
			Predicate: evidence.Refused{Stage: evidence.StageRender, Errors: []string{"two\nlines\x1b[2J"}}},
		{Type: evidence.TypeStop, Key: []string{"1"}, Predicate: evidence.Stop{Reason: "asked to stop"}},
	}
}

// backupRecords are of a backup that is good in one store and bad in another, of a drill and of a failure.
func backupRecords() []evidence.Draft {
	const id = backup.ID("20261122T101500Z-dev-abcdefgh")
	at := id.Began()
	cause := evidence.Cause{Policy: "shop", Governance: strings.Repeat("12", 20), Reason: "it is time"}
	manifest := store.Object{Key: backup.ManifestKey("dev", id), Version: "v1", Size: 10, SHA256: strings.Repeat("ab", 32), LockedUntil: at.Add(72 * time.Hour)}
	looked := func(in string, found ...backup.Finding) evidence.Verification {
		v := evidence.Verification{Cause: cause, Store: in, Passed: len(found) == 0}
		v.Verification = backup.Verification{Environment: "dev", ID: id, Manifest: manifest, Asked: backup.L1, Began: at, Ended: at.Add(time.Minute)}
		if v.Findings.Findings = found; v.Passed {
			v.Reached = backup.L1
		}
		return v
	}
	drill := evidence.RestoreTest{Cause: cause, Store: "near", Drill: "latest 0 5 * * *", Counts: true}
	drill.DrillReport = backup.DrillReport{
		Environment: "dev", Point: "latest", Candidates: 1, ID: id, Manifest: manifest, Snapshot: at, RPO: time.Hour, RTO: 2 * time.Minute, WantRTO: time.Hour,
		Began: at, Ended: at.Add(time.Hour), Unfinished: "somebody\x1b[2J pulled the plug",
	}
	plan, _ := json.Marshal(backup.RetentionPlan{Environment: "dev", Decisions: []backup.Decision{
		{ID: id, Keep: true, Reasons: []string{"newest verified backup\x1b[1m"}, Until: at.Add(72 * time.Hour)},
	}})
	return []evidence.Draft{
		{Type: evidence.TypeStart, Key: []string{"1"}, Predicate: evidence.Start{Version: "v1", Renderer: "r1"}},
		{Type: evidence.TypeBackup, Environment: "dev", Key: []string{"1"}, Predicate: evidence.Backup{
			Cause: cause, ID: id, Store: "near", Manifest: &manifest, Began: at, Snapshot: at, Ended: at.Add(time.Minute), Plain: 1234567,
		}},
		{Type: evidence.TypeVerification, Environment: "dev", Key: []string{"2"}, Predicate: looked("near")},
		{Type: evidence.TypeReplication, Environment: "dev", Key: []string{"3"}, Predicate: evidence.Replication{
			Cause: cause, ID: id, From: "near", To: "far", Manifest: &manifest, Snapshot: at, Began: at, Ended: at.Add(time.Minute),
		}},
		{Type: evidence.TypeVerification, Environment: "dev", Key: []string{"4"}, Predicate: looked("far", backup.Finding{
			Level: backup.L1, Object: "dev/database", What: "torn\x1b[2J", Remedy: "read it again",
		})},
		{Type: evidence.TypeRetention, Environment: "dev", Key: []string{"5"}, Predicate: evidence.Retention{
			Cause: cause, Store: "near", Phase: evidence.RetentionDone, At: at.Add(time.Hour), Kept: 1,
		}, Blobs: []evidence.Blob{{Name: "plan", Data: plan}}},
		{Type: evidence.TypeRestoreTest, Environment: "dev", Key: []string{"6"}, Predicate: drill},
		{Type: evidence.TypeBackup, Environment: "qa", Key: []string{"1"}, Predicate: evidence.Backup{
			Cause: cause, Store: "near", Began: at, Ended: at.Add(time.Minute), Error: "the server\x1b[31m said no",
		}},
	}
}
