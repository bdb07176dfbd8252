package reconciler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/purser-gitops/purser/reconciler/apply"
	"github.com/purser-gitops/purser/reconciler/evidence"
)

func TestDelay(t *testing.T) {
	const interval = 10 * time.Minute
	for name, test := range map[string]struct {
		outcome  Outcome
		failures int
		want     time.Duration
	}{
		"settled":                   {Outcome{}, 0, interval},
		"waits for a time":          {Outcome{Kind: Waiting, After: 3 * time.Second}, 0, 3 * time.Second},
		"waits beyond the interval": {Outcome{Kind: Waiting, After: time.Hour}, 0, interval},
		"first failure":             {Outcome{Kind: Failed}, 0, retryFirst},
		"third failure":             {Outcome{Kind: Failed}, 2, 4 * retryFirst},
		"hundredth failure":         {Outcome{Kind: Failed}, 99, retryLast},
		"hundredth failed apply":    {Outcome{Kind: Failed, Wrote: true}, 99, reapplyLast},
		"stalled for long":          {Outcome{Kind: Stalled}, 99, interval},
		"stalled with a look":       {Outcome{Kind: Stalled, After: 5 * time.Second}, 99, 5 * time.Second},
		"denied":                    {Outcome{Kind: Denied}, 0, interval},
	} {
		if got := test.outcome.delay(test.failures, interval); got != test.want {
			t.Errorf("%s: look again after %s, want %s", name, got, test.want)
		}
	}
}

func TestWorseOutcomeSpeaksAndTheEarlierWakes(t *testing.T) {
	stalled := Outcome{Kind: Stalled, Reason: "refused"}
	waiting := Outcome{Kind: Waiting, Reason: "health", After: time.Second}
	for _, got := range []Outcome{stalled.join(waiting), waiting.join(stalled)} {
		if got.Kind != Stalled || got.Reason != "refused" || got.After != time.Second {
			t.Errorf("joined to %+v", got)
		}
	}
}

func TestErrorsDecideScheduling(t *testing.T) {
	stalled := fmt.Errorf("plan: %w", &apply.StalledError{What: "immutable", Hint: "recreate it"})
	if o := outcomeOf(stalled); o.Kind != Stalled || o.Hint != "recreate it" {
		t.Errorf("a stalled error gives %+v", o)
	}
	if o := outcomeOf(&evidence.StalledError{What: "rewound", Hint: "push it back"}); o.Kind != Stalled || o.Reason != "rewound" || o.Hint != "push it back" {
		t.Errorf("a stalled log gives %+v", o)
	}
	if o := outcomeOf(&apply.LimitError{Deletes: 9, Owned: 10}); o.Kind != Stalled || o.Hint == "" {
		t.Errorf("a limit gives %+v", o)
	}
	if o := outcomeOf(errors.New("connection refused")); o.Kind != Failed {
		t.Errorf("any other error gives %+v", o)
	}
}

func TestDueAfterTheClockWentBack(t *testing.T) {
	now := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		last time.Time
		want time.Duration
	}{
		{time.Time{}, 0},
		{now.Add(-time.Minute), 0},
		{now.Add(-time.Hour), 0},
		{now.Add(-59 * time.Second), time.Second},
		{now.Add(time.Hour), 0}, // it was done in the future: the clock went back
	} {
		if got := remaining(test.last, now, time.Minute); got != test.want {
			t.Errorf("done at %s: due in %s at %s, want %s", test.last, got, now, test.want)
		}
	}
}
