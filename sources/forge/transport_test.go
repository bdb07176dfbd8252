package forge

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testToken = "s3cr3t-t0ken"

// testClient asks a server of the test, which stands for the forge.
func testClient(t *testing.T, kind Type, handler http.Handler, change func(*Options)) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(testToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Type: kind, URL: server.URL, Project: "retail/estate", TokenFile: file, Timeout: 5 * time.Second}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestBadAnswers gives every forge's client answers that cannot be believed, of which some are JSON.
func TestBadAnswers(t *testing.T) {
	const sha = "1111111111111111111111111111111111111111"
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed, with %v", r.Header)
	}))
	defer elsewhere.Close()
	tests := map[string]struct {
		handler http.Handler
		want    error
	}{
		"page":            {answer(200, "text/html", "<html>login</html>"), ErrUnknown},
		"page as JSON":    {answer(200, "application/json", "<html>login</html>"), ErrUnknown},
		"nothing":         {answer(200, "application/json", ""), ErrUnknown},
		"cut off":         {answer(200, "application/json", `[{"number": 1`), ErrUnknown},
		"another shape":   {answer(200, "application/json", `"yes"`), ErrUnknown},
		"null":            {answer(200, "application/json", "null"), ErrUnknown},
		"list of null":    {answer(200, "application/json", "[null]"), ErrUnknown},
		"empty object":    {answer(200, "application/json", "{}"), ErrUnknown},
		"too large":       {answer(200, "application/json", "["+strings.Repeat(" ", 1<<20)+"]"), ErrUnknown},
		"error as page":   {answer(404, "text/html", "not found"), ErrUnknown},
		"repeats token":   {answer(403, "application/json", `{"message": "bad token `+testToken+`"}`), ErrDenied},
		"redirect":        {http.RedirectHandler(elsewhere.URL+"/?token="+testToken, http.StatusFound), ErrUnknown},
		"redirect of one": {http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect), ErrUnknown},
		"not found":       {answer(404, "application/json", `{"message": "404 Not Found"}`), ErrNotFound},
		"stale cache": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Cache-Control") != "no-cache" {
				t.Error("a cache is not told to ask the forge")
			}
			w.Header().Set("Age", "90")
			answer(200, "application/json", `[]`)(w, nil)
		}), ErrUnknown},
		"primary limit": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", "1000090")
			answer(403, "application/json", `{"message": "API rate limit exceeded"}`)(w, nil)
		}), ErrUnknown},
	}
	for name, test := range tests {
		for _, kind := range []Type{Gitea, GitHub, GitLab} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				c := testClient(t, kind, test.handler, func(o *Options) {
					o.Limits.AnswerBytes = 1 << 20
					o.Now = func() time.Time { return time.Unix(1_000_000, 0) }
				})
				pr, err := c.PullRequestOf(t.Context(), "main", sha)
				if pr != nil || !errors.Is(err, test.want) {
					t.Errorf("got %+v, %v, want %v", pr, err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), testToken) {
					t.Errorf("the error holds the token: %v", err)
				}
				var limit *RateLimitError
				if name == "primary limit" && (!errors.As(err, &limit) || limit.RetryAfter != 90*time.Second) {
					t.Errorf("got %v", err)
				}
				if err := c.SetStatus(t.Context(), sha, Status{Context: "purser/qa", State: Success}); !errors.Is(err, test.want) && name != "empty object" {
					t.Errorf("status: %v, want %v", err, test.want)
				}
			})
		}
	}
}

// Whoever was told to ask less asks nothing until then, whatever it is about.
func TestRateLimitIsKept(t *testing.T) {
	const sha = "1111111111111111111111111111111111111111"
	now, requests := time.Unix(1_000_000, 0), 0
	c := testClient(t, Gitea, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
	}), func(o *Options) { o.Now = func() time.Time { return now } })
	ask := func(want int, left time.Duration) {
		t.Helper()
		_, err := c.PullRequestOf(t.Context(), "main", sha)
		var limit *RateLimitError
		if !errors.As(err, &limit) || limit.RetryAfter != left || requests != want {
			t.Errorf("%d requests, %v, want %d and %s", requests, err, want, left)
		}
		if _, err := c.Open(t.Context()); !errors.Is(err, ErrUnknown) || requests != want {
			t.Errorf("%d requests, %v", requests, err)
		}
	}
	ask(1, 90*time.Second)
	now = now.Add(30 * time.Second)
	ask(1, 60*time.Second)
	now = now.Add(60 * time.Second)
	ask(2, 90*time.Second)
	now = now.Add(-time.Hour) // a clock that went back must not make it wait for that long
	ask(3, 90*time.Second)
}

// A list that never ends is an error, not its beginning.
func TestEndlessList(t *testing.T) {
	for _, kind := range []Type{Gitea, GitHub, GitLab} {
		requests := 0
		c := testClient(t, kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?page=%d>; rel="next"`, r.Host, r.URL.Path, requests+1))
			w.Header().Set("X-Next-Page", fmt.Sprint(requests+1))
			fmt.Fprint(w, `[{"number": 1, "iid": 1, "head": {"sha": "1111111111111111111111111111111111111111"}, "base": {"ref": "main"}}]`)
		}), func(o *Options) { o.Limits.Pages = 3 })
		if list, err := c.Open(t.Context()); list != nil || !errors.Is(err, ErrUnknown) || requests != 3 {
			t.Errorf("%s: %+v, %v after %d requests", kind, list, err, requests)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Options{Type: Gitea, URL: "https://gitea.example.com", Project: "retail/estate", TokenFile: "token"}
	for want, change := range map[string]func(*Options){
		"only sent over https": func(o *Options) { o.URL = "http://gitea.example.com" },
		"must look like https": func(o *Options) { o.URL = "https://user:word@gitea.example.com" },
		"like https://host":    func(o *Options) { o.URL = "gitea.example.com" },
		"like owner/name":      func(o *Options) { o.Project = "estate" },
		"look like owner/name": func(o *Options) { o.Project = "a/../b" },
		"must look like owner": func(o *Options) { o.Project = "group/retail/estate" },
		"the type must be":     func(o *Options) { o.Type = "svn" },
		"no token file":        func(o *Options) { o.TokenFile = "" },
		"read CA file":         func(o *Options) { o.CAFile = "/nonexistent" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := New(Options{Type: GitLab, URL: "https://gitlab.com", Project: "group/retail/estate", TokenFile: "token"}); err != nil {
		t.Error(err)
	}
	for url, want := range map[string]string{
		"https://github.com": "https://api.github.com", "https://github.com/": "https://api.github.com",
		"https://retail.ghe.com": "https://api.retail.ghe.com", "https://github.example.com": "https://github.example.com/api/v3",
	} {
		c, err := New(Options{Type: GitHub, URL: url, Project: "retail/estate", TokenFile: "token"})
		if err != nil || c.base.String() != want {
			t.Errorf("%s: %v, %v, want %s", url, c.base, err, want)
		}
	}
}
