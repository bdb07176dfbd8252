package answer

import "time"

// Pace is how long something that failed is left alone: after the first failure, and at most.
type Pace struct{ First, Longest time.Duration }

// A BackOff leaves something alone after failures in a row, twice as long after each. The zero value leaves nothing alone.
type BackOff struct {
	failures int
	until    time.Time
}

// Failed counts a failure, and says how long to wait.
func (b *BackOff) Failed(p Pace, now time.Time) time.Duration {
	b.failures++
	return b.Wait(min(p.First<<min(b.failures-1, 10), p.Longest), now)
}

// Wait leaves it alone for as long as somebody says.
func (b *BackOff) Wait(length time.Duration, now time.Time) time.Duration {
	b.until = now.Add(length)
	return length
}

// Left is how long it is still to be left alone. A clock that went back does not make it longer than anything here may last.
func (b *BackOff) Left(now time.Time) time.Duration {
	if left := b.until.Sub(now); left <= 2*time.Hour {
		return max(left, 0)
	}
	return 0
}
