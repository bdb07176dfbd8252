package identity

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParties(t *testing.T) {
	r := newRepo(t)
	for name, c := range map[string]struct {
		message string
		want    []string
	}{
		"none":             {"Raise\n\nWhy.\n", nil},
		"one":              {"Raise\n\nCo-authored-by: developer-2 <developer-2@example.com>\n", []string{"developer-2@example.com"}},
		"case":             {"Raise\n\nCO-AUTHORED-BY: developer-2 <developer-2@example.com>\n", []string{"developer-2@example.com"}},
		"several":          {"Raise\n\nWhy.\n\nReviewed-by: x <x@example.com>\nCo-authored-by: a <a@example.com>\nCo-Authored-By: b <b@example.com>\nCo-authored-by: a <a@example.com>\n", []string{"a@example.com", "b@example.com"}},
		"folded":           {"Raise\n\nCo-authored-by: a\n <a@example.com>\nSigned-off-by: x <x@example.com>\n", []string{"a@example.com"}},
		"space":            {"Raise\n\nCo-authored-by : a <a@example.com>\nSigned-off-by: x <x@example.com>\n", []string{"a@example.com"}},
		"no newline":       {"Raise\n\nCo-authored-by: a <a@example.com>", []string{"a@example.com"}},
		"CRLF":             {"Raise\r\n\r\nCo-authored-by: a <a@example.com>\r\n", []string{"a@example.com"}},
		"squash of GitHub": {"Raise (#7)\n\n* First\n\nCo-authored-by: a <a@example.com>\n\n* Second\n\nCo-authored-by: b <b@example.com>\n", []string{"a@example.com", "b@example.com"}},
		"squash of Gitea":  {"Raise (#7)\n\nReviewed-on: https://git.example.com/7\nCo-authored-by: a <a@example.com>\nCo-committed-by: b <b@example.com>\n", []string{"a@example.com", "b@example.com"}},
		"bare address":     {"Raise\n\nCo-authored-by: a@example.com\n", []string{"a@example.com"}},
		"only mentioned":   {"Raise\n\nThe trailer Co-authored-by: a <a@example.com> is missing.\n", nil},
	} {
		raw := []byte("tree " + strings.Repeat("1", 40) + "\nauthor A <author@example.com> 1767225600 +0000\ncommitter C <committer@example.com> 1767225600 +0000\n\n" + c.message)
		p, err := ReadCommit(raw).Parties()
		if err != nil || p.Author != "author@example.com" || p.Committer != "committer@example.com" || !slices.Equal(p.CoAuthors, c.want) {
			t.Errorf("%s: %+v, %v; want %v", name, p, err, c.want)
		}
		// Whatever git takes for a trailer is found.
		for line := range strings.Lines(r.must(c.message, "git", "interpret-trailers", "--parse", "--no-divider")) {
			key, value, _ := strings.Cut(line, ":")
			if email, err := address(value); err == nil && strings.EqualFold(key, "co-authored-by") && !slices.Contains(p.CoAuthors, email) {
				t.Errorf("%s: git finds %s", name, email)
			}
		}
	}
}

func TestPartiesBounds(t *testing.T) {
	head := "tree " + strings.Repeat("1", 40) + "\nauthor A <author@example.com> 1 +0000\ncommitter C <author@example.com> 1 +0000\n\nRaise\n\n"
	var b strings.Builder
	for i := range maxCoAuthors {
		fmt.Fprintf(&b, "Co-authored-by: a <a%d@example.com>\n", i)
	}
	p, err := ReadCommit([]byte(head + b.String())).Parties()
	if err != nil || len(p.All()) != maxCoAuthors+1 {
		t.Errorf("%d addresses, %v", len(p.All()), err)
	}
	if _, err := ReadCommit([]byte(head + b.String() + "Co-authored-by: b <b@example.com>\n")).Parties(); err == nil {
		t.Error("more co-authors than allowed are read")
	}
	if _, err := ReadCommit([]byte(strings.Replace(head, "<author@example.com>", "author@example.com", 1))).Parties(); err == nil {
		t.Error("an author without address is read")
	}
	// The address is what Git takes for it: up to the first >.
	p, err = ReadCommit([]byte(strings.Replace(head, "A <author@example.com>", "A <x@example.com> <author@example.com>", 1))).Parties()
	if err != nil || p.Author != "x@example.com" {
		t.Errorf("%+v, %v", p, err)
	}
}
