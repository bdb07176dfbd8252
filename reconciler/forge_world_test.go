package reconciler_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	sdk "code.gitea.io/sdk/gitea"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
)

// forgeWorld is a world whose estate is on a real Gitea, which the agent asks through a proxy. Each case of a test has an
// environment of its own, so that they share one agent.
type forgeWorld struct {
	*world
	g     *labtest.Gitea
	repo  *labtest.GiteaRepo
	proxy *forgeProxy
	in    map[string]string // environment → namespace; environments of one namespace have one class

	owner, dev, manager, other, bot, agentAccount *labtest.GiteaUser
	second                                        *labtest.GiteaUser // another account of release-manager-1
	renamed                                       *labtest.GiteaUser // of release-manager-3, declared with its number
	stranger                                      *labtest.GiteaUser // nobody's
}

// reviewClasses ask for one or two release managers, and go by what the forge says of authors, or by signatures.
const reviewClasses = `apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: reviewed}
spec:
  rank: 20
  approvals: [{count: 1, roles: [release-manager]}]
  authorship: forge
---
apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: double}
spec:
  rank: 30
  approvals: [{count: 2, roles: [release-manager]}]
  authorship: forge
---
apiVersion: purser.dev/v1alpha1
kind: ReleaseClass
metadata: {name: signed}
spec:
  rank: 40
  signatures: required
  approvals: [{count: 1, roles: [release-manager]}]
`

// newForgeWorld declares the environments, with their classes, brings them live, and runs the agent.
func newForgeWorld(t *testing.T, classes map[string]string) *forgeWorld {
	t.Helper()
	f := &forgeWorld{in: map[string]string{}}
	f.world = newWorld(t, func(w *world) {
		f.world = w
		f.g = labtest.NewGitea(t, labtest.Shared(t, lab.APIServer, lab.ControllerManager, lab.Git, lab.Gitea))
		f.accounts()
		f.estateOnGitea()
		w.write("purser/classes.yaml", reviewClasses)
		w.write("purser/dev.yaml", "")
		if err := os.Remove(filepath.Join(w.work, "purser/dev.yaml")); err != nil {
			t.Fatal(err)
		}
		namespaces := map[string]string{"reviewed": w.namespace}
		for name, class := range classes {
			if namespaces[class] == "" {
				namespaces[class] = labtest.Namespace(t, w.lab)
				w.allow("default", namespaces[class])
			}
			f.in[name] = namespaces[class]
		}
		for name := range classes { // the first release asks for nothing
			f.declare(name, "low")
			w.write("apps/"+name+"/kustomization.yaml", "resources: [objects.yaml, more.yaml]\n")
			w.write("apps/"+name+"/objects.yaml", oneObject(name, "one"))
			w.write("apps/"+name+"/more.yaml", oneObject(name+"-more", "one"))
		}
	})
	f.run()
	for name := range classes {
		f.untilAnswer(name, "live", func() error { return f.isLive(name, "") })
	}
	for name, class := range classes {
		f.declare(name, class)
	}
	f.push("Ask for reviews")
	head := f.git("rev-parse", "HEAD")
	f.untilAnswer("governance", "in force", func() error {
		if got := governanceCommit(t, f.agent.Status()); got != head {
			return fmt.Errorf("%s is, not %s", got, head)
		}
		return nil
	})
	return f
}

// declare gives an environment a class.
func (f *forgeWorld) declare(name, class string) {
	f.t.Helper()
	f.write("purser/"+name+".yaml", strings.ReplaceAll(f.environment(name, "apps/"+name, "class: "+class), f.namespace, f.in[name]))
}

// accounts makes the accounts, and declares whose they are.
func (f *forgeWorld) accounts() {
	f.owner, f.dev, f.manager, f.other = f.g.User("owner-1"), f.g.User("developer-1"), f.g.User("release-manager-1"), f.g.User("release-manager-2")
	f.bot, f.agentAccount, f.second = f.g.User("release-bot"), f.g.User("purser"), f.g.User("release-manager-1")
	f.renamed, f.stranger = f.g.User("release-manager-3"), f.g.User("release-manager-l")
	declare := func(name, role, more string, accounts ...*labtest.GiteaUser) {
		var forges, emails []string
		for _, u := range accounts {
			forges = append(forges, fmt.Sprintf("{source: estate, login: %s, id: %d}", u.Login, u.ID))
			emails = append(emails, u.Email)
		}
		f.member(name, role, fmt.Sprintf("%sforges: [%s]\nemails: [%s]", more, strings.Join(forges, ", "), strings.Join(emails, ", ")))
	}
	declare("owner-1", "governance-owner", "", f.owner)
	declare("developer-1", "developer", "", f.dev)
	declare("release-manager-1", "release-manager", "", f.manager, f.second)
	declare("release-manager-2", "release-manager", "", f.other)
	declare("release-manager-3", "release-manager", "", f.renamed)
	declare("release-bot", "release-manager", "bot: true\n", f.bot)
}

// estateOnGitea moves the estate to a project of owner-1.
func (f *forgeWorld) estateOnGitea() {
	f.t.Helper()
	f.repo = f.g.Repo(f.owner, f.dev, f.manager, f.second, f.other, f.renamed, f.bot, f.agentAccount)
	f.proxy = newForgeProxy(f.t, f.g.URL)
	f.estate = &lab.Repo{Name: f.repo.Name, URL: f.g.URL + "/" + f.repo.Project + ".git"}
	f.git("remote", "set-url", "origin", f.estate.URL)
	f.as(f.owner)
	f.settings.estateURL = f.estate.URL
	f.settings.auth = sources.Auth{PasswordFile: f.owner.TokenFile}
	f.settings.estateAuth = fmt.Sprintf(`      auth: {passwordFile: %s}
      forge: {type: gitea, url: "%s", project: %s, tokenFile: %s}
`, f.agentAccount.TokenFile, f.proxy.URL, f.repo.Project, f.agentAccount.TokenFile)
}

// as makes git in the work tree act as an account. The token is not among the arguments.
func (f *forgeWorld) as(u *labtest.GiteaUser) {
	f.t.Helper()
	token, err := os.ReadFile(u.TokenFile)
	if err != nil {
		f.t.Fatal(err)
	}
	f.gitEnv = []string{
		"GIT_AUTHOR_NAME=" + u.Login, "GIT_AUTHOR_EMAIL=" + u.Email, "GIT_COMMITTER_NAME=" + u.Login, "GIT_COMMITTER_EMAIL=" + u.Email,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: token " + strings.TrimSpace(string(token)),
	}
}

func oneObject(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// edit commits another value for an environment to a branch, which may be new. The account is author and pusher.
func (f *forgeWorld) edit(by *labtest.GiteaUser, environment, from, branch, value, message string) string {
	f.t.Helper()
	return f.editFile(by, environment, environment, "objects.yaml", from, branch, value, message)
}

func (f *forgeWorld) editFile(by *labtest.GiteaUser, environment, object, file, from, branch, value, message string) string {
	f.t.Helper()
	path := "apps/" + environment + "/" + file
	old, _, err := by.API.GetContents(f.owner.Login, f.repo.Name, from, path)
	if err != nil {
		f.t.Fatalf("read %s at %s: %v", path, from, err)
	}
	options := sdk.FileOptions{BranchName: from, Message: message}
	if branch != from {
		options.NewBranchName = branch
	}
	made, _, err := by.API.UpdateFile(f.owner.Login, f.repo.Name, path, sdk.UpdateFileOptions{
		FileOptions: options, SHA: old.SHA, Content: base64.StdEncoding.EncodeToString([]byte(oneObject(object, value))),
	})
	if err != nil {
		f.t.Fatalf("edit %s: %v", path, err)
	}
	return made.Commit.SHA
}

// propose opens a pull request of an account that sets an environment's value to "two", and gives its number.
func (f *forgeWorld) propose(by *labtest.GiteaUser, environment string) int64 {
	f.t.Helper()
	f.edit(by, environment, "main", environment, "two", "Say two")
	return f.repo.Open(by, environment, "main")
}

func (f *forgeWorld) review(by *labtest.GiteaUser, number int64, state sdk.ReviewStateType) {
	f.t.Helper()
	if _, err := f.repo.Review(by, number, state); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forgeWorld) merge(number int64, style sdk.MergeStyle) string {
	f.t.Helper()
	return f.repo.Merge(f.owner, number, style)
}

// isLive says why an environment does not run all that was proposed, with the value in its ConfigMap; "" is any.
func (f *forgeWorld) isLive(environment, value string) error {
	e := find(f.agent.Status(), environment)
	if e.Live == nil || e.Proposed == nil || e.Live.Release != e.Proposed.Release {
		return fmt.Errorf("%s: %s", e.Outcome, e.Reason)
	}
	if value == "" {
		return nil
	}
	return f.holds(environment, value)
}

// holds says how the ConfigMap of an environment differs.
func (f *forgeWorld) holds(environment, value string) error {
	object, err := f.kube.CoreV1().ConfigMaps(f.in[environment]).Get(f.t.Context(), environment, metav1.GetOptions{})
	if err == nil && object.Data["value"] != value {
		err = fmt.Errorf("it runs %q", object.Data["value"])
	}
	return err
}

// untilAnswer waits until something is as it should be.
func (f *forgeWorld) untilAnswer(environment, what string, true func() error) {
	f.t.Helper()
	labtest.Eventually(f.t, environment+": "+what, func(context.Context) error { return true() })
}

func (f *forgeWorld) untilRunning(environment, value string) {
	f.t.Helper()
	f.untilAnswer(environment, "live with "+value, func() error { return f.isLive(environment, value) })
}

// answers says how what the gates answer about a proposal differs from what is wanted.
func (f *forgeWorld) answers(environment, gate string, answer policy.Answer, says ...string) error {
	e, err := f.agent.Explain(f.t.Context(), environment, f.settings.now())
	if err != nil {
		return err
	}
	if e.Verdict == nil {
		return errors.New("nothing is proposed that is not approved")
	}
	if e.Verdict.Answer == policy.Allow {
		return errors.New("it is allowed")
	}
	for _, g := range e.Verdict.Gates {
		if g.Gate != gate {
			continue
		}
		missing := slices.ContainsFunc(says, func(s string) bool { return !strings.Contains(g.Reason, s) })
		if g.Answer != answer || missing {
			return fmt.Errorf("%s: %s", g.Answer, g.Reason)
		}
		return nil
	}
	return fmt.Errorf("no gate %q", gate)
}

func (f *forgeWorld) untilAnswers(environment string, answer policy.Answer, says ...string) {
	f.t.Helper()
	f.untilAnswer(environment, "the gate approvals says: "+strings.Join(says, "; "), func() error {
		return f.answers(environment, "approvals", answer, says...)
	})
}

// forgeProxy stands before Gitea, and answers in its place where a test says so.
type forgeProxy struct {
	URL string

	mu     sync.Mutex
	answer func(http.ResponseWriter, *http.Request) bool // false: Gitea answers; nil: always
}

func newForgeProxy(t *testing.T, forge string) *forgeProxy {
	t.Helper()
	target, err := url.Parse(forge)
	if err != nil {
		t.Fatal(err)
	}
	upstream := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: &http.Transport{DisableKeepAlives: true}, ErrorLog: log.New(io.Discard, "", 0)}
	p := &forgeProxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		if answer == nil || !answer(w, r) {
			upstream.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// set answers in the forge's place; nil lets it answer itself again.
func (p *forgeProxy) set(answer func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// saying is an answer for every request.
func saying(status int, kind, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter, _ *http.Request) bool {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
	return true
}

// reviewsOf fetches what the forge says of a pull request's reviews.
func (f *forgeWorld) reviewsOf(number int64) []byte {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, fmt.Sprintf("%s/api/v1/repos/%s/pulls/%d/reviews", f.g.URL, f.repo.Project, number), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := os.ReadFile(f.agentAccount.TokenFile)
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Authorization", "token "+strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || response.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte("[")) {
		f.t.Fatalf("reviews of %d: %s, %v", number, response.Status, err)
	}
	return body
}

// approvalsIn counts the approval records of each environment, and the people in them.
func approvalsIn(t *testing.T, records []evidence.Record) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, r := range records {
		if r.Type != evidence.TypeApproval {
			continue
		}
		var p evidence.Approval
		decode(t, r, &p)
		if p.Source != "estate" || p.To == "" || p.Seen.IsZero() || len(p.Landed) == 0 && p.Kind == policy.ByReview {
			t.Errorf("record %d: %+v", r.Index, p)
		}
		if v := p.Review; (p.Kind == policy.ByReview) != (v != nil) || v != nil && (v.ID == 0 || v.Pull == 0 || v.URL == "" || v.Head == "" || v.Answer == "" || p.Word != evidence.WordOfAgent) {
			t.Errorf("record %d: %+v %+v", r.Index, p, v)
		}
		found[r.Environment] = append(found[r.Environment], p.Person+" "+p.Kind)
	}
	return found
}
