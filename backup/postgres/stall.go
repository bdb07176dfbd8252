package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// defaultStall is for how long nothing may come of a question or of pg_dump. A server that works may be silent for minutes:
// it hashes small tables, or goes through pages in which nothing is left. Locks are not waited for that long.
const defaultStall = 10 * time.Minute

func stalled(limit time.Duration) error {
	return hint(fmt.Errorf("%w for %s", ErrStalled, limit),
		"see in pg_stat_activity what the sessions of backups and pg_dump wait for, and whether server and network are well")
}

// answered bounds a question that is answered at once.
func answered(ctx context.Context, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, queryTimeout, stalled(queryTimeout))
	defer cancel()
	return because(ctx, question(ctx))
}

// because is the reason of an error, if that came of a silence.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrStalled) {
		return cause
	}
	return err
}

// A silence is measured while something is awaited. It ends what is awaited when it has lasted too long.
type silence struct {
	limit time.Duration

	mu    sync.Mutex
	timer *time.Timer
}

// begin begins to await something that end ends.
func (s *silence) begin(end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.limit, end)
}

// again begins to measure anew what was begun: something came.
func (s *silence) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Reset(s.limit)
}

// pause says that nothing is awaited.
func (s *silence) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
}

// awaited is the output of a program. Time passes only while it is read: its reader may take any time.
type awaited struct {
	r       io.Reader
	silence *silence
}

func (a awaited) Read(p []byte) (int, error) {
	a.silence.again()
	defer a.silence.pause()
	return a.r.Read(p)
}
