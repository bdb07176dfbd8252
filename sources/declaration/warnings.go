package declaration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Warnings tells what is allowed and hardly meant: rules that anybody can take away, and rules that nothing can pass. They
// come in the order of names.
func (s *Set) Warnings() Errors {
	var list Errors
	s.warnLoose(&list)
	s.warnWeaker(&list)
	s.warnReviews(&list)
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

// opensMore reports whether an override can open a gate for this class that it cannot open for the other.
func (c *ReleaseClass) opensMore(than *ReleaseClass) bool {
	if than.Spec.Override.Gates == nil {
		return false
	}
	return c.Spec.Override.Gates == nil || slices.ContainsFunc(c.Spec.Override.Gates, func(g string) bool { return !than.LetsOverride(g) })
}

// people is how many have to approve.
func (c *ReleaseClass) people() int {
	count := 0
	for _, a := range c.Spec.Approvals {
		count += a.Count
	}
	return count
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
