package sources

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestKilledWhileSyncing ends a syncing process with SIGKILL, in the middle of a
// pack and at random points of a stream of pushes, and opens what it left.
func TestKilledWhileSyncing(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	commits := []string{c.commit(map[string]string{"f": "0"})}
	c.push("main")
	dir := filepath.Join(t.TempDir(), "copy.git")
	mustSync(t, openAt(t, dir, Options{URL: s.url()}), "main")
	known := 0 // the newest head seen; heads never go back
	for i := 1; i <= 12; i++ {
		child := startChild(t, dir, s.url())
		if i%3 == 0 {
			s.stallInPack(t, func() { commits = append(commits, push(c, i)) })
			waitFor(t, "a part of a pack is on disk", func() bool { return len(partialPacks(dir)) > 0 })
		} else {
			commits = append(commits, push(c, i))
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond) // any point will do
		}
		child.kill(t)
		s.set(func() { s.before = nil })
		r, err := Open(dir, Options{URL: s.url()})
		if err != nil {
			t.Fatalf("Open after kill %d: %v", i, err)
		}
		rev, ok := r.Head("main")
		at := slices.Index(commits, rev.Commit)
		if !ok || at < known {
			t.Errorf("after kill %d the head is %v (commit %d, was %d)", i, rev, at, known)
		} else {
			known = at
			if got := readAt(t, r, rev.Commit, "f"); got != fmt.Sprint(at) {
				t.Errorf("after kill %d the head's file is %q", i, got)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if left := partialPacks(dir); len(left) > 0 {
			t.Errorf("Open left %v", left)
		}
	}
	r := openAt(t, dir, Options{URL: s.url()})
	mustSync(t, r, "main")
	wantHead(t, r, "main", commits[len(commits)-1])
	git(t, dir, "fsck", "--strict")
}

func partialPacks(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "objects/pack/tmp_*")) // the pattern is well formed
	return found
}

func push(c *clone, i int) string {
	c.t.Helper()
	commit := c.commit(map[string]string{"f": fmt.Sprint(i), "random": noise(20<<10 + i)})
	c.push("main")
	return commit
}

// stallInPack pushes while the server stops answering within the next pack,
// and returns when a client waits for the rest of one.
func (s *gitServer) stallInPack(t *testing.T, push func()) {
	t.Helper()
	stalled := make(chan struct{}, 1)
	s.set(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			rec := httptest.NewRecorder()
			s.backend.ServeHTTP(rec, r)
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			_ = http.NewResponseController(w).Flush()
			stalled <- struct{}{}
			<-r.Context().Done()
			return true
		}
	})
	push()
	select {
	case <-stalled:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody fetched")
	}
}

type childProcess struct{ cmd *exec.Cmd }

func startChild(t *testing.T, dir, url string) childProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, syncForever, dir, url)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return childProcess{cmd}
}

func (c childProcess) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // it was killed, which is an error
	if code := c.cmd.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the child ended by itself with %d", code)
	}
}
