package reconciler

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/forge"
	"github.com/purser-gitops/purser/sources/statement"
)

// source is one repository and its poller.
type source struct {
	name   string
	repo   *sources.Repository
	poller *sources.Poller
	forge  *forge.Client // nil: none is configured
	pulls  *landed.Pulls // nil: likewise
	landed *landed.Repository
	// answers to pull requests; nil where there is no forge, or it is only asked.
	answers *answers
	// adopted says that other declarations are in force, which may follow other branches.
	adopted chan struct{}
}

// problem is why the last poll of a source failed, and since when they fail; without an error it did not.
type problem struct {
	err   error
	since time.Time
}

// notice is what a signed notice of the source's forge causes: a poll, and another look at what people reviewed.
func (s *source) notice(a *Agent) func() {
	return func() {
		if s.pulls != nil {
			s.pulls.Stale()
			a.wakeUndecided(s.name)
		}
		if s.answers != nil {
			s.answers.notice()
		}
		s.poller.Trigger()
	}
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
	s := &source{name: c.Name, repo: repo, adopted: make(chan struct{}, 1)}
	if f := c.Forge; f.Type != "" {
		client, err := forge.New(forge.Options{
			Type: forge.Type(f.Type), URL: f.URL, Project: f.Project, TokenFile: f.TokenFile, CAFile: f.CAFile,
			Timeout: c.Timeout, Now: a.now, Logger: logger,
		})
		if err != nil {
			return fmt.Errorf("forge of source %q: %w", c.Name, err)
		}
		s.forge, s.pulls = client, landed.NewPulls(client, c.Interval, a.now)
		if !f.ReadOnly {
			if s.answers, err = newAnswers(a, c, client, s.pulls, logger.With("component", "answers")); err != nil {
				return errors.Join(fmt.Errorf("pull requests of source %q: %w", c.Name, err), repo.Close())
			}
		}
	}
	s.landed = landed.New(landed.Options{
		Source: c.Name, Git: repo, Pulls: s.pulls, Cache: a.landings, Fetch: func() { s.poller.Trigger() }, Now: a.now,
	})
	s.poller = sources.NewPoller(repo, sources.PollerOptions{
		Source:     c.Name,
		Interval:   c.Interval,
		Branches:   func() []string { return a.branches(c.Name) },
		Report:     func(moved []sources.HeadChange, err error) { a.synced(s, moved, err) },
		Refs:       func() []string { return a.refs(s) },
		ReportRefs: func(changes []sources.RefChange) { a.refsMoved(s, changes) },
		Logger:     logger,
		Metrics:    a.metrics.sources,
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
	if a.law != nil {
		for _, e := range a.law.Environments {
			if e.Spec.Source.Repository == source {
				wanted = append(wanted, e.Spec.Source.Branch)
			}
		}
	}
	slices.Sort(wanted)
	return slices.Compact(wanted)
}

// refs lists what is wanted of a source besides branches: what people state, and the heads that they reviewed.
func (a *Agent) refs(s *source) []string {
	var wanted []string
	if s.name == a.config.Governance.Source {
		wanted = append(wanted, statement.RefPrefix)
	}
	if s.pulls != nil {
		wanted = append(wanted, s.pulls.Heads()...)
	}
	return wanted
}

// refsMoved hears new statements, and judges again what waits for a reviewed head.
func (a *Agent) refsMoved(s *source, changes []sources.RefChange) {
	heads := false
	for _, c := range changes {
		switch {
		case c.Err != nil:
			a.logger.Warn("ref not taken", "source", s.name, "ref", c.Ref, "error", c.Err)
		case strings.HasPrefix(c.Ref, statement.RefPrefix):
			a.wakeGovernance()
		default:
			heads = true
		}
	}
	if heads {
		a.wakeUndecided(s.name)
	}
}

// wakeUndecided wakes the environments of a source whose proposed release is not approved, and governance.
func (a *Agent) wakeUndecided(source string) {
	for _, name := range a.environments(func(e *declaration.Environment) bool { return e.Spec.Source.Repository == source }) {
		if state := a.journal.environment(name); state.Verdict != nil && state.Verdict.Answer != policy.Allow {
			a.wake(name)
		}
	}
	if source == a.config.Governance.Source {
		a.wakeGovernance()
	}
}

// synced takes what a poll found: it records rewritten history and wakes whoever follows a branch that moved.
// A failed poll changes nothing: the last good heads stay. One branch may be missing while others moved.
func (a *Agent) synced(s *source, moved []sources.HeadChange, err error) {
	a.mu.Lock()
	p := problem{err: err, since: a.now()}
	if before := a.problems[s.name]; before.err != nil {
		p.since = before.since
	}
	a.problems[s.name] = p
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
	if s.answers != nil && len(moved) > 0 {
		s.answers.notice() // a branch moves when a pull request is merged
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
	if a.law != nil {
		for name, e := range a.law.Environments {
			if match(e) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
