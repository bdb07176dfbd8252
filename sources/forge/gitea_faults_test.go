package forge

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab"
)

// TestGiteaFaults lets each answer that leads to a pull request fail in each way: none of it may look like no pull request
// or like one with fewer facts.
func TestGiteaFaults(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	s.push(s.other, "Second")
	s.Approve(s.manager, s.number)
	merge := s.merge(sdk.MergeStyleRebase)
	settled(t, p.client(t, s.GiteaRepo, nil), merge)
	var first string
	if c, _, err := s.owner.API.GetSingleCommit(s.owner.Login, s.Name, merge); err != nil {
		t.Fatal(err)
	} else {
		first = c.Parents[0].SHA // found by a walk along the branch
	}
	proxy, err := lab.NewProxy(lab.ProxyOptions{Upstream: p.g.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	newClient := func() *Client {
		return p.client(t, s.GiteaRepo, func(o *Options) { o.URL, o.Timeout = proxy.URL, 2*time.Second })
	}
	c := newClient()
	paths := map[string]string{ // part of the request's path, and the commit whose lookup makes it
		"/commits/" + merge + "/pull": merge,
		"/commits/" + first + "/pull": first,
		"/git/commits/" + first:       first,
		"/git/commits/" + merge:       merge,
		"/" + s.Name + "/commits":     first,
		"/git/refs/":                  merge,
		"/pulls/1/commits":            merge,
		"/pulls/1/reviews":            merge,
		"/activities/feeds":           merge,
	}
	faults := map[string]struct {
		fault lab.Fault
		want  error
	}{
		"500":                   {lab.Fault{Mode: lab.Answer, Status: http.StatusInternalServerError}, ErrUnknown},
		"503":                   {lab.Fault{Mode: lab.Answer, Status: http.StatusServiceUnavailable}, ErrUnknown},
		"429":                   {lab.Fault{Mode: lab.Answer, Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, ErrUnknown},
		"401":                   {lab.Fault{Mode: lab.Answer, Status: http.StatusUnauthorized}, ErrDenied},
		"403":                   {lab.Fault{Mode: lab.Answer, Status: http.StatusForbidden}, ErrDenied},
		"404 of something else": {lab.Fault{Mode: lab.Answer, Status: http.StatusNotFound}, ErrUnknown},
		"a text instead":        {lab.Fault{Mode: lab.Answer, Status: http.StatusOK}, ErrUnknown},
		"a redirect":            {lab.Fault{Mode: lab.Answer, Status: http.StatusMovedPermanently}, ErrUnknown},
		"refused":               {lab.Fault{Mode: lab.CutBefore}, ErrUnknown},
		"cut off":               {lab.Fault{Mode: lab.CutAfter, Bytes: 1}, ErrUnknown},
		"no answer":             {lab.Fault{Mode: lab.Hang}, ErrUnknown},
	}
	for path, commit := range paths {
		for name, f := range faults {
			if name == "no answer" && path != "/pulls/1/reviews" {
				continue // each takes the whole timeout
			}
			hit := false
			f.fault.Match = func(r *http.Request) bool {
				match := strings.HasSuffix(r.URL.Path, path) || strings.HasSuffix(path, "/") && strings.Contains(r.URL.Path, path)
				hit = hit || match
				return match
			}
			if err := proxy.Set(f.fault); err != nil {
				t.Fatal(err)
			}
			pr, err := c.PullRequestOf(t.Context(), "main", commit)
			if name == "429" {
				c = newClient() // the other asks nothing for a while
			}
			if pr != nil || !errors.Is(err, f.want) {
				t.Errorf("%s at %s: got %+v, %v, want %v", name, path, pr, err, f.want)
			}
			var limit *RateLimitError
			if name == "429" && (!errors.As(err, &limit) || limit.RetryAfter != 7*time.Second) {
				t.Errorf("%s at %s: %v", name, path, err)
			}
			if err := proxy.Clear(); err != nil {
				t.Fatal(err)
			}
			if !hit {
				t.Errorf("looking up %s never asked for %s", commit, path)
			}
			checkNoToken(t, p.agent.TokenFile, err)
		}
	}
	if err := proxy.Set(lab.Fault{Mode: lab.Refuse}); err != nil {
		t.Fatal(err)
	}
	if pr, err := c.PullRequestOf(t.Context(), "main", merge); pr != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("forge down: %+v, %v", pr, err)
	}
	if list, err := c.Open(t.Context()); list != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("forge down: %+v, %v", list, err)
	}
	if got, err := c.Protection(t.Context(), "main"); got.Known || !errors.Is(err, ErrUnknown) {
		t.Errorf("forge down: %+v, %v", got, err)
	}
	if err := proxy.Clear(); err != nil {
		t.Fatal(err)
	}
	if pr, err := c.PullRequestOf(t.Context(), "main", merge); err != nil || pr == nil || len(pr.Reviews) != 1 || !pr.PushersKnown {
		t.Errorf("afterwards: %+v, %v", pr, err)
	}
}

func checkNoToken(t *testing.T, file string, err error) {
	t.Helper()
	token, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err != nil && strings.Contains(err.Error(), strings.TrimSpace(string(token))) {
		t.Error("an error holds the token")
	}
}

// Somebody takes the token away, and gives it back: it is read for every request.
func TestGiteaTokenIsReadEachTime(t *testing.T) {
	p := newPeople(t)
	s := p.scene(t)
	file := t.TempDir() + "/token"
	c := p.client(t, s.GiteaRepo, func(o *Options) { o.TokenFile = file })
	if _, err := c.Open(t.Context()); !errors.Is(err, ErrDenied) {
		t.Errorf("without a file: %v", err)
	}
	for _, content := range []string{"", "0123456789012345678901234567890123456789"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Open(t.Context()); !errors.Is(err, ErrDenied) {
			t.Errorf("with the token %q: %v", content, err)
		}
	}
	token, err := os.ReadFile(p.agent.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, token, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Open(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("with the right token: %+v, %v", list, err)
	}
}

// Gitea may lose where a pull request began, and then says that it has no commits. This proxy says so every time.
func TestGiteaWithoutMergeBase(t *testing.T) {
	p := newPeople(t)
	target, err := url.Parse(p.g.URL)
	if err != nil {
		t.Fatal(err)
	}
	upstream := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pulls/1/commits") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "[]")
			return
		}
		upstream.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	for _, style := range []sdk.MergeStyle{sdk.MergeStyleMerge, sdk.MergeStyleSquash, sdk.MergeStyleRebase, sdk.MergeStyleFastForwardOnly} {
		t.Run(string(style), func(t *testing.T) {
			s := p.scene(t)
			s.push(s.other, "Second")
			if style == sdk.MergeStyleRebase {
				s.Commit(s.owner, "main", "meanwhile", "Meanwhile")
			}
			merge := s.merge(style)
			twoCommits(t, s, settled(t, p.client(t, s.GiteaRepo, func(o *Options) { o.URL = proxy.URL }), merge))
		})
	}
}
