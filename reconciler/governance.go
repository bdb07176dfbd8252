package reconciler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/landed"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/declaration"
)

// govern keeps the declarations in force: at start those of the approved governance commit, then each newer
// commit of the governance branch that parses and fits what runs.
func (a *Agent) govern(ctx context.Context) error {
	if err := a.restoreGovernance(); err != nil {
		a.logger.Error("the approved governance cannot be read; waiting for a newer commit", "error", err)
	}
	a.wakeAll()
	for {
		var again <-chan time.Time
		if err := a.hear(); err != nil {
			a.logger.Error("statements not heard", "error", err)
		}
		after, err := a.considerGovernance(ctx)
		if err != nil {
			a.logger.Error("governance not considered; trying again", "error", err)
			after = retryLast
		}
		if after > 0 {
			again = time.After(after)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.governed:
		case <-again:
		}
	}
}

// restoreGovernance reads the declarations of the approved governance commit.
func (a *Agent) restoreGovernance() error {
	var approved *evidence.Revision
	a.journal.read(func(s *State) { approved = s.Governance.Approved })
	if approved == nil {
		return nil
	}
	revision, err := sources.ParseRevision(approved.Revision)
	if err != nil {
		return err
	}
	set, err := a.parseGovernance(revision.Commit)
	if err != nil { // rewritten away, a new machine whose fetch has not come yet, or a cluster or store that is no longer configured
		set, err = a.parseKeptGovernance()
	}
	if err != nil {
		return err
	}
	a.adopt(revision.Commit, set)
	return nil
}

// Keep ref of the approved governance: its declarations, by path in the repository.
const (
	keepGovernance = keepPrefix + "governance"
	keptGovernance = "declarations.json"
)

// keepDeclarations collects the declarations of a governance commit for the audit remote.
func (a *Agent) keepDeclarations(commit string) ([]evidence.Keep, error) {
	tree, err := a.sources[a.config.Governance.Source].repo.Tree(commit)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	if err := collect(tree, a.config.Governance.Path, files); err != nil {
		return nil, fmt.Errorf("collect declarations: %w", err)
	}
	encoded, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	return []evidence.Keep{{Ref: keepGovernance, Files: map[string][]byte{keptGovernance: encoded}}}, nil
}

// collect reads the files of a folder and those below it. The declarations were parsed from the same tree, so
// there are no links and not too many files.
func collect(tree *sources.Tree, dir string, files map[string]string) error {
	entries, err := tree.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch extension := path.Ext(entry.Name); {
		case entry.IsDir:
			err = collect(tree, entry.Path, files)
		case extension == ".yaml" || extension == ".yml":
			var text []byte
			text, err = tree.ReadFile(entry.Path)
			files[entry.Path] = string(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// knownBefore is what the configuration offers, and what the state remembers that it offered: declarations that
// were approved stay readable, so that one cluster less does not stop the environments of the others, nor a store less what
// is backed up elsewhere.
func (a *Agent) knownBefore() declaration.Known {
	known := a.config.Known()
	a.journal.read(func(s *State) {
		for cluster := range s.ClusterUIDs {
			known.Clusters = append(known.Clusters, cluster)
		}
	})
	slices.Sort(known.Clusters)
	known.Clusters = slices.Compact(known.Clusters)
	known.Partial = true
	known.Sources, known.Stores = nil, nil // whichever they name were there when they were approved
	return known
}

// parseKeptGovernance parses the declarations that the audit log keeps.
func (a *Agent) parseKeptGovernance() (*declaration.Set, error) {
	kept, err := a.journal.log.Kept(keepGovernance)
	if err != nil {
		return nil, err
	}
	var files map[string]string
	if err := json.Unmarshal(kept[keptGovernance], &files); err != nil {
		return nil, fmt.Errorf("read kept governance: %w", err)
	}
	dir, err := os.MkdirTemp(a.config.DataDir, "governance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for name, text := range files {
		file, err := filepath.Localize(name)
		if err != nil {
			return nil, fmt.Errorf("kept governance names %q: %w", name, err)
		}
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	tree, err := sources.WorkTree(dir, sources.Limits(a.config.Limits))
	if err != nil {
		return nil, err
	}
	return declaration.Parse(tree, a.config.Governance.Path, a.knownBefore())
}

func (a *Agent) parseGovernance(commit string) (*declaration.Set, error) {
	tree, err := a.sources[a.config.Governance.Source].repo.Tree(commit)
	if err != nil {
		return nil, err
	}
	return declaration.Parse(tree, a.config.Governance.Path, a.config.Known())
}

// considerGovernance looks at the head of the governance branch, or before anything is approved at the commit that the
// configuration pins. What does not parse, or contradicts what runs, is refused with every reason; what the rules in force
// do not allow waits. The approved declarations stay in force. again is when to look anew, 0 when something will tell.
func (a *Agent) considerGovernance(ctx context.Context) (again time.Duration, err error) {
	source := a.config.Governance.Source
	head, ok := a.sources[source].repo.Head(a.config.Governance.Branch)
	if !ok {
		return 0, nil
	}
	var current Governance
	a.journal.read(func(s *State) { current = s.Governance })
	if pinned := a.config.Governance.Trust.Commit; current.Approved == nil && pinned != "" {
		head.Commit = pinned
		defer a.wakeGovernance() // for what came after it
	}
	revision := evidence.Revision{Source: source, Revision: head.String()}
	unchanged := current.Approved != nil && (*current.Approved == revision || a.sameGovernance(current.Approved.Revision, head.Commit))
	if unchanged && a.inForce() != nil {
		a.wakeFollowers(source, head.Branch)
		return 0, a.withdraw(current, revision)
	}
	set, err := a.parseGovernance(head.Commit)
	if err == nil {
		a.journal.read(func(s *State) { err = errors.Join(lifecycle(set, s)...) })
	}
	if err != nil && passing(err) {
		return 0, fmt.Errorf("read governance at %s: %w", revision.Revision, err)
	}
	if err != nil {
		a.refuse("", current.Refused, evidence.Refused{Revision: revision, Stage: evidence.StageDeclaration, Errors: messages(err)})
		a.wakeFollowers(source, head.Branch) // releases are judged by the approved governance
		return 0, nil
	}
	if !unchanged { // else it is back in force after a restart
		verdict, err := a.amend(ctx, current, head)
		if err != nil {
			return 0, err
		}
		if verdict.Answer != policy.Allow {
			a.wakeFollowers(source, head.Branch)
			return outcomeOfVerdict(verdict, a.now()).join(a.sources[source].askAgain(verdict)).After, nil
		}
	}
	a.adopt(head.Commit, set)
	a.wakeGovernance() // statements may be somebody's now
	a.wakeAll()
	if unchanged { // a log that takes no records keeps nothing from coming into force
		return 0, a.withdraw(current, revision)
	}
	return 0, nil
}

// withdraw records that the branch has the declarations in force again: what it had meanwhile is neither refused nor waits.
func (a *Agent) withdraw(current Governance, head evidence.Revision) error {
	gone := current.Proposed
	if current.Refused != nil {
		gone = &current.Refused.Revision
	}
	if gone == nil {
		return nil
	}
	_, err := a.journal.record(evidence.Draft{Type: evidence.TypeSuperseded, Predicate: evidence.Superseded{Release: gone.Revision, By: head.Revision}})
	return err
}

// amend judges a governance commit by the rules in force, and records what is new about that. An allow carries the
// declarations to the audit log.
func (a *Agent) amend(ctx context.Context, current Governance, head sources.Revision) (policy.Verdict, error) {
	revision := evidence.Revision{Source: a.config.Governance.Source, Revision: head.String()}
	change := evidence.Change{To: revision.Revision, Revision: revision, Origin: policy.OriginFirst}
	if current.Approved != nil {
		change.From, change.Origin = current.Approved.Revision, policy.OriginGovernance
		from, err := sources.ParseRevision(change.From)
		if err != nil {
			return policy.Verdict{}, err
		}
		change.Landed, err = a.sources[revision.Source].landed.List(head.Branch, from.Commit, head.Commit, a.governanceReads(), current.Offers.Commits())
		if err != nil && passing(err) {
			return policy.Verdict{}, err
		}
	}
	if current.Proposed == nil || *current.Proposed != revision {
		if _, err := a.journal.record(evidence.Draft{Type: evidence.TypeChange, Predicate: change}); err != nil {
			return policy.Verdict{}, err
		}
		a.journal.read(func(s *State) { current = s.Governance })
	}
	verdict, votes, err := a.judgeGovernance(ctx, current, head)
	if err != nil || current.Verdict != nil && current.Verdict.SameAnswers(verdict) {
		return verdict, err
	}
	decision := evidence.Decision{From: change.From, To: change.To, Revision: revision, Origin: change.Origin, Verdict: verdict}
	if decision.Approvals, err = a.recordApprovals("", current.Approvals, decision, votes); err != nil {
		return verdict, err
	}
	draft := evidence.Draft{Type: evidence.TypeDecision, Predicate: decision}
	if verdict.Answer == policy.Allow {
		if draft.Keep, err = a.keepDeclarations(head.Commit); err != nil {
			return verdict, err
		}
	}
	if _, err := a.journal.record(draft); err != nil {
		return verdict, err
	}
	a.logger.Info("governance decided", "revision", revision.Revision, "answer", verdict.Answer.String(), "reasons", verdict.Reasons())
	return verdict, nil
}

// judgeGovernance asks the rules in force about a governance commit, and says whose approvals the answer rests on; about the
// first one, it asks the agent's configuration.
func (a *Agent) judgeGovernance(ctx context.Context, current Governance, head sources.Revision) (policy.Verdict, []policy.Vote, error) {
	trust, now := a.config.Governance.Trust, a.now()
	root := policy.Root{Statements: current.Root}
	if len(trust.Keys) > 0 {
		root.Threshold = trust.Threshold
	}
	l := a.inForce()
	if current.Approved == nil {
		r := policy.EvaluateRoot(trust, head.Commit, root, now)
		return policy.Verdict{Answer: r.Answer, Gates: []policy.Result{r}}, nil, nil
	}
	if l == nil {
		return policy.Verdict{}, nil, errors.New("the approved governance cannot be read, so nothing can be judged by it")
	}
	from, err := sources.ParseRevision(current.Approved.Revision)
	if err != nil {
		return policy.Verdict{}, nil, err
	}
	amendment := policy.Amendment{From: from.Commit, To: head.Commit}
	span := landed.Span{From: from, To: head, Offers: current.Offers}
	past, err := a.sources[a.config.Governance.Source].landed.Files(ctx, l.Keyring, span, a.governanceReads())
	if err != nil {
		return policy.Verdict{}, nil, fmt.Errorf("read the landed changes of governance: %w", err)
	}
	amendment.History = past.History
	verdict, votes := a.judgeAmendment(l, current, amendment, root, now)
	return verdict, votes, nil
}

// judgeAmendment asks the rules in force about a change of the declarations, and says whose approvals the answer rests on.
func (a *Agent) judgeAmendment(l *law, current Governance, amendment policy.Amendment, root policy.Root, now time.Time) (policy.Verdict, []policy.Vote) {
	if l.Estate != nil {
		amendment.Rules = l.Estate.Spec.Governance
	}
	facts := policy.Facts{People: l.people, Statements: l.believed(current.Statements), Evidence: a.evidence(now)}
	verdict := policy.EvaluateAmendment(amendment, facts, root, now)
	return verdict, amendment.Votes(facts, now, verdict)
}

// governanceReads is what declarations are read from.
func (a *Agent) governanceReads() landed.Reads { return landed.NewReads(a.config.Governance.Path) }

// sameGovernance reports whether two commits have the same governance folder; false where one of them cannot be read.
func (a *Agent) sameGovernance(approved, commit string) bool {
	revision, err := sources.ParseRevision(approved)
	if err != nil {
		return false
	}
	repo := a.sources[a.config.Governance.Source].repo
	var ids [2]string
	for i, c := range []string{revision.Commit, commit} {
		tree, err := repo.Tree(c)
		if err != nil {
			return false
		}
		entry, err := tree.Lookup(a.config.Governance.Path)
		if err != nil {
			return false
		}
		ids[i] = entry.Hash
	}
	return ids[0] == ids[1]
}

// inForce is the governance that rules now; nil before the first.
func (a *Agent) inForce() *law {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.law
}

// adopt puts declarations in force.
func (a *Agent) adopt(commit string, set *declaration.Set) {
	a.mu.Lock()
	before := a.law
	a.law = newLaw(commit, set)
	a.mu.Unlock()
	if before != nil {
		for name := range before.Environments {
			if set.Environments[name] == nil {
				a.metrics.forget(name)
				a.backups.forget(name)
				a.backups.metrics.forget(name)
				a.forget(name)
				if c := a.clusters[before.Environments[name].Spec.Cluster]; c != nil {
					c.watcher.Cover(name, tenantOf(before.Environments[name]), nil)
				}
				a.logger.Warn("environment is no longer declared; what it owns stays", "environment", name)
			}
		}
	}
	a.metrics.orphans(a.orphans(set))
	a.backups.reconsider()
	for _, s := range a.sources {
		s.poller.Trigger() // it may follow other branches now
		select {
		case s.adopted <- struct{}{}:
		default: // it is going to look
		}
	}
}

// orphans counts the environments that own objects and are not declared.
func (a *Agent) orphans(set *declaration.Set) int {
	count := 0
	a.journal.read(func(s *State) {
		for name, e := range s.Environments {
			if set.Environments[name] == nil && len(e.Inventory) > 0 {
				count++
			}
		}
	})
	return count
}

func (a *Agent) wakeAll() {
	for _, name := range a.environments(func(*declaration.Environment) bool { return true }) {
		a.wake(name)
	}
}

// lifecycle says what in the next declarations contradicts what the environments already own: an environment
// cannot move, because what it left behind would run on unowned.
func lifecycle(next *declaration.Set, s *State) []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(next.Environments)) {
		declared := next.Environments[name]
		if from := s.Environments[declared.Spec.RenamedFrom]; from != nil && len(from.Inventory) > 0 && from.Place != placeOf(declared) {
			problems = append(problems, &declaration.Error{
				Position: declared.Position,
				What:     fmt.Sprintf("environment %q cannot be the renamed %q", name, declared.Spec.RenamedFrom),
				Why:      fmt.Sprintf("that owns objects in %s, and this one is in %s", from.Place, placeOf(declared)),
				Remedy:   "declare it in the same place",
			})
		}
		e := s.Environments[name]
		if e == nil || len(e.Inventory) == 0 || e.Place == placeOf(declared) {
			continue
		}
		problems = append(problems, &declaration.Error{
			Position: declared.Position,
			What:     fmt.Sprintf("environment %q cannot move from %s to %s", name, e.Place, placeOf(declared)),
			Why:      "it owns objects where it is, and they would run on without an owner",
			Remedy:   "declare a second environment with a name of its own, promote to it, and remove this one afterwards",
		})
	}
	return problems
}
