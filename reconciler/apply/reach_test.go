package apply

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// An outage begins with the first request that failed and ends with the first answer; what a caller gave up is no outage.
func TestReach(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	r := &reach{now: func() time.Time { now = now.Add(time.Minute); return now }}
	c := &Cluster{reach: r}
	refused := errors.New("connection refused")
	for i, test := range []struct {
		end   error
		since time.Duration // after 8:00; 0 is reachable
	}{
		{nil, 0},
		{fmt.Errorf("get: %w", context.Canceled), 0},
		{refused, time.Minute},
		{context.DeadlineExceeded, time.Minute},
		{context.Canceled, time.Minute},
		{nil, 0},
		{refused, 2 * time.Minute},
	} {
		r.note(test.end)
		since, err := c.Unreachable()
		if (err != nil) != (test.since > 0) || err != nil && since.Sub(time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)) != test.since {
			t.Errorf("%d: after %v: %v since %s", i, test.end, err, since)
		}
	}
}
