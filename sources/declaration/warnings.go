package declaration

import (
	"fmt"
	"maps"
	"slices"
)

// Warnings tells what is allowed and hardly meant: rules that anybody can take away, and rules that nothing can pass. They
// come in the order of names.
func (s *Set) Warnings() Errors {
	var list Errors
	s.warnLoose(&list)
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
