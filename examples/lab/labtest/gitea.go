package labtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab"
)

// A Gitea is the lab's forge for one test: accounts and repositories are the test's own.
type Gitea struct {
	URL   string
	Admin *gitea.Client

	t    testing.TB
	lab  *lab.Endpoints
	http *http.Client
}

// A GiteaUser is an account.
type GiteaUser struct {
	Login     string // role-xxxxxxxx
	ID        int64
	Email     string
	TokenFile string        // a token that may do everything the account may
	API       *gitea.Client // acts as the account

	password string
}

// A GiteaRepo is a repository with a first commit on main.
type GiteaRepo struct {
	Project string // owner/name
	Owner   *GiteaUser
	Name    string

	g *Gitea
}

// NewGitea returns the forge of a lab that was started with it.
func NewGitea(t testing.TB, l *lab.Endpoints) *Gitea {
	t.Helper()
	g := &Gitea{URL: l.GiteaURL, t: t, lab: l, http: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}}
	t.Cleanup(g.http.CloseIdleConnections)
	token, err := os.ReadFile(l.GiteaTokenFile())
	if err != nil {
		t.Fatalf("read token of Gitea's administrator: %v", err)
	}
	g.Admin = g.client(gitea.SetToken(string(token)))
	return g
}

// For returns the same forge for a subtest.
func (g *Gitea) For(t testing.TB) *Gitea {
	other := *g
	other.t = t
	return &other
}

func (g *Gitea) client(auth gitea.ClientOption) *gitea.Client {
	g.t.Helper()
	client, err := gitea.NewClient(g.URL, gitea.SetHTTPClient(g.http), gitea.SetGiteaVersion(""), auth)
	if err != nil {
		g.t.Fatalf("create client of Gitea: %v", err)
	}
	return client
}

// must fails the test when Gitea refuses what the test needs.
func (g *Gitea) must(what string, err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("%s: %v", what, err)
	}
}

// User creates an account; role is the first part of its name.
func (g *Gitea) User(role string) *GiteaUser {
	g.t.Helper()
	u := &GiteaUser{Login: role + "-" + strings.ToLower(rand.Text()[:8]), password: rand.Text()}
	u.Email = u.Login + "@example.com"
	keep := false
	created, _, err := g.Admin.AdminCreateUser(gitea.CreateUserOption{
		Username: u.Login, Email: u.Email, Password: u.password, MustChangePassword: &keep,
	})
	g.must("create user "+u.Login, err)
	u.ID = created.ID
	var token string
	u.TokenFile, token = g.token(u, gitea.AccessTokenScopeAll)
	u.API = g.client(gitea.SetToken(token))
	return u
}

// TokenFile creates another token of the account, which may do only what the scopes say.
func (g *Gitea) TokenFile(u *GiteaUser, scopes ...gitea.AccessTokenScope) string {
	g.t.Helper()
	file, _ := g.token(u, scopes...)
	return file
}

func (g *Gitea) token(u *GiteaUser, scopes ...gitea.AccessTokenScope) (file, token string) {
	g.t.Helper()
	created, _, err := g.client(gitea.SetBasicAuth(u.Login, u.password)).CreateAccessToken(
		gitea.CreateAccessTokenOption{Name: rand.Text(), Scopes: scopes})
	g.must("create token of "+u.Login, err)
	file = filepath.Join(g.t.TempDir(), "token")
	g.must("write token", os.WriteFile(file, []byte(created.Token+"\n"), 0o600))
	return file, created.Token
}

// Repo creates a repository whose other accounts may write to it. All ways to merge are allowed.
func (g *Gitea) Repo(owner *GiteaUser, writers ...*GiteaUser) *GiteaRepo {
	g.t.Helper()
	r := &GiteaRepo{Owner: owner, Name: Name(g.t), g: g}
	r.Project = owner.Login + "/" + r.Name
	_, _, err := owner.API.CreateRepo(gitea.CreateRepoOption{Name: r.Name, AutoInit: true, DefaultBranch: "main"})
	g.must("create repository", err)
	yes, no := true, false
	_, _, err = owner.API.EditRepo(owner.Login, r.Name, gitea.EditRepoOption{
		HasPullRequests: &yes, AllowMerge: &yes, AllowRebase: &yes, AllowRebaseMerge: &yes, AllowSquash: &yes,
		AllowFastForwardOnlyMerge: &yes, AllowManualMerge: &yes, AutodetectManualMerge: &no,
	})
	g.must("configure repository", err)
	for _, w := range writers {
		mode := gitea.AccessModeWrite
		_, err := owner.API.AddCollaborator(owner.Login, r.Name, w.Login, gitea.AddCollaboratorOption{Permission: &mode})
		g.must("let "+w.Login+" write", err)
	}
	return r
}

// Branch creates a branch at the head of another one.
func (r *GiteaRepo) Branch(by *GiteaUser, name, from string) {
	r.g.t.Helper()
	_, _, err := by.API.CreateBranch(r.Owner.Login, r.Name, gitea.CreateBranchOption{BranchName: name, OldBranchName: from})
	r.g.must("create branch "+name, err)
}

// Commit adds a file to a branch and returns the commit. The account is author, committer and pusher.
func (r *GiteaRepo) Commit(by *GiteaUser, branch, path, message string) string {
	r.g.t.Helper()
	return r.commit(by, path, gitea.FileOptions{BranchName: branch, Message: message})
}

// CommitNew is Commit to a new branch that begins at main, in one push.
func (r *GiteaRepo) CommitNew(by *GiteaUser, branch, path, message string) string {
	r.g.t.Helper()
	return r.commit(by, path, gitea.FileOptions{BranchName: "main", NewBranchName: branch, Message: message})
}

func (r *GiteaRepo) commit(by *GiteaUser, path string, o gitea.FileOptions) string {
	r.g.t.Helper()
	created, _, err := by.API.CreateFile(r.Owner.Login, r.Name, path, gitea.CreateFileOptions{
		FileOptions: o,
		Content:     base64.StdEncoding.EncodeToString([]byte(rand.Text() + "\n")),
	})
	r.g.must("commit", err)
	return created.Commit.SHA
}

// Head returns the commit of a branch.
func (r *GiteaRepo) Head(branch string) string {
	r.g.t.Helper()
	b, _, err := r.Owner.API.GetRepoBranch(r.Owner.Login, r.Name, branch)
	r.g.must("read branch "+branch, err)
	return b.Commit.ID
}

// Open opens a pull request and returns its number.
func (r *GiteaRepo) Open(by *GiteaUser, head, base string) int64 {
	r.g.t.Helper()
	pr, _, err := by.API.CreatePullRequest(r.Owner.Login, r.Name, gitea.CreatePullRequestOption{Head: head, Base: base, Title: "Merge " + head})
	r.g.must("open pull request", err)
	return pr.Index
}

// noticed waits until Gitea has noticed the last push to the head branch and checked whether it can be merged. Before,
// reviews are of the old head, and a merge would leave the pull request with it, or without a merge base, for good.
func (r *GiteaRepo) noticed(number int64) {
	r.g.t.Helper()
	Eventually(r.g.t, "head of the pull request", func(context.Context) error {
		pr, _, err := r.Owner.API.GetPullRequest(r.Owner.Login, r.Name, number)
		if err != nil {
			return err
		}
		ref, _, err := r.Owner.API.GetRepoRef(r.Owner.Login, r.Name, fmt.Sprintf("pull/%d/head", number))
		if err == nil && ref.Object.SHA != pr.Head.Sha {
			err = fmt.Errorf("it is %s, its branch %s", ref.Object.SHA, pr.Head.Sha)
		}
		if err == nil && !pr.Mergeable {
			err = errors.New("it cannot be merged yet")
		}
		return err
	})
}

// Review gives a review of the pull request's head and returns its number. It is an error where Gitea refuses it.
func (r *GiteaRepo) Review(by *GiteaUser, number int64, state gitea.ReviewStateType) (int64, error) {
	r.g.t.Helper()
	r.noticed(number)
	body := ""
	if state != gitea.ReviewStateApproved {
		body = "see above"
	}
	review, _, err := by.API.CreatePullReview(r.Owner.Login, r.Name, number, gitea.CreatePullReviewOptions{State: state, Body: body})
	if err != nil {
		return 0, fmt.Errorf("review pull request %d: %w", number, err)
	}
	return review.ID, nil
}

// Approve approves the pull request's head.
func (r *GiteaRepo) Approve(by *GiteaUser, number int64) int64 {
	r.g.t.Helper()
	id, err := r.Review(by, number, gitea.ReviewStateApproved)
	r.g.must("approve", err)
	return id
}

// Merge merges a pull request and returns the commit at which its base branch then stands.
func (r *GiteaRepo) Merge(by *GiteaUser, number int64, style gitea.MergeStyle) string {
	r.g.t.Helper()
	return r.MergeWith(by, number, gitea.MergePullRequestOption{Style: style})
}

// MergeWith merges as the options say.
func (r *GiteaRepo) MergeWith(by *GiteaUser, number int64, o gitea.MergePullRequestOption) string {
	r.g.t.Helper()
	r.noticed(number)
	Eventually(r.g.t, "merge", func(context.Context) error { // Gitea first checks in the background whether it can
		ok, resp, err := by.API.MergePullRequest(r.Owner.Login, r.Name, number, o)
		if err == nil && !ok {
			err = errors.New("refused: " + resp.Status)
		}
		return err
	})
	pr, _, err := r.Owner.API.GetPullRequest(r.Owner.Login, r.Name, number)
	r.g.must("read pull request", err)
	if !pr.HasMerged || pr.MergedCommitID == nil {
		r.g.t.Fatalf("pull request %d is not merged", number)
	}
	return *pr.MergedCommitID
}

// Clone clones the repository as the account and returns the folder.
func (r *GiteaRepo) Clone(by *GiteaUser) string {
	r.g.t.Helper()
	dir := r.g.t.TempDir()
	r.Git(by, dir, "clone", "--quiet", r.g.URL+"/"+r.Project+".git", ".")
	return dir
}

// Git runs git as the account and returns its output. The token is not among the arguments.
func (r *GiteaRepo) Git(by *GiteaUser, dir string, args ...string) string {
	r.g.t.Helper()
	token, err := os.ReadFile(by.TokenFile)
	r.g.must("read token", err)
	ctx, cancel := context.WithTimeout(r.g.t.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=" + by.Login, "GIT_AUTHOR_EMAIL=" + by.Email, "GIT_COMMITTER_NAME=" + by.Login, "GIT_COMMITTER_EMAIL=" + by.Email,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader",
		"GIT_CONFIG_VALUE_0=Authorization: token " + strings.TrimSpace(string(token)),
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.g.t.Fatalf("git %s: %v\n%s", args[0], err, bytes.TrimSpace(out))
	}
	return strings.TrimSpace(string(out))
}
