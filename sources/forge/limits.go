package forge

import (
	"sync"
	"time"
)

// Limits bounds what is read from a forge. A zero field takes its default. What is larger is an error.
type Limits struct {
	AnswerBytes int64 // one answer; default 8 MiB
	Pages       int   // pages of one list; default 20
	Line        int   // newer commits of the branch that are asked about when a commit was perhaps rebased; default 100
}

func (l Limits) withDefaults() Limits {
	if l.AnswerBytes <= 0 {
		l.AnswerBytes = 8 << 20
	}
	if l.Pages <= 0 {
		l.Pages = 20
	}
	if l.Line <= 0 {
		l.Line = 100
	}
	return l
}

const (
	maxSecretBytes      = 64 << 10 // a token file
	maxCABytes          = 1 << 20  // a CA file
	maxCommentBytes     = 60_000   // GitHub takes 65 536 characters
	maxDescriptionRunes = 140      // of a status: GitHub's limit, the smallest of the three
	maxContextRunes     = 255      // of a status
)

// A pause is the time in which the forge wants no requests.
type pause struct {
	mu    sync.Mutex
	since time.Time
	until time.Time
}

// begin has it last for some time from now on.
func (p *pause) begin(now time.Time, length time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := now.Add(length); until.After(p.until) {
		p.since, p.until = now, until
	}
}

// left is how long it still lasts, in whole seconds; 0 is over. A clock that went back ends it.
func (p *pause) left(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.since) || !now.Before(p.until) {
		p.since, p.until = time.Time{}, time.Time{}
		return 0
	}
	return max(p.until.Sub(now).Round(time.Second), time.Second)
}
