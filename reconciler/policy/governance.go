package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

// Governance is the environment's name in statements about the declarations.
const Governance = "governance"

// Amendment is a change of the declarations, judged by those that are in force.
type Amendment struct {
	Rules    declaration.Governance
	From, To string // commits
	History
}

// candidate is the amendment as the gates about landed changes see it.
func (a Amendment) candidate() Candidate {
	return Candidate{
		Environment: &declaration.Environment{Meta: declaration.Meta{Name: Governance}},
		Release:     &render.Release{Digest: a.To}, Approved: &render.Release{Digest: a.From},
		Origin: OriginGit, History: a.History,
		Class: &declaration.ReleaseClass{Spec: declaration.ReleaseClassSpec{
			Signatures: a.Rules.Signatures, Approvals: a.Rules.Approvals, Authorship: a.Rules.Authorship,
		}},
	}
}

// EvaluateAmendment asks the gates that hold for declarations. Where the holders of the root keys approve it together,
// it passes whatever the rules in force say: that is the way out of rules that nobody can satisfy.
func EvaluateAmendment(a Amendment, f Facts, root Root, now time.Time) Verdict {
	c := a.candidate()
	v := Verdict{}
	for _, g := range []gate{{GateSignatures, signatures}, {GateApprovals, approvals}} {
		r := g.ask(c, f, now)
		r.Gate = g.name
		v.Gates = append(v.Gates, r)
	}
	if who := root.approves(a.To, now); len(who) >= root.Threshold && root.Threshold > 0 {
		for i := range v.Gates {
			if v.Gates[i].Answer != Allow {
				v.Gates[i] = Result{Gate: v.Gates[i].Gate, Answer: Allow,
					Reason: fmt.Sprintf("approved with the root keys %s; without that: %s", strings.Join(who, ", "), v.Gates[i].Reason)}
			}
		}
	}
	r := evidence(c, f, now)
	r.Gate = GateEvidence
	v.Gates = append(v.Gates, r)
	for _, g := range v.Gates {
		v.Answer = max(v.Answer, g.Answer)
	}
	return v
}

// Root is where trust in the declarations begins: keys that the agent's configuration pins, and what they signed.
type Root struct {
	Threshold  int         // how many different keys it takes; 0: there are none
	Statements []Statement // Person is the key's fingerprint
}

// approves lists the root keys that approve a commit.
func (r Root) approves(commit string, now time.Time) []string {
	var who []string
	for _, s := range r.Statements {
		if s.Verb == VerbApprove && s.To == commit && now.Before(s.Expires) && !slices.Contains(who, s.Person) {
			who = append(who, s.Person)
		}
	}
	slices.Sort(who)
	return who
}

// EvaluateRoot says whether the first declarations can be trusted: their commit is pinned, or enough root keys approve
// it, or the configuration lets the agent trust what it sees first.
func EvaluateRoot(trust declaration.AgentTrust, commit string, root Root, now time.Time) Result {
	const gate = "trust"
	switch who := root.approves(commit, now); {
	case trust.OnFirstUse:
		return Result{Gate: gate, Answer: Allow, Reason: "trusted on first use, as configured (governance.trust.onFirstUse)"}
	case trust.Commit != "" && trust.Commit == commit:
		return Result{Gate: gate, Answer: Allow, Reason: "the commit is pinned (governance.trust.commit)"}
	case trust.Commit != "":
		return Result{Gate: gate, Answer: Deny, Reason: fmt.Sprintf("the commit that is pinned (governance.trust.commit) is %s", trust.Commit)}
	case root.Threshold > 0 && len(who) >= root.Threshold:
		return Result{Gate: gate, Answer: Allow, Reason: "approved with the root keys " + strings.Join(who, ", ")}
	case root.Threshold > 0:
		return Result{Gate: gate, Answer: Wait, Reason: fmt.Sprintf("%d of %d root keys approve it", len(who), root.Threshold),
			Hint: fmt.Sprintf("purser approve %s --to %s, with each of these keys", Governance, commit)}
	}
	return Result{Gate: gate, Answer: Deny, Reason: "the configuration trusts nothing", Hint: "set governance.trust in the agent's configuration"}
}
