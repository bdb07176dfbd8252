package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/statement"
)

// RoleReleaseManager may approve a rollback alone.
const RoleReleaseManager = "release-manager"

// approvals passes when every landed change has the people that the class asks for, none of whom had a part in it.
func approvals(c Candidate, f Facts, now time.Time) Result {
	r, _ := voted(c, f, now)
	return r
}

// voted says who approves the candidate: whose votes the answer counts, where it is an allow.
func voted(c Candidate, f Facts, now time.Time) (Result, []Vote) {
	demands := c.Class.Spec.Approvals
	switch {
	case !c.judgesPeople():
		return allow("the class asks for no approvals"), nil
	case c.Origin == OriginGovernance:
		return allow("the change of governance that it comes from was approved"), nil
	case c.Origin == OriginRollback:
		return rollbackApproval(c, f, now)
	case !c.judgedByLanded():
		if len(demands) == 0 {
			demands = []declaration.Approval{{Count: 1, Roles: everyRole(f.People)}}
		}
		return wholeApproval(c, f, demands, now)
	case len(demands) == 0:
		return allow("the class asks for signatures only"), nil
	}
	verdict := allow("")
	var reasons []string
	var votes []Vote
	for i := range c.Landed {
		r, counted := landedApprovals(c, f, &c.Landed[i], demands, now)
		if r.Answer > verdict.Answer {
			verdict = r
		}
		reasons = append(reasons, r.Reason)
		votes = joinVotes(votes, counted, c.Landed[i].Commit)
	}
	if verdict.Answer == Allow {
		verdict.Reason = some(reasons)
	}
	return verdict, votes
}

// judgesPeople reports whether the class asks who made a release, or who approves it.
func (c Candidate) judgesPeople() bool {
	return len(c.Class.Spec.Approvals) > 0 || c.Class.Spec.Signatures == declaration.SignaturesRequired
}

// Leaves reports whether a rollback keeps away what it leaves, which would else come back as easily as it went: as a
// release that was live before, past the people, the calendar and the promotion that newer ones have to pass.
func (c Candidate) Leaves() bool { return c.Origin == OriginRollback && c.guarded() }

// guarded reports whether people, a calendar or a promotion keep releases away.
func (c Candidate) guarded() bool {
	return c.judgesPeople() || c.Calendar != nil || c.Environment.Spec.Promotion.From != ""
}

// wholeApproval asks statements about the release as a whole. Whoever is known to have a part in it does not count; where
// somebody may be missing there, one more has to approve, so that nobody's own vote is decisive. Not so where the class asks
// for signatures alone: there anybody's own is enough for each landed change.
func wholeApproval(c Candidate, f Facts, demands []declaration.Approval, now time.Time) (Result, []Vote) {
	what := "the release as a whole (" + c.noLanded() + ")"
	if len(c.Class.Spec.Approvals) > 0 && (c.PartsUnknown != "" || c.Origin == OriginFirst) {
		demands = declaration.OneMore(demands)
		what += ", of which it is unknown who made it, so that one person more than the class asks for has to approve,"
	}
	who := c.ballot(demands, f, c.Parts, now)
	who.bots, who.approve = c.Class.Spec.Bots, who.approve+", by each of them"
	who.statements(c, f, now, func(s Statement) bool { return s.From == c.from() && s.To == c.Release.Digest })
	return who.result(what)
}

// landedApprovals judges one landed change against its own authors.
func landedApprovals(c Candidate, f Facts, l *Landed, demands []declaration.Approval, now time.Time) (Result, []Vote) {
	if unknown := unknownAuthors(c.Class, l, now); unknown != nil {
		return *unknown, nil
	}
	who := c.ballot(demands, f, l.Parts, now)
	who.bots, who.remedy = c.Class.Spec.Bots, "revert the change and let somebody else make it, or "+who.remedy
	if l.mayHavePull(now) {
		who.review = "a review of the pull request at its head, where the forge still takes one"
	}
	who.reviews(l)
	who.statements(c, f, now, func(s Statement) bool {
		return s.From == c.from() && (s.To == c.Release.Digest || slices.Contains(l.Releases, s.To))
	})
	r, votes := who.result("landed change " + short(l.Commit))
	if r.Answer != Allow && l.PullUnknown != "" {
		r.Reason += "; reviews are unknown: " + l.PullUnknown
	}
	return r, votes
}

// forgeSettles is how long after a merge a forge may not know it yet: Gitea writes it down in the background.
const forgeSettles = 15 * time.Second

// unknownAuthors refuses a change of which it is not known who made it: its author could approve it. nil when it is
// known.
func unknownAuthors(class *declaration.ReleaseClass, l *Landed, now time.Time) *Result {
	bad := l.Unsigned()
	if len(bad) == 0 {
		return nil
	}
	of := "landed change " + short(l.Commit)
	if class.Spec.Authorship != declaration.AuthorshipForge {
		return &Result{Answer: Deny, Reason: fmt.Sprintf("%s: who made it is unknown, so nobody can be told from its authors: %s", of, some(bad)),
			Hint: "sign commits with a key of a Person; or let the class go by the forge (authorship: forge)"}
	}
	switch {
	case l.PullUnknown != "":
		return &Result{Answer: Wait, Reason: fmt.Sprintf("%s: who made it is unknown until the forge answers: %s", of, l.PullUnknown)}
	case l.Pull == nil && now.Before(l.FirstSeen.Add(forgeSettles)):
		until := l.FirstSeen.Add(forgeSettles)
		return &Result{Answer: Wait, Reason: of + ": it is not signed, and the forge knows of no pull request that it came by; right after a merge it may not yet",
			Hint: "if it was pushed to the branch directly: revert it and open a pull request", Until: &until}
	case l.Pull == nil:
		return &Result{Answer: Deny, Reason: of + ": it is not signed and came by no pull request, so who made it is unknown",
			Hint: "revert it and open a pull request"}
	case !l.Pull.AuthorsKnown:
		return &Result{Answer: Deny, Reason: fmt.Sprintf("%s: the author of pull request %d, or who pushed to it, is nobody that governance knows", of, l.Pull.Number),
			Hint: "declare a Person with that account of the forge"}
	case !l.Pull.PushersKnown:
		return &Result{Answer: Wait, Reason: fmt.Sprintf("%s: who pushed to pull request %d is not known, so nobody can be told from its authors", of, l.Pull.Number),
			Hint: "a forge tells a moment after the merge; of a fork it never does: open pull requests from branches of the project, or sign commits"}
	}
	return nil
}

// rollbackApproval asks one release manager, whoever made the change: what comes back was approved and live before. It is
// said by a statement, or for each landed change by the signature of its last commit or, unless the class takes statements
// alone of somebody, by a review.
func rollbackApproval(c Candidate, f Facts, now time.Time) (Result, []Vote) {
	const what = "the rollback"
	demand := declaration.Approval{Count: 1, Roles: []string{RoleReleaseManager}}
	if slices.ContainsFunc(c.Class.Spec.Approvals, declaration.Approval.Signed) {
		demand.By = declaration.ByStatement
	}
	whole := c.ballot([]declaration.Approval{demand}, f, nil, now)
	whole.approve, whole.signs = "a commit signed by a release manager, or "+whole.approve, true
	whole.statements(c, f, now, func(s Statement) bool { return s.From == c.from() && s.To == c.Release.Digest })
	r, votes := whole.result(what)
	if r.Answer == Allow || len(c.Landed) == 0 {
		return r, votes
	}
	for i := range c.Landed {
		l := &c.Landed[i]
		who := whole
		who.votes, who.ignored = nil, slices.Clone(whole.ignored)
		if l.mayHavePull(now) {
			who.review = "a review of the pull request, where the forge still takes one"
		}
		if last := l.last(); last != nil && len(l.Unsigned()) == 0 {
			if why := last.stale(l.FirstSeen); why != "" {
				who.ignore(why)
			} else {
				who.vote(Vote{Kind: BySignature, Person: last.Signer, Commit: last.ID, Seen: l.FirstSeen})
			}
		}
		who.reviews(l)
		var counted []Vote
		if r, counted = who.result(what); r.Answer != Allow {
			return r, nil
		}
		votes = joinVotes(votes, counted, l.Commit)
	}
	return r, votes
}

// clockSkew is how far a signer's clock may be ahead of the agent's.
const clockSkew = 5 * time.Minute

// stale says why a signature approves no rollback; "" when it does. Whoever signed meant the estate as it was then: a commit
// that lay about for longer than statements may, anybody could land.
func (c *Commit) stale(seen time.Time) string {
	at := "at an unknown time"
	switch {
	case c.At.IsZero():
	case c.At.After(seen.Add(clockSkew)):
		at = fmt.Sprintf("at %s, after it was first seen at %s", c.At.UTC().Format(time.RFC3339), seen.UTC().Format(time.RFC3339))
	case seen.Sub(c.At) > statement.MaxValidity:
		at = fmt.Sprintf("at %s, more than 7 days before it landed", c.At.UTC().Format(time.RFC3339))
	default:
		return ""
	}
	return fmt.Sprintf("the signature of %s counts as no approval: commit %s says that it was made %s", c.Signer, short(c.ID), at)
}

// ballot collects who approves one thing.
type ballot struct {
	demands []declaration.Approval
	people  map[string]Voter
	bots    bool
	parts   []Part          // whoever had one does not count
	votes   map[string]Vote // by person
	ignored []string        // why somebody's vote does not count
	now     time.Time
	source  string // that the environment follows
	approve string // what to do about a missing vote
	review  string // what else, where a review counts; "": none can come any more
	signs   bool   // a signed commit approves it, too
	remedy  string // what to do where nobody is left
}

// ballot about a candidate, in which only statements count so far.
func (c Candidate) ballot(demands []declaration.Approval, f Facts, parts []Part, now time.Time) ballot {
	return ballot{demands: demands, people: f.People, parts: parts, now: now,
		source: c.Environment.Spec.Source.Repository, approve: "purser approve " + c.Environment.Meta.Name,
		remedy: "give more people the role and a key that counts, in governance"}
}

// vote counts one vote of each person: the first, or one that the person signed in place of a review.
func (b *ballot) vote(v Vote) {
	person := v.Person
	voter, known := b.people[person]
	if before, voted := b.votes[person]; !known || voted && (before.Kind != ByReview || v.Kind == ByReview) {
		return
	}
	if as, had := hadPart(b.parts, person); had {
		b.ignore(fmt.Sprintf("%s had a part in it (%s)", person, as))
		return
	}
	if voter.Bot && !b.bots {
		b.ignore(person + " is a bot")
		return
	}
	if b.votes == nil {
		b.votes = map[string]Vote{}
	}
	b.votes[person] = v
}

func (b *ballot) ignore(why string) {
	if !slices.Contains(b.ignored, why) {
		b.ignored = append(b.ignored, why)
	}
}

// reviews counts those that approve what landed, if it came by a pull request, and were shown all of it.
func (b *ballot) reviews(l *Landed) {
	p := l.Pull
	if p == nil {
		return
	}
	for _, r := range p.Reviews {
		switch {
		case !r.Approves || !r.Covers:
		case !l.Rewritten.IsZero() && !r.At.After(l.Rewritten):
			b.ignore(fmt.Sprintf("the review of %s is older than the rewriting of the branch at %s: less may have been shown than landed",
				r.Account, l.Rewritten.UTC().Format(time.RFC3339)))
		default:
			b.vote(Vote{Kind: ByReview, Person: r.Person, Review: &VotedReview{
				ID: r.ID, Account: r.Account, Head: r.Head, Pull: p.Number, URL: p.URL, Merged: p.Head, Answer: p.Digest,
			}, Seen: p.At})
		}
	}
}

// statements counts those that approve what covers says.
func (b *ballot) statements(c Candidate, f Facts, now time.Time, covers func(Statement) bool) {
	for _, s := range f.Statements {
		if s.Verb != VerbApprove || !covers(s) {
			continue
		}
		switch {
		case !now.Before(s.Expires):
			b.ignore(fmt.Sprintf("the statement of %s expired at %s", s.Person, s.Expires.UTC().Format(time.RFC3339)))
		case s.Rank < c.Class.Spec.Rank:
			b.ignore(fmt.Sprintf("%s approved it as class %q, and it is %q", s.Person, s.Class, c.Class.Meta.Name))
		default:
			b.vote(Vote{Kind: ByStatement, Person: s.Person, Statement: s.ID, Seen: s.Seen})
		}
	}
}

// result says whether the demands are met, and with whose votes: a person counts for one of them.
func (b *ballot) result(what string) (Result, []Vote) {
	met, left := assign(b.demands, slices.Sorted(maps.Keys(b.votes)), b.meets)
	if len(left) == 0 {
		var names []string
		var votes []Vote
		for _, person := range met {
			names = append(names, fmt.Sprintf("%s (%s)", person, b.votes[person].Kind))
			votes = append(votes, b.votes[person])
		}
		return allow(fmt.Sprintf("%s is approved by %s", what, strings.Join(names, ", "))), votes
	}
	r := Result{Answer: Wait}
	nobody := "somebody in the place of one who approved"
	could := func(person string, demand declaration.Approval) bool {
		return b.meets(person, demand) || b.able(person, demand)
	}
	if _, never := assign(b.demands, slices.Sorted(maps.Keys(b.people)), could); len(never) > 0 {
		r.Answer, nobody = Deny, "nobody is left"
	}
	var missing []string
	hint := b.approve
	for _, demand := range left {
		roles := strings.Join(demand.Roles, " or ")
		switch {
		case demand.Signed():
			roles += ", by a signed statement"
			b.unsigned(demand, met)
		case b.review != "" && hint == b.approve:
			hint += ", or " + b.review
		}
		missing = append(missing, fmt.Sprintf("%d more of %s (%s)", demand.Count, roles, cmp.Or(some(b.eligible(demand)), nobody)))
	}
	r.Reason, r.Hint = fmt.Sprintf("%s needs %s", what, strings.Join(missing, " and ")), hint
	if len(b.ignored) > 0 {
		r.Reason += "; " + some(b.ignored)
	}
	if r.Answer == Deny {
		r.Hint = b.remedy
	}
	return r, nil
}

// unsigned says whose reviews do not count where a signed statement is wanted.
func (b *ballot) unsigned(demand declaration.Approval, met []string) {
	for _, person := range slices.Sorted(maps.Keys(b.votes)) {
		if b.votes[person].Kind == ByReview && b.people[person].anyRole(demand.Roles) && !slices.Contains(met, person) {
			b.ignore(fmt.Sprintf("the review of %s is no signed statement", person))
		}
	}
}

// meets reports whether a person's vote can meet a demand.
func (b *ballot) meets(person string, demand declaration.Approval) bool {
	vote, voted := b.votes[person]
	return voted && b.people[person].anyRole(demand.Roles) && (!demand.Signed() || vote.Kind != ByReview)
}

// able reports whether a person could still vote so that it can meet a demand: with a key that counts now, by a review where
// one counts, or by a commit where that counts.
func (b *ballot) able(person string, demand declaration.Approval) bool {
	voter := b.people[person]
	if _, had := hadPart(b.parts, person); had || voter.Bot && !b.bots || !voter.anyRole(demand.Roles) {
		return false
	}
	return anyValid(voter.Keys, b.now) || b.signs && anyValid(voter.Commits, b.now) ||
		!demand.Signed() && b.review != "" && voter.canReview(b.source)
}

// eligible are the people whose vote a demand is missing and could still get.
func (b *ballot) eligible(demand declaration.Approval) []string {
	var may []string
	for _, person := range slices.Sorted(maps.Keys(b.people)) {
		if !b.meets(person, demand) && b.able(person, demand) {
			may = append(may, person)
		}
	}
	return may
}

// assign gives each demand as many people as it asks for, each person once (a matching by augmenting paths). It says
// who was needed, and what is left of each demand that is not met.
func assign(demands []declaration.Approval, people []string, meets func(string, declaration.Approval) bool) (met []string, left []declaration.Approval) {
	var slots []int // → demand
	for i, d := range demands {
		for range d.Count {
			slots = append(slots, i)
		}
	}
	holder := make([]string, len(slots))
	var place func(person string, tried map[int]bool) bool
	place = func(person string, tried map[int]bool) bool {
		for s, demand := range slots {
			if tried[s] || !meets(person, demands[demand]) {
				continue
			}
			tried[s] = true
			if holder[s] == "" || place(holder[s], tried) {
				holder[s] = person
				return true
			}
		}
		return false
	}
	for _, person := range people {
		place(person, map[int]bool{})
	}
	open := map[int]int{}
	for s, person := range holder {
		if person == "" {
			open[slots[s]]++
		} else {
			met = append(met, person)
		}
	}
	for i, d := range demands {
		if open[i] > 0 {
			d.Count = open[i]
			left = append(left, d)
		}
	}
	return met, left
}

// everyRole are all roles that somebody holds.
func everyRole(people map[string]Voter) []string {
	roles := map[string]bool{}
	for _, v := range people {
		for _, r := range v.Roles {
			roles[r] = true
		}
	}
	return slices.Sorted(maps.Keys(roles))
}
