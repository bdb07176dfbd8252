package reconciler

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/answer"
	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources"
	"github.com/purser-gitops/purser/sources/forge"
)

// offered is a proposed release and the landed changes that it brings.
type offered struct {
	release string
	landed  []landedRef
}

// landedRef is a landed change and the pull request that it came from.
type landedRef struct {
	commit string
	pull   int64  // number; 0 where there is none, or none is known
	head   string // of the pull request when it was merged
}

// offeredAs takes the landed changes of a candidate; where none is known the proposed commit stands for them.
func offeredAs(p *Pointer, landed []policy.Landed) offered {
	o := offered{release: p.Release}
	for _, l := range landed {
		ref := landedRef{commit: l.Commit}
		if l.Pull != nil {
			ref.pull, ref.head = l.Pull.Number, l.Pull.Head
		}
		o.landed = append(o.landed, ref)
	}
	if revision, err := sources.ParseRevision(p.Revision.Revision); err == nil && len(landed) == 0 {
		o.landed = []landedRef{{commit: revision.Commit}}
	}
	return o
}

// progress says how far a release has come in an environment, and whether nothing more is to be said of it.
func progress(e EnvironmentState, release string) (state forge.StatusState, text string, final bool) {
	d := e.Deployment
	veto, vetoed := e.Vetoes[release]
	switch {
	case e.Live.is(release):
		return forge.Success, "live since " + answer.Time(e.Live.At), true
	case vetoed:
		return forge.Failure, "vetoed: " + veto.Reason, false
	case e.Approved.is(release):
		switch {
		case e.Blocked != nil:
			return forge.Failure, "approved, and cannot be planned: " + strings.Join(e.Blocked.Errors, "; "), false
		case d.Release == release && d.Phase == PhaseFailed:
			return forge.Failure, "failed: " + d.Error, false
		case d.Release == release && d.Phase == PhaseApplied:
			return forge.Pending, "applied; it becomes live when it is healthy", false
		case d.Release == release && d.Phase == PhasePlanned:
			return forge.Pending, "being applied", false
		}
		return forge.Pending, "approved; it is applied next", false
	case e.Proposed.is(release) && e.Verdict != nil:
		return answer.StateOf(e.Verdict.Answer), answer.Sentence(*e.Verdict), false
	case e.Proposed.is(release):
		return forge.Pending, "being judged", false
	}
	return forge.Pending, "part of a release that another one follows", false
}

// followed is a landed change on its way into one environment.
type followed struct {
	landedRef
	environment string
	release     string
	final       bool // as it was last told
}

// Bounds on what is followed: landed changes of one environment, and how old an outcome is at the start of the agent
// that is told once more, should it have ended before it could tell.
const (
	mostFollowed = 20
	toldAgain    = time.Hour
)

// follow takes up what landed since the last look.
func (n *answers) follow() {
	names := n.environments("")
	for _, name := range names {
		o := n.agent.observation(name).offered
		if o.release == n.offers[name].release && slices.Equal(o.landed, n.offers[name].landed) {
			continue
		}
		n.offers[name] = o
		for _, ref := range o.landed[max(len(o.landed)-mostFollowed, 0):] {
			n.take(followed{landedRef: ref, environment: name, release: o.release})
		}
	}
	n.following = slices.DeleteFunc(n.following, func(f followed) bool { return !slices.Contains(names, f.environment) })
	for i := range n.following {
		f := &n.following[i]
		e := n.agent.journal.environment(f.environment)
		if _, vetoed := e.Vetoes[f.release]; !vetoed && e.Approved != nil && !e.Proposed.is(f.release) && !e.Approved.is(f.release) && !e.Live.is(f.release) {
			f.release = e.Approved.Release // it came along with a later one
		}
	}
}

// take follows a landed change; one that is followed already may have got another release, or a pull request.
func (n *answers) take(next followed) {
	for i, f := range n.following {
		if f.environment == next.environment && f.commit == next.commit {
			if next.pull == 0 {
				next.pull, next.head = f.pull, f.head
			}
			n.following[i] = next
			return
		}
	}
	n.following = append(n.following, next)
	count, oldest := 0, -1
	for i, f := range n.following {
		if f.environment != next.environment {
			continue
		}
		if count++; oldest < 0 {
			oldest = i
		}
	}
	if count > mostFollowed {
		n.following = slices.Delete(n.following, oldest, oldest+1)
	}
}

// resume takes up, at the start, what was approved and not live, or became live a moment before.
func (n *answers) resume(ctx context.Context, l *law) {
	now := n.agent.now()
	for _, name := range n.environments("") {
		e := n.agent.journal.environment(name)
		if n.resumed[name] || l.Environments[name] == nil {
			continue
		}
		n.resumed[name] = true
		if e.Approved == nil || e.Live.is(e.Approved.Release) && now.Sub(e.Live.At) > toldAgain {
			continue
		}
		o := offeredAs(e.Approved, nil)
		for _, ref := range o.landed {
			if pull, err := n.pullOf(ctx, l.Environments[name].Spec.Source.Branch, ref.commit); err == nil && pull != nil {
				ref.pull, ref.head = pull.Number, pull.Head
			}
			n.take(followed{landedRef: ref, environment: name, release: o.release})
		}
	}
}

// told is what is to be said of all that is followed: a status on each landed change and on the head of its pull request,
// and the comment on that.
func (n *answers) told() answer.Letters {
	told := answer.Letters{}
	rows := map[int64][]answer.Row{}
	for i := range n.following {
		f := &n.following[i]
		var state forge.StatusState
		var text string
		state, text, f.final = progress(n.agent.journal.environment(f.environment), f.release)
		for _, commit := range f.commits() {
			told.Add(answer.Status(commit, f.environment, state, text))
		}
		if _, isOpen := n.pulls[f.pull]; f.pull != 0 && !isOpen {
			// Of a pull request that landed in several steps the last one tells.
			rows[f.pull] = append(slices.DeleteFunc(rows[f.pull], func(r answer.Row) bool { return r.Environment == f.environment }),
				answer.Row{Environment: f.environment, Text: text})
		}
	}
	for number, list := range rows {
		slices.SortFunc(list, func(a, b answer.Row) int { return strings.Compare(a.Environment, b.Environment) })
		told.Add(answer.Landed(number, list))
	}
	return told
}

// commits are those that say how far it has come.
func (f followed) commits() []string {
	if f.head != "" && f.head != f.commit {
		return []string{f.head, f.commit}
	}
	return []string{f.commit}
}

// settle lets go of what is told to the end: a pull request when all environments that it reached have come there.
func (n *answers) settle(told answer.Letters) {
	goesOn := map[int64]bool{}
	ended := func(f followed) bool {
		all := f.final
		for _, commit := range f.commits() {
			all = all && n.box.Has(told[answer.Status(commit, f.environment, "", "").Key()])
		}
		return all
	}
	for _, f := range n.following {
		if l, commented := told[answer.Key{Number: f.pull}]; !ended(f) || f.pull != 0 && commented && !n.box.Has(l) {
			goesOn[f.pull] = true
		}
	}
	n.following = slices.DeleteFunc(n.following, func(f followed) bool { return ended(f) && (f.pull == 0 || !goesOn[f.pull]) })
}

// concerns reports whether something that is open or followed has a place.
func (n *answers) concerns(k answer.Key) bool {
	for _, p := range n.pulls {
		if p.Number == k.Number || p.Head == k.Commit {
			return true
		}
	}
	return slices.ContainsFunc(n.following, func(f followed) bool {
		return k.Number != 0 && f.pull == k.Number || k.Commit != "" && slices.Contains(f.commits(), k.Commit)
	})
}
