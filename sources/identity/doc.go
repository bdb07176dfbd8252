// Package identity says who signed a commit or a statement, and who claims to have a part in a commit. It does no I/O
// and asks no clock.
//
// A [Keyring] maps keys to people. A signature counts for the person whose key made it, never for the name or the
// e-mail address that the commit bears: anybody can write those. Addresses only ever make somebody an author
// ([Commit.Parties]), and authors may not approve.
//
// Whether a key was valid is judged at the time when the agent first saw the object, which its records prove, and never
// at a date inside the object: whoever stole an expired key would choose that date.
//
// Signatures are SSH signatures (PROTOCOL.sshsig of OpenSSH) and OpenPGP detached signatures (RFC 9580). Where Git's own
// verification is lenient, this package is strict: what is not understood is [Invalid].
package identity
