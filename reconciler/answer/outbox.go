package answer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/forge"
)

// answerer is the forge as far as letters are concerned.
type answerer interface {
	SetStatus(ctx context.Context, commit string, s forge.Status) error
	Comment(ctx context.Context, number int64, marker, body string) error
}

// Outbox delivers letters that say something new.
type Outbox struct {
	Options
	sent   map[Key]string
	failed map[Key]*BackOff
}

// Options of an outbox.
type Options struct {
	Forge  answerer
	Marker string // of comments, by which they are found again
	Pace   Pace   // after a letter was not taken
	// Note is told of each letter that was posted, or not; operation is "status" or "comment".
	Note   func(operation string, err error)
	Now    func() time.Time
	Logger *slog.Logger
}

// NewOutbox makes an empty outbox: whatever the forge has, it is told once more.
func NewOutbox(o Options) *Outbox {
	o.Marker = strings.ReplaceAll(o.Marker, "--", "-_") // it must fit into an HTML comment
	return &Outbox{Options: o, sent: map[Key]string{}, failed: map[Key]*BackOff{}}
}

// Has reports whether the forge has a letter, as far as this process knows.
func (b *Outbox) Has(l Letter) bool {
	text, sent := b.sent[l.Key()]
	return sent && text == l.text()
}

// replaces reports whether the forge has something in the letter's place.
func (b *Outbox) replaces(l Letter) bool {
	_, sent := b.sent[l.Key()]
	return sent
}

// Keep forgets the places that match nothing.
func (b *Outbox) Keep(match func(Key) bool) {
	maps.DeleteFunc(b.sent, func(k Key, _ string) bool { return !match(k) })
	maps.DeleteFunc(b.failed, func(k Key, _ *BackOff) bool { return !match(k) })
}

// MostFailures in a row are taken for the forge's, not for those of what it was asked about.
const MostFailures = 3

// Send posts what is new and was not refused a moment ago. retry is when to try again what was; 0 is nothing. An error says
// that the forge is better left alone.
func (b *Outbox) Send(ctx context.Context, said Letters) (retry time.Duration, err error) {
	failed := 0 // in a row
	for _, key := range slices.SortedFunc(maps.Keys(said), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Commit+a.Context, b.Commit+b.Context))
	}) {
		l := said[key]
		if b.Has(l) {
			continue
		}
		rest := b.failed[key]
		if rest == nil {
			rest = &BackOff{}
		}
		left := rest.Left(b.Now())
		if left == 0 {
			now := b.Now()
			err := b.post(ctx, l)
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err == nil {
				delete(b.failed, key)
				failed = 0
				continue
			}
			left = rest.Failed(b.Pace, now)
			b.failed[key] = rest
			b.Logger.Warn("not told to the forge", "pull", l.Number, "commit", l.Commit, "context", l.Status.Context, "error", err, "again", left)
			if failed++; failed == MostFailures || errors.As(err, new(*forge.RateLimitError)) {
				return 0, err
			}
		}
		if retry == 0 || left < retry {
			retry = left
		}
	}
	return retry, nil
}

// post sends one letter.
func (b *Outbox) post(ctx context.Context, l Letter) error {
	operation, err := "status", error(nil)
	if l.Number != 0 {
		operation, err = "comment", b.Forge.Comment(ctx, l.Number, b.Marker, l.Body)
	} else {
		err = b.Forge.SetStatus(ctx, l.Commit, l.Status)
	}
	b.Note(operation, err)
	if err == nil {
		b.sent[l.Key()] = l.text()
	}
	return err
}

// Say adds what is to be said of an open pull request. Where nothing changes and nothing was said, there is nothing to say.
func (b *Outbox) Say(said Letters, pull forge.OpenPullRequest, v *Preview) {
	var shown []string
	for _, name := range v.Names() {
		j := v.Judged[name]
		if v.Problem == "" && j == nil {
			return
		}
		state, text := forge.Pending, "cannot be previewed: "+v.Problem
		if v.Problem == "" {
			state, text = j.answer()
		}
		l := Status(v.Head, name, state, text)
		if v.Problem != "" || !j.Same {
			shown = append(shown, name)
		} else if !b.replaces(l) {
			continue
		}
		said.Add(l)
	}
	comment := Letter{Number: pull.Number}
	switch {
	case len(shown) > 0 || v.Blind:
		comment.Body = v.comment(pull.Base, shown)
	case b.replaces(comment):
		comment.Body = v.heading(pull.Base) + "\n\nNo environment changes with it.\n"
	default:
		return
	}
	said.Add(comment)
}
