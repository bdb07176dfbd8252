package forge

import (
	"context"
	"errors"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go"
)

// gitlabStates are GitLab's words; it has one for both failure and error.
var gitlabStates = map[StatusState]gitlab.BuildStateValue{
	Pending: gitlab.Pending, Success: gitlab.Success, Failure: gitlab.Failed, Error: gitlab.Failed,
}

func (g *gitlabBackend) status(ctx context.Context, commit, name string) (*Status, error) {
	newest, _, err := g.client.Commits.GetCommitStatuses(g.options.Project, commit,
		&gitlab.GetCommitStatusesOptions{Name: &name}, gitlab.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	for _, s := range newest {
		if s.Name != name {
			continue
		}
		status := &Status{Context: name, State: StatusState(s.Status), Description: s.Description, URL: s.TargetURL}
		if s.Status == string(gitlab.Failed) {
			status.State = Failure
		}
		return status, nil
	}
	return nil, nil
}

func (g *gitlabBackend) setStatus(ctx context.Context, commit string, s Status) error {
	options := &gitlab.SetCommitStatusOptions{State: gitlabStates[s.State], Name: &s.Context, Description: &s.Description}
	if s.URL != "" {
		options.TargetURL = &s.URL
	}
	_, _, err := g.client.Commits.SetCommitStatus(g.options.Project, commit, options, gitlab.WithContext(ctx))
	// GitLab cannot give a status of the same state another description.
	if errors.Is(err, ErrRefused) && strings.Contains(err.Error(), "Cannot transition status") {
		return nil
	}
	return err
}

func (g *gitlabBackend) self(ctx context.Context) (User, error) {
	me, _, err := g.client.Users.CurrentUser(gitlab.WithContext(ctx))
	if err != nil {
		return User{}, err
	}
	return User{Login: me.Username, ID: me.ID, Bot: me.Bot}, nil
}

func (g *gitlabBackend) comments(ctx context.Context, number int64) ([]comment, error) {
	all, err := g.notes(ctx, number)
	var list []comment
	for _, n := range all {
		if !n.System {
			list = append(list, comment{id: n.ID, author: User{Login: n.Author.Username, ID: n.Author.ID}, body: n.Body})
		}
	}
	return list, err
}

// notes are people's comments and GitLab's own ones, oldest first.
func (g *gitlabBackend) notes(ctx context.Context, number int64) ([]*gitlab.Note, error) {
	return gitlabList(g, func(o gitlab.ListOptions) ([]*gitlab.Note, *gitlab.Response, error) {
		o.OrderBy, o.Sort = "created_at", "asc"
		return g.client.Notes.ListMergeRequestNotes(g.options.Project, number,
			&gitlab.ListMergeRequestNotesOptions{ListOptions: o}, gitlab.WithContext(ctx))
	})
}

func (g *gitlabBackend) createComment(ctx context.Context, number int64, body string) error {
	_, _, err := g.client.Notes.CreateMergeRequestNote(g.options.Project, number,
		&gitlab.CreateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx))
	return err
}

func (g *gitlabBackend) editComment(ctx context.Context, number, id int64, body string) error {
	_, _, err := g.client.Notes.UpdateMergeRequestNote(g.options.Project, number, id,
		&gitlab.UpdateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx))
	return err
}

func (g *gitlabBackend) create(ctx context.Context, head, base, title, body string) (OpenPullRequest, error) {
	m, _, err := g.client.MergeRequests.CreateMergeRequest(g.options.Project, &gitlab.CreateMergeRequestOptions{
		Title: &title, Description: &body, SourceBranch: &head, TargetBranch: &base,
	}, gitlab.WithContext(ctx))
	if err != nil {
		return OpenPullRequest{}, err
	}
	return gitlabOpen(&m.BasicMergeRequest), nil
}
