package declaration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Warnings tells what is allowed and hardly meant: rules that anybody can take away, and rules that nothing can pass, or not
// now. They come in the order of names.
func (s *Set) Warnings(now time.Time) Errors {
	var list Errors
	s.warnLoose(&list)
	s.warnWeaker(&list)
	s.warnAlone(&list)
	s.warnForges(&list)
	s.warnExpired(&list, now)
	s.warnReviews(&list)
	s.warnFirst(&list)
	s.warnBackups(&list)
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		if class.Spec.Authorship == AuthorshipForge && len(class.Spec.Approvals) > 0 {
			s.warnAccounts(&list, class.Position, fmt.Sprintf("class %q", name))
		}
	}
	if e := s.Estate; e != nil && e.Spec.Governance.Authorship == AuthorshipForge && len(e.Spec.Governance.Approvals) > 0 {
		s.warnAccounts(&list, e.Position, "spec.governance")
	}
	return list
}

// warnLoose is about classes that demand people of whom the declarations themselves demand none.
func (s *Set) warnLoose(list *Errors) {
	if s.Estate != nil && len(s.Estate.Spec.Governance.Approvals) > 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		if len(class.Spec.Approvals) == 0 {
			continue
		}
		at := class.Position
		if s.Estate != nil {
			at = s.Estate.Position
		}
		list.add(at, "nobody has to approve a change of the declarations",
			fmt.Sprintf("whoever may push can take away what class %q demands", name),
			"add spec.governance.approvals to the Estate")
		return
	}
}

// warnWeaker is about classes that a release.yaml may name to get by with fewer people, or without signatures or promotion: it
// may raise a release to a class of higher rank.
func (s *Set) warnWeaker(list *Errors) {
	ranked := slices.SortedFunc(maps.Values(s.Classes), func(a, b *ReleaseClass) int { return cmp.Compare(a.Spec.Rank, b.Spec.Rank) })
	for i, higher := range ranked {
		for _, lower := range ranked[:i] {
			var less string
			switch {
			case higher.people() < lower.people():
				less = fmt.Sprintf("%d approvals, where %q demands %d", higher.people(), lower.Meta.Name, lower.people())
			case higher.signed() < lower.signed():
				less = fmt.Sprintf("%d signed statements (by: statement), where %q demands %d", higher.signed(), lower.Meta.Name, lower.signed())
			case higher.Spec.Signatures != SignaturesRequired && lower.Spec.Signatures == SignaturesRequired:
				less = fmt.Sprintf("no signatures, where %q does", lower.Meta.Name)
			case !higher.Spec.Promotion.Required && lower.Spec.Promotion.Required:
				less = fmt.Sprintf("no promotion, where %q does", lower.Meta.Name)
			case higher.opensMore(lower):
				less = fmt.Sprintf("less of overrides (override.gates) than %q", lower.Meta.Name)
			default:
				continue
			}
			list.add(higher.Position, fmt.Sprintf("class %q demands %s", higher.Meta.Name, less),
				fmt.Sprintf("it has the higher rank, so release.yaml may raise a release out of %q", lower.Meta.Name),
				fmt.Sprintf("demand as much, or give it a lower rank than %d", lower.Spec.Rank))
			break
		}
	}
}

// warnReviews is about people whose overrides nobody else could review: three days later nothing would be released anymore.
func (s *Set) warnReviews(list *Errors) {
	able := func(roles []string, but string) []string {
		var names []string
		for name, p := range s.Persons {
			if name != but && !p.Spec.Bot && p.holdsOneOf(roles) && p.canSign(UseStatements) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		if o := class.Spec.Override; class.Position == (Position{}) || o.Gates != nil && len(o.Gates) == 0 {
			continue
		}
		for _, person := range able(OrderRoles, "") {
			if len(able(class.Reviewers(), person)) == 0 {
				list.add(class.Position, fmt.Sprintf("nobody could review what %s overrides for class %q", person, name),
					fmt.Sprintf("no other person with the role %s has a key for statements, and an overdue review denies every release", strings.Join(class.Reviewers(), " or ")),
					"declare another such Person, name roles in spec.override.review, or let nothing be overridden (override.gates: [])")
				break
			}
		}
	}
}

// warnFirst is about classes of which nothing could be released for the first time: that takes one person more, each by a
// statement.
func (s *Set) warnFirst(list *Errors) {
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		if len(class.Spec.Approvals) == 0 {
			continue
		}
		demands, need := OneMore(class.Spec.Approvals), class.people()+1
		var people []string
		for name, p := range s.Persons {
			if class.Spec.Bots || !p.Spec.Bot {
				people = append(people, name)
			}
		}
		able := func(p *Person, _ Approval) bool { return p.canSign(UseStatements) }
		if len(match(demands, s.eligible(demands, people, "", able)).shortages) == 0 {
			continue
		}
		list.add(class.Position, fmt.Sprintf("nobody could let a first release of class %q in", name),
			fmt.Sprintf("of it nobody looks up who made it, so that one person more than the class asks for has to approve, each by a signed statement: %d, in the roles of its approvals", need),
			"declare another Person with one of these roles and an SSH key for statements, or ask for fewer approvals")
	}
}

// opensMore reports whether an override can open a gate for this class that it cannot open for the other.
func (c *ReleaseClass) opensMore(than *ReleaseClass) bool {
	return slices.ContainsFunc(c.Openable(), func(g string) bool { return !than.LetsOverride(g) })
}

// people is how many have to approve.
func (c *ReleaseClass) people() int {
	count := 0
	for _, a := range c.Spec.Approvals {
		count += a.Count
	}
	return count
}

// signed is how many of them have to sign that.
func (c *ReleaseClass) signed() int {
	count := 0
	for _, a := range c.Spec.Approvals {
		if a.Signed() {
			count += a.Count
		}
	}
	return count
}

// warnAlone is about classes that ask people, and let one person go without them.
func (s *Set) warnAlone(list *Errors) {
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		var what []string
		if n := class.people(); n > 0 && class.LetsOverride("approvals") {
			what = append(what, fmt.Sprintf("approvals (%d)", n))
		}
		if class.Spec.Signatures == SignaturesRequired && class.LetsOverride("signatures") {
			what = append(what, "signatures")
		}
		if len(what) > 0 {
			list.add(class.Position, fmt.Sprintf("one person can do without the %s that class %q demands", strings.Join(what, " and the "), name),
				"its override.gates names them, and an override is the order of one "+strings.Join(OrderRoles, " or ")+", reviewed afterwards",
				"leave these gates out of override.gates, so that a freeze can be opened and nobody releases alone")
		}
	}
}

// warnForges is about demands for signed statements that whoever administers a forge could get around.
func (s *Set) warnForges(list *Errors) {
	var governed bool // a change of the declarations needs a signed statement
	if s.Estate != nil {
		governed = slices.ContainsFunc(s.Estate.Spec.Governance.Approvals, Approval.Signed)
		if g := s.Estate.Spec.Governance; governed && g.Authorship == AuthorshipForge {
			s.warnHidden(list, s.Estate.Position, "spec.governance")
		}
	}
	told := governed || s.Estate == nil || len(s.Estate.Spec.Governance.Approvals) == 0 // the latter is told by warnLoose
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		if class.signed() == 0 {
			continue
		}
		if class.Spec.Authorship == AuthorshipForge {
			s.warnHidden(list, class.Position, fmt.Sprintf("class %q", name))
		}
		if !told {
			list.add(s.Estate.Position, fmt.Sprintf("class %q takes signed statements of some people, and a change of the declarations takes reviews of all", name),
				"whoever administers the forge can make it say that the declarations were reviewed, and take the demand away", "add by: statement in spec.governance.approvals")
			told = true
		}
	}
}

func (s *Set) warnHidden(list *Errors, at Position, what string) {
	list.add(at, what+" takes signed statements of some people, and the word of the forge for who wrote a change (authorship: forge)",
		"whoever administers the forge can make it say that somebody else did, and sign for a change of their own", "leave authorship out and sign commits")
}

// warnExpired is about approvals that there are too few people for who can act now: the keys of others have expired, or are
// not valid yet. It is no error, since what was in order when it was declared stays in force.
func (s *Set) warnExpired(list *Errors, now time.Time) {
	warn := func(at Position, what string, approvals []Approval, bots bool) {
		var people []string
		for _, name := range slices.Sorted(maps.Keys(s.Persons)) {
			if bots || !s.Persons[name].Spec.Bot {
				people = append(people, name)
			}
		}
		able := func(p *Person, rule Approval) bool { return p.CanApproveAt(rule, "", now) }
		shortages := match(approvals, s.eligible(approvals, people, "", able)).shortages
		if len(shortages) == 0 {
			return
		}
		var roles []string
		for _, i := range shortages[0].rules {
			roles = append(roles, approvals[i].Roles...)
		}
		slices.Sort(roles)
		list.add(at, what+" cannot be satisfied now", fmt.Sprintf("of those who can approve as %s too few have a key that is valid at %s",
			strings.Join(slices.Compact(roles), " or "), now.UTC().Format(time.RFC3339)), "add a new key to these Persons")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		class := s.Classes[name]
		warn(class.Position, fmt.Sprintf("class %q", name), class.Spec.Approvals, class.Spec.Bots)
	}
	if e := s.Estate; e != nil {
		warn(e.Position, "spec.governance", e.Spec.Governance.Approvals, false)
	}
}

// warnAccounts is about authors who are known by their accounts, where nobody has one.
func (s *Set) warnAccounts(list *Errors, at Position, what string) {
	for _, p := range s.Persons {
		if len(p.Spec.Forges) > 0 {
			return
		}
	}
	list.add(at, what+" knows authors by their accounts (authorship: forge)",
		"no Person has one, so that who made an unsigned change is unknown, which denies",
		"add spec.forges to the Persons, or leave authorship out and sign commits")
}
