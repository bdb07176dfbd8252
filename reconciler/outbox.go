package reconciler

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/forge"
)

// A letter is one text for the forge: a commit status, or the comment on a pull request.
type letter struct {
	commit string // "" for a comment
	status forge.Status
	number int64 // of the pull request; 0 for a status
	body   string
}

// letterKey is what a later letter replaces.
type letterKey struct {
	commit, context string
	number          int64
}

func (l letter) key() letterKey { return letterKey{l.commit, l.status.Context, l.number} }

// text is what it says.
func (l letter) text() string {
	return strings.Join([]string{string(l.status.State), l.status.Description, l.body}, "\x00")
}

// letters are what is to be said, one text for each place.
type letters map[letterKey]letter

// add adds a letter, unless there is one for its place.
func (s letters) add(l letter) {
	if _, there := s[l.key()]; !there {
		s[l.key()] = l
	}
}

// outbox sends letters that say something new.
type outbox struct {
	forge  answerer
	marker string // of comments
	sent   map[letterKey]string
	failed map[letterKey]failedLetter
}

// failedLetter is one that the forge did not take.
type failedLetter struct {
	failures int // in a row
	again    time.Time
}

func newOutbox(f answerer, marker string) *outbox {
	// A marker must fit into an HTML comment.
	return &outbox{forge: f, marker: strings.ReplaceAll(marker, "--", "-_"), sent: map[letterKey]string{}, failed: map[letterKey]failedLetter{}}
}

// has reports whether the forge has a letter, as far as this process knows.
func (b *outbox) has(l letter) bool {
	text, sent := b.sent[l.key()]
	return sent && text == l.text()
}

// replaces reports whether the forge has something in the letter's place.
func (b *outbox) replaces(l letter) bool {
	_, sent := b.sent[l.key()]
	return sent
}

// keep forgets the places that match nothing.
func (b *outbox) keep(match func(letterKey) bool) {
	maps.DeleteFunc(b.sent, func(k letterKey, _ string) bool { return !match(k) })
	maps.DeleteFunc(b.failed, func(k letterKey, _ failedLetter) bool { return !match(k) })
}

// post sends one letter.
func (b *outbox) post(ctx context.Context, l letter) error {
	var err error
	if l.number != 0 {
		err = b.forge.Comment(ctx, l.number, b.marker, l.body)
	} else {
		err = b.forge.SetStatus(ctx, l.commit, l.status)
	}
	if err == nil {
		b.sent[l.key()] = l.text()
		delete(b.failed, l.key())
	}
	return err
}

// send posts what is new and was not refused a moment ago. retry is when to try again what was; 0 is nothing. An error
// says that the forge is better left alone.
func (n *answers) send(ctx context.Context, said letters) (retry time.Duration, err error) {
	failed := 0 // in a row
	for _, key := range slices.SortedFunc(maps.Keys(said), func(a, b letterKey) int {
		return cmp.Or(cmp.Compare(a.number, b.number), strings.Compare(a.commit+a.context, b.commit+b.context))
	}) {
		l := said[key]
		if n.box.has(l) {
			continue
		}
		now := n.agent.now()
		left := until(n.box.failed[key].again, now)
		if left == 0 {
			operation := "status"
			if l.number != 0 {
				operation = "comment"
			}
			err := n.failed(operation, n.box.post(ctx, l))
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			if err == nil {
				n.agent.metrics.forgeWrites.WithLabelValues(n.source, operation).Inc()
				failed = 0
				continue
			}
			f := failedLetter{failures: n.box.failed[key].failures + 1}
			left = n.backOff(f.failures)
			f.again = now.Add(left)
			n.box.failed[key] = f
			n.logger.Warn("not told to the forge", "pull", l.number, "commit", l.commit, "context", l.status.Context, "error", err, "again", left)
			if failed++; failed == mostFailures || errors.As(err, new(*forge.RateLimitError)) {
				return 0, err
			}
		}
		if retry == 0 || left < retry {
			retry = left
		}
	}
	n.box.keep(n.concerns)
	return retry, nil
}

// concerns reports whether something that is open or followed has a place.
func (n *answers) concerns(k letterKey) bool {
	for _, p := range n.pulls {
		if p.Number == k.number || p.Head == k.commit {
			return true
		}
	}
	return slices.ContainsFunc(n.following, func(f followed) bool {
		return k.number != 0 && f.pull == k.number || k.commit != "" && slices.Contains(f.commits(), k.commit)
	})
}
