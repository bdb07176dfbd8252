package declaration

import "time"

// Person is somebody who writes, approves or states: the keys and the forge accounts that speak for them. A person
// is never an e-mail address, which anybody can write into a commit.
type Person struct {
	Meta     Meta
	Spec     PersonSpec
	Position Position
}

// PersonSpec is the content of a [Person]. It has a key, a forge account, or both.
type PersonSpec struct {
	// Roles that the person holds, of those that the Estate knows.
	Roles []string `json:"roles,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// Whether it is a program. A bot's approval counts only where a class says so, and never for the declarations.
	Bot bool `json:"bot" jsonschema:"default=false"`
	// Keys that the person signs with. Without one the person can review on a forge and nothing else.
	Keys []PersonKey `json:"keys,omitempty" jsonschema:"minItems=1"`
	// Accounts of the person on forges. All of them together are one person.
	Forges []ForgeAccount `json:"forges,omitempty" jsonschema:"minItems=1"`
	// Addresses that make this person an author of the commits that bear them, and never an approver.
	Emails []string `json:"emails,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=email"`
}

// What a [PersonKey] is used for.
const (
	UseCommits    = "commits"    // sign commits
	UseStatements = "statements" // sign statements and attestations
)

// PersonKey is one public key of a [Person], with the time in which it counts. What counts is when the agent first saw
// what it signed.
type PersonKey struct {
	// SSH public key, as in the .pub file.
	SSH string `json:"ssh,omitempty"`
	// OpenPGP public key, armored.
	OpenPGP string `json:"openpgp,omitempty"`
	// What is seen before this time does not count (RFC 3339). Default: the key always counted.
	ValidAfter *time.Time `json:"validAfter,omitempty"`
	// What is seen at or after this time does not count (RFC 3339). Default: the key does not expire.
	ValidBefore *time.Time `json:"validBefore,omitempty"`
	// Set when the key must not be trusted any more. Nothing that is not yet approved counts with it, whenever it was seen.
	Revoked *Revocation `json:"revoked,omitempty"`
	// What the key may sign: commits, statements. Default: both.
	Uses []string `json:"uses,omitempty" jsonschema:"minItems=1,uniqueItems=true,enum=commits,enum=statements"`
}

// Revocation says that a key is not to be trusted any more.
type Revocation struct {
	// When it was revoked (RFC 3339). Recorded; the key counts for nothing new from the moment this is declared.
	At time.Time `json:"at" jsonschema:"required"`
	// Why, such as stolen, lost or left.
	Reason string `json:"reason" jsonschema:"required"`
}

// ForgeAccount is an account of a [Person] on the forge of one source.
type ForgeAccount struct {
	// Name of the source in the agent's configuration that has the forge.
	Source string `json:"source" jsonschema:"required,format=name"`
	// Login name. Case does not matter.
	Login string `json:"login" jsonschema:"required,format=login"`
	// Number that the forge gave the account. When it is given it alone decides: a renamed account is still the person's, and whoever takes the login is not.
	ID int64 `json:"id,omitempty" jsonschema:"minimum=1"`
}
