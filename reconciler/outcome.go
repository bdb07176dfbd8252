package reconciler

import (
	"errors"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

// Kind says how a reconciliation ended. The order is the severity.
type Kind int

// Outcomes drive scheduling.
const (
	Unchanged Kind = iota // nothing to do until something changes
	Applied               // something was changed; look again soon
	Waiting               // will go on by itself: a time, a dependency, health
	Denied                // a gate refused the candidate
	Stalled               // needs a person
	Failed                // an error that may pass: tried again with back-off
)

var kinds = [...]string{"unchanged", "applied", "waiting", "denied", "stalled", "failed"}

func (k Kind) String() string { return kinds[k] }

// Outcome of one reconciliation.
type Outcome struct {
	Kind   Kind
	Reason string        // why it is not Unchanged
	Hint   string        // what a person can do
	After  time.Duration // look again after this long at the latest; 0: the environment's interval, or back-off
	Wrote  bool          // of a failure: something was recorded as done in part
	// Untried: an earlier failure is repeated, because it was not yet time to try again.
	Untried bool
}

// join makes one outcome of two stages: the worse one speaks, the earlier one wakes.
func (o Outcome) join(p Outcome) Outcome {
	first, second := o, p
	if p.Kind > o.Kind {
		first, second = p, o
	}
	if second.After > 0 && (first.After == 0 || second.After < first.After) {
		first.After = second.After
	}
	return first
}

// outcomeOf sorts an error of a stage: what needs a person stalls, the rest is tried again.
func outcomeOf(err error) Outcome {
	var stalled *apply.StalledError
	if errors.As(err, &stalled) {
		return Outcome{Kind: Stalled, Reason: strings.TrimSuffix(err.Error(), " ("+stalled.Hint+")"), Hint: stalled.Hint}
	}
	var audit *evidence.StalledError
	if errors.As(err, &audit) {
		return Outcome{Kind: Stalled, Reason: strings.TrimSuffix(err.Error(), " ("+audit.Hint+")"), Hint: audit.Hint}
	}
	var limit *apply.LimitError
	if errors.As(err, &limit) {
		return Outcome{Kind: Stalled, Reason: err.Error(), Hint: "if this is meant, raise spec.prune of the environment in governance"}
	}
	return Outcome{Kind: Failed, Reason: err.Error()}
}

// Back-off after failures: doubling from retryFirst. A failure that changed nothing is tried again after
// retryLast at the latest, so that a cluster that was away is noticed soon after it is back. After an apply that
// failed half way each try costs two records, and it waits up to reapplyLast.
const (
	retryFirst  = 500 * time.Millisecond
	retryLast   = 15 * time.Second
	reapplyLast = 5 * time.Minute
)

// delay says when to look again: an outcome's own time, back-off after failures, else the interval.
func (o Outcome) delay(failures int, interval time.Duration) time.Duration {
	switch {
	case o.Untried:
		return o.After
	case o.Kind == Failed || o.Kind == Stalled:
		backoff := retryFirst << min(failures, 16)
		limit := retryLast
		switch {
		case o.Kind == Stalled:
			limit = interval
		case o.Wrote:
			limit = reapplyLast
		}
		backoff = min(backoff, limit)
		if o.After > 0 {
			backoff = min(backoff, o.After)
		}
		return backoff
	case o.After > 0:
		return min(o.After, interval)
	}
	return interval
}
