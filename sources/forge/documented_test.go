package forge

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// GitHub and GitLab are tested against fixtures from the documentation, which a server of the test answers with: no real
// GitHub or GitLab has seen these requests.

// id is the commit of that name in the fixtures.
func id(name string) string {
	sum := sha1.Sum([]byte(name))
	return hex.EncodeToString(sum[:])
}

var commitName = regexp.MustCompile(`\$([a-z0-9]+)`)

// A documented forge answers with fixtures. Requests for anything else get its 404.
type documented struct {
	prefix  string
	answers map[string]string

	mu     sync.Mutex
	writes []string // method, path, body
}

// documentedForge reads fixtures: files are named "METHOD path?query", or "STATUS path" for a GET that fails.
func documentedForge(t *testing.T, kind Type, prefix string) (*documented, *Client) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + string(kind) + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	expand := func(text string) string {
		return commitName.ReplaceAllStringFunc(text, func(name string) string { return id(name[1:]) })
	}
	d := &documented{prefix: prefix, answers: map[string]string{}}
	for _, f := range txtar.Parse(data).Files {
		body, _, _ := strings.Cut(string(f.Data), "\n\n") // then comes the next comment
		d.answers[expand(f.Name)] = expand(body)
	}
	return d, testClient(t, kind, d, nil)
}

func (d *documented) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), d.prefix)
	query := r.URL.Query()
	for _, name := range []string{"page", "per_page", "order_by", "sort"} {
		query.Del(name)
	}
	plain := path
	if q := query.Encode(); q != "" && r.Method == http.MethodGet {
		path += "?" + q
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if r.Method != http.MethodGet {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		d.mu.Lock()
		d.writes = append(d.writes, fmt.Sprintf("%s %s %s", r.Method, plain, strings.TrimSpace(string(body)))+r.URL.RawQuery)
		d.mu.Unlock()
	}
	if body, ok := d.answers[r.Method+" "+path]; ok {
		fmt.Fprint(w, body)
		return
	}
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
		if body, ok := d.answers[strconv.Itoa(status)+" "+path]; ok {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, `{"message": "404 no fixture for %s %s"}`, r.Method, path)
}

func (d *documented) wrote() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.writes
	d.writes = nil
	return list
}

// A lookup is a commit and what is to be said of it.
type lookup struct {
	commit, branch string
	number         int64 // 0: none
	want           error
}

func (l lookup) check(t *testing.T, c *Client) {
	t.Helper()
	pr, err := c.PullRequestOf(t.Context(), l.branch, id(l.commit))
	if !errors.Is(err, l.want) || (pr != nil) != (l.number != 0) || pr != nil && pr.Number != l.number {
		t.Errorf("%s: %+v, %v, want %d, %v", l.commit, pr, err, l.number, l.want)
	}
}

func TestGitHubAsDocumented(t *testing.T) {
	_, c := documentedForge(t, GitHub, "/api/v3")
	for _, l := range []lookup{
		{"rebased1", "main", 8, nil},
		{"direct", "main", 0, nil},
		{"release", "release", 9, nil},
		{"older", "release", 0, nil},
		{"later", "main", 0, ErrAmbiguous},
		{"large", "main", 0, ErrUnknown},
		{"strange", "main", 0, ErrUnknown},
		{"unknown", "main", 0, ErrNotFound},
	} {
		l.check(t, c)
	}
	pr, err := c.PullRequestOf(t.Context(), "main", id("squash"))
	if err != nil {
		t.Fatal(err)
	}
	if pr.Number != 7 || pr.Head != id("head") || pr.Author.ID != 11 || pr.MergedBy.Login != "owner-1" || pr.HeadRef != "refs/pull/7/head" {
		t.Errorf("pull request is %+v", pr)
	}
	if got := logins(pr.Pushers); !pr.PushersKnown || !slices.Equal(got, []string{"developer-1", "developer-2"}) {
		t.Errorf("pushed by %v, known %t", got, pr.PushersKnown)
	}
	if got := standing(pr); !slices.Equal(got, []string{"dba-1*", "owner-1*", "release-bot[bot]", "release-manager-1"}) {
		t.Errorf("approved by %v", got)
	}
	for _, r := range pr.Reviews {
		if r.User.Bot != (r.User.ID == 31) {
			t.Errorf("review is %+v", r)
		}
	}
	if got := pr.Commits[0]; got.Committer.Known() || !slices.Equal(got.Emails, []string{"developer-1@example.com", "laptop@localhost", "developer-2@example.com"}) {
		t.Errorf("first commit is %+v", got)
	}
}

func TestGitHubAnswersAsDocumented(t *testing.T) {
	d, c := documentedForge(t, GitHub, "/api/v3")
	list, err := c.Open(t.Context())
	if err != nil || len(list) != 1 || list[0].Number != 14 || list[0].Head != id("promote") || !list[0].Author.Bot || list[0].Fork || !list[0].Updated.Equal(updated) {
		t.Errorf("open are %+v, %v", list, err)
	}
	describe(t, c, "dba-1*", "owner-1*", "release-bot[bot]", "release-manager-1")
	for branch, want := range map[string]Protection{
		"main":   {Known: true, Protected: true, RequiredApprovals: 2, DismissStale: true},
		"free":   {Known: true, AdminBypass: true, ForcePush: true},
		"hidden": {AdminBypass: true, ForcePush: true},
	} {
		got, err := c.Protection(t.Context(), branch)
		got.Digest = ""
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", branch, got, err)
		}
	}
	write(t, c, 14, 15)
	if pr, err := c.OpenPullRequest(t.Context(), "promote", "main", "Promote", ""); err != nil || pr.Number != 14 {
		t.Errorf("got %+v, %v", pr, err)
	}
	if pr, err := c.OpenPullRequest(t.Context(), "fix", "main", "Fix", ""); err != nil || pr.Number != 16 {
		t.Errorf("got %+v, %v", pr, err)
	}
	var got []string
	for _, w := range d.wrote() {
		if !strings.HasPrefix(w, "POST /graphql") && !strings.HasPrefix(w, "POST /api/graphql") {
			got = append(got, w)
		}
	}
	want := []string{
		"POST /repos/retail/estate/statuses/" + id("head") + ` {"state":"success","description":"all gates allow","context":"purser/prod-eu"}`,
		`PATCH /repos/retail/estate/issues/comments/102 {"body":"<!-- purser: prod-eu -->\nallowed"}`,
		`POST /repos/retail/estate/issues/15/comments {"body":"<!-- purser: prod-eu -->\nallowed"}`,
		`POST /repos/retail/estate/pulls {"title":"Fix","head":"fix","base":"main","body":""}`,
	}
	sameWrites(t, got, want)
}

// updated is when something last happened to the open pull requests.
var updated = time.Date(2026, 11, 5, 10, 0, 0, 0, time.UTC)

// describe asks about pull request 7 as if it were still open.
func describe(t *testing.T, c *Client, approved ...string) {
	t.Helper()
	open := OpenPullRequest{Number: 7, Base: "main", Branch: "change", Head: id("head")}
	pr, err := c.Describe(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	if got := standing(pr); !slices.Equal(got, approved) || pr.State != "open" || len(pr.Commits) != 2 {
		t.Errorf("approved by %v: %+v", got, pr)
	}
	if got := logins(pr.Pushers); !pr.PushersKnown || !slices.Equal(got, []string{"developer-1", "developer-2"}) {
		t.Errorf("pushed by %v, known %t", got, pr.PushersKnown)
	}
	open.Head = id("later")
	if _, err := c.Describe(t.Context(), open); !errors.Is(err, ErrUnknown) {
		t.Errorf("a head that moved on: %v", err)
	}
}

// write sets a status that stands and one that does not, and comments where there is a comment and where there is none.
func write(t *testing.T, c *Client, commented, uncommented int64) {
	t.Helper()
	for _, s := range []Status{
		{Context: "purser/prod-eu", State: Pending, Description: "waits"},
		{Context: "purser/prod-eu", State: Success, Description: "all gates allow"},
	} {
		if err := c.SetStatus(t.Context(), id("head"), s); err != nil {
			t.Error(err)
		}
	}
	for _, body := range []string{"denied", "allowed"} {
		if err := c.Comment(t.Context(), commented, "purser: prod-eu", body); err != nil {
			t.Error(err)
		}
	}
	if err := c.Comment(t.Context(), uncommented, "purser: prod-eu", "allowed"); err != nil {
		t.Error(err)
	}
}

func sameWrites(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d writes, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("write %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
}

func TestGitLabAsDocumented(t *testing.T) {
	_, c := documentedForge(t, GitLab, "/api/v4")
	for _, l := range []lookup{
		{"forward1", "main", 8, nil},
		{"squash", "main", 10, nil},
		{"inner", "main", 0, ErrAmbiguous},
		{"direct", "main", 0, nil},
		{"develop", "main", 0, nil},
		{"old", "main", 0, ErrUnknown},
		{"twice", "main", 0, ErrAmbiguous},
		{"hollow", "main", 0, ErrUnknown},
		{"unknown", "main", 0, ErrNotFound},
	} {
		l.check(t, c)
	}
	pr, err := c.PullRequestOf(t.Context(), "main", id("merge"))
	if err != nil {
		t.Fatal(err)
	}
	if pr.Number != 7 || pr.Head != id("head") || pr.Author.ID != 11 || pr.MergedBy.Login != "owner-1" || pr.HeadRef != "refs/merge-requests/7/head" {
		t.Errorf("merge request is %+v", pr)
	}
	if got := logins(pr.Pushers); !pr.PushersKnown || !slices.Equal(got, []string{"developer-1", "developer-2"}) {
		t.Errorf("pushed by %v, known %t", got, pr.PushersKnown)
	}
	// dba-1 approved the first version; owner-2 perhaps before the target branch changed; developer-2 wants changes now.
	if got := standing(pr); !slices.Equal(got, []string{"dba-1*", "project_1_bot", "release-manager-1"}) {
		t.Errorf("approved by %v", got)
	}
	for _, r := range pr.Reviews {
		if r.User.Bot != (r.User.ID == 31) {
			t.Errorf("review is %+v", r)
		}
	}
	if got := pr.Commits[0]; got.SHA != id("one") || !slices.Equal(got.Emails, []string{"developer-1@example.com", "developer-3@example.com"}) {
		t.Errorf("first commit is %+v", got)
	}
}

func TestGitLabAnswersAsDocumented(t *testing.T) {
	d, c := documentedForge(t, GitLab, "/api/v4")
	list, err := c.Open(t.Context())
	if err != nil || len(list) != 1 || list[0].Number != 17 || list[0].Head != id("promote") || list[0].Fork || !list[0].Updated.Equal(updated) {
		t.Errorf("open are %+v, %v", list, err)
	}
	describe(t, c, "dba-1*", "project_1_bot", "release-manager-1")
	for branch, want := range map[string]Protection{
		"main":   {Known: true, Protected: true, RequiredApprovals: 2, DismissStale: true},
		"free":   {Known: true, AdminBypass: true, ForcePush: true},
		"hidden": {},
	} {
		got, err := c.Protection(t.Context(), branch)
		got.Digest = ""
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", branch, got, err)
		}
	}
	if got, err := c.Protection(t.Context(), "nowhere"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v, %v", got, err)
	}
	write(t, c, 17, 18)
	if pr, err := c.OpenPullRequest(t.Context(), "promote", "main", "Promote", ""); err != nil || pr.Number != 17 {
		t.Errorf("got %+v, %v", pr, err)
	}
	if pr, err := c.OpenPullRequest(t.Context(), "fix", "main", "Fix", ""); err != nil || pr.Number != 19 {
		t.Errorf("got %+v, %v", pr, err)
	}
	want := []string{
		"POST /projects/retail%2Festate/statuses/" + id("head") + ` {"state":"success","name":"purser/prod-eu","description":"all gates allow"}`,
		`PUT /projects/retail%2Festate/merge_requests/17/notes/102 {"body":"\u003c!-- purser: prod-eu --\u003e\nallowed"}`,
		`POST /projects/retail%2Festate/merge_requests/18/notes {"body":"\u003c!-- purser: prod-eu --\u003e\nallowed"}`,
		`POST /projects/retail%2Festate/merge_requests {"title":"Fix","description":"","source_branch":"fix","target_branch":"main"}`,
	}
	sameWrites(t, d.wrote(), want)
}
