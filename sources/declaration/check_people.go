package declaration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/identity"
)

// people judges the persons, alone and against each other.
func (c *check) people() {
	seen := map[string]speaker{} // what speaks for a person → who said so first
	before := len(c.g.errs)
	defer func() { c.unsound = len(c.g.errs) > before }()
	for _, name := range slices.Sorted(maps.Keys(c.set.Persons)) {
		p, doc := c.set.Persons[name], c.doc["Person "+name]
		if len(p.Spec.Keys) == 0 && len(p.Spec.Forges) == 0 && !given(doc, "spec.keys") && !given(doc, "spec.forges") {
			c.g.errs.add(doc.mark("spec"), fmt.Sprintf("person %q has no key", name), "nothing could ever be known to come from this person", `add "keys:", or "forges:" for somebody who only reviews`)
		}
		for i, role := range p.Spec.Roles {
			c.role(doc.mark(fmt.Sprintf("spec.roles[%d]", i)), role)
		}
		c.botRoles(p, doc)
		c.keys(p, doc, seen)
		c.accounts(p, doc, seen)
	}
}

// speaker is a person and where something is declared to speak for it.
type speaker struct {
	person string
	at     Position
}

// once refuses what would speak for two persons, or is said twice of one.
func (c *check) once(seen map[string]speaker, s speaker, key, what string) {
	first, ok := seen[key]
	if !ok {
		seen[key] = s
		return
	}
	problem := fmt.Sprintf("%s belongs to two persons, %q and %q", what, first.person, s.person)
	if first.person == s.person {
		problem = fmt.Sprintf("%s is there twice", what)
	}
	c.g.errs.add(s.at, problem, "it is already declared at "+first.at.String()+", and each speaks for one person, once", "remove one of the two, or make one Person of the two")
}

func (c *check) accounts(p *Person, doc *document, seen map[string]speaker) {
	for i, f := range p.Spec.Forges {
		path := fmt.Sprintf("spec.forges[%d]", i)
		if f.Source == "" || f.Login == "" {
			continue // reported by the decoder
		}
		if names := c.g.known.Sources; len(names) > 0 && !slices.Contains(names, f.Source) {
			c.unknownBecause(doc.mark(path+".source"), "source", f.Source, "the agent has no source of that name", names)
		}
		account := fmt.Sprintf("account %q of source %q", f.Login, f.Source)
		c.once(seen, speaker{p.Meta.Name, doc.mark(path + ".login")}, "login\x00"+f.Source+"\x00"+strings.ToLower(f.Login), account)
		if f.ID != 0 {
			c.once(seen, speaker{p.Meta.Name, doc.mark(path + ".id")}, fmt.Sprintf("id\x00%s\x00%d", f.Source, f.ID), fmt.Sprintf("account number %d of source %q", f.ID, f.Source))
		}
	}
}

// botRoles refuses a bot whose roles would let it decide over the declarations, where bots never count.
func (c *check) botRoles(p *Person, doc *document) {
	if !p.Spec.Bot || c.set.Estate == nil {
		return
	}
	for i, role := range p.Spec.Roles {
		for _, a := range c.set.Estate.Spec.Governance.Approvals {
			if slices.Contains(a.Roles, role) {
				c.g.errs.add(doc.mark(fmt.Sprintf("spec.roles[%d]", i)), fmt.Sprintf("bot %q has the role %q", p.Meta.Name, role),
					"this role approves changes of the declarations, which only people do", "remove the role, or let governance.approvals of the Estate name another")
				break
			}
		}
	}
}

// role refuses a role that the estate does not have.
func (c *check) role(at Position, role string) {
	roles := c.set.Roles()
	if role == "" || slices.Contains(roles, role) || !c.estateKnown() {
		return
	}
	c.unknownBecause(at, "role", role, "the estate has no role of that name (spec.roles of the Estate)", roles)
}

// estateKnown reports whether what the Estate says is known.
func (c *check) estateKnown() bool {
	e := c.set.Estate
	return c.g.complete && (e == nil || !c.doc["Estate "+e.Meta.Name].broken)
}

// Signs reports whether the key is for the use and not revoked. Statements are signed with SSH keys.
func (k PersonKey) Signs(use string) bool {
	return k.Revoked == nil && among(k.Uses, use) && (use != UseStatements || k.SSH != "")
}

// canSign reports whether the person has a key for the use that is not revoked.
func (p *Person) canSign(use string) bool {
	return slices.ContainsFunc(p.Spec.Keys, func(k PersonKey) bool { return k.Signs(use) })
}

// Validity is the time in which the key counts.
func (k PersonKey) Validity() identity.Validity {
	var v identity.Validity
	if k.ValidAfter != nil {
		v.After = *k.ValidAfter
	}
	if k.ValidBefore != nil {
		v.Before = *k.ValidBefore
	}
	return v
}

// mayEverApprove reports whether the person has a way to consent as a rule demands it, at some time: a statement, or a review.
func (p *Person) mayEverApprove(rule Approval) bool {
	return p.canSign(UseStatements) || !rule.Signed() && len(p.Spec.Forges) > 0
}

// CanApproveAt reports whether the person has a way to consent as a rule demands it, at a time: with a key that is valid then, or an
// account of the source's forge; "" is any source.
func (p *Person) CanApproveAt(rule Approval, source string, t time.Time) bool {
	return slices.ContainsFunc(p.Spec.Keys, func(k PersonKey) bool {
		return k.Signs(UseStatements) && k.Validity().At(t) == identity.Good
	}) || !rule.Signed() && slices.ContainsFunc(p.Spec.Forges, func(f ForgeAccount) bool { return source == "" || f.Source == source })
}

func (p *Person) holdsOneOf(roles []string) bool {
	return slices.ContainsFunc(p.Spec.Roles, func(r string) bool { return slices.Contains(roles, r) })
}

// keys judges the keys of a person.
func (c *check) keys(p *Person, doc *document, seen map[string]speaker) {
	for i, k := range p.Spec.Keys {
		path := fmt.Sprintf("spec.keys[%d]", i)
		if k.ValidAfter != nil && k.ValidBefore != nil && !k.ValidAfter.Before(*k.ValidBefore) {
			c.g.errs.add(doc.mark(path+".validBefore"), "key is never valid", "validBefore is not after validAfter", "correct one of the two times")
		}
		if key, ok := readKey(doc, path, k.SSH, k.OpenPGP, &c.g.errs); ok {
			c.once(seen, speaker{p.Meta.Name, doc.mark(path + keyField(k.SSH))}, "key\x00"+key.Fingerprint(), "key "+key.Fingerprint())
		}
	}
}

// keyField is the field of a key's item that has the key.
func keyField(ssh string) string {
	if ssh != "" {
		return ".ssh"
	}
	return ".openpgp"
}

// readKey reads the key of the item that doc has at path, and reports what is wrong with it. The text of a key never
// enters an error: it may be a private one.
func readKey(doc *document, path, ssh, openPGP string, errs *Errors) (identity.Key, bool) {
	const what = "each item of keys is one public key"
	switch {
	case ssh == "" && openPGP == "":
		if !given(doc, path+".ssh") && !given(doc, path+".openpgp") {
			errs.add(doc.mark(path), "key is missing", what, `add "ssh:" or "openpgp:"`)
		} else if !doc.broken {
			errs.add(doc.mark(path), "key is empty", what, "write the key, or remove the item")
		}
		return identity.Key{}, false
	case ssh != "" && openPGP != "":
		errs.add(doc.mark(path+".openpgp"), "two keys in one item", what+", with its own validity", "make an item of each")
		return identity.Key{}, false
	}
	key, err := parseKey(ssh, openPGP)
	if err == nil {
		return key, true
	}
	_, why, _ := strings.Cut(err.Error(), ": ")
	remedy := `write it as the ".pub" file has it`
	if ssh == "" {
		remedy = `write it as "gpg --armor --export" prints it, after "|"`
	}
	errs.add(doc.mark(path+keyField(ssh)), "key is not valid", why, remedy)
	return identity.Key{}, false
}

func parseKey(ssh, openPGP string) (identity.Key, error) {
	if ssh != "" {
		return identity.ParseSSH(ssh)
	}
	return identity.ParseOpenPGP(openPGP)
}

// keyring makes the people known by what speaks for them. Its own checks are stricter than those of people only in
// what a place cannot be given for, such as two OpenPGP keys that share a subkey.
func (c *check) keyring() {
	names := slices.Sorted(maps.Keys(c.set.Persons))
	people := make([]identity.Person, 0, len(names))
	for _, name := range names {
		p, err := c.set.Persons[name].identity()
		if err != nil {
			return // reported by keys
		}
		people = append(people, p)
	}
	ring, err := identity.NewKeyring(people)
	var conflict *identity.ConflictError
	switch {
	case err == nil:
		c.set.Keyring = ring
	case len(c.g.errs) > 0: // probably this
	case errors.As(err, &conflict):
		doc := c.doc["Person "+conflict.People[1]]
		c.g.errs.add(doc.mark("spec"), "persons cannot be told apart", conflict.Error(), "remove one of the two")
	default:
		c.g.errs.add(c.doc["Person "+names[0]].Position, "persons cannot be told apart", err.Error(), "correct the persons")
	}
}

// identity is the person as signatures and reviews are judged by.
func (p *Person) identity() (identity.Person, error) {
	s := p.Spec
	person := identity.Person{Name: p.Meta.Name, Roles: s.Roles, Bot: s.Bot, Emails: s.Emails}
	for _, f := range s.Forges {
		person.Forges = append(person.Forges, identity.Account{Source: f.Source, Login: f.Login, ID: f.ID})
	}
	for _, k := range s.Keys {
		parsed, err := parseKey(k.SSH, k.OpenPGP)
		if err != nil {
			return identity.Person{}, err
		}
		key := identity.PersonKey{Key: parsed, Validity: k.Validity()}
		if k.Revoked != nil {
			key.RevokedAt, key.RevokedWhy = k.Revoked.At, k.Revoked.Reason
		}
		for _, use := range k.Uses {
			key.Uses = append(key.Uses, identity.Use(use))
		}
		person.Keys = append(person.Keys, key)
	}
	return person, nil
}
