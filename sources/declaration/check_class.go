package declaration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// builtIn adds the class that there is also where it is not declared.
func (c *check) builtIn() {
	if c.set.Classes[DefaultClass] == nil {
		low := &ReleaseClass{Meta: Meta{Name: DefaultClass}}
		preset(&low.Spec)
		c.set.Classes[DefaultClass] = low
	}
}

// classes judges the classes, alone and against each other. Whether people can satisfy them is for consent.
func (c *check) classes() {
	ranks := map[int]string{}
	if c.doc["ReleaseClass "+DefaultClass] == nil {
		ranks[0] = DefaultClass
	}
	for _, name := range slices.Sorted(maps.Keys(c.set.Classes)) {
		class, doc := c.set.Classes[name], c.doc["ReleaseClass "+name]
		if doc == nil {
			continue // the built-in one
		}
		if given(doc, "spec.rank") {
			c.rank(class, doc, ranks)
		}
		c.roles(doc, "spec.approvals", class.Spec.Approvals)
		for i, role := range class.Spec.Override.Review {
			c.role(doc.mark(fmt.Sprintf("spec.override.review[%d]", i)), role)
		}
		for i, t := range class.Spec.Tests {
			for j, role := range t.Roles {
				c.role(doc.mark(fmt.Sprintf("spec.tests[%d].roles[%d]", i, j)), role)
			}
		}
	}
}

func (c *check) rank(class *ReleaseClass, doc *document, ranks map[int]string) {
	name, at := class.Meta.Name, doc.mark("spec.rank")
	other, taken := ranks[class.Spec.Rank]
	if !taken {
		ranks[class.Spec.Rank] = name
		return
	}
	where := fmt.Sprintf("%q has it at ", other)
	if first := c.doc["ReleaseClass "+other]; first != nil {
		where += first.mark("spec.rank").String()
	} else {
		where = fmt.Sprintf("the built-in class %q has it", other)
	}
	c.g.errs.add(at, fmt.Sprintf("class %q has rank %d", name, class.Spec.Rank), where+", and of two classes one must be the higher", "give it another rank")
}

// roles refuses unknown roles in the approvals that doc has at path.
func (c *check) roles(doc *document, path string, approvals []Approval) {
	for i, a := range approvals {
		for j, role := range a.Roles {
			c.role(doc.mark(fmt.Sprintf("%s[%d].roles[%d]", path, i, j)), role)
		}
	}
}

// class refuses the name of a class that there is not.
func (c *check) class(at Position, name string) {
	if name != "" && c.set.Classes[name] == nil && c.g.complete {
		c.unknown(at, "class", name, slices.Sorted(maps.Keys(c.set.Classes)))
	}
}

// CheckRelease judges what a release.yaml refers to. The error is [Errors] when there is no such class.
func (s *Set) CheckRelease(r *Release) error {
	if r.Class == "" || s.Classes[r.Class] != nil {
		return nil
	}
	c := &check{g: &governance{}}
	c.unknown(r.classAt, "class", r.Class, slices.Sorted(maps.Keys(s.Classes)))
	return c.g.errs
}

// consent refuses classes and governance that nobody can satisfy, which would stop all that they judge for ever. It
// says nothing while persons or roles are not all known, or persons are wrong.
func (c *check) consent() {
	if !c.g.complete || !c.estateKnown() || c.unsound {
		return
	}
	for name := range c.set.Persons {
		if c.doc["Person "+name].broken {
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.set.Classes)) {
		s, doc := c.set.Classes[name].Spec, c.doc["ReleaseClass "+name]
		if doc == nil || doc.broken {
			continue
		}
		c.satisfiable(demand{fmt.Sprintf("class %q", name), doc, "spec", s.Approvals, s.Signatures, s.Authorship, s.Bots})
		c.reviewable(name, doc, s.Override)
		for i, t := range s.Tests {
			c.testable(name, doc, fmt.Sprintf("spec.tests[%d].roles", i), t)
		}
	}
	if e := c.set.Estate; e != nil {
		g := e.Spec.Governance
		c.satisfiable(demand{"governance", c.doc["Estate "+e.Meta.Name], "spec.governance", g.Approvals, g.Signatures, g.Authorship, false})
	}
}

// demand is what must be consented to, and where it is declared.
type demand struct {
	what                   string
	doc                    *document
	path                   string
	approvals              []Approval
	signatures, authorship string
	bots                   bool
}

func (c *check) satisfiable(d demand) {
	for _, a := range d.approvals {
		if len(a.Roles) == 0 || slices.ContainsFunc(a.Roles, func(r string) bool { return !slices.Contains(c.set.Roles(), r) }) {
			return // reported as unknown
		}
	}
	var signers, people []string
	for _, name := range slices.Sorted(maps.Keys(c.set.Persons)) {
		p := c.set.Persons[name]
		if p.canSign(UseCommits) {
			signers = append(signers, name)
		}
		if d.bots || !p.Spec.Bot {
			people = append(people, name)
		}
	}
	signed := d.authorship == AuthorshipSigned && len(d.approvals) > 0
	if (signed || d.signatures == SignaturesRequired) && len(signers) == 0 {
		why, at := "its commits must be signed, and no Person has a key for that", d.doc.mark(d.path+".signatures")
		if d.signatures != SignaturesRequired {
			why, at = "authors are known by their signatures, and no Person has a key for commits", d.doc.mark(d.path+".authorship")
		}
		c.g.errs.add(at, d.what+" cannot be satisfied", why, `declare a Person with "keys:"`)
		return
	}
	eligible := func(except string) [][]string {
		return c.set.eligible(d.approvals, people, except, (*Person).mayEverApprove)
	}
	m := match(d.approvals, eligible(""))
	for _, s := range m.shortages {
		c.short(d, s)
	}
	if len(m.shortages) > 0 || !signed {
		return
	}
	for _, author := range signers { // somebody must be able to write what the others approve
		if !m.uses(author) || len(match(d.approvals, eligible(author)).shortages) == 0 {
			return
		}
	}
	c.g.errs.add(d.doc.mark(d.path+".approvals"), d.what+" cannot be satisfied", "nobody approves what they wrote, and whoever can sign a change ("+list(signers)+") is needed to approve it",
		"declare another Person with a key, or ask for fewer approvals")
}

// eligible gives, for each rule, the people who can fulfil it.
func (s *Set) eligible(rules []Approval, people []string, except string, able func(*Person, Approval) bool) [][]string {
	eligible := make([][]string, len(rules))
	for i, rule := range rules {
		for _, name := range people {
			if p := s.Persons[name]; name != except && p.holdsOneOf(rule.Roles) && able(p, rule) {
				eligible[i] = append(eligible[i], name)
			}
		}
	}
	return eligible
}

// short says of which roles there are too few people.
func (c *check) short(d demand, s shortage) {
	var roles []string
	need, signed := 0, true
	for _, i := range s.rules {
		need += d.approvals[i].Count
		signed = signed && d.approvals[i].Signed()
		roles = append(roles, d.approvals[i].Roles...)
	}
	slices.Sort(roles)
	roles = slices.Compact(roles)
	people := map[bool]string{true: "people or bots", false: "people"}[d.bots]
	as, ways := strings.Join(roles, " or "), "a key for statements or a forge account"
	if signed {
		as, ways = as+" by a signed statement", "an SSH key for statements"
	}
	why := fmt.Sprintf("it needs %d different %s who can approve as %s, and there are only %d: %s", need, people, as, len(s.people), list(s.people))
	switch {
	case len(s.people) == 0:
		why = "nobody can approve as " + as
	case len(s.people) == 1:
		why = strings.Replace(why, "are only 1", "is only 1", 1)
	}
	c.g.errs.add(d.doc.mark(fmt.Sprintf("%s.approvals[%d]", d.path, s.rules[len(s.rules)-1])), d.what+" cannot be satisfied", why,
		"declare further Persons with these roles and "+ways+", or ask for fewer")
}

// testable refuses a demand for attestations that nobody could sign.
func (c *check) testable(class string, doc *document, path string, t TestDemand) {
	for _, p := range c.set.Persons {
		if p.holdsOneOf(t.Roles) && p.canSign(UseStatements) && (t.Bots || !p.Spec.Bot) {
			return
		}
	}
	if slices.ContainsFunc(t.Roles, func(r string) bool { return !slices.Contains(c.set.Roles(), r) }) {
		return // reported as unknown
	}
	who := "no person"
	if t.Bots {
		who = "no person or bot"
	}
	c.g.errs.add(doc.mark(path), fmt.Sprintf("class %q cannot be satisfied", class), fmt.Sprintf("%s with the role %s has a key for statements, so nobody could sign this attestation", who, strings.Join(t.Roles, " or ")),
		"declare such a Person, or name other roles")
}

// reviewable refuses a demand for reviews that nobody could make, unless nothing can be overridden.
func (c *check) reviewable(class string, doc *document, o OverrideDemand) {
	if len(o.Review) == 0 || o.Gates != nil && len(o.Gates) == 0 {
		return
	}
	for _, p := range c.set.Persons {
		if p.holdsOneOf(o.Review) && p.canSign(UseStatements) && !p.Spec.Bot {
			return
		}
	}
	if slices.ContainsFunc(o.Review, func(r string) bool { return !slices.Contains(c.set.Roles(), r) }) {
		return // reported as unknown
	}
	c.g.errs.add(doc.mark("spec.override.review"), fmt.Sprintf("overrides for class %q cannot be reviewed", class),
		fmt.Sprintf("no person with the role %s has a key for statements", strings.Join(o.Review, " or ")), "declare such a Person, or name other roles")
}

// list names some people.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
