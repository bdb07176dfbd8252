package sources

import (
	"slices"
	"testing"
)

func TestSyncSeesPushes(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.url())
	one := c.commit(map[string]string{"envs/dev/app.yaml": "one\n"})
	c.push("main")
	r := open(t, Options{URL: s.url()})
	s.takeRequests()
	if got, want := mustSync(t, r, "main"), (HeadChange{Branch: "main", To: one}); !slices.Equal(got, []HeadChange{want}) {
		t.Fatalf("first Sync = %+v", got)
	}
	wantHead(t, r, "main", one)
	if got := readAt(t, r, one, "envs/dev/app.yaml"); got != "one\n" {
		t.Errorf("file = %q", got)
	}
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "POST /git-upload-pack"}) {
		t.Errorf("first Sync made %v", got)
	}
	for range 3 {
		if got := mustSync(t, r, "main"); len(got) != 0 {
			t.Errorf("Sync without news = %+v", got)
		}
	}
	if got := s.takeRequests(); !slices.Equal(got, []string{"GET /info/refs", "GET /info/refs", "GET /info/refs"}) {
		t.Errorf("three Syncs without news made %v", got)
	}
	c.commit(map[string]string{"x": "x"})
	c.push("HEAD:refs/heads/not-wanted")
	if got := mustSync(t, r, "main"); len(got) != 0 {
		t.Errorf("Sync after a push elsewhere = %+v", got)
	}
	two := c.commit(map[string]string{"envs/dev/app.yaml": "two\n"})
	c.push("main", "HEAD:refs/heads/qa")
	s.takeRequests()
	got := mustSync(t, r, "main", "qa")
	want := []HeadChange{{Branch: "main", From: one, To: two}, {Branch: "qa", To: two}}
	if !slices.Equal(got, want) {
		t.Errorf("Sync = %+v, want %+v", got, want)
	}
	if got := s.takeRequests(); len(got) != 2 {
		t.Errorf("Sync of two branches made %v", got)
	}
	if readAt(t, r, one, "envs/dev/app.yaml") != "one\n" || readAt(t, r, two, "envs/dev/app.yaml") != "two\n" {
		t.Error("a tree is not readable")
	}
}
