package reconciler

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// source is one repository and its poller.
type source struct {
	name   string
	repo   *sources.Repository
	poller *sources.Poller
}

func (a *Agent) addSource(c declaration.AgentSource) error {
	logger := a.logger.With("source", c.Name)
	repo, err := sources.Open(filepath.Join(a.config.DataDir, "sources", c.Name), sources.Options{
		URL: c.URL, Auth: sources.Auth(c.Auth), Timeout: c.Timeout, Limits: sources.Limits(a.config.Limits),
		Now: a.now, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("open source %q: %w", c.Name, err)
	}
	s := &source{name: c.Name, repo: repo}
	s.poller = sources.NewPoller(repo, sources.PollerOptions{
		Source:   c.Name,
		Interval: c.Interval,
		Branches: func() []string { return a.branches(c.Name) },
		Report:   func(moved []sources.HeadChange, err error) { a.synced(s, moved, err) },
		Logger:   logger,
		Metrics:  a.metrics.sources,
	})
	a.sources[c.Name] = s
	return nil
}

// branches lists what is wanted of a source: the governance branch, and those that environments follow.
func (a *Agent) branches(source string) []string {
	var wanted []string
	if source == a.config.Governance.Source {
		wanted = append(wanted, a.config.Governance.Branch)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.declarations != nil {
		for _, e := range a.declarations.Environments {
			if e.Spec.Source.Repository == source {
				wanted = append(wanted, e.Spec.Source.Branch)
			}
		}
	}
	slices.Sort(wanted)
	return slices.Compact(wanted)
}

// synced takes what a poll found: it records rewritten history and wakes whoever follows a branch that moved.
// A failed poll changes nothing: the last good heads stay. One branch may be missing while others moved.
func (a *Agent) synced(s *source, moved []sources.HeadChange, err error) {
	a.mu.Lock()
	a.problems[s.name] = err
	a.mu.Unlock()
	if err != nil {
		a.logger.Warn("source not synced; its last good state stays", "source", s.name, "error", err)
	}
	if len(moved) > 0 {
		a.at("fetched")
	}
	for _, m := range moved {
		a.logger.Info("branch moved", "source", s.name, "branch", m.Branch, "from", m.From, "to", m.To, "forced", m.Forced)
		if m.Forced {
			if _, err := a.journal.record(evidence.Draft{
				Type:      evidence.TypeForcePush,
				Predicate: evidence.ForcePush{Source: s.name, Branch: m.Branch, From: m.From, To: m.To},
			}); err != nil {
				a.logger.Error("force push not recorded", "source", s.name, "error", err)
			}
		}
		if s.name == a.config.Governance.Source && m.Branch == a.config.Governance.Branch {
			a.wakeGovernance() // it wakes all environments when it is done
		} else {
			a.wakeFollowers(s.name, m.Branch)
		}
	}
}

func (a *Agent) wakeGovernance() {
	select {
	case a.governed <- struct{}{}:
	default: // already awake
	}
}

// wakeFollowers wakes the environments that follow a branch of a source.
func (a *Agent) wakeFollowers(source, branch string) {
	for _, name := range a.environments(func(e *declaration.Environment) bool {
		return e.Spec.Source.Repository == source && e.Spec.Source.Branch == branch
	}) {
		a.wake(name)
	}
}

// environments lists the declared environments that match, sorted.
func (a *Agent) environments(match func(*declaration.Environment) bool) []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var names []string
	if a.declarations != nil {
		for name, e := range a.declarations.Environments {
			if match(e) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
