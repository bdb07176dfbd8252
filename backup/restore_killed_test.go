package backup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/purser-gitops/purser/backup/postgres"
	"github.com/purser-gitops/purser/backup/store"
	"github.com/purser-gitops/purser/examples/lab"
)

// A restoreTask is what a process restores, and where.
type restoreTask struct {
	Endpoint, Bucket, Prefix, Credentials, CA string

	Environment, Key, Scratch, Filestore string
	ID                                   ID
	Manifest                             store.Object
	Connection                           postgres.Connection
}

// stalling gives no pack, for ever.
type stalling struct{ examiner }

func (s stalling) Open(ctx context.Context, o store.Object) (io.ReadCloser, error) {
	if strings.Contains(o.Key, "/filestore/") {
		fmt.Println("stalls")
		<-ctx.Done()
	}
	return s.examiner.Open(ctx, o)
}

// restoreChild restores a database, and no filestore.
func restoreChild() error {
	var p restoreTask
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	s, err := store.NewS3(store.S3Options{Endpoint: p.Endpoint, Region: lab.S3Region, Bucket: p.Bucket, Prefix: p.Prefix, Credentials: p.Credentials, CA: p.CA})
	if err != nil {
		return err
	}
	keys, err := age.ParseIdentities(strings.NewReader(p.Key))
	if err != nil {
		return err
	}
	from := Stored{Store: stalling{s}, Environment: p.Environment, ID: p.ID, Manifest: p.Manifest, Identities: keys}
	_, err = Restore(context.Background(), from, Target{Database: postgres.Place{Connection: p.Connection}, Filestore: p.Filestore},
		RestoreOptions{ProofOptions: ProofOptions{Scratch: p.Scratch}})
	return err
}

// What a restore leaves that is killed is removed by the next one into the same target, and nothing else is.
func TestRestoreAfterKill(t *testing.T) {
	t.Parallel()
	s := openStand(t)
	b := s.backUp(t, making{})
	at := s.target(t)
	to := s.s3Options(s.lab.S3URL, lab.S3Writer)
	told, err := json.Marshal(restoreTask{Endpoint: to.Endpoint, Bucket: to.Bucket, Prefix: to.Prefix, Credentials: to.Credentials, CA: to.CA,
		Environment: b.Environment, Key: fmt.Sprint(s.keys[0]), Scratch: scratchFolder(t), Filestore: at.Filestore, ID: b.ID, Manifest: b.Manifest,
		Connection: at.Database.Connection})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"=restore")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(told), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "stalls\n" {
		t.Fatalf("it said %q, %v", line, errors.Join(err, cmd.Wait()))
	}
	name := at.Database.Database
	left := s.databases(t, t.Context(), name+"-purser-")
	if len(left) != 1 {
		t.Fatalf("being restored are %v", left)
	}
	suffix := strings.TrimPrefix(left[0], name+"-purser-")
	// Somebody's own, with names that look alike.
	mark(t, s.lab.PostgresDSN(lab.PostgresOdoo, "postgres"), fmt.Sprintf("CREATE DATABASE %q", name+"-purser-abcdefgh"))
	mine := at.Filestore + ".purser-abcdefgh"
	for _, folder := range []string{mine, at.Filestore + ".purser-" + suffix} {
		if err := os.MkdirAll(filepath.Join(folder, "aa"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var said []string
	o := RestoreOptions{ProofOptions: proofOptions(t), Tell: func(text string) { said = append(said, text) }}
	r, err := Restore(bound(t), b.Stored, at, o)
	if err != nil || len(r.Removed) > 0 || len(said) != 1 || !strings.Contains(said[0], "another process is restoring") {
		t.Fatalf("beside one that goes on: %+v, %q, %v", r, said, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // was killed
	said, o.Confirmation = nil, at.Confirmation(b.ID)
	r, err = Restore(bound(t), b.Stored, at, o)
	if err != nil || len(r.Removed) != 1 || r.Removed[0] != left[0] || len(said) != 1 || !strings.Contains(said[0], left[0]) {
		t.Fatalf("after it was killed: %+v, %q, %v", r, said, err)
	}
	s.sound(t, at)
	if all := s.databases(t, t.Context(), name); len(all) != 3 { // the target, what was there before, and somebody's own
		t.Errorf("there are the databases %v", all)
	}
	if folders, err := filepath.Glob(at.Filestore + ".purser-*"); err != nil || len(folders) != 1 || folders[0] != mine {
		t.Errorf("there are the folders %v, %v", folders, err)
	}
}
