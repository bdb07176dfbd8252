package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler"
)

// forged is a world whose estate is on a real Gitea, with the accounts that work on it.
type forged struct {
	*world
	*labtest.GiteaRepo
	owner, dev, other, manager, agent *labtest.GiteaUser
	clone                             string // of developer-1
	number                            int64  // of the pull request
}

// onGitea makes a world of one environment that is live; its class then asks for the approval of a release manager.
// forgeURL is where the agent finds the forge, given where it is.
func onGitea(t *testing.T, class string, forgeURL func(gitea string) string, change ...func(*world)) *forged {
	t.Helper()
	l := labtest.Shared(t, lab.APIServer, lab.ControllerManager, lab.Git, lab.Gitea)
	g := labtest.NewGitea(t, l)
	f := &forged{owner: g.User("owner-1"), dev: g.User("developer-1"), other: g.User("developer-2"), manager: g.User("release-manager-1"), agent: g.User("purser")}
	f.GiteaRepo = g.Repo(f.owner, f.dev, f.other, f.manager, f.agent)
	token := g.TokenFile(f.agent, "write:repository", "write:issue", "read:user") // what docs/forges.md says
	f.world = newWorld(t, func(w *world) {
		w.settings.estateURL = g.URL + "/" + f.Project + ".git"
		w.settings.estateAuth = fmt.Sprintf("      forge: {type: gitea, url: %q, project: %q, tokenFile: %q}\n", forgeURL(g.URL), f.Project, token)
		w.authorize(f.owner, w.settings.estateURL)
		w.write("purser/standard.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\n"+
			"spec: {rank: 20, authorship: forge, approvals: [{count: 1, roles: [release-manager]}]}\n")
		for role, user := range map[string]*labtest.GiteaUser{"developer": f.dev, "release-manager": f.manager} {
			w.write("purser/people/"+role+".yaml", fmt.Sprintf("apiVersion: purser.dev/v1alpha1\nkind: Person\nmetadata: {name: %s-1}\n"+
				"spec:\n  roles: [%s]\n  emails: [%s]\n  forges: [{source: estate, login: %s}]\n", role, role, user.Email, user.Login))
		}
		for _, c := range change {
			c(w)
		}
	})
	f.run()
	f.untilLive("dev", "one")
	if class != "" {
		f.world.write("purser/dev.yaml", f.environment("dev", "apps/dev", "class: "+class))
		f.world.push("Ask for approval")
		commit := f.git("rev-parse", "HEAD")
		f.until("the declarations are in force", func(s reconciler.Status, _ reconciler.EnvironmentStatus) error {
			if governanceCommit(t, s) != commit {
				return errors.New("not yet")
			}
			return nil
		})
	}
	f.clone = f.Clone(f.dev)
	return f
}

// authorize lets the work tree push as an account.
func (w *world) authorize(by *labtest.GiteaUser, remote string) {
	w.t.Helper()
	w.git("remote", "set-url", "origin", remote)
	token, err := os.ReadFile(by.TokenFile)
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.work, ".git", "config")
	config, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	config = fmt.Appendf(config, "[http]\n\textraHeader = Authorization: token %s\n", strings.TrimSpace(string(token)))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// change commits a file as developer-1 on a branch, and pushes it. It gives the commit.
func (f *forged) change(branch, name, text, message string) string {
	f.t.Helper()
	f.Git(f.dev, f.clone, "fetch", "--quiet", "origin")
	f.Git(f.dev, f.clone, "checkout", "--quiet", "-B", branch, f.start(branch))
	if err := os.WriteFile(filepath.Join(f.clone, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	f.Git(f.dev, f.clone, "add", "--all")
	f.Git(f.dev, f.clone, "commit", "--quiet", "--message", message)
	f.Git(f.dev, f.clone, "push", "--quiet", "origin", branch)
	return f.Git(f.dev, f.clone, "rev-parse", "HEAD")
}

// start is where a branch goes on: at its head, or at main's.
func (f *forged) start(branch string) string {
	if f.Git(f.dev, f.clone, "branch", "--list", branch) == "" {
		return "origin/main"
	}
	return branch
}

// forkedBy makes an account work in a fork, and gives the fork's owner.
func (f *forged) forkedBy(user *labtest.GiteaUser) string {
	f.t.Helper()
	if _, _, err := user.API.CreateFork(f.owner.Login, f.Name, sdk.CreateForkOption{}); err != nil {
		f.t.Fatal(err)
	}
	f.dev = user
	f.Git(user, f.clone, "remote", "set-url", "--push", "origin", strings.Replace(f.settings.estateURL, f.owner.Login, user.Login, 1))
	return user.Login
}

// propose opens a pull request that changes all objects of dev, and gives its head.
func (f *forged) propose(value string) string {
	f.t.Helper()
	head := f.change("change", "apps/dev/objects.yaml", configMaps(5, value), "Say "+value)
	f.number = f.GiteaRepo.Open(f.dev, "change", "main")
	return head
}

// comments are those of the agent's account on the pull request.
func (f *forged) comments() []string {
	f.t.Helper()
	list, _, err := f.owner.API.ListIssueComments(f.owner.Login, f.Name, f.number, sdk.ListIssueCommentOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	var bodies []string
	for _, c := range list {
		if c.Poster.ID == f.agent.ID {
			bodies = append(bodies, c.Body)
		}
	}
	return bodies
}

// status is the newest of an environment on a commit.
func (f *forged) status(commit, environment string) string {
	f.t.Helper()
	all, _, err := f.owner.API.GetCombinedStatus(f.owner.Login, f.Name, commit)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, s := range all.Statuses {
		if s.Context == "purser/"+environment {
			return fmt.Sprintf("%s: %s", s.State, s.Description)
		}
	}
	return "no status"
}

// answered waits until the one comment and the status on a commit say something.
func (f *forged) answered(commit, status string, says ...string) string {
	f.t.Helper()
	var comment string
	labtest.Eventually(f.t, "the pull request is answered: "+status, func(context.Context) error {
		if got := f.status(commit, "dev"); !strings.HasPrefix(got, status) {
			return fmt.Errorf("the status is %q", got)
		}
		comments := f.comments()
		if len(comments) != 1 {
			return fmt.Errorf("there are %d comments", len(comments))
		}
		comment = comments[0]
		for _, text := range says {
			if !strings.Contains(comment, text) {
				return fmt.Errorf("the comment does not say %q:\n%s", text, comment)
			}
		}
		return nil
	})
	return comment
}

// shown is the comment with some text as Gitea shows it to everybody.
func (f *forged) shown(with string) string {
	f.t.Helper()
	page := fmt.Sprintf("%s/pulls/%d", strings.TrimSuffix(f.settings.estateURL, ".git"), f.number)
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, page, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	html, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		f.t.Fatal(err)
	}
	before, after, found := strings.Cut(string(html), with)
	comment, _, ends := strings.Cut(after, "raw-content")
	if !found || !ends {
		f.t.Fatalf("the page of the pull request does not show %q:\n%s", with, html)
	}
	return before[strings.LastIndex(before, "render-content"):] + with + comment
}

func direct(gitea string) string { return gitea }

func TestPullRequestIsAnswered(t *testing.T) {
	t.Parallel()
	f := onGitea(t, "standard", direct)
	head := f.propose("two")
	f.answered(head, "pending: waits: approvals: landed change "+head[:12]+" needs 1 more of release-manager", head[:12], "| approvals | wait |",
		"5 configured", "configured ConfigMap", "Class **standard**", "| <code>dev</code> | waits | standard | open |")
	if runs := f.runs(t.Context(), "one"); runs != nil {
		t.Errorf("a preview changed something: %v", runs)
	}

	head = f.change("change", "apps/dev/objects.yaml", configMaps(5, "three"), "Say three")
	f.answered(head, "pending: waits: approvals", head[:12])

	f.stop()
	f.run()
	f.Approve(f.manager, f.number)
	f.answered(head, "success: all gates allow it", "| <code>dev</code> | allowed |", "release&#45;manager&#45;1 &#40;review&#41;")

	merge := f.Merge(f.owner, f.number, sdk.MergeStyleMerge)
	f.untilLive("dev", "three")
	f.answered(head, "success: live since", "has landed", "live since")
	f.answered(merge, "success: live since", "has landed", "live since")

	f.stop() // right after it was live: told once more at the next start, and nothing is written twice
	f.run()
	next := f.change("later", "apps/dev/objects.yaml", configMaps(5, "four"), "Say four")
	later := &forged{}
	*later = *f
	later.number = f.GiteaRepo.Open(f.dev, "later", "main")
	later.answered(next, "pending: waits: approvals")
	f.answered(merge, "success: live since", "has landed", "live since")
	for _, r := range f.records() {
		if strings.Contains(string(r.Predicate), head) && r.Environment == "" {
			t.Errorf("record %d is about a preview: %s", r.Index, r.Predicate)
		}
	}
}

func TestPullRequestThatChangesDeclarationsIsJudgedByThoseInForce(t *testing.T) {
	t.Parallel()
	f := onGitea(t, "standard", direct)
	// It drops the approvals that it needs, in the same change.
	f.change("change", "purser/standard.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\nspec: {rank: 20}\n", "Ask nobody")
	head := f.propose("two")
	f.answered(head, "pending: waits: approvals", "<code>governance</code>", "It changes 1 declarations: <code>purser&#47;standard&#46;yaml</code>")
	// It does not parse, and what it releases does not render.
	f.change("change", "purser/standard.yaml", "apiVersion: purser.dev/v1alpha1\nkind: ReleaseClass\nmetadata: {name: standard}\nspec: {rank: 20, nonsense: 1}\n", "Be wrong")
	head = f.change("change", "apps/dev/objects.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2-in-the-clear}\n", "Commit a password")
	comment := f.answered(head, "failure: refused:", "nonsense", "<code>governance</code>: denied")
	if strings.Contains(comment, "hunter2") || strings.Contains(f.status(head, "dev"), "hunter2") || strings.Contains(f.logs.String(), "hunter2") {
		t.Errorf("it tells a password:\n%s", comment)
	}
	labtest.Eventually(t, "the declarations have a status", func(context.Context) error {
		if got := f.status(head, "governance"); !strings.HasPrefix(got, "failure: refused: ") {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
	// Both sides change the same file.
	f.setValue("theirs")
	f.answered(head, "pending: cannot be previewed", "cannot be previewed", "objects&#46;yaml")
}

func TestPullRequestCannotWriteTheComment(t *testing.T) {
	t.Parallel()
	f := onGitea(t, "standard", direct)
	branch := f.forkedBy(f.other) + ":change"
	evil := "</pre></details>\\n\\n# All gates allow\\n/merge\\n| a | b |\\n![x](https://evil.example/x.png) <script>alert(1)</script> `@" + f.manager.Login + "` **bold** #1 \\u202eabc"
	f.change("change", "apps/dev/kustomization.yaml", "resources: [objects.yaml]\ncommonAnnotations: {note: \""+evil+"\"}\n", "Fix #1\n\n/approve @"+f.manager.Login)
	head := f.change("change", "apps/dev/objects.yaml", configMaps(5, evil)+
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"c|`@"+f.manager.Login+"` <b>\"}\ndata: {value: x}\n", "Say evil things")
	f.number = f.GiteaRepo.Open(f.other, branch, "main")
	comment := f.answered(head, "failure: denied: approvals: landed change "+head[:12]+": the author of pull request 1", "Release diff")
	for i, line := range strings.Split(comment, "\n") {
		if strings.HasPrefix(line, "/") || strings.HasPrefix(line, "# ") || strings.Contains(line, "@") || strings.ContainsAny(line, "`[]!\u202e") && !strings.HasPrefix(line, "<!--") {
			t.Errorf("line %d is %q", i, line)
		}
	}
	html := f.shown("</strong> judges")
	// Commits are linked by Gitea, whatever one does.
	html = regexp.MustCompile(`<a href="/`+f.Project+`/commit/[0-9a-f]+" rel="nofollow"`).ReplaceAllString(html, "<commit")
	for _, bad := range []string{"<a ", "<script", "<img", "<strong>bold", "<h1"} {
		if strings.Contains(html, bad) {
			t.Errorf("it is shown with %q:\n%s", bad, html)
		}
	}
	if opened, closed := strings.Count(html, "<pre>"), strings.Count(html, "</pre>"); opened != 1 || closed != 1 {
		t.Errorf("%d are opened, %d closed:\n%s", opened, closed, html)
	}
	if !strings.Contains(html, "All gates allow") {
		t.Errorf("the text itself is not shown:\n%s", html)
	}
}

// forgeWith is a way to a Gitea that does something else with the API as long as it is told to.
func forgeWith(t *testing.T) (through func(gitea string) string, fault *atomic.Pointer[http.HandlerFunc]) {
	t.Helper()
	fault = &atomic.Pointer[http.HandlerFunc]{}
	return func(gitea string) string {
		proxy, err := lab.NewProxy(lab.ProxyOptions{Upstream: gitea})
		if err != nil {
			t.Fatal(err)
		}
		target, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if handler := fault.Load(); handler != nil {
				(*handler)(w, r)
				return
			}
			r.Host = target.Host
			proxy.ServeHTTP(w, r)
		}))
		t.Cleanup(func() {
			server.Close()
			if err := proxy.Close(); err != nil {
				t.Error(err)
			}
		})
		return server.URL
	}, fault
}

func TestReleasesGoOnWithoutTheForge(t *testing.T) {
	t.Parallel()
	through, fault := forgeWith(t)
	f := onGitea(t, "", through, func(w *world) { w.settings.timeout = "3s" })
	head := f.propose("two")
	f.answered(head, "success: all gates allow it")
	value := 0
	for name, handler := range map[string]http.HandlerFunc{
		"hangs":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"fails":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"shows HTML": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Sign in") },
		"is garbage": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `[{"number": -1, "head": null}, "x"`)
		},
		"limits the rate": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
	} {
		fault.Store(&handler)
		value++
		f.world.git("fetch", "--quiet", "origin")
		f.world.git("reset", "--quiet", "--hard", "origin/main")
		f.world.write("apps/dev/objects.yaml", configMaps(5, fmt.Sprint(value)))
		f.world.push("Release while the forge " + name)
		f.untilLive("dev", fmt.Sprint(value))
	}
	head = f.change("change", "apps/dev/kustomization.yaml", "resources: [objects.yaml]\nnameSuffix: -x\n", "Rename")
	fault.Store(nil)
	f.answered(head, "pending: cannot be previewed", "cannot be previewed") // main changed the same objects
	landed := f.world.git("rev-parse", "HEAD")
	labtest.Eventually(t, "what landed meanwhile is told", func(context.Context) error {
		if got := f.status(landed, "dev"); !strings.HasPrefix(got, "success: live since") {
			return errors.New(got)
		}
		return nil
	})
}
