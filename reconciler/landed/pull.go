package landed

import (
	"context"
	"errors"
	"slices"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/forge"
	"github.com/purser-gitops/purser/sources/identity"
)

// pull is a merged pull request with what was reviewed of it.
type pull struct {
	*forge.PullRequest
	remade bool             // the landed change is none of its commits: a squash, or part of a rebase
	heads  map[string]*side // reviewed head → what it has where the landed change altered something
}

// reviewed reads what people reviewed of the paths that a landed change alters.
func (s *step) reviewed(ctx context.Context, repo *sources.Repository, request *forge.PullRequest) (*pull, error) {
	p := &pull{PullRequest: request, heads: map[string]*side{}}
	heads := []string{request.Head}
	for _, r := range request.Reviews {
		heads = append(heads, r.Head)
	}
	for _, head := range heads {
		if p.heads[head] != nil || head == "" {
			continue
		}
		reviewed, err := sideOf(ctx, repo, head, first(s.parents), s.paths())
		if errors.Is(err, sources.ErrNoCommit) {
			continue // nobody can tell what was reviewed: it covers nothing
		}
		if err != nil {
			return nil, err
		}
		p.heads[head] = reviewed
	}
	return p, nil
}

// facts says who reviewed what, and who made it. stranger says that something landed that is not as in the pull request.
func (p *pull) facts(keyring *identity.Keyring, source string, l *landing, series []*landing, stranger bool) *policy.Pull {
	f := &policy.Pull{Number: p.Number, URL: p.URL, Head: p.Head, Digest: p.Digest, At: p.Asked, AuthorsKnown: true, PushersKnown: p.PushersKnown}
	for _, r := range forge.Approvals(p.PullRequest) {
		review := policy.Review{ID: r.ID, Account: r.User.Login, Approves: true, Head: r.Head, At: r.At, Covers: l.covered(p.heads[r.Head], series)}
		if person, known := keyring.PersonByAccount(source, r.User.Login, r.User.ID); known {
			review.Person = person.Name
		}
		f.Reviews = append(f.Reviews, review)
	}
	authors := append([]forge.User{p.Author}, p.Pushers...)
	for _, c := range p.Commits {
		authors = append(authors, c.Author)
	}
	if stranger {
		authors = append(authors, p.LandedBy)
	}
	for _, user := range authors {
		if _, known := keyring.PersonByAccount(source, user.Login, user.ID); !known {
			f.AuthorsKnown = false
		}
	}
	return f
}

// parts says who had a part in the pull request, as the forge tells.
func (p *pull) parts(keyring *identity.Keyring, source string, stranger bool) []policy.Part {
	var parts []policy.Part
	add := func(as string, user forge.User) {
		if person, known := keyring.PersonByAccount(source, user.Login, user.ID); known {
			parts = append(parts, policy.Part{Person: person.Name, As: as})
		} else if as == policy.PartPullAuthor || as == policy.PartMerger {
			parts = append(parts, policy.Part{As: as})
		}
	}
	add(policy.PartPullAuthor, p.Author)
	for _, user := range p.Pushers {
		add(policy.PartPusher, user)
	}
	if stranger {
		add(policy.PartMerger, p.LandedBy)
	}
	for _, c := range p.Commits {
		add(policy.PartAuthor, c.Author)
		add(policy.PartCommitter, c.Committer)
		for _, email := range c.Emails {
			for _, person := range keyring.PersonsByEmail(email) {
				parts = append(parts, policy.Part{Person: person.Name, As: policy.PartAuthor})
			}
		}
	}
	return parts
}

// has reports whether the forge lists a commit as one of the pull request's.
func (p *pull) has(commit string) bool {
	return slices.ContainsFunc(p.Commits, func(c forge.Commit) bool { return c.SHA == commit })
}
