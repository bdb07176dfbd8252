package forge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"testing"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/examples/lab/labtest"
)

// people are the accounts of a test; scenes share them.
type people struct {
	g                               *labtest.Gitea
	lab                             *lab.Endpoints
	owner, dev, other, manager, bot *labtest.GiteaUser
	agent                           *labtest.GiteaUser // whose token Purser has
}

func newPeople(t *testing.T) *people {
	t.Helper()
	l := labtest.Shared(t, lab.Gitea)
	g := labtest.NewGitea(t, l)
	return &people{
		g: g, lab: l, owner: g.User("owner-1"), dev: g.User("developer-1"), other: g.User("developer-2"),
		manager: g.User("release-manager-1"), bot: g.User("release-bot"), agent: g.User("purser"),
	}
}

// A scene is one repository with one pull request of developer-1: branch change with one commit.
type scene struct {
	*people
	*labtest.GiteaRepo
	t      *testing.T
	number int64
	first  string // the commit on change
}

func (p *people) scene(t *testing.T) *scene {
	t.Helper()
	s := &scene{people: p, t: t, GiteaRepo: p.g.For(t).Repo(p.owner, p.dev, p.other, p.manager, p.bot, p.agent)}
	s.first = s.CommitNew(p.dev, "change", "first", "Change prices")
	s.number = s.Open(p.dev, "change", "main")
	return s
}

// push adds another commit to the branch.
func (s *scene) push(by *labtest.GiteaUser, message string) string {
	s.t.Helper()
	return s.Commit(by, "change", "file-"+strconv.Itoa(len(message))+by.Login, message)
}

func (s *scene) review(by *labtest.GiteaUser, state sdk.ReviewStateType) {
	s.t.Helper()
	if _, err := s.Review(by, s.number, state); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) merge(style sdk.MergeStyle) string {
	s.t.Helper()
	return s.Merge(s.owner, s.number, style)
}

// bare is the repository on Gitea's disk.
func (s *scene) bare(args ...string) {
	s.t.Helper()
	dir := filepath.Join(s.lab.Dir, "gitea", "repositories", s.Project+".git")
	if out, err := exec.CommandContext(s.t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

func (p *people) client(t *testing.T, r *labtest.GiteaRepo, change func(*Options)) *Client {
	t.Helper()
	o := Options{Type: Gitea, URL: p.g.URL, Project: r.Project, TokenFile: p.agent.TokenFile}
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

// settled asks until Gitea has written its activity, which it does in the background.
func settled(t *testing.T, c *Client, commit string) *PullRequest {
	t.Helper()
	var pr *PullRequest
	labtest.Eventually(t, "facts of "+commit, func(context.Context) (err error) {
		pr, err = c.PullRequestOf(t.Context(), "main", commit) // bounded by its timeout, so that the last error tells
		switch {
		case err != nil:
			return err
		case pr == nil:
			return errors.New("no pull request")
		case !pr.PushersKnown || !pr.LandedBy.Known():
			return fmt.Errorf("pushers are not known: %+v", pr)
		}
		return nil
	})
	return pr
}

func logins(users []User) []string {
	var names []string
	for _, u := range users {
		names = append(names, u.Login)
	}
	slices.Sort(names)
	return names
}

// names of accounts, sorted, for comparisons.
func names(users ...*labtest.GiteaUser) []string {
	var list []string
	for _, u := range users {
		list = append(list, u.Login)
	}
	slices.Sort(list)
	return list
}

// standing returns who approves, those whose approval is not known to be of the merged head with a *.
func standing(pr *PullRequest) []string {
	var list []string
	for _, r := range Approvals(pr) {
		name := r.User.Login
		if r.Stale {
			name += "*"
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
