package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "code.gitea.io/sdk/gitea"
)

const giteaPage = 50 // Gitea's own limit, unless its configuration says otherwise

// giteaBackend speaks with Gitea: https://docs.gitea.com/api/
type giteaBackend struct {
	*call
}

func newGitea(c *call) (backend, error) { return &giteaBackend{c}, nil }

// with is the library's client for a context. Without a version it asks the server for none.
func (g *giteaBackend) with(ctx context.Context) (*sdk.Client, error) {
	return sdk.NewClient(g.base.String(), sdk.SetHTTPClient(g.http()), sdk.SetContext(ctx), sdk.SetGiteaVersion(""))
}

// giteaList reads all pages of a list.
func giteaList[T any](g *giteaBackend, fetch func(sdk.ListOptions) ([]T, *sdk.Response, error)) ([]T, error) {
	return allPages(g.limits, giteaPage, func(page int) ([]T, bool, error) {
		items, resp, err := fetch(sdk.ListOptions{Page: page, PageSize: giteaPage})
		return items, resp != nil && resp.NextPage > page, err
	})
}

func giteaUser(u *sdk.User) User {
	const ghost = -1 // stands for accounts that were deleted
	if u == nil || u.ID == ghost || u.ID == 0 {
		return User{}
	}
	return User{Login: u.UserName, ID: u.ID, Bot: u.ID < 0} // Gitea's own accounts have negative numbers
}

func (g *giteaBackend) pullRequestOf(ctx context.Context, branch, commit string) (*PullRequest, error) {
	client, err := g.with(ctx)
	if err != nil {
		return nil, err
	}
	pr, err := g.mergedAs(client, branch, commit)
	if err != nil {
		return nil, err
	}
	if pr != nil {
		return pr, g.details(client, pr)
	}
	// Gitea knows a rebased pull request by its last commit only.
	path, err := line(g.limits, commit, func(page int) ([]Commit, error) { return g.branchPage(client, branch, page) })
	if err != nil {
		return nil, err
	}
	if path == nil {
		return nil, fmt.Errorf("%w: the commit is not on the first-parent line of %s", ErrNotFound, branch)
	}
	pr, err = rebasedInto(g.limits, path, func(newer string) (*PullRequest, error) {
		pr, err := g.mergedAs(client, branch, newer)
		if err != nil || pr == nil {
			return nil, err
		}
		return pr, g.listCommits(client, pr)
	})
	if err != nil || pr == nil {
		return nil, err
	}
	return pr, g.details(client, pr)
}

// mergedAs returns the pull request whose merge ended with the commit; nil when there is none. Commits are not listed
// yet.
func (g *giteaBackend) mergedAs(client *sdk.Client, branch, commit string) (*PullRequest, error) {
	found, _, err := client.GetCommitPullRequest(g.owner, g.name, commit)
	if errors.Is(err, ErrNotFound) {
		// Also said of a project or commit that the token may not see.
		if _, _, err := client.GetSingleCommit(g.owner, g.name, commit); err != nil {
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if found.Base == nil || found.Base.Name == "" {
		return nil, fmt.Errorf("%w: a pull request without its base branch", ErrUnknown)
	}
	if found.Base.Name == branch {
		return giteaPullRequest(found, commit)
	}
	// A fast-forward from branch to branch: two pull requests end with the same commit, and Gitea names one of them.
	all, err := giteaList(g, func(o sdk.ListOptions) ([]*sdk.PullRequest, *sdk.Response, error) {
		return client.ListRepoPullRequests(g.owner, g.name, sdk.ListPullRequestsOptions{ListOptions: o, State: sdk.StateClosed, Sort: "recentupdate"})
	})
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.HasMerged && p.MergedCommitID != nil && *p.MergedCommitID == commit && p.Base != nil && p.Base.Name == branch {
			return giteaPullRequest(p, commit)
		}
	}
	return nil, nil
}

func giteaPullRequest(p *sdk.PullRequest, commit string) (*PullRequest, error) {
	if !p.HasMerged || p.MergedCommitID == nil || *p.MergedCommitID != commit {
		return nil, fmt.Errorf("%w: pull request %d was not merged as %s", ErrAmbiguous, p.Index, commit)
	}
	pr := &PullRequest{
		Number: p.Index, URL: p.HTMLURL, Author: giteaUser(p.Poster), MergedBy: giteaUser(p.MergedBy), MergeCommit: commit,
		Base: p.Base.Name, HeadRef: fmt.Sprintf("refs/pull/%d/head", p.Index),
	}
	if p.Head != nil && p.Head.RepoID == p.Base.RepoID {
		pr.headBranch = p.Head.Name
	}
	if p.Merged != nil {
		pr.MergedAt = *p.Merged
	}
	return pr, nil
}

// details fills in what a merged pull request consisted of.
func (g *giteaBackend) details(client *sdk.Client, pr *PullRequest) error {
	if pr.Commits == nil {
		if err := g.listCommits(client, pr); err != nil {
			return err
		}
	}
	if err := g.confirmHead(client, pr); err != nil {
		return err
	}
	if err := g.reviews(client, pr); err != nil {
		return err
	}
	return g.pushers(client, pr)
}

// confirmHead compares the head with the merge commit. Gitea merges what the head branch holds, but moves the pull
// request's head there later and only while it is not merged: of a push right before the merge it may never hear. For a
// squash the two cannot be compared here; whoever counts a review compares the content.
func (g *giteaBackend) confirmHead(client *sdk.Client, pr *PullRequest) error {
	merge, err := g.commit(client, pr.MergeCommit)
	if err != nil || len(merge.parents) < 2 {
		return err
	}
	if merge.parents[1] == pr.Head {
		return nil
	}
	second, err := g.commit(client, merge.parents[1]) // the last of a rebase that was then merged
	if err != nil {
		return err
	}
	if rebased([]Commit{second}, pr.Commits) != 1 {
		return hint(fmt.Errorf("%w: %s merged %s, but Gitea says that pull request %d ended with %s", ErrAmbiguous, pr.MergeCommit, merge.parents[1], pr.Number, pr.Head),
			"somebody pushed while it was merged, or it was marked as merged by hand: approve what landed by statements")
	}
	return nil
}

func (g *giteaBackend) commit(client *sdk.Client, sha string) (Commit, error) {
	c, _, err := client.GetSingleCommit(g.owner, g.name, sha)
	if err != nil {
		return Commit{}, err
	}
	return giteaCommit(c)
}

// listCommits fills Head and Commits. The head that the pull request's own answer names is that of its branch, which
// moves on after the merge; this ref does not.
func (g *giteaBackend) listCommits(client *sdk.Client, pr *PullRequest) error {
	ref, _, err := client.GetRepoRef(g.owner, g.name, pr.HeadRef)
	if err != nil {
		return err
	}
	if ref.Object == nil {
		return fmt.Errorf("%w: %s has no commit", ErrUnknown, pr.HeadRef)
	}
	pr.Head = ref.Object.SHA
	commits, err := giteaList(g, func(o sdk.ListOptions) ([]*sdk.Commit, *sdk.Response, error) {
		return client.ListPullRequestCommits(g.owner, g.name, pr.Number, sdk.ListPullRequestCommitsOptions{ListOptions: o})
	})
	if err == nil && len(commits) == 0 && pr.MergeCommit != "" {
		commits, err = g.commitsWithoutBase(client, pr)
	}
	if err != nil {
		return err
	}
	for _, c := range commits {
		one, err := giteaCommit(c)
		if err != nil {
			return err
		}
		pr.Commits = append(pr.Commits, one)
	}
	if len(pr.Commits) > 0 && pr.Commits[0].SHA == pr.Head {
		slices.Reverse(pr.Commits)
	}
	if n := len(pr.Commits); n == 0 || pr.Commits[n-1].SHA != pr.Head {
		return fmt.Errorf("%w: the commits of pull request %d do not end with its head", ErrUnknown, pr.Number)
	}
	return nil
}

// commitsWithoutBase are what Git finds: the commits of the head that the branch did not have before the merge. A merge
// while Gitea checks the pull request leaves the head as its merge base for good, and with it no commits.
func (g *giteaBackend) commitsWithoutBase(client *sdk.Client, pr *PullRequest) ([]*sdk.Commit, error) {
	merge, err := g.commit(client, pr.MergeCommit)
	if err != nil {
		return nil, err
	}
	before := ""
	if len(merge.parents) > 0 {
		before = merge.parents[0]
	}
	if pr.Head == pr.MergeCommit { // a fast-forward: only the activity tells where the branch was
		before = ""
		err := g.pushes(client, func(all []giteaPush) bool {
			for _, p := range all {
				if p.branch == pr.Base && p.after == pr.MergeCommit {
					before = p.before
				}
			}
			return before != ""
		})
		if err != nil {
			return nil, err
		}
	}
	if before == "" {
		return nil, fmt.Errorf("%w: nothing tells where %s was before it was merged", ErrUnknown, pr.Base)
	}
	return giteaList(g, func(o sdk.ListOptions) ([]*sdk.Commit, *sdk.Response, error) {
		return client.ListRepoCommits(g.owner, g.name, sdk.ListCommitOptions{ListOptions: o, SHA: pr.Head, Not: before})
	})
}

func giteaCommit(c *sdk.Commit) (Commit, error) {
	if c == nil || c.CommitMeta == nil || c.RepoCommit == nil || c.RepoCommit.Author == nil || c.RepoCommit.Committer == nil {
		return Commit{}, fmt.Errorf("%w: a commit is incomplete", ErrUnknown)
	}
	date, err := time.Parse(time.RFC3339, c.RepoCommit.Author.Date)
	if err != nil {
		return Commit{}, fmt.Errorf("%w: commit %s: %w", ErrUnknown, c.SHA, err)
	}
	out := Commit{
		SHA: c.SHA, Author: giteaUser(c.Author), Committer: giteaUser(c.Committer),
		author: c.RepoCommit.Author.Name, email: c.RepoCommit.Author.Email, date: date,
		committerEmail: c.RepoCommit.Committer.Email, message: c.RepoCommit.Message,
	}
	for _, p := range c.Parents {
		if p == nil {
			return Commit{}, fmt.Errorf("%w: commit %s is incomplete", ErrUnknown, c.SHA)
		}
		out.parents = append(out.parents, p.SHA)
	}
	out.claims()
	return out, nil
}

// branchPage returns one page of the branch's commits, newest first.
func (g *giteaBackend) branchPage(client *sdk.Client, branch string, page int) ([]Commit, error) {
	commits, _, err := client.ListRepoCommits(g.owner, g.name, sdk.ListCommitOptions{
		ListOptions: sdk.ListOptions{Page: page, PageSize: giteaPage}, SHA: branch,
	})
	if page > 1 && errors.Is(err, ErrNotFound) { // how Gitea says that there are no more
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Commit
	for _, c := range commits {
		one, err := giteaCommit(c)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func (g *giteaBackend) reviews(client *sdk.Client, pr *PullRequest) error {
	reviews, err := giteaList(g, func(o sdk.ListOptions) ([]*sdk.PullReview, *sdk.Response, error) {
		return client.ListPullReviews(g.owner, g.name, pr.Number, sdk.ListPullReviewsOptions{ListOptions: o})
	})
	if err != nil {
		return err
	}
	for _, r := range reviews {
		review := Review{ID: r.ID, User: giteaUser(r.Reviewer), Head: r.CommitID, At: r.Submitted, Stale: r.Stale, Dismissed: r.Dismissed}
		switch r.State {
		case sdk.ReviewStateApproved:
			review.State = Approved
		case sdk.ReviewStateRequestChanges:
			review.State = ChangesRequested
		case sdk.ReviewStateComment:
			review.State = Commented
		case sdk.ReviewStatePending, sdk.ReviewStateRequestReview: // not given yet
			continue
		default:
			return fmt.Errorf("%w: review %d has the state %q", ErrUnknown, r.ID, r.State)
		}
		pr.Reviews = append(pr.Reviews, review)
	}
	return g.targets(client, pr)
}

// targets looks for the last change of the base: Gitea leaves reviews as they are then.
func (g *giteaBackend) targets(client *sdk.Client, pr *PullRequest) error {
	events, err := giteaList(g, func(o sdk.ListOptions) ([]*sdk.TimelineComment, *sdk.Response, error) {
		return client.ListIssueTimeline(g.owner, g.name, pr.Number, sdk.ListIssueCommentOptions{ListOptions: o})
	})
	for _, e := range events {
		if e.Type == "change_target_branch" {
			err = errors.Join(err, pr.retargeted(e.Created))
		}
	}
	return err
}

// pushers asks the project's activity how the head and the merge came to be. Activity that does not go back far enough
// leaves them unknown; only a failed answer is an error.
func (g *giteaBackend) pushers(client *sdk.Client, pr *PullRequest) error {
	return g.pushes(client, func(all []giteaPush) bool {
		var head []push
		for _, p := range all {
			switch {
			case p.branch == pr.Base && p.after == pr.MergeCommit:
				pr.LandedBy = p.by
			case p.branch == pr.headBranch:
				head = append(head, p.push)
			}
		}
		pr.Pushers, pr.PushersKnown = pushersOf(pr.Head, pr.Commits, head)
		return pr.LandedBy.Known() && (pr.PushersKnown || pr.headBranch == "")
	})
}

// pushes reads the pushes to the project's branches, newest first, until they are enough or there are no more.
func (g *giteaBackend) pushes(client *sdk.Client, enough func([]giteaPush) bool) error {
	var all []giteaPush
	for page := 1; page <= g.limits.Pages; page++ {
		feed, _, err := client.ListRepoActivityFeeds(g.owner, g.name, sdk.ListRepoActivityFeedsOptions{
			ListOptions: sdk.ListOptions{Page: page, PageSize: giteaPage},
		})
		if err != nil {
			return err
		}
		for _, a := range feed {
			if branch, ok := strings.CutPrefix(a.RefName, "refs/heads/"); ok && a.OpType == "commit_repo" {
				if p, ok := giteaPushOf(a); ok {
					all = append(all, giteaPush{p, branch})
				}
			}
		}
		if len(feed) == 0 || enough(all) {
			return nil
		}
	}
	return nil
}

// A giteaPush is a push with its branch.
type giteaPush struct {
	push
	branch string
}

// giteaPushOf reads a push out of an activity: HeadCommit is where the branch went, CompareURL ends in old...new, for a new
// branch in main...new.
func giteaPushOf(a *sdk.Activity) (push, bool) {
	var content struct {
		HeadCommit *struct{ Sha1 string }
		CompareURL string
	}
	if json.Unmarshal([]byte(a.Content), &content) != nil || content.HeadCommit == nil {
		return push{}, false
	}
	p := push{after: content.HeadCommit.Sha1, by: giteaUser(a.ActUser)}
	if i := strings.LastIndexByte(content.CompareURL, '/'); i >= 0 {
		p.before, _, _ = strings.Cut(content.CompareURL[i+1:], "...")
	}
	if !shaPattern.MatchString(p.before) {
		p.before = ""
	}
	return p, true
}

func (g *giteaBackend) open(ctx context.Context) ([]OpenPullRequest, error) {
	client, err := g.with(ctx)
	if err != nil {
		return nil, err
	}
	all, err := giteaList(g, func(o sdk.ListOptions) ([]*sdk.PullRequest, *sdk.Response, error) {
		return client.ListRepoPullRequests(g.owner, g.name, sdk.ListPullRequestsOptions{ListOptions: o, State: sdk.StateOpen, Sort: "oldest"})
	})
	var list []OpenPullRequest
	for _, p := range all {
		list = append(list, giteaOpen(p))
	}
	return list, err
}

func (g *giteaBackend) describe(ctx context.Context, pr *PullRequest) error {
	client, err := g.with(ctx)
	if err != nil {
		return err
	}
	if err := g.listCommits(client, pr); err != nil {
		return err
	}
	if err := g.reviews(client, pr); err != nil {
		return err
	}
	return g.pushers(client, pr)
}

func giteaOpen(p *sdk.PullRequest) OpenPullRequest {
	pr := OpenPullRequest{
		Number: p.Index, URL: p.HTMLURL, Title: p.Title, Author: giteaUser(p.Poster), Draft: p.Draft,
		HeadRef: fmt.Sprintf("refs/pull/%d/head", p.Index),
	}
	if p.Updated != nil {
		pr.Updated = *p.Updated
	}
	if p.Base != nil && p.Head != nil {
		pr.Base, pr.Branch, pr.Head, pr.Fork = p.Base.Name, p.Head.Name, p.Head.Sha, p.Head.RepoID != p.Base.RepoID
	}
	return pr
}

func (g *giteaBackend) protection(ctx context.Context, branch string) (Protection, error) {
	client, err := g.with(ctx)
	if err != nil {
		return Protection{}, err
	}
	b, _, err := client.GetRepoBranch(g.owner, g.name, branch)
	if err != nil {
		return Protection{}, err
	}
	if b.Name != branch {
		return Protection{}, fmt.Errorf("%w: asked for branch %s, got %q", ErrUnknown, branch, b.Name)
	}
	if !b.Protected {
		return Protection{Known: true, AdminBypass: true, ForcePush: true}, nil
	}
	rule, _, err := client.GetBranchProtection(g.owner, g.name, b.EffectiveBranchProtectionName)
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrNotFound) || b.EffectiveBranchProtectionName == "" {
		return Protection{Protected: true}, nil // its settings are for administrators of the project
	}
	if err != nil {
		return Protection{}, err
	}
	var more struct { // what the library does not know
		ForcePush bool `json:"enable_force_push"`
	}
	if err := g.lastInto(&more); err != nil {
		return Protection{}, err
	}
	return Protection{
		Known: true, Protected: true, RequiredApprovals: int(rule.RequiredApprovals), DismissStale: rule.DismissStaleApprovals,
		AdminBypass: !rule.BlockAdminMergeOverride || rule.EnablePush, ForcePush: more.ForcePush,
	}, nil
}
