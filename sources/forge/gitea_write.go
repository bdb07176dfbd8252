package forge

import (
	"context"

	sdk "code.gitea.io/sdk/gitea"
)

// status looks among the first page of contexts; one that is not there is set again, which does no harm.
func (g *giteaBackend) status(ctx context.Context, commit, name string) (*Status, error) {
	client, err := g.with(ctx)
	if err != nil {
		return nil, err
	}
	newest, _, err := client.GetCombinedStatus(g.owner, g.name, commit)
	if err != nil {
		return nil, err
	}
	for _, s := range newest.Statuses {
		if s != nil && s.Context == name {
			return &Status{Context: name, State: StatusState(s.State), Description: s.Description, URL: s.TargetURL}, nil
		}
	}
	return nil, nil
}

func (g *giteaBackend) setStatus(ctx context.Context, commit string, s Status) error {
	client, err := g.with(ctx)
	if err != nil {
		return err
	}
	_, _, err = client.CreateStatus(g.owner, g.name, commit, sdk.CreateStatusOption{
		State: sdk.StatusState(s.State), TargetURL: s.URL, Description: s.Description, Context: s.Context,
	})
	return err
}

func (g *giteaBackend) self(ctx context.Context) (User, error) {
	client, err := g.with(ctx)
	if err != nil {
		return User{}, err
	}
	me, _, err := client.GetMyUserInfo()
	return giteaUser(me), err
}

// comments are all of a pull request at once: Gitea does not page them.
func (g *giteaBackend) comments(ctx context.Context, number int64) ([]comment, error) {
	client, err := g.with(ctx)
	if err != nil {
		return nil, err
	}
	all, _, err := client.ListIssueComments(g.owner, g.name, number, sdk.ListIssueCommentOptions{})
	if err != nil {
		return nil, err
	}
	var list []comment
	for _, c := range all {
		list = append(list, comment{id: c.ID, author: giteaUser(c.Poster), body: c.Body})
	}
	return list, nil
}

func (g *giteaBackend) createComment(ctx context.Context, number int64, body string) error {
	client, err := g.with(ctx)
	if err != nil {
		return err
	}
	_, _, err = client.CreateIssueComment(g.owner, g.name, number, sdk.CreateIssueCommentOption{Body: body})
	return err
}

func (g *giteaBackend) editComment(ctx context.Context, _, id int64, body string) error {
	client, err := g.with(ctx)
	if err != nil {
		return err
	}
	_, _, err = client.EditIssueComment(g.owner, g.name, id, sdk.EditIssueCommentOption{Body: body})
	return err
}

func (g *giteaBackend) create(ctx context.Context, head, base, title, body string) (OpenPullRequest, error) {
	client, err := g.with(ctx)
	if err != nil {
		return OpenPullRequest{}, err
	}
	pr, _, err := client.CreatePullRequest(g.owner, g.name, sdk.CreatePullRequestOption{Head: head, Base: base, Title: title, Body: body})
	if err != nil {
		return OpenPullRequest{}, err
	}
	return giteaOpen(pr), nil
}
