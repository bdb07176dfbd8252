package reconciler

import (
	"context"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/forge"
)

// guards is the forge as far as the protection of branches is concerned.
type guards interface {
	// Protection says how a branch is protected now. What the token may not see is unknown, and no error.
	Protection(ctx context.Context, branch string) (forge.Protection, error)
}

// protectionEvery is how long a snapshot of a branch's protection may be old, and protectionRetry how long after a failure
// it is tried again.
const (
	protectionEvery = 10 * time.Minute
	protectionRetry = time.Minute
)

// watchProtection records how a forge protects the branches that are followed, whenever that changed since it was asked
// before. No release waits for it: what protects a branch explains approvals and decides none.
func (a *Agent) watchProtection(ctx context.Context, s *source, forge guards) error {
	due := map[string]time.Time{} // by branch
	for {
		wait := a.askProtection(ctx, s, forge, due)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.adopted:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// askProtection asks about the branches that are due, and says when the next one is.
func (a *Agent) askProtection(ctx context.Context, s *source, forge guards, due map[string]time.Time) time.Duration {
	next := protectionEvery
	for _, branch := range a.branches(s.name) {
		// A clock that went back makes it due: asking once more is harmless.
		left := due[branch].Sub(a.now())
		if left <= 0 || left > protectionEvery {
			left = protectionEvery
			if err := a.recordProtection(ctx, s, forge, branch); err != nil {
				left = protectionRetry
				a.logger.Warn("the protection of a branch is unknown", "source", s.name, "branch", branch, "error", err)
			}
			due[branch] = a.now().Add(left)
		}
		next = min(next, left)
	}
	return next
}

// recordProtection writes down how a branch is protected, if that is news.
func (a *Agent) recordProtection(ctx context.Context, s *source, forge guards, branch string) error {
	p, err := forge.Protection(ctx, branch)
	if err != nil {
		return err
	}
	is := evidence.Protection{Source: s.name, Branch: branch, Protection: p}
	if was := a.protectionOf(s.name, branch); was != nil && was.Same(is) {
		return nil
	}
	_, err = a.journal.record(evidence.Draft{Type: evidence.TypeProtection, Predicate: is})
	if err == nil {
		a.logger.Info("branch protection", "source", s.name, "branch", branch, "protected", p.Protected, "known", p.Known, "hint", is.Hint())
	}
	return err
}

// protectionOf is what is recorded of a branch; nil where nothing is.
func (a *Agent) protectionOf(source, branch string) *evidence.Protection {
	var found *evidence.Protection
	a.journal.read(func(s *State) {
		if p, known := s.Protections[protectionKey(source, branch)]; known {
			found = &p
		}
	})
	return found
}

func protectionKey(source, branch string) string { return source + " " + branch }

func foldProtection(s *State, _ evidence.Record, p evidence.Protection) {
	s.Protections[protectionKey(p.Source, p.Branch)] = p
}
