package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go"
)

const gitlabPage = 100

// gitlabBackend speaks with GitLab: https://docs.gitlab.com/api/rest/
type gitlabBackend struct {
	*call
	client *gitlab.Client
}

// noLimiter: GitLab says by itself when it is asked too often.
type noLimiter struct{}

func (noLimiter) Wait(context.Context) error { return nil }

func newGitLab(c *call) (backend, error) {
	client, err := gitlab.NewAuthSourceClient(gitlab.Unauthenticated{}, gitlab.WithBaseURL(c.base.String()),
		gitlab.WithHTTPClient(c.http()), gitlab.WithoutRetries(), gitlab.WithCustomLimiter(noLimiter{}),
		gitlab.WithURLWarningLogger(c.options.Logger))
	return &gitlabBackend{c, client}, err
}

// gitlabList reads all pages of a list.
func gitlabList[T any](g *gitlabBackend, fetch func(gitlab.ListOptions) ([]T, *gitlab.Response, error)) ([]T, error) {
	return allPages(g.limits, gitlabPage, func(page int) ([]T, bool, error) {
		items, resp, err := fetch(gitlab.ListOptions{Page: int64(page), PerPage: gitlabPage})
		return items, resp != nil && resp.NextPage > int64(page), err
	})
}

func gitlabUser(u *gitlab.BasicUser) User {
	if u == nil {
		return User{}
	}
	return User{Login: u.Username, ID: u.ID}
}

func (g *gitlabBackend) pullRequestOf(ctx context.Context, branch, commit string) (*PullRequest, error) {
	found, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.BasicMergeRequest, *gitlab.Response, error) {
		return g.client.Commits.ListMergeRequestsByCommit(g.options.Project, commit,
			gitlab.WithOffsetPaginationParameters(o.Page), gitlab.WithContext(ctx))
	})
	if err != nil {
		return nil, err
	}
	merged := slices.DeleteFunc(found, func(m *gitlab.BasicMergeRequest) bool {
		return m.State != "merged" || m.TargetBranch != branch
	})
	// Of several that have the commit, the one that was merged first has brought it.
	slices.SortStableFunc(merged, func(a, b *gitlab.BasicMergeRequest) int { return orZero(a.MergedAt).Compare(orZero(b.MergedAt)) })
	var pr *PullRequest
	for _, m := range merged {
		commits, brought, err := g.brings(ctx, m, commit)
		if err != nil {
			return nil, err
		}
		if !brought {
			continue
		}
		if pr != nil {
			if orZero(m.MergedAt).Equal(pr.MergedAt) {
				return nil, fmt.Errorf("%w: merge requests %d and %d both brought the commit", ErrAmbiguous, pr.Number, m.IID)
			}
			break
		}
		pr = gitlabPullRequest(m, commit)
		pr.Commits = commits
	}
	if pr == nil && len(merged) > 0 {
		return nil, fmt.Errorf("%w: GitLab names %d merge requests, but none of them brought the commit onto the branch", ErrAmbiguous, len(merged))
	}
	if pr == nil {
		return nil, nil
	}
	return pr, g.details(ctx, pr)
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// brings reports whether the merge put the commit on the branch's first-parent line: as its merge commit, else as its
// squash commit, else, by fast-forward, as one of its own commits. The commits are those before a squash.
func (g *gitlabBackend) brings(ctx context.Context, m *gitlab.BasicMergeRequest, commit string) ([]Commit, bool, error) {
	commits, err := g.commits(ctx, m.IID)
	if err != nil {
		return nil, false, err
	}
	switch {
	case m.MergeCommitSHA != "":
		return commits, m.MergeCommitSHA == commit, nil
	case m.SquashCommitSHA != "":
		return commits, m.SquashCommitSHA == commit, nil
	}
	return commits, m.SHA == commit || slices.ContainsFunc(commits, func(c Commit) bool { return c.SHA == commit }), nil
}

// commits are those of a merge request, oldest first.
func (g *gitlabBackend) commits(ctx context.Context, number int64) ([]Commit, error) {
	all, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.Commit, *gitlab.Response, error) {
		options := gitlab.GetMergeRequestCommitsOptions{ListOptions: o}
		return g.client.MergeRequests.GetMergeRequestCommits(g.options.Project, number, &options, gitlab.WithContext(ctx))
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 { // GitLab drops them after a while
		return nil, hint(fmt.Errorf("%w: merge request %d has no commits any more", ErrUnknown, number), "approve what is so old by statements")
	}
	var commits []Commit
	for _, c := range slices.Backward(all) { // newest first
		commits = append(commits, gitlabCommit(c))
	}
	return commits, nil
}

func gitlabCommit(c *gitlab.Commit) Commit {
	out := Commit{
		SHA: c.ID, parents: c.ParentIDs, author: c.AuthorName, email: c.AuthorEmail, date: orZero(c.AuthoredDate),
		committerEmail: c.CommitterEmail, message: c.Message,
	}
	out.claims()
	return out
}

func gitlabPullRequest(m *gitlab.BasicMergeRequest, commit string) *PullRequest {
	pr := &PullRequest{
		Number: m.IID, URL: m.WebURL, Author: gitlabUser(m.Author), MergedBy: gitlabUser(m.MergeUser),
		MergedAt: orZero(m.MergedAt), Base: m.TargetBranch, Head: m.SHA, MergeCommit: cmp.Or(m.MergeCommitSHA, m.SquashCommitSHA, m.SHA),
		HeadRef: fmt.Sprintf("refs/merge-requests/%d/head", m.IID),
	}
	pr.LandedBy = pr.MergedBy // also where somebody pushed a merge of their own
	if m.SourceProjectID == m.TargetProjectID {
		pr.headBranch = m.SourceBranch
	}
	return pr
}

func (g *gitlabBackend) details(ctx context.Context, pr *PullRequest) error {
	versions, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.MergeRequestDiffVersion, *gitlab.Response, error) {
		options := gitlab.GetMergeRequestDiffVersionsOptions{ListOptions: o}
		return g.client.MergeRequests.GetMergeRequestDiffVersions(g.options.Project, pr.Number, &options, gitlab.WithContext(ctx))
	})
	if err != nil {
		return err
	}
	if err := g.approvals(ctx, pr, versions); err != nil {
		return err
	}
	if err := g.objections(ctx, pr); err != nil {
		return err
	}
	if err := g.targets(ctx, pr); err != nil {
		return err
	}
	if err := g.bots(ctx, pr); err != nil {
		return err
	}
	return g.pushers(ctx, pr)
}

// approvals are those that still stand. GitLab does not say which commit was approved: it is the head of the newest
// version that was there at the time of approval. Without that time it stays unknown.
func (g *gitlabBackend) approvals(ctx context.Context, pr *PullRequest, versions []*gitlab.MergeRequestDiffVersion) error {
	req, err := g.client.NewRequest(http.MethodGet, fmt.Sprintf("projects/%s/merge_requests/%d/approvals", gitlab.PathEscape(g.options.Project), pr.Number),
		nil, []gitlab.RequestOptionFunc{gitlab.WithContext(ctx)})
	if err != nil {
		return err
	}
	var answer struct { // the library leaves out approved_at
		IID        int64 `json:"iid"`
		ApprovedBy []struct {
			User       *gitlab.BasicUser `json:"user"`
			ApprovedAt *time.Time        `json:"approved_at"`
		} `json:"approved_by"`
	}
	if _, err := g.client.Do(req, &answer); err != nil {
		return err
	}
	if answer.ApprovedBy == nil {
		return fmt.Errorf("%w: merge request %d without a list of approvals", ErrUnknown, pr.Number)
	}
	for _, a := range answer.ApprovedBy {
		r := Review{User: gitlabUser(a.User), State: Approved, At: orZero(a.ApprovedAt)}
		var latest time.Time
		for _, v := range versions {
			at := orZero(v.CreatedAt)
			if !r.At.IsZero() && !at.IsZero() && !at.After(r.At) && !at.Before(latest) {
				r.Head, latest = v.HeadCommitSHA, at
			}
		}
		pr.Reviews = append(pr.Reviews, r)
	}
	return nil
}

// targets looks for the last change of the target branch, which GitLab only notes in words.
func (g *gitlabBackend) targets(ctx context.Context, pr *PullRequest) error {
	notes, err := g.notes(ctx, pr.Number)
	for _, n := range notes {
		if n.System && strings.HasPrefix(n.Body, "changed target branch from ") {
			err = errors.Join(err, pr.retargeted(orZero(n.CreatedAt)))
		}
	}
	return err
}

// objections are reviewers who want changes. GitLab does not say since when.
func (g *gitlabBackend) objections(ctx context.Context, pr *PullRequest) error {
	reviewers, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.MergeRequestReviewer, *gitlab.Response, error) {
		return g.client.MergeRequests.GetMergeRequestReviewers(g.options.Project, pr.Number,
			gitlab.WithOffsetPaginationParameters(o.Page), gitlab.WithContext(ctx))
	})
	if err != nil {
		return err
	}
	for _, r := range reviewers {
		if r.State == "requested_changes" {
			pr.Reviews = append(pr.Reviews, Review{User: gitlabUser(r.User), State: ChangesRequested})
		}
	}
	return nil
}

// bots asks for each reviewer whether it is one: project and group access tokens act as bots.
func (g *gitlabBackend) bots(ctx context.Context, pr *PullRequest) error {
	asked := map[int64]bool{}
	for i := range pr.Reviews {
		u := &pr.Reviews[i].User
		bot, known := asked[u.ID]
		if u.ID != 0 && !known {
			full, _, err := g.client.Users.GetUser(u.ID, gitlab.GetUsersOptions{}, gitlab.WithContext(ctx))
			if err != nil {
				return err
			}
			bot, asked[u.ID] = full.Bot, full.Bot
		}
		u.Bot = bot
	}
	return nil
}

// pushers reads the project's events of pushing, newest first. Events that do not go back far enough leave the pushers
// unknown.
func (g *gitlabBackend) pushers(ctx context.Context, pr *PullRequest) error {
	if pr.headBranch == "" {
		return nil
	}
	var pushes []push
	for page := range g.limits.Pages {
		events, _, err := g.client.Events.ListProjectVisibleEvents(g.options.Project, &gitlab.ListProjectVisibleEventsOptions{
			ListOptions: gitlab.ListOptions{Page: int64(page + 1), PerPage: gitlabPage}, Action: gitlab.Ptr(gitlab.PushedEventType),
		}, gitlab.WithContext(ctx))
		if err != nil {
			return err
		}
		for _, e := range events {
			if d := e.PushData; d.RefType == "branch" && d.Ref == pr.headBranch {
				pushes = append(pushes, push{before: d.CommitFrom, after: d.CommitTo, by: User{Login: e.Author.Username, ID: e.Author.ID}})
			}
		}
		pr.Pushers, pr.PushersKnown = pushersOf(pr.Head, pr.Commits, pushes)
		if pr.PushersKnown || len(events) == 0 {
			return nil
		}
	}
	return nil
}

func (g *gitlabBackend) open(ctx context.Context) ([]OpenPullRequest, error) {
	all, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.BasicMergeRequest, *gitlab.Response, error) {
		return g.client.MergeRequests.ListProjectMergeRequests(g.options.Project, &gitlab.ListProjectMergeRequestsOptions{
			ListOptions: o, State: gitlab.Ptr("opened"),
		}, gitlab.WithContext(ctx))
	})
	var list []OpenPullRequest
	for _, m := range all {
		list = append(list, gitlabOpen(m))
	}
	return list, err
}

func (g *gitlabBackend) describe(ctx context.Context, pr *PullRequest) (err error) {
	if pr.Commits, err = g.commits(ctx, pr.Number); err != nil {
		return err
	}
	return g.details(ctx, pr)
}

func gitlabOpen(m *gitlab.BasicMergeRequest) OpenPullRequest {
	return OpenPullRequest{
		Number: m.IID, URL: m.WebURL, Title: m.Title, Author: gitlabUser(m.Author), Base: m.TargetBranch, Branch: m.SourceBranch,
		Head: m.SHA, HeadRef: fmt.Sprintf("refs/merge-requests/%d/head", m.IID), Fork: m.SourceProjectID != m.TargetProjectID, Draft: m.Draft,
		Updated: orZero(m.UpdatedAt),
	}
}

// protection adds up the protected branch and, where the edition has them, the rules of approval.
func (g *gitlabBackend) protection(ctx context.Context, branch string) (Protection, error) {
	with := gitlab.WithContext(ctx)
	b, _, err := g.client.ProtectedBranches.GetProtectedBranch(g.options.Project, branch, with)
	switch {
	case errors.Is(err, ErrNotFound) && strings.Contains(err.Error(), "404 Not found"):
		// Said of an unprotected branch, but also of a project that the token may not see.
		if _, _, err := g.client.Branches.GetBranch(g.options.Project, branch, with); err != nil {
			return Protection{}, err
		}
		return Protection{Known: true, AdminBypass: true, ForcePush: true}, nil
	case errors.Is(err, ErrDenied):
		return Protection{}, nil
	case err != nil:
		return Protection{}, err
	}
	p := Protection{Known: true, Protected: true, ForcePush: b.AllowForcePush}
	p.AdminBypass = len(b.PushAccessLevels) == 0
	for _, l := range b.PushAccessLevels { // who may push needs no merge request
		p.AdminBypass = p.AdminBypass || l == nil || l.AccessLevel != gitlab.NoPermissions || l.UserID != 0 || l.GroupID != 0 || l.DeployKeyID != 0
	}
	settings, _, err := g.client.Projects.GetApprovalConfiguration(g.options.Project, with)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) { // the free edition requires no approvals
		return p, nil
	}
	if err != nil {
		return Protection{}, err
	}
	p.DismissStale = settings.ResetApprovalsOnPush
	rules, err := gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.ProjectApprovalRule, *gitlab.Response, error) {
		options := gitlab.GetProjectApprovalRulesListsOptions{ListOptions: o}
		return g.client.Projects.GetProjectApprovalRules(g.options.Project, &options, with)
	})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDenied) {
		return Protection{}, err
	}
	for _, r := range rules {
		applies := r.AppliesToAllProtectedBranches || len(r.ProtectedBranches) == 0 ||
			slices.ContainsFunc(r.ProtectedBranches, func(b *gitlab.ProtectedBranch) bool { return b != nil && b.Name == branch })
		if applies {
			p.RequiredApprovals = max(p.RequiredApprovals, int(r.ApprovalsRequired))
		}
	}
	return p, nil
}
