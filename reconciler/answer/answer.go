// Package answer words what a forge is told of pull requests, a commit status for each environment and one comment, and
// delivers it: every text once, and anew when it says something else. What is said of an open pull request is a [Preview];
// of one that landed, how far it came.
package answer

import (
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/forge"
)

// A Preview says what the gates would answer if an open pull request were merged now, as the only landed change. It is
// never recorded, proposes nothing and moves nothing.
type Preview struct {
	Base, Head string // commits; what follows is about their merge
	Governance string // commit whose rules are asked
	// Problem says why the two cannot be merged here; "" when they can.
	Problem  string
	Blind    bool     // with a problem: it is not known what it touches
	Affected []string // environments whose release it may change, sorted
	More     int      // environments beyond those
	Unseen   int      // environments that were not looked at since the agent's start
	Declares []string // paths of declarations that it changes

	Judged map[string]*Judgement // by environment, [policy.Governance] for the declarations
}

// Names are the environments that it is about, policy.Governance for the declarations.
func (v *Preview) Names() []string {
	names := slices.Clone(v.Affected)
	if len(v.Declares) > 0 {
		names = append(names, policy.Governance)
	}
	return names
}

// Judgement is what the gates say for one environment.
type Judgement struct {
	Basis string // what it rests on: it holds as long as that is the same, and until
	Until time.Time

	Same     bool // the environment's release stays as it is
	Class    string
	ClassWhy string
	Verdict  *policy.Verdict
	Refused  []string // why there is no release or no declaration to judge
	Earlier  string   // why what landed before it is not approved; "" when it is
	Diff     string   // as the comment shows it
	Changes  string   // how many objects, in words
}

// MostPreviewed bounds the environments that are previewed for one pull request.
const MostPreviewed = 50

// Row is what became of a pull request in one environment.
type Row struct {
	Environment string
	Text        string
}

// answer is what is said in one line.
func (j *Judgement) answer() (forge.StatusState, string) {
	switch {
	case j.Same:
		return forge.Success, "not changed by the pull request"
	case j.Verdict == nil:
		return forge.Failure, "refused: " + j.Refused[0]
	case j.Verdict.Answer == policy.Allow && j.Earlier != "":
		return forge.Pending, "waits: " + j.Earlier
	}
	return StateOf(j.Verdict.Answer), Sentence(*j.Verdict)
}

// StateOf is a verdict as a commit status.
func StateOf(answer policy.Answer) forge.StatusState {
	switch answer {
	case policy.Allow:
		return forge.Success
	case policy.Wait:
		return forge.Pending
	}
	return forge.Failure
}

// Sentence is a verdict in one line.
func Sentence(v policy.Verdict) string {
	if v.Answer == policy.Allow {
		return "all gates allow it"
	}
	words := map[policy.Answer]string{policy.Wait: "waits: ", policy.Deny: "denied: "}
	var reasons []string
	for _, worst := range []bool{true, false} {
		for _, g := range v.Gates {
			if g.Answer != policy.Allow && (g.Answer == v.Answer) == worst {
				reasons = append(reasons, g.Gate+": "+g.Reason)
			}
		}
	}
	return words[v.Answer] + strings.Join(reasons, "; ")
}

// Time is a time as people read it.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
