// Package statement is what a person says outside a pull request: an approval, an override, a pause.
//
// A [Statement] is a small JSON object. Its bytes, the payload, are canonical: [Statement.Encode] writes them and
// [Decode] takes no others. Its [Signed.ID] is the SHA-256 of the payload in hexadecimal digits. It is signed with an SSH
// key for the namespace [Namespace], so that OpenSSH alone can check it:
//
//	ssh-keygen -Y verify -f allowed_signers -I PERSON -n purser-statement -s statement.sig < statement.json
//
// It is stored in the governance repository as ref refs/purser/statements/ID, which points at a commit without parents
// whose tree holds exactly statement.json and statement.sig. [Push] creates such a ref and never moves one; [Read] reads
// one back. Who may delete refs cannot unsay anything: the agent records a statement verbatim when it first sees it.
//
// [Verify] is pure. Whether a statement has expired, was revoked or concerns what it is held against is the gates'
// business; that it can be held against nothing else than it names is this package's.
package statement
