package forge

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A StatusState is what a commit status says.
type StatusState string

// States of commit statuses.
const (
	Pending StatusState = "pending"
	Success StatusState = "success"
	Failure StatusState = "failure"
	Error   StatusState = "error"
)

// A Status is a commit status.
type Status struct {
	Context     string // who says it, such as purser/prod-eu
	State       StatusState
	Description string // one line; its end is cut off when it is too long
	URL         string // where there is more; may be empty
}

// SetStatus sets the commit's status in its context. A status that says the same already is left alone, since a forge
// keeps a limited number.
func (c *Client) SetStatus(ctx context.Context, commit string, s Status) error {
	return c.do(fmt.Sprintf("set status %s of %s", s.Context, commit), func(b backend, _ *call) error {
		if err := checkSHA(commit); err != nil {
			return err
		}
		switch s.State {
		case Pending, Success, Failure, Error:
		default:
			return fmt.Errorf("%w: no such state %q", ErrRefused, s.State)
		}
		if s.Context == "" || utf8.RuneCountInString(s.Context) > maxContextRunes {
			return fmt.Errorf("%w: the context must have 1 to %d characters", ErrRefused, maxContextRunes)
		}
		s.Description = shorten(strings.Join(strings.Fields(s.Description), " "), maxDescriptionRunes)
		now, err := b.status(ctx, commit, s.Context)
		if err != nil || now != nil && *now == s {
			return err
		}
		return b.setStatus(ctx, commit, s)
	})
}

// shorten cuts text to at most limit runes.
func shorten(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// A comment is one comment on a pull request.
type comment struct {
	id     int64
	author User
	body   string
}

const cutOff = "\n\n… the rest is too long for a comment."

// Comment keeps one comment of the token's own account on the pull request: the one whose first line is the marker, an
// HTML comment, is updated; without one a new one is written. A comment of another account is never touched, whatever
// it says.
func (c *Client) Comment(ctx context.Context, number int64, marker, body string) error {
	return c.do(fmt.Sprintf("comment on pull request %d", number), func(b backend, _ *call) error {
		if marker == "" || strings.ContainsAny(marker, "<>\r\n") || strings.Contains(marker, "--") {
			return fmt.Errorf("%w: a marker must fit into an HTML comment", ErrRefused)
		}
		first := "<!-- " + marker + " -->"
		text := first + "\n" + strings.TrimSpace(body)
		if len(text) > maxCommentBytes {
			text = strings.ToValidUTF8(text[:maxCommentBytes-len(cutOff)], "") + cutOff
		}
		me, err := b.self(ctx)
		if err != nil {
			return err
		}
		if !me.Known() {
			return fmt.Errorf("%w: the forge does not say whose the token is", ErrUnknown)
		}
		all, err := b.comments(ctx, number)
		if err != nil {
			return err
		}
		for _, old := range all {
			// Forges may end lines in their own way.
			line, _, _ := strings.Cut(old.body, "\n")
			if !old.author.Same(me) || strings.TrimSpace(line) != first {
				continue
			}
			if sameText(old.body, text) {
				return nil
			}
			return b.editComment(ctx, number, old.id, text)
		}
		return b.createComment(ctx, number, text)
	})
}

func sameText(a, b string) bool {
	clean := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return clean(a) == clean(b)
}

// OpenPullRequest proposes to merge branch head of the project into base. One that is open already is returned as it
// is.
func (c *Client) OpenPullRequest(ctx context.Context, head, base, title, body string) (OpenPullRequest, error) {
	var pr OpenPullRequest
	err := c.do(fmt.Sprintf("open pull request from %s to %s", head, base), func(b backend, _ *call) error {
		list, err := b.open(ctx)
		if err != nil {
			return err
		}
		for _, old := range list {
			if old.Branch == head && old.Base == base && !old.Fork {
				pr = old
				return nil
			}
		}
		pr, err = b.create(ctx, head, base, title, body)
		if err == nil && pr.Number <= 0 {
			err = fmt.Errorf("%w: the new pull request has no number", ErrUnknown)
		}
		return err
	})
	if err != nil {
		return OpenPullRequest{}, err
	}
	return pr, nil
}
