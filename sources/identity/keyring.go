package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Use is what a key may sign.
type Use string

// The uses of a key.
const (
	Commits    Use = "commits"
	Statements Use = "statements"
)

// Person is somebody, or a bot, as the governance declares them.
type Person struct {
	Name   string
	Roles  []string
	Bot    bool
	Keys   []PersonKey
	Forges []Account
	Emails []string // only ever make the person an author
}

// PersonKey is a key of a person with what limits it.
type PersonKey struct {
	Key Key
	Validity
	RevokedAt  time.Time // zero: not revoked. A revoked key counts for nothing, whenever a signature was first seen
	RevokedWhy string    // as declared
	Uses       []Use     // empty: all
}

// Validity is the time in which a key counts.
type Validity struct {
	After  time.Time `json:"after,omitzero"`  // zero: it always did; valid from then on
	Before time.Time `json:"before,omitzero"` // zero: it does not expire; no longer valid then
}

// At says what a key is worth at a time: Good, NotYetValid or Expired.
func (v Validity) At(t time.Time) Status {
	switch {
	case !v.After.IsZero() && t.Before(v.After):
		return NotYetValid
	case !v.Before.IsZero() && !t.Before(v.Before):
		return Expired
	}
	return Good
}

// Account is a person's login at a forge.
type Account struct {
	Source string // name of a source in the agent's configuration
	Login  string // compared without case, where the number is 0
	ID     int64  // the forge's number of the account; when not 0 it alone counts
}

// ConflictError says that two people claim one key or one account, or one person claims it twice.
type ConflictError struct {
	What   string // "key SHA256:…", "account estate/developer-1"
	People [2]string
}

func (e *ConflictError) Error() string {
	if e.People[0] == e.People[1] {
		return fmt.Sprintf("%s is listed twice for %s", e.What, e.People[0])
	}
	return fmt.Sprintf("%s belongs to both %s and %s: a key or an account names one person", e.What, e.People[0], e.People[1])
}

// Keyring knows people by their keys, accounts and addresses. It is immutable and safe for concurrent use.
type Keyring struct {
	people   []Person                // by name
	keys     map[string]ownedKey     // by fingerprint; of OpenPGP keys also by that of each signing subkey
	accounts map[accountName]account // by source and folded login
	ids      map[accountID]int       // the person
	emails   map[string][]int        // by folded address: indices in people, ascending
}

type ownedKey struct {
	PersonKey
	person int
}

type accountName struct{ source, login string }

type accountID struct {
	source string
	id     int64
}

type account struct {
	person int
	id     int64
}

// NewKeyring checks that no key and no account is claimed twice; the error joins a [ConflictError] for each that is.
func NewKeyring(people []Person) (*Keyring, error) {
	k := &Keyring{
		people:   slices.Clone(people),
		keys:     map[string]ownedKey{},
		accounts: map[accountName]account{},
		ids:      map[accountID]int{},
		emails:   map[string][]int{},
	}
	slices.SortFunc(k.people, func(a, b Person) int { return strings.Compare(a.Name, b.Name) })
	var errs []error
	for i, p := range k.people {
		if i > 0 && p.Name == k.people[i-1].Name {
			errs = append(errs, fmt.Errorf("two people are named %s", p.Name))
		}
		errs = append(errs, k.addKeys(i), k.addAccounts(i))
		for _, e := range p.Emails {
			if e := fold(strings.TrimSpace(e)); !slices.Contains(k.emails[e], i) {
				k.emails[e] = append(k.emails[e], i)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keyring) addKeys(person int) error {
	var errs []error
	for _, key := range k.people[person].Keys {
		prints := key.Key.prints()
		if len(prints) == 0 {
			errs = append(errs, fmt.Errorf("person %s has an empty key", k.people[person].Name))
		}
		for _, f := range prints {
			if other, ok := k.keys[f]; ok {
				errs = append(errs, &ConflictError{What: "key " + f, People: [2]string{k.people[other.person].Name, k.people[person].Name}})
				continue
			}
			k.keys[f] = ownedKey{key, person}
		}
	}
	return errors.Join(errs...)
}

// prints are the fingerprints of all keys that sign as this one.
func (k Key) prints() []string {
	if k.openPGP == nil {
		if k.ssh == nil {
			return nil
		}
		return []string{k.fingerprint}
	}
	prints := []string{k.fingerprint}
	for _, s := range k.openPGP.signers {
		if f := fmt.Sprintf("%X", s.key.Fingerprint); f != k.fingerprint {
			prints = append(prints, f)
		}
	}
	return prints
}

func (k *Keyring) addAccounts(person int) error {
	var errs []error
	for _, a := range k.people[person].Forges {
		name, id := accountName{a.Source, fold(a.Login)}, accountID{a.Source, a.ID}
		other, taken := k.accounts[name]
		if !taken && a.ID != 0 {
			other.person, taken = k.ids[id]
		}
		if taken {
			errs = append(errs, &ConflictError{What: "account " + a.Source + "/" + a.Login, People: [2]string{k.people[other.person].Name, k.people[person].Name}})
			continue
		}
		k.accounts[name] = account{person, a.ID}
		if a.ID != 0 {
			k.ids[id] = person
		}
	}
	return errors.Join(errs...)
}

// Person finds a person by name.
func (k *Keyring) Person(name string) (Person, bool) {
	i, ok := slices.BinarySearchFunc(k.people, name, func(p Person, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return Person{}, false
	}
	return k.people[i], true
}

// People are all people by name. The result is not to be altered.
func (k *Keyring) People() []Person { return k.people }

// PersonsByEmail are the people who declare the address, which is compared without case. None of them need have used it:
// an address makes somebody an author, and nothing else.
func (k *Keyring) PersonsByEmail(email string) []Person {
	var people []Person
	for _, i := range k.emails[fold(strings.TrimSpace(email))] {
		people = append(people, k.people[i])
	}
	return people
}

// PersonByAccount finds whose account of a forge it is. id is the forge's number of the account, 0 when it is not known.
// A person who declares the number is found by it alone: a login may have been renamed, and taken by somebody else. So an
// account whose number one person declares is never that of another, who declares its login.
func (k *Keyring) PersonByAccount(source, login string, id int64) (Person, bool) {
	if person, ok := k.ids[accountID{source, id}]; ok {
		return k.people[person], true
	}
	a, ok := k.accounts[accountName{source, fold(login)}]
	if !ok || a.id != 0 {
		return Person{}, false
	}
	return k.people[a.person], true
}

// fold makes ASCII letters small and leaves all others: letters that merely look or fold alike stay different.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
