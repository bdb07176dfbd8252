package identity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Status says what a signature is worth. Only [Good] counts.
type Status string

// The values of [Status].
const (
	Good        Status = "good"        // made by a person's key, valid at first sight, for this use
	None        Status = "none"        // there is no signature
	UnknownKey  Status = "unknownKey"  // made with a key of nobody, so not checked
	NotYetValid Status = "notYetValid" // genuine, but the key was not valid yet
	Expired     Status = "expired"     // genuine, but the key was no longer valid
	Revoked     Status = "revoked"     // genuine, but the key is revoked
	WrongUse    Status = "wrongUse"    // genuine, but the key is for something else
	Invalid     Status = "invalid"     // malformed, of an unknown kind, or not over this content
)

// Signature is the verdict on a signature.
type Signature struct {
	Status Status
	Person string // whose key made it; "" unless that is proven, whatever the key is worth
	Key    string // fingerprint of the key: proven where Person is set, else claimed by the signature or ""
	Detail string // why it does not count; "" when it does
}

// Counts reports whether the signature is somebody's and valid.
func (s Signature) Counts() bool { return s.Status == Good }

// String is fit for a log.
func (s Signature) String() string {
	text := string(s.Status)
	if s.Person != "" {
		text += ": signed by " + s.Person
	}
	if s.Key != "" {
		text += " with key " + s.Key
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
}

// gitNamespace is that of SSH signatures of commits and tags.
const gitNamespace = "git"

// VerifyCommit judges the signature of a commit. seen is when the agent first saw the commit; no date in the commit counts.
func (k *Keyring) VerifyCommit(commit *Commit, seen time.Time) Signature {
	c, err := commit.object, commit.err
	if err != nil {
		return Signature{Status: Invalid, Detail: err.Error()}
	}
	switch sig := c.signature; {
	case sig == "":
		return Signature{Status: None, Detail: "the commit is not signed"}
	case strings.HasPrefix(sig, sshPrefix):
		return k.judgeSSH(Commits, commit.ssh, seen)
	case strings.HasPrefix(sig, "-----BEGIN PGP SIGNATURE-----"):
		return k.verifyOpenPGP(Commits, c.payload, sig, seen)
	case strings.HasPrefix(sig, "-----BEGIN SIGNED MESSAGE-----"):
		return Signature{Status: Invalid, Detail: "X.509 signatures are not read: sign with an SSH or OpenPGP key"}
	}
	return Signature{Status: Invalid, Detail: "the signature is neither an SSH nor an OpenPGP signature"}
}

// VerifySSH judges an armored SSH signature over message in a namespace other than Git's, made with a key for statements.
// seen is when the agent first saw it.
func (k *Keyring) VerifySSH(namespace string, message, armored []byte, seen time.Time) Signature {
	if namespace == "" || namespace == gitNamespace {
		return Signature{Status: Invalid, Detail: fmt.Sprintf("%q is not a namespace of statements", namespace)}
	}
	return k.judgeSSH(Statements, readSSH(namespace, message, armored), seen)
}

func (k *Keyring) judgeSSH(use Use, s *sshSigned, seen time.Time) Signature {
	if s.err != nil {
		return Signature{Status: Invalid, Detail: "read SSH signature: " + s.err.Error()}
	}
	owned, ok := k.keys[s.fingerprint]
	if !ok || owned.Key.ssh == nil {
		return Signature{Status: UnknownKey, Key: s.fingerprint, Detail: "no person declares the key"}
	}
	if err := s.genuine(); err != nil {
		return Signature{Status: Invalid, Key: s.fingerprint, Detail: "check SSH signature: " + err.Error()}
	}
	return k.judge(owned, use, seen, Good, "")
}

func (k *Keyring) verifyOpenPGP(use Use, message []byte, armored string, seen time.Time) Signature {
	sig, err := parseOpenPGPSignature(armored)
	if err != nil {
		return Signature{Status: Invalid, Detail: "read OpenPGP signature: " + err.Error()}
	}
	owned, ok := k.issuer(sig)
	if !ok {
		return Signature{Status: UnknownKey, Key: issuerName(sig), Detail: "no person declares the key"}
	}
	signer, err := owned.Key.openPGP.verify(message, sig)
	if err != nil {
		return Signature{Status: Invalid, Key: owned.Key.fingerprint, Detail: "check OpenPGP signature: " + err.Error()}
	}
	status, detail := signer.at(sig, seen)
	return k.judge(owned, use, seen, status, detail)
}

// issuer finds the key by what the signature names: a fingerprint, or in older ones a key ID.
func (k *Keyring) issuer(sig *packet.Signature) (ownedKey, bool) {
	if len(sig.IssuerFingerprint) > 0 {
		owned, ok := k.keys[fmt.Sprintf("%X", sig.IssuerFingerprint)]
		return owned, ok && owned.Key.openPGP != nil
	}
	for _, p := range k.people {
		for _, key := range p.Keys {
			if key.Key.openPGP == nil {
				continue
			}
			for _, s := range key.Key.openPGP.signers {
				if sig.CheckKeyIdOrFingerprint(s.key) {
					return k.keys[key.Key.fingerprint], true
				}
			}
		}
	}
	return ownedKey{}, false
}

func issuerName(sig *packet.Signature) string {
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	return ""
}

// why is a declared reason, for the end of a sentence.
func why(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// judge adds what the governance says of the key to a genuine signature; status is what the key says of itself.
func (k *Keyring) judge(key ownedKey, use Use, seen time.Time, status Status, detail string) Signature {
	s := Signature{Status: status, Detail: detail, Person: k.people[key.person].Name, Key: key.Key.fingerprint}
	say := func(status Status, detail string) Signature {
		s.Status, s.Detail = status, detail
		return s
	}
	valid := key.At(seen)
	switch {
	case seen.IsZero():
		return say(Invalid, "it is not known when the signature was first seen")
	case !key.RevokedAt.IsZero():
		return say(Revoked, "the key is declared as revoked as of "+stamp(key.RevokedAt)+why(key.RevokedWhy))
	case s.Status != Good:
		return s
	case valid == NotYetValid:
		return say(valid, fmt.Sprintf("first seen at %s, the key is valid after %s", stamp(seen), stamp(key.After)))
	case valid == Expired:
		return say(valid, fmt.Sprintf("first seen at %s, the key is valid before %s", stamp(seen), stamp(key.Before)))
	case len(key.Uses) > 0 && !slices.Contains(key.Uses, use):
		return say(WrongUse, fmt.Sprintf("the key is not for %s", use))
	}
	return s
}
