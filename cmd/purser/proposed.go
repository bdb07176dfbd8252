package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"

	"github.com/purser-gitops/purser/reconciler"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/statement"
)

// openLocal opens a bare repository, or the one that a folder belongs to.
func openLocal(dir string) (*git.Repository, error) {
	repo, err := git.PlainOpen(dir)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	return repo, nil
}

// proposed fills in what the agent proposes for the environment of a statement.
func (n *notary) proposed(ctx context.Context, said *statement.Statement, fromSaid bool) (about []string, err error) {
	var e reconciler.Explanation
	path := "environments/" + url.PathEscape(said.Environment)
	if err := n.agent.ask(ctx, path+"/explain", &e); err != nil {
		return nil, fmt.Errorf("find out what is proposed: %w", err)
	}
	if e.Proposed == nil {
		return nil, fmt.Errorf("nothing is proposed for %q that is not approved", said.Environment)
	}
	if said.To != "" && said.To != e.Proposed.Release || fromSaid && said.From != e.From {
		return nil, fmt.Errorf("the agent proposes %s after %s: to say something about another release, say all of it on the command line",
			e.Proposed.Release, cmp.Or(e.From, "none"))
	}
	said.To = e.Proposed.Release
	if said.Verb != statement.Lift && said.Verb != statement.Override {
		said.From = e.From
	}
	if said.Verb == statement.Approve && said.Class == "" {
		if said.Class = e.Class; said.Class == "" {
			return nil, fmt.Errorf("the class of the release is unknown: %s", strings.Join(unclear(e.Verdict), "; "))
		}
	}
	var status reconciler.EnvironmentStatus
	if err := n.agent.ask(ctx, path, &status); err != nil {
		return nil, err
	}
	n.estate.on(status.Cluster)
	return append(told(e), n.summary(ctx, e, status.Approved)...), nil
}

// nextRelease stands on the command line for an override that is bound to no release.
const nextRelease = "next"

// overridden binds an override to a release: the one that is named, the one that is proposed or, where nothing is, the one
// that is approved and not live.
func (n *notary) overridden(ctx context.Context, said *statement.Statement) (about []string, err error) {
	switch said.To {
	case "":
	case nextRelease:
		said.To = ""
		return []string{"It is bound to no release: the first one that needs it uses it up."}, nil
	default:
		return []string{"Nobody was asked: it says what the command line says."}, nil
	}
	var status reconciler.EnvironmentStatus
	if err := n.agent.ask(ctx, "environments/"+url.PathEscape(said.Environment), &status); err != nil {
		return nil, fmt.Errorf("find out what is proposed (or say so: --to): %w", err)
	}
	proposed, approved := status.Proposed, status.Approved
	switch {
	case proposed != nil && (approved == nil || approved.Release != proposed.Release):
		return n.proposed(ctx, said, false)
	case approved != nil && (status.Live == nil || status.Live.Release != approved.Release):
		said.To = approved.Release
		return []string{shown("Under way", "%s %s", approved.Revision.Source, approved.Revision.Revision)}, nil
	}
	return nil, &sources.HintError{Err: fmt.Errorf("nothing is proposed for %q, and nothing is under way", said.Environment),
		Hint: "push the release first; --to next binds the override to none, and the first release that needs it uses it up"}
}

// told is what the agent says of the proposed release.
func told(e reconciler.Explanation) []string {
	list := []string{shown("Proposed", "%s %s", e.Proposed.Revision.Source, e.Proposed.Revision.Revision)}
	if e.Class != "" {
		list = append(list, shown("Classified", "%s, %s", e.Class, e.ClassWhy))
	}
	for _, l := range e.Landed {
		list = append(list, shown("Landed", "%s", landedLine(l)))
	}
	for _, why := range unclear(e.Verdict) {
		list = append(list, shown("Gate", "%s", why))
	}
	return list
}

// shown is one line of what a person sees before signing.
func shown(name, format string, values ...any) string {
	return fmt.Sprintf("%-12s %s", name, fmt.Sprintf(format, values...))
}

func unclear(v *policy.Verdict) []string {
	if v == nil {
		return nil
	}
	return v.Reasons()
}

// landedLine is one landed change: its commit, who had a part in it, its pull request.
func landedLine(l policy.Landed) string {
	var who []string
	for _, p := range l.Parts {
		who = append(who, cmp.Or(p.Person, "somebody unknown")+" ("+p.As+")")
	}
	line := l.Commit[:min(len(l.Commit), 12)] + " by " + cmp.Or(strings.Join(who, ", "), "nobody known")
	if l.Pull != nil {
		line += fmt.Sprintf(", pull request %d %s", l.Pull.Number, l.Pull.URL)
	}
	return line
}

// summary renders the proposed release from the clone and says what it changes. Its digest is compared with the one that
// is signed, so that the person signs what the person sees.
func (n *notary) summary(ctx context.Context, e reconciler.Explanation, approved *reconciler.Pointer) []string {
	release, diff, err := n.rendered(ctx, e, approved)
	if err != nil {
		return []string{"What it changes is not shown, for this clone cannot render it (git fetch?): " + err.Error()}
	}
	if release.Digest != e.Proposed.Release {
		return []string{fmt.Sprintf("WARNING: this clone renders %s, not what the agent proposes; another version of purser may be why. Look before you sign.", release.Digest)}
	}
	var list []string
	if about := release.Declaration; about != nil {
		list = append(list, shown("Version", "%s: %s %s", about.Version, about.Change.Ticket, about.Change.Reason))
	}
	var changes []string
	for _, d := range diff {
		changes = append(changes, fmt.Sprintf("%s %s", d.Ref, d.Action))
	}
	return append(list, changeLines(changes)...)
}

// mostChangeLines bounds what is listed before a signature.
const mostChangeLines = 20

func changeLines(changes []string) []string {
	var list []string
	for i, c := range changes {
		if i == mostChangeLines {
			return append(list, shown("Changes", "and %d more", len(changes)-i))
		}
		list = append(list, shown("Changes", "%s", c))
	}
	return list
}

// rendered builds the proposed release and its difference to the approved one.
func (n *notary) rendered(ctx context.Context, e reconciler.Explanation, approved *reconciler.Pointer) (*render.Release, []render.ObjectChange, error) {
	s, err := n.estate.at(e.Governance)
	if err != nil {
		return nil, nil, err
	}
	env, err := s.environment(e.Environment)
	if err != nil {
		return nil, nil, err
	}
	var releases [2]*render.Release
	for i, p := range []*reconciler.Pointer{approved, e.Proposed} {
		if p == nil {
			continue
		}
		revision, err := sources.ParseRevision(p.Revision.Revision)
		if err != nil {
			return nil, nil, err
		}
		if s.tree, err = n.estate.tree(revision.Commit); err != nil {
			return nil, nil, err
		}
		if releases[i], err = s.build(ctx, env); err != nil {
			return nil, nil, err
		}
	}
	return releases[1], render.Told(render.Diff(releases[0], releases[1])), nil
}

var wholeCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)

// governance fills in an approval of declarations: the commit that is in force and the one that waits, or those that the
// clone knows by the names that were given.
func (n *notary) governance(ctx context.Context, said *statement.Statement, fromSaid bool) (about []string, err error) {
	if said.Class != "" {
		return nil, exit{usageExit, errors.New("--class: an approval of declarations has none")}
	}
	for _, commit := range []*string{&said.From, &said.To} {
		if *commit == "" || wholeCommit.MatchString(*commit) {
			continue
		}
		_, revision, err := sources.LocalTree(n.estate.repo, *commit, sources.Limits{})
		if err != nil {
			return nil, err
		}
		*commit = revision.Commit
	}
	var s reconciler.Status
	if !fromSaid {
		if err := n.agent.ask(ctx, "status", &s); err != nil {
			return nil, fmt.Errorf("find out which declarations are in force (or say so: --from): %w", err)
		}
		if said.From, err = commitIn(s.Governance); err != nil {
			return nil, err
		}
	}
	if said.To == "" {
		if said.To, err = n.awaited(said.From, s); err != nil {
			return nil, err
		}
	}
	paths, err := n.amended(said.From, said.To)
	if err != nil {
		return []string{"What changes is not shown, for this clone does not have it (git fetch?): " + err.Error()}, nil
	}
	return changeLines(paths), nil
}

// commitIn is the commit of a recorded revision; "" of none.
func commitIn(r *evidence.Revision) (string, error) {
	if r == nil {
		return "", nil
	}
	revision, err := sources.ParseRevision(r.Revision)
	return revision.Commit, err
}

// governanceBranch is what the clone knows the agent's default governance branch by.
const governanceBranch = "origin/main"

// awaited finds the commit whose declarations wait for an approval: the one that the agent considers or, while it has not
// looked, the newest that the clone knows.
func (n *notary) awaited(from string, s reconciler.Status) (string, error) {
	considered, err := commitIn(s.GovernanceProposed)
	if err != nil {
		return "", err
	}
	newest := ""
	if _, revision, err := sources.LocalTree(n.estate.repo, governanceBranch, sources.Limits{}); err == nil {
		if paths, err := n.amended(from, revision.Commit); err == nil && len(paths) > 0 {
			newest = revision.Commit
		}
	}
	switch {
	case considered == "" && newest == "":
		return "", &sources.HintError{Err: errors.New("no declarations wait for an approval, as far as the agent and this clone know"),
			Hint: "git fetch, or name their commit with --to"}
	case considered != "" && newest != "" && considered != newest:
		return "", &sources.HintError{Err: fmt.Errorf("it is not clear what is meant: the agent considers %s, and %s of this clone is %s", considered, governanceBranch, newest),
			Hint: "git fetch, or name one with --to"}
	}
	return cmp.Or(considered, newest), nil
}

// amended lists the declarations that differ between two commits.
func (n *notary) amended(from, to string) ([]string, error) {
	newer, err := n.estate.tree(to)
	if err != nil {
		return nil, err
	}
	var older *sources.Tree
	if from != "" {
		if older, err = n.estate.tree(from); err != nil {
			return nil, err
		}
	}
	return changedPaths(older, newer, []string{n.estate.path})
}

var (
	wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	partID  = regexp.MustCompile(`^[0-9a-f]{8,63}$`)
)

// completeID completes a part of a statement's ID by the statements in force that the agent knows.
func (n *notary) completeID(ctx context.Context, id string) (string, error) {
	if wholeID.MatchString(id) {
		return id, nil
	}
	if !partID.MatchString(id) {
		return "", exit{usageExit, fmt.Errorf("%.80q is not the ID of a statement, nor eight or more of its first digits", id)}
	}
	var environments []reconciler.EnvironmentStatus
	if err := n.agent.ask(ctx, "environments", &environments); err != nil {
		return "", err
	}
	var found []string
	for _, env := range environments {
		if env.Orphaned {
			continue
		}
		var e reconciler.Explanation
		if err := n.agent.ask(ctx, "environments/"+url.PathEscape(env.Name)+"/explain", &e); err != nil {
			return "", err
		}
		said := slices.Clone(e.Statements)
		for _, o := range e.Overrides {
			said = append(said, o.Statement)
		}
		for _, s := range said {
			if strings.HasPrefix(s.ID, id) {
				found = append(found, s.ID)
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d statements in force begin with %s: give the whole ID", len(found), id)
	}
	return found[0], nil
}
