package sources

import (
	"errors"
	"slices"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func TestLanded(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "1"})
	c.git("checkout", "-q", "-b", "topic")
	topic := c.commit(map[string]string{"g": "topic"})
	c.git("checkout", "-q", "main")
	two := c.commit(map[string]string{"f": "2"})
	c.git("merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
	merge := c.git("rev-parse", "HEAD")
	three := c.commit(map[string]string{"f": "3"})
	c.git("checkout", "-q", "--orphan", "alone")
	alone := c.commit(map[string]string{"h": "alone"})
	c.push("main", "alone")
	r := open(t, Options{URL: s.url()})
	mustSync(t, r, "main", "alone")

	landed := func(from, to string, limit int) []string {
		t.Helper()
		ids, err := r.Landed(from, to, limit)
		if err != nil {
			t.Fatalf("Landed(%s, %s): %v", from, to, err)
		}
		return ids
	}
	for _, tc := range []struct {
		from, to string
		limit    int
		want     []string
	}{
		{one, three, 10, []string{two, merge, three}}, {one, three, 3, []string{two, merge, three}}, {three, three, 1, nil},
		{"", two, 10, []string{one, two}}, {"", two, 2, []string{one, two}}, {two, merge, 1, []string{merge}}, {topic, topic, 0, nil},
	} {
		if got := landed(tc.from, tc.to, tc.limit); !slices.Equal(got, tc.want) {
			t.Errorf("Landed(%.7s, %.7s, %d) = %v, want %v", tc.from, tc.to, tc.limit, got, tc.want)
		}
	}
	for _, tc := range []struct {
		from, to string
		limit    int
		want     error
	}{
		{topic, three, 10, ErrNotAncestor}, {alone, three, 10, ErrNotAncestor}, {three, one, 10, ErrNotAncestor},
		{one, three, 2, ErrTooMany}, {"", three, 2, ErrTooMany}, {one, "main", 10, ErrNoCommit},
	} {
		if got, err := r.Landed(tc.from, tc.to, tc.limit); !errors.Is(err, tc.want) {
			t.Errorf("Landed(%.7s, %.7s, %d) = %v, %v; want %v", tc.from, tc.to, tc.limit, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		from, to string
		want     bool
	}{{one, three, true}, {topic, three, true}, {three, three, true}, {three, one, false}, {alone, three, false}, {topic, two, false}} {
		if got, err := r.ancestor(t.Context(), plumbing.NewHash(tc.from), plumbing.NewHash(tc.to)); got != tc.want || err != nil {
			t.Errorf("ancestor(%.7s, %.7s) = %v, %v", tc.from, tc.to, got, err)
		}
	}
}

func TestRevision(t *testing.T) {
	rev := Revision{Branch: "envs/prod@eu", Commit: "0123456789012345678901234567890123456789"}
	if got, want := rev.String(), "envs/prod@eu@sha1:0123456789012345678901234567890123456789"; got != want {
		t.Errorf("String = %s", got)
	}
	if got, err := ParseRevision(rev.String()); err != nil || got != rev {
		t.Errorf("ParseRevision = %v, %v", got, err)
	}
	for _, s := range []string{"", "main", "main@sha1:", "@sha1:" + rev.Commit, "main@sha1:" + rev.Commit + "0", "main@sha1:ABC"} {
		if got, err := ParseRevision(s); err == nil {
			t.Errorf("ParseRevision(%q) = %v", s, got)
		}
	}
}
