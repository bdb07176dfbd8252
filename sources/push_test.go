package sources

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"context"
	"os"
)

func testOrphan(text string) Orphan {
	return Orphan{
		Files: map[string][]byte{"statement.json": []byte(text), "statement.sig": []byte("signature\n")},
		Name:  "Purser", Email: "statement@purser.invalid", When: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Message: "Statement\n",
	}
}

func TestCreateRef(t *testing.T) {
	server := newSSHServer(t)
	for name, address := range map[string]func(s *gitServer) (string, Auth){
		"http": func(s *gitServer) (string, Auth) { return s.url(), Auth{} },
		"file": func(s *gitServer) (string, Auth) { return s.dir, Auth{} },
		"ssh":  func(s *gitServer) (string, Auth) { return server.url(s.dir), server.auth() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newGitServer(t)
			git(t, s.dir, "config", "receive.fsckObjects", "true")
			url, auth := address(s)
			if _, err := CreateRef(t.Context(), url, auth, statements+"one", testOrphan("one\n")); err == nil || !strings.Contains(err.Error(), "is empty") {
				t.Errorf("an empty repository: %v", err)
			}
			c := newClone(t, s.dir)
			c.commit(map[string]string{"f": "main\n"})
			c.push("main")
			for range 2 { // the same again is no error
				id, err := CreateRef(t.Context(), url, auth, statements+"one", testOrphan("one\n"))
				if err != nil {
					t.Fatal(err)
				}
				if at := git(t, s.dir, "rev-parse", statements+"one"); at != id {
					t.Errorf("the ref is at %s, want %s", at, id)
				}
			}
			if _, err := CreateRef(t.Context(), url, auth, statements+"one", testOrphan("two\n")); !errors.Is(err, ErrRefTaken) {
				t.Errorf("another commit: %v", err)
			}
			if got := git(t, s.dir, "log", "--format=%an <%ae> %aI %P|%s", statements+"one"); got != "Purser <statement@purser.invalid> 2026-01-01T00:00:00+00:00 |Statement" {
				t.Errorf("commit = %s", got)
			}
			if got := git(t, s.dir, "ls-tree", statements+"one"); strings.Count(got, "100644 blob") != 2 || strings.Count(got, "\n") != 1 {
				t.Errorf("tree = %s", got)
			}
			git(t, s.dir, "fsck", "--strict")
			if _, err := CreateRef(t.Context(), url, auth, statements+"../../heads/x y", testOrphan("one\n")); err == nil {
				t.Error("a malformed ref is created")
			}
			// A hook says no, and why.
			hook := filepath.Join(s.dir, "hooks", "update")
			if err := os.WriteFile(hook, []byte("#!/bin/sh\necho statements are closed >&2\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := CreateRef(t.Context(), url, auth, statements+"three", testOrphan("three\n")); err == nil || !strings.Contains(err.Error(), "hook declined") || !strings.Contains(err.Error(), "statements are closed") {
				t.Errorf("refused by a hook: %v", err)
			}
		})
	}
}

func TestCreateRefTogether(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { _, errs[i] = CreateRef(t.Context(), s.url(), Auth{}, statements+"one", testOrphan("one\n")) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestCreateRefLosesTheAnswer has a server that takes the push and then breaks off.
func TestCreateRefLosesTheAnswer(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	s.set(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				s.backend.ServeHTTP(discard{http.Header{}}, r)
				http.Error(w, "gone", http.StatusBadGateway)
			}
			return r.Method == http.MethodPost
		}
	})
	if _, err := CreateRef(t.Context(), s.url(), Auth{}, statements+"one", testOrphan("one\n")); err != nil {
		t.Error(err)
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func TestCreateRefFails(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	c.commit(map[string]string{"f": "main\n"})
	c.push("main")
	create := func(ctx context.Context, url string, a Auth) error {
		_, err := CreateRef(ctx, url, a, statements+"one", testOrphan("one\n"))
		return err
	}
	if err := create(t.Context(), filepath.Join(t.TempDir(), "nowhere"), Auth{}); err == nil {
		t.Error("pushed to nowhere")
	}
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.user, s.password = "git", "other" })
	err := create(t.Context(), s.url(), Auth{PasswordFile: secret})
	if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a wrong password: %v", err)
	}
	s.set(func() { s.password = "s3cret" })
	if err := create(t.Context(), s.url(), Auth{PasswordFile: secret}); err != nil {
		t.Error(err)
	}
	if err := create(t.Context(), "http://git.example/estate.git", Auth{PasswordFile: secret}); err == nil || !strings.Contains(err.Error(), "plain http") {
		t.Errorf("credentials over http: %v", err)
	}
	hold := make(chan struct{})
	s.set(func() { s.before = func(http.ResponseWriter, *http.Request) bool { <-hold; return true } })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := create(ctx, s.url(), Auth{PasswordFile: secret}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
	close(hold)
}
