package landed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/sources/forge"
)

// toldReviews is a forge that answers as it is told.
type toldReviews struct {
	asked int
	tell  func() (*forge.PullRequest, error)
}

func (r *toldReviews) PullRequestOf(context.Context, string, string) (*forge.PullRequest, error) {
	r.asked++
	return r.tell()
}

// reviewed is a pull request with one approval.
func reviewed(dismissed bool) *forge.PullRequest {
	return &forge.PullRequest{Number: 7, Head: "h", MergeCommit: "m", Reviews: []forge.Review{
		{ID: 1, User: forge.User{Login: "dba-1", ID: 2}, State: forge.Approved, At: time.Unix(1_000_000, 0), Dismissed: dismissed},
	}}
}

func TestPullsBelieveTheNewestAnswer(t *testing.T) {
	told := &toldReviews{}
	now := time.Unix(2_000_000, 0)
	p := NewPulls(told, time.Minute, func() time.Time { return now })
	ask := func(dismissed bool, says string) {
		t.Helper()
		pull, err := p.Of(t.Context(), "main", "m")
		if says != "" && (err == nil || !strings.Contains(err.Error(), says)) || says == "" && (err != nil || pull.Reviews[0].Dismissed != dismissed) {
			t.Errorf("got %+v, %v, want dismissed: %t, %q", pull, err, dismissed, says)
		}
	}
	tell := func(pull *forge.PullRequest, err error) {
		told.tell = func() (*forge.PullRequest, error) { return pull, err }
	}

	tell(reviewed(false), nil)
	ask(false, "")
	tell(reviewed(true), nil)
	ask(false, "") // still fresh
	p.Stale()
	ask(true, "")
	tell(reviewed(false), nil) // from a cache
	p.Stale()
	ask(false, "it said otherwise before")
	tell(nil, nil)
	ask(false, "it said otherwise before")
	tell(reviewed(true), nil)
	ask(true, "")

	// While one asks, another hears of the dismissal: the slow answer is the older one.
	q := NewPulls(told, time.Minute, func() time.Time { return now })
	told.tell = func() (*forge.PullRequest, error) {
		tell(reviewed(true), nil)
		if pull, err := q.Of(t.Context(), "main", "m"); err != nil || !pull.Reviews[0].Dismissed {
			t.Errorf("got %+v, %v", pull, err)
		}
		return reviewed(false), nil
	}
	if pull, err := q.Of(t.Context(), "main", "m"); !errors.Is(err, forge.ErrUnknown) {
		t.Errorf("got %+v, %v", pull, err)
	}
}

// A forge that does not answer is asked once for all; one that answers badly about one landed change is asked about others.
func TestPullsLeaveASilentForgeAlone(t *testing.T) {
	now := time.Unix(2_000_000, 0)
	for name, test := range map[string]struct {
		err   error
		asked int
	}{
		"silent":    {fmt.Errorf("find: %w: %w", forge.ErrUnreachable, context.DeadlineExceeded), 1},
		"garbage":   {fmt.Errorf("find: %w", forge.ErrUnknown), 3},
		"cancelled": {fmt.Errorf("find: %w: %w", forge.ErrUnreachable, context.Canceled), 3},
	} {
		told := &toldReviews{tell: func() (*forge.PullRequest, error) { return nil, test.err }}
		p := NewPulls(told, time.Minute, func() time.Time { return now })
		for _, commit := range []string{"a", "b", "c"} {
			if _, err := p.Of(t.Context(), "main", commit); !errors.Is(err, test.err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if told.asked != test.asked {
			t.Errorf("%s: asked %d times, want %d", name, told.asked, test.asked)
		}
		now = now.Add(time.Minute)
		told.tell = func() (*forge.PullRequest, error) { return reviewed(false), nil }
		if pull, err := p.Of(t.Context(), "main", "a"); err != nil || pull == nil {
			t.Errorf("%s: afterwards: %+v, %v", name, pull, err)
		}
	}
}
