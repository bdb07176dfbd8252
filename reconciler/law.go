package reconciler

import (
	"slices"
	"strings"
	"sync"

	"github.com/purser-gitops/purser/reconciler/policy"
	"github.com/purser-gitops/purser/sources/declaration"
	"github.com/purser-gitops/purser/sources/identity"
)

// law is the approved governance: the rules that every candidate is judged by.
type law struct {
	commit string // of the governance source
	*declaration.Set
	people map[string]policy.Voter
	rules  func() ([]byte, error) // as decisions record them; encoded once
}

// newLaw prepares the declarations of a commit for judging by them.
func newLaw(commit string, set *declaration.Set) *law {
	l := &law{commit: commit, Set: set, people: map[string]policy.Voter{}}
	for name, p := range set.Persons {
		l.people[name] = policy.NewVoter(p)
	}
	rules := policy.Rules{Classes: set.Classes, Calendars: set.Calendars, Policies: set.Policies, People: l.people}
	l.rules = sync.OnceValues(rules.Encode)
	return l
}

// estate is the estate's name; "" where none is declared.
func (l *law) estate() string {
	if l.Estate == nil {
		return ""
	}
	return l.Estate.Meta.Name
}

// policies are those that are about an environment.
func (l *law) policies(env *declaration.Environment) []*declaration.Policy {
	var list []*declaration.Policy
	for _, p := range l.Policies {
		if p.Spec.Match.MatchesEnvironment(env) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *declaration.Policy) int { return strings.Compare(a.Meta.Name, b.Meta.Name) })
	return list
}

// believed are the statements whose keys are still to be trusted, with the rank that their class has now.
func (l *law) believed(said []policy.Statement) []policy.Statement {
	var list []policy.Statement
	for _, s := range said {
		if !l.trusts(s.Person, s.Key) {
			continue
		}
		if class := l.Classes[s.Class]; class != nil {
			s.Rank = class.Spec.Rank
		}
		list = append(list, s)
	}
	return list
}

// orders are the overrides whose keys are still to be trusted. Those that were used stay to be reviewed, and open no gate.
func (l *law) orders(said []policy.Override) []policy.Override {
	var list []policy.Override
	for _, o := range said {
		switch {
		case l.trusts(o.Statement.Person, o.Statement.Key):
		case o.Used == nil:
			continue
		default:
			o.Statement.Gates = nil
		}
		list = append(list, o)
	}
	return list
}

// trusts reports whether a key is still a person's and not revoked.
func (l *law) trusts(person, key string) bool {
	p, known := l.Keyring.Person(person)
	return known && slices.ContainsFunc(p.Keys, func(k identity.PersonKey) bool { return k.Key.Fingerprint() == key && k.RevokedAt.IsZero() })
}

// rootPerson begins the names of the holders of root keys: the fingerprint follows.
const rootPerson = "root:"

// rootKeyring knows the keys that the agent's configuration pins; nil when it pins none.
func rootKeyring(trust declaration.AgentTrust) (*identity.Keyring, error) {
	keys, err := trust.Identities()
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	var holders []identity.Person
	for _, key := range keys {
		holders = append(holders, identity.Person{Name: rootPerson + key.Fingerprint(), Keys: []identity.PersonKey{{Key: key}}})
	}
	return identity.NewKeyring(holders)
}
