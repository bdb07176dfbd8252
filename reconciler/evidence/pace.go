package evidence

import "time"

const (
	// pushLinger is how long a push waits for company: records that are written
	// together go together. Whoever waits for the first of them waits longer by it.
	pushLinger = 25 * time.Millisecond
	// pushInterval is the time between pushes under load. A push costs the server
	// some 40 ms of CPU whatever it carries, so few should carry much; but releases
	// wait for the one with their intent, so it is short beside a second.
	pushInterval = 250 * time.Millisecond
)

// pace spaces pushes: each begins linger after there is something to push, or
// later, so that there is one per interval. After an idle time two may follow
// each other: the intent of a lone change comes soon after the records of its
// approval, and a release waits for it.
type pace struct {
	linger, interval time.Duration
	due              time.Time // when the push after the newest is, at an even pace
}

// wait is the time until the next push begins.
func (p pace) wait(now time.Time) time.Duration {
	return max(p.linger, p.due.Add(-p.interval).Sub(now))
}

// begin notes that a push begins.
func (p *pace) begin(now time.Time) {
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(p.interval)
}
