package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
)

// Landed is one landed change: a first-parent step of the source branch that altered what the environment reads.
type Landed struct {
	Commit    string    `json:"commit"`
	FirstSeen time.Time `json:"firstSeen"` // by the agent; signatures are judged at this time
	// Releases that were proposed with it since the approved one. A statement that approves one of them approves it.
	Releases []string `json:"releases,omitempty"`
	Commits  []Commit `json:"commits"` // everything it brought, itself included
	Parts    []Part   `json:"parts"`   // who had a part in it
	Pull     *Pull    `json:"pull,omitempty"`
	// Rewritten is when the branch last lost a landed change; zero: never. Reviews given until then do not count.
	Rewritten time.Time `json:"rewritten,omitzero"`
	// PullUnknown says why the forge could not be asked. It is empty where no forge is configured, too.
	PullUnknown string `json:"pullUnknown,omitempty"`
}

// Commit is one commit of a landed change and whether its signature counts.
type Commit struct {
	ID     string `json:"id"`
	Signer string `json:"signer,omitempty"` // person whose key signed it, valid when it was first seen
	// At is when the signer made it, by the clock of their own; zero where nobody known signed it, or it does not say.
	At time.Time `json:"at,omitzero"`
	// Problem says why the signature does not count.
	Problem string `json:"problem,omitempty"`
	// Mechanical: a forge's merge or squash commit. Each path that it alters equals a parent's, or the reviewed head's,
	// whose commits are listed, too: it adds nothing of its own.
	Mechanical bool `json:"mechanical,omitempty"`
}

// Part is somebody's part in a landed change. Whoever had one cannot approve it.
type Part struct {
	Person string `json:"person,omitempty"` // "" where it is nobody known
	As     string `json:"as"`
}

// Parts in a landed change.
const (
	PartSigner     = "signer"
	PartAuthor     = "author"
	PartCommitter  = "committer"
	PartCoAuthor   = "co-author"
	PartMerger     = "merger" // who landed what is not as the pull request was
	PartPullAuthor = "author of the pull request"
	PartPusher     = "pusher"
)

// Pull is what the forge said about the pull request that a landed change came from.
type Pull struct {
	Number  int64     `json:"number"`
	URL     string    `json:"url"`
	Head    string    `json:"head"`
	Digest  string    `json:"digest"` // of the forge's answers
	At      time.Time `json:"at"`     // when the forge answered
	Reviews []Review  `json:"reviews"`
	// AuthorsKnown: the pull request's author is a known person, and so is everybody the forge says wrote or pushed what
	// landed.
	AuthorsKnown bool `json:"authorsKnown"`
	// PushersKnown: the forge told of every push that led to the head.
	PushersKnown bool `json:"pushersKnown"`
}

// Review is the last opinion of one account. Only one that approves and covers the landed change counts.
type Review struct {
	ID       int64     `json:"id,omitempty"`      // that the forge gave it
	Account  string    `json:"account,omitempty"` // login
	Person   string    `json:"person,omitempty"`  // "" where the account is nobody's
	Approves bool      `json:"approves"`          // approved, and not dismissed since
	Covers   bool      `json:"covers"`            // each path that the landed change altered equals the reviewed head's
	Head     string    `json:"head,omitempty"`
	At       time.Time `json:"at"`
}

// Voter is a person as approvals see it.
type Voter struct {
	Roles   []string            `json:"roles"`
	Bot     bool                `json:"bot,omitempty"`
	Keys    []identity.Validity `json:"keys,omitempty"`    // that sign statements, without those that are revoked
	Commits []identity.Validity `json:"commits,omitempty"` // likewise those that sign commits
	Forges  []string            `json:"forges,omitempty"`  // sources whose forges have an account of the person
}

// NewVoter is a person as declared.
func NewVoter(p *declaration.Person) Voter {
	v := Voter{Roles: p.Spec.Roles, Bot: p.Spec.Bot}
	for _, k := range p.Spec.Keys {
		if k.Signs(declaration.UseStatements) {
			v.Keys = append(v.Keys, k.Validity())
		}
		if k.Signs(declaration.UseCommits) {
			v.Commits = append(v.Commits, k.Validity())
		}
	}
	for _, f := range p.Spec.Forges {
		if !slices.Contains(v.Forges, f.Source) {
			v.Forges = append(v.Forges, f.Source)
		}
	}
	return v
}

// anyValid reports whether one of some keys counts now.
func anyValid(keys []identity.Validity, now time.Time) bool {
	return slices.ContainsFunc(keys, func(k identity.Validity) bool { return k.At(now) == identity.Good })
}

// canReview reports whether the person has an account on the forge of a source; "" is any.
func (v Voter) canReview(source string) bool {
	return len(v.Forges) > 0 && (source == "" || slices.Contains(v.Forges, source))
}

// hadPart reports whether a person had a part in something, and which.
func hadPart(parts []Part, person string) (string, bool) {
	for _, p := range parts {
		if p.Person == person && person != "" {
			return p.As, true
		}
	}
	return "", false
}

// Unsigned lists the commits whose signature does not count, with the reason.
func (l *Landed) Unsigned() []string {
	var list []string
	for _, c := range l.Commits {
		if c.Signer == "" && !c.Mechanical {
			list = append(list, fmt.Sprintf("%s: %s", short(c.ID), c.Problem))
		}
	}
	return list
}

// mayHavePull reports whether reviews can count: it came by a pull request, or nobody knows yet that it did not.
func (l *Landed) mayHavePull(now time.Time) bool {
	return l.Pull != nil || l.PullUnknown != "" || now.Before(l.FirstSeen.Add(forgeSettles))
}

// last is the newest commit that is somebody's work; nil when there is none.
func (l *Landed) last() *Commit {
	for i := len(l.Commits) - 1; i >= 0; i-- {
		if !l.Commits[i].Mechanical {
			return &l.Commits[i]
		}
	}
	return nil
}

// short is a commit or digest as people read it.
func short(id string) string {
	_, value, found := strings.Cut(id, ":")
	if !found {
		value = id
	}
	return value[:min(len(value), 12)]
}

// some lists the first few of many things.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// anyRole reports whether a voter holds one of the roles.
func (v Voter) anyRole(roles []string) bool {
	return slices.ContainsFunc(v.Roles, func(r string) bool { return slices.Contains(roles, r) })
}
