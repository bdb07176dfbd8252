package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-github/v75/github"
)

const githubPage = 100

// githubBackend speaks with GitHub: https://docs.github.com/en/rest
type githubBackend struct {
	*call
	client *github.Client
}

func newGitHub(c *call) (backend, error) {
	client := github.NewClient(c.http())
	client.BaseURL = c.base.JoinPath("/") // the library wants the slash
	client.DisableRateLimitCheck = true   // it would forget what it learnt after this operation
	return &githubBackend{c, client}, nil
}

// githubList reads all pages of a list.
func githubList[T any](g *githubBackend, fetch func(github.ListOptions) ([]T, *github.Response, error)) ([]T, error) {
	return allPages(g.limits, githubPage, func(page int) ([]T, bool, error) {
		items, resp, err := fetch(github.ListOptions{Page: page, PerPage: githubPage})
		return items, resp != nil && resp.NextPage > page, err
	})
}

func githubUser(u *github.User) User {
	return User{Login: u.GetLogin(), ID: u.GetID(), Bot: u.GetType() == "Bot"}
}

func (g *githubBackend) pullRequestOf(ctx context.Context, branch, commit string) (*PullRequest, error) {
	found, err := githubList(g, func(o github.ListOptions) ([]*github.PullRequest, *github.Response, error) {
		return g.client.PullRequests.ListPullRequestsWithCommit(ctx, g.owner, g.name, commit, &o)
	})
	if err != nil {
		return nil, err
	}
	number, err := g.choose(ctx, branch, commit, g.mergedInto(branch, found))
	if err != nil || number == 0 {
		return nil, err
	}
	return g.pullRequest(ctx, number)
}

// mergedInto keeps what was merged into the branch of this project.
func (g *githubBackend) mergedInto(branch string, list []*github.PullRequest) []*github.PullRequest {
	var merged []*github.PullRequest
	for _, p := range list {
		if p.MergedAt != nil && p.GetBase().GetRef() == branch && strings.EqualFold(p.GetBase().GetRepo().GetFullName(), g.options.Project) {
			merged = append(merged, p)
		}
	}
	return merged
}

// choose returns the number of the pull request that brought the commit; 0 when there is none.
func (g *githubBackend) choose(ctx context.Context, branch, commit string, found []*github.PullRequest) (int, error) {
	if number, err := endingWith(found, commit); number != 0 || err != nil {
		return number, err
	}
	if len(found) == 0 {
		repo, _, err := g.client.Repositories.Get(ctx, g.owner, g.name)
		if err != nil {
			return 0, err
		}
		switch repo.GetDefaultBranch() {
		case "":
			return 0, fmt.Errorf("%w: the project has no default branch", ErrUnknown)
		case branch:
			return 0, nil
		}
		// Off the default branch, GitHub tells of open pull requests only, so that all closed ones are looked through.
		closed, err := githubList(g, func(o github.ListOptions) ([]*github.PullRequest, *github.Response, error) {
			return g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{State: "closed", Base: branch, ListOptions: o})
		})
		if err != nil {
			return 0, err
		}
		found = g.mergedInto(branch, closed)
		if number, err := endingWith(found, commit); number != 0 || err != nil || len(found) == 0 {
			return number, err
		}
		return g.earlierPart(ctx, branch, commit, found)
	}
	number, err := g.earlierPart(ctx, branch, commit, found)
	if number != 0 || err != nil {
		return number, err
	}
	// GitHub names pull requests, but their merges explain the commit neither as their end nor as part of a rebase: it
	// may be one of their own commits that was pushed to the branch as well.
	for _, p := range found {
		commits, err := g.commits(ctx, p.GetNumber())
		if err != nil {
			return 0, err
		}
		for _, c := range commits {
			if c.SHA != commit {
				continue
			}
			if number != 0 {
				return 0, fmt.Errorf("%w: pull requests %d and %d both have the commit", ErrAmbiguous, number, p.GetNumber())
			}
			number = p.GetNumber()
		}
	}
	if number == 0 {
		return 0, fmt.Errorf("%w: GitHub names %d pull requests, but none of them ends with the commit or has it", ErrAmbiguous, len(found))
	}
	return number, nil
}

func endingWith(list []*github.PullRequest, commit string) (int, error) {
	number := 0
	for _, p := range list {
		if p.GetMergeCommitSHA() != commit {
			continue
		}
		if number != 0 && number != p.GetNumber() {
			return 0, fmt.Errorf("%w: pull requests %d and %d both end with the commit", ErrAmbiguous, number, p.GetNumber())
		}
		number = p.GetNumber()
	}
	return number, nil
}

// earlierPart returns the number of the pull request of whose rebase the commit is an earlier part; 0 when there is none.
func (g *githubBackend) earlierPart(ctx context.Context, branch, commit string, list []*github.PullRequest) (int, error) {
	path, err := line(g.limits, commit, func(page int) ([]Commit, error) {
		commits, _, err := g.client.Repositories.ListCommits(ctx, g.owner, g.name,
			&github.CommitsListOptions{SHA: branch, ListOptions: github.ListOptions{Page: page, PerPage: githubPage}})
		var list []Commit
		for _, c := range commits {
			list = append(list, githubCommit(c))
		}
		return list, err
	})
	if err != nil {
		return 0, err
	}
	if path == nil {
		return 0, fmt.Errorf("%w: the commit is not on the first-parent line of %s", ErrNotFound, branch)
	}
	pr, err := rebasedInto(g.limits, path, func(newer string) (*PullRequest, error) {
		number, err := endingWith(list, newer)
		if err != nil || number == 0 {
			return nil, err
		}
		commits, err := g.commits(ctx, number)
		return &PullRequest{Number: int64(number), Commits: commits}, err
	})
	if err != nil || pr == nil {
		return 0, err
	}
	return int(pr.Number), nil
}

func githubCommit(c *github.RepositoryCommit) Commit {
	git := c.GetCommit()
	out := Commit{
		SHA: c.GetSHA(), Author: githubUser(c.GetAuthor()), Committer: githubUser(c.GetCommitter()),
		author: git.GetAuthor().GetName(), email: git.GetAuthor().GetEmail(), date: git.GetAuthor().GetDate().Time,
		committerEmail: git.GetCommitter().GetEmail(), message: git.GetMessage(),
	}
	for _, p := range c.Parents {
		out.parents = append(out.parents, p.GetSHA())
	}
	out.claims()
	return out
}

func (g *githubBackend) commits(ctx context.Context, number int) ([]Commit, error) {
	all, err := githubList(g, func(o github.ListOptions) ([]*github.RepositoryCommit, *github.Response, error) {
		return g.client.PullRequests.ListCommits(ctx, g.owner, g.name, number, &o)
	})
	var list []Commit
	for _, c := range all {
		list = append(list, githubCommit(c))
	}
	return list, err
}

func (g *githubBackend) pullRequest(ctx context.Context, number int) (*PullRequest, error) {
	p, _, err := g.client.PullRequests.Get(ctx, g.owner, g.name, number)
	if err != nil {
		return nil, err
	}
	if !p.GetMerged() || p.GetNumber() != number {
		return nil, fmt.Errorf("%w: pull request %d is not merged", ErrAmbiguous, number)
	}
	pr := &PullRequest{
		Number: int64(number), URL: p.GetHTMLURL(), Author: githubUser(p.GetUser()), MergedBy: githubUser(p.GetMergedBy()),
		MergedAt: p.GetMergedAt().Time, Base: p.GetBase().GetRef(), Head: p.GetHead().GetSHA(), MergeCommit: p.GetMergeCommitSHA(),
		HeadRef: fmt.Sprintf("refs/pull/%d/head", number),
	}
	pr.LandedBy = pr.MergedBy // also where somebody pushed a merge of their own
	if pr.Commits, err = g.commits(ctx, number); err != nil {
		return nil, err
	}
	if p.GetCommits() != len(pr.Commits) { // at most 250 are listed
		return nil, hint(fmt.Errorf("%w: GitHub lists %d of %d commits", ErrUnknown, len(pr.Commits), p.GetCommits()),
			"approve it by statements; propose changes of at most 250 commits")
	}
	if err := g.reviews(ctx, number, pr); err != nil {
		return nil, err
	}
	if id := p.GetHead().GetRepo().GetID(); id != 0 && id == p.GetBase().GetRepo().GetID() {
		pr.headBranch = p.GetHead().GetRef()
	}
	return pr, g.pushers(ctx, pr)
}

func (g *githubBackend) reviews(ctx context.Context, number int, pr *PullRequest) error {
	all, err := githubList(g, func(o github.ListOptions) ([]*github.PullRequestReview, *github.Response, error) {
		return g.client.PullRequests.ListReviews(ctx, g.owner, g.name, number, &o)
	})
	if err != nil {
		return err
	}
	states := map[string]State{"APPROVED": Approved, "CHANGES_REQUESTED": ChangesRequested, "COMMENTED": Commented, "DISMISSED": Dismissed}
	for _, r := range all {
		if r.GetState() == "PENDING" { // not given yet
			continue
		}
		state, ok := states[r.GetState()]
		if !ok {
			return fmt.Errorf("%w: review %d has the state %q", ErrUnknown, r.GetID(), r.GetState())
		}
		pr.Reviews = append(pr.Reviews, Review{
			ID: r.GetID(), User: githubUser(r.User), State: state, Head: r.GetCommitID(), At: r.GetSubmittedAt().Time,
			Dismissed: state == Dismissed,
		})
	}
	return g.targets(ctx, number, pr)
}

// targets looks for the last change of the base.
func (g *githubBackend) targets(ctx context.Context, number int, pr *PullRequest) error {
	events, err := githubList(g, func(o github.ListOptions) ([]*github.IssueEvent, *github.Response, error) {
		return g.client.Issues.ListIssueEvents(ctx, g.owner, g.name, number, &o)
	})
	for _, e := range events {
		switch e.GetEvent() {
		case "base_ref_changed", "automatic_base_change_succeeded":
			err = errors.Join(err, pr.retargeted(e.GetCreatedAt().Time))
		}
	}
	return err
}

// pushers reads the activity of the head branch, newest first. Activity that does not go back far enough leaves the
// pushers unknown; a token that may not read it does, too.
func (g *githubBackend) pushers(ctx context.Context, pr *PullRequest) error {
	if pr.headBranch == "" {
		return nil
	}
	var pushes []push
	options := &github.ListRepositoryActivityOptions{Ref: "refs/heads/" + pr.headBranch, PerPage: githubPage}
	for range g.limits.Pages {
		list, resp, err := g.client.Repositories.ListRepositoryActivities(ctx, g.owner, g.name, options)
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, a := range list {
			by := User{Login: a.GetActor().GetLogin(), ID: a.GetActor().GetID(), Bot: a.GetActor().GetType() == "Bot"}
			pushes = append(pushes, push{before: a.Before, after: a.After, by: by})
		}
		pr.Pushers, pr.PushersKnown = pushersOf(pr.Head, pr.Commits, pushes)
		if pr.PushersKnown || resp.After == "" {
			return nil
		}
		options.After = resp.After
	}
	return nil
}

func (g *githubBackend) open(ctx context.Context) ([]OpenPullRequest, error) {
	all, err := githubList(g, func(o github.ListOptions) ([]*github.PullRequest, *github.Response, error) {
		return g.client.PullRequests.List(ctx, g.owner, g.name, &github.PullRequestListOptions{State: "open", ListOptions: o})
	})
	var list []OpenPullRequest
	for _, p := range all {
		list = append(list, githubOpen(p))
	}
	return list, err
}

func (g *githubBackend) describe(ctx context.Context, pr *PullRequest) (err error) {
	number := int(pr.Number)
	if pr.Commits, err = g.commits(ctx, number); err != nil {
		return err
	}
	if err := g.reviews(ctx, number, pr); err != nil {
		return err
	}
	return g.pushers(ctx, pr)
}

func githubOpen(p *github.PullRequest) OpenPullRequest {
	return OpenPullRequest{
		Number: int64(p.GetNumber()), URL: p.GetHTMLURL(), Title: p.GetTitle(), Author: githubUser(p.GetUser()), Draft: p.GetDraft(),
		Base: p.GetBase().GetRef(), Branch: p.GetHead().GetRef(), Head: p.GetHead().GetSHA(),
		HeadRef: fmt.Sprintf("refs/pull/%d/head", p.GetNumber()),
		Fork:    p.GetHead().GetRepo().GetID() != p.GetBase().GetRepo().GetID(),
		Updated: p.GetUpdatedAt().Time,
	}
}

// protection adds up what rules for the branch and its own protection say. Who may bypass a rule is told to
// administrators only, so with rules alone somebody may.
func (g *githubBackend) protection(ctx context.Context, branch string) (Protection, error) {
	rules, _, err := g.client.Repositories.GetRulesForBranch(ctx, g.owner, g.name, branch, &github.ListOptions{PerPage: githubPage})
	if err != nil {
		return Protection{}, err
	}
	p := Protection{AdminBypass: true, ForcePush: len(rules.NonFastForward) == 0}
	p.Protected = len(rules.PullRequest) > 0 || len(rules.NonFastForward) > 0
	for _, r := range rules.PullRequest {
		p.RequiredApprovals = max(p.RequiredApprovals, r.Parameters.RequiredApprovingReviewCount)
		p.DismissStale = p.DismissStale || r.Parameters.DismissStaleReviewsOnPush
	}
	own, _, err := g.client.Repositories.GetBranchProtection(ctx, g.owner, g.name, branch)
	switch {
	case errors.Is(err, ErrNotFound) && strings.Contains(err.Error(), "Branch not protected"):
		p.Known = true
		return p, nil
	case errors.Is(err, ErrDenied), errors.Is(err, ErrNotFound):
		return p, nil // for administrators of the project
	case err != nil:
		return Protection{}, err
	}
	p.Known, p.Protected = true, true
	p.ForcePush = p.ForcePush && own.GetAllowForcePushes() != nil && own.GetAllowForcePushes().Enabled
	if r := own.GetRequiredPullRequestReviews(); r != nil {
		p.RequiredApprovals = max(p.RequiredApprovals, r.RequiredApprovingReviewCount)
		p.DismissStale = p.DismissStale || r.DismissStaleReviews
		p.AdminBypass = own.GetEnforceAdmins() == nil || !own.GetEnforceAdmins().Enabled ||
			r.BypassPullRequestAllowances != nil && len(r.BypassPullRequestAllowances.Users)+len(r.BypassPullRequestAllowances.Teams)+len(r.BypassPullRequestAllowances.Apps) > 0
	}
	return p, nil
}

func (g *githubBackend) status(ctx context.Context, commit, name string) (*Status, error) {
	all, err := githubList(g, func(o github.ListOptions) ([]*github.RepoStatus, *github.Response, error) {
		newest, resp, err := g.client.Repositories.GetCombinedStatus(ctx, g.owner, g.name, commit, &o)
		if err != nil {
			return nil, resp, err
		}
		return newest.Statuses, resp, nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.GetContext() == name {
			return &Status{Context: name, State: StatusState(s.GetState()), Description: s.GetDescription(), URL: s.GetTargetURL()}, nil
		}
	}
	return nil, nil
}

func (g *githubBackend) setStatus(ctx context.Context, commit string, s Status) error {
	status := &github.RepoStatus{Context: &s.Context, State: github.Ptr(string(s.State)), Description: &s.Description}
	if s.URL != "" {
		status.TargetURL = &s.URL
	}
	_, _, err := g.client.Repositories.CreateStatus(ctx, g.owner, g.name, commit, status)
	return err
}

// self asks whose the token is. An app's installation token may not ask the REST API that, only GraphQL.
func (g *githubBackend) self(ctx context.Context) (User, error) {
	me, _, err := g.client.Users.Get(ctx, "")
	if !errors.Is(err, ErrDenied) {
		return githubUser(me), err
	}
	path := "/graphql"
	if prefix, enterprise := strings.CutSuffix(g.base.Path, "/v3"); enterprise {
		path = prefix + path
	}
	req, err := g.client.NewRequest(http.MethodPost, path, map[string]string{"query": "query { viewer { login } }"})
	if err != nil {
		return User{}, err
	}
	var answer struct {
		Data struct {
			Viewer struct {
				Login string `json:"login"`
			} `json:"viewer"`
		} `json:"data"`
	}
	_, err = g.client.Do(ctx, req, &answer)
	return User{Login: answer.Data.Viewer.Login}, err
}

func (g *githubBackend) comments(ctx context.Context, number int64) ([]comment, error) {
	all, err := githubList(g, func(o github.ListOptions) ([]*github.IssueComment, *github.Response, error) {
		return g.client.Issues.ListComments(ctx, g.owner, g.name, int(number), &github.IssueListCommentsOptions{ListOptions: o})
	})
	var list []comment
	for _, c := range all {
		list = append(list, comment{id: c.GetID(), author: githubUser(c.User), body: c.GetBody()})
	}
	return list, err
}

func (g *githubBackend) createComment(ctx context.Context, number int64, body string) error {
	_, _, err := g.client.Issues.CreateComment(ctx, g.owner, g.name, int(number), &github.IssueComment{Body: &body})
	return err
}

func (g *githubBackend) editComment(ctx context.Context, _, id int64, body string) error {
	_, _, err := g.client.Issues.EditComment(ctx, g.owner, g.name, id, &github.IssueComment{Body: &body})
	return err
}

func (g *githubBackend) create(ctx context.Context, head, base, title, body string) (OpenPullRequest, error) {
	pr, _, err := g.client.PullRequests.Create(ctx, g.owner, g.name, &github.NewPullRequest{Head: &head, Base: &base, Title: &title, Body: &body})
	if err != nil {
		return OpenPullRequest{}, err
	}
	return githubOpen(pr), nil
}
