package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

func (s *scene) statuses(commit string) []*sdk.Status {
	s.t.Helper()
	list, _, err := s.owner.API.ListStatuses(s.owner.Login, s.Name, commit, sdk.ListStatusesOption{})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *scene) issueComments() []*sdk.Comment {
	s.t.Helper()
	list, _, err := s.owner.API.ListIssueComments(s.owner.Login, s.Name, s.number, sdk.ListIssueCommentOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// giteaScopes are what docs/forges.md says the token needs.
var giteaScopes = []sdk.AccessTokenScope{"write:repository", "write:issue", "read:user"}

func TestGiteaStatus(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	token := p.g.TokenFile(p.agent, giteaScopes...)
	c := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile = token })
	pending := Status{Context: "purser/prod-eu", State: Pending, Description: "waits\nfor " + strings.Repeat("approval ", 40), URL: "https://purser.example.com/prod-eu"}
	for range 2 { // the second changes nothing
		if err := c.SetStatus(t.Context(), s.first, pending); err != nil {
			t.Fatal(err)
		}
	}
	got := s.statuses(s.first)
	if len(got) != 1 || got[0].State != sdk.StatusPending || got[0].Creator.ID != p.agent.ID || got[0].TargetURL != pending.URL ||
		!strings.HasPrefix(got[0].Description, "waits for approval") || len([]rune(got[0].Description)) != maxDescriptionRunes {
		t.Fatalf("statuses are %+v", got)
	}
	for _, state := range []StatusState{Failure, Error, Success} {
		if err := c.SetStatus(t.Context(), s.first, Status{Context: "purser/prod-eu", State: state}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetStatus(t.Context(), s.first, Status{Context: "purser/qa", State: Failure}); err != nil {
		t.Fatal(err)
	}
	all, _, err := s.owner.API.GetCombinedStatus(s.owner.Login, s.Name, s.first)
	if err != nil || len(all.Statuses) != 2 {
		t.Fatalf("combined status is %+v, %v", all, err)
	}
	for _, status := range all.Statuses {
		if want := map[string]sdk.StatusState{"purser/prod-eu": sdk.StatusSuccess, "purser/qa": sdk.StatusFailure}[status.Context]; status.State != want {
			t.Errorf("%s is %s, want %s", status.Context, status.State, want)
		}
	}
	if err := c.SetStatus(t.Context(), "0123456789012345678901234567890123456789", pending); !errors.Is(err, ErrNotFound) {
		t.Errorf("status of an unknown commit: %v", err)
	}
	for _, bad := range []Status{{Context: "x", State: "great"}, {State: Success}} {
		if err := c.SetStatus(t.Context(), s.first, bad); !errors.Is(err, ErrRefused) {
			t.Errorf("status %+v: %v", bad, err)
		}
	}
	reader := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile = p.g.TokenFile(p.agent, "read:repository") })
	if err := reader.SetStatus(t.Context(), s.first, Status{Context: "purser/dev", State: Success}); !errors.Is(err, ErrDenied) {
		t.Errorf("a token that may only read: %v", err)
	}
}

func TestGiteaComment(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	proxy, err := lab.NewProxy(lab.ProxyOptions{Upstream: p.g.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	token := p.g.TokenFile(p.agent, giteaScopes...)
	c := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile, o.URL = token, proxy.URL })
	const marker = "purser: prod-eu"
	// Somebody else says it first, with our marker.
	fake, _, err := s.dev.API.CreateIssueComment(s.owner.Login, s.Name, s.number, sdk.CreateIssueCommentOption{Body: "<!-- " + marker + " -->\nallowed"})
	if err != nil {
		t.Fatal(err)
	}
	write := func(body string) {
		t.Helper()
		if err := c.Comment(t.Context(), s.number, marker, body); err != nil {
			t.Fatal(err)
		}
	}
	write("denied: approvals")
	write("denied: approvals")
	first := s.issueComments()
	write("allowed\n\n| gate | verdict |\n|---|---|\n")
	second := s.issueComments()
	if len(first) != 2 || len(second) != 2 || first[1].ID != second[1].ID || first[1].Poster.ID != p.agent.ID {
		t.Fatalf("%d comments, then %d", len(first), len(second))
	}
	if second[0].ID != fake.ID || second[0].Body != fake.Body {
		t.Errorf("somebody else's comment is now %q", second[0].Body)
	}
	if want := "<!-- " + marker + " -->\nallowed\n\n| gate | verdict |"; !strings.HasPrefix(second[1].Body, want) {
		t.Errorf("the comment is %q", second[1].Body)
	}
	// Another marker is another comment.
	if err := c.Comment(t.Context(), s.number, "purser: qa", "allowed"); err != nil || len(s.issueComments()) != 3 {
		t.Errorf("%d comments, %v", len(s.issueComments()), err)
	}
	// Gitea writes the comment, but its answer is lost: no second one appears.
	n := s.Open(s.dev, "change", s.anotherBranch())
	s.number = n
	if err := proxy.Set(lab.Fault{Mode: lab.CutAfter, Match: func(r *http.Request) bool { return r.Method == http.MethodPost }, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.Comment(t.Context(), n, marker, "one"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a lost answer: %v", err)
	}
	write("two")
	if got := s.issueComments(); len(got) != 1 || !strings.HasSuffix(strings.TrimSpace(got[0].Body), "two") {
		t.Errorf("after a lost answer there are %d comments", len(got))
	}
	write(strings.Repeat("ä", maxCommentBytes))
	if got := s.issueComments(); len(got) != 1 || len(got[0].Body) > maxCommentBytes || !strings.HasSuffix(got[0].Body, strings.TrimSpace(cutOff)) {
		t.Errorf("a long comment has %d bytes", len(got[0].Body))
	}
	for _, bad := range []string{"", "a-->b", "a\nb"} {
		if err := c.Comment(t.Context(), n, bad, "x"); !errors.Is(err, ErrRefused) {
			t.Errorf("marker %q: %v", bad, err)
		}
	}
	if err := c.Comment(t.Context(), 4711, marker, "x"); err == nil { // Gitea answers 500
		t.Error("commented on a pull request that does not exist")
	}
}

// anotherBranch is main under another name.
func (s *scene) anotherBranch() string {
	s.t.Helper()
	s.Branch(s.owner, "develop", "main")
	return "develop"
}

func TestGiteaOpenPullRequests(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	token := p.g.TokenFile(p.agent, giteaScopes...)
	c := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile = token })
	s.Branch(p.agent, "promote", "main")
	head := s.Commit(p.agent, "promote", "release", "Promote 17.0.4 to prod-eu")
	var number int64
	for range 2 { // the second finds the first
		pr, err := c.OpenPullRequest(t.Context(), "promote", "main", "Promote 17.0.4 to prod-eu", "from staging")
		if err != nil || pr.Head != head || pr.Author.ID != p.agent.ID || number != 0 && pr.Number != number {
			t.Fatalf("got %+v, %v", pr, err)
		}
		number = pr.Number
	}
	list, err := c.Open(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("open are %+v, %v", list, err)
	}
	for _, pr := range list {
		if pr.Number == s.number && (pr.Head != s.first || pr.Branch != "change" || pr.Base != "main" || pr.HeadRef != "refs/pull/1/head" || pr.Fork) {
			t.Errorf("open is %+v", pr)
		}
	}
	checkDescription(t, s, c)
	if _, err := c.OpenPullRequest(t.Context(), "nowhere", "main", "x", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("a branch that does not exist: %v", err)
	}
	s.merge(sdk.MergeStyleMerge)
	if list, err := c.Open(t.Context()); err != nil || len(list) != 1 || list[0].Number != number {
		t.Errorf("after the merge open are %+v, %v", list, err)
	}
}

// checkDescription follows an open pull request through a review and a push.
func checkDescription(t *testing.T, s *scene, c *Client) {
	t.Helper()
	find := func() (found OpenPullRequest) {
		list, err := c.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, pr := range list {
			if pr.Number == s.number {
				found = pr
			}
		}
		return found
	}
	before := find()
	labtest.Eventually(t, "the pusher is known", func(context.Context) error {
		pr, err := c.Describe(t.Context(), before)
		if err != nil {
			return err
		}
		if len(pr.Commits) != 1 || pr.Author.ID != s.dev.ID || !pr.PushersKnown || len(pr.Reviews) != 0 {
			return fmt.Errorf("it is %+v", pr)
		}
		return nil
	})
	labtest.Eventually(t, "a second has passed", func(context.Context) error {
		if !time.Now().Truncate(time.Second).After(before.Updated) { // Gitea counts seconds
			return errors.New("not yet")
		}
		return nil
	})
	s.Approve(s.manager, s.number)
	approved := find()
	if !approved.Updated.After(before.Updated) {
		t.Errorf("a review leaves it updated at %s, as before", approved.Updated)
	}
	pr, err := c.Describe(t.Context(), approved)
	if err != nil || !slices.Equal(standing(pr), names(s.manager)) {
		t.Fatalf("it is %+v, %v", pr, err)
	}
	s.push(s.dev, "One more")
	s.Approve(s.other, s.number) // once Gitea has noticed the push
	if _, err := c.Describe(t.Context(), approved); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a head that is old: %v", err)
	}
	pr, err = c.Describe(t.Context(), find())
	if want := append(names(s.other), s.manager.Login+"*"); err != nil || !slices.Equal(standing(pr), want) {
		t.Errorf("approved by %v, want %v, %v", standing(pr), want, err)
	}
}

func TestGiteaProtection(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	c := p.client(t, s.GiteaRepo, nil)
	if got, err := c.Protection(t.Context(), "main"); err != nil || !got.Known || got.Protected || !got.AdminBypass || !got.ForcePush {
		t.Errorf("unprotected: %+v, %v", got, err)
	}
	s.protect()
	if got, err := c.Protection(t.Context(), "main"); err != nil || got.Known || !got.Protected {
		t.Errorf("seen by somebody who is no administrator: %+v, %v", got, err)
	}
	if _, err := c.Protection(t.Context(), "nowhere"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a branch that does not exist: %v", err)
	}
}
