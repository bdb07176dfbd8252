package identity

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxSkew is how much later than the agent's first sight a signature may claim to be made: the clock of the signer may
// be ahead.
const maxSkew = 5 * time.Minute

// openPGPKey is what is used of an OpenPGP key. The library's own judgement of a detached signature is not used: it
// takes the key's validity at the date that the signature claims, and keeps verdicts of one date for another.
type openPGPKey struct {
	signers []openPGPSigner
}

// openPGPSigner is the primary key or a subkey, if it may sign. A subkey is valid while the primary key is.
type openPGPSigner struct {
	key      *packet.PublicKey
	validity []validity
}

// validity is what the newest self-signature and the revocations say of a key.
type validity struct {
	expires     time.Time   // zero: never
	compromised bool        // revoked without a reason, or because it was compromised: for all times
	retired     []time.Time // revoked from then on: superseded or no longer used
}

// ParseOpenPGP reads one armored OpenPGP public key with its subkeys, as gpg --armor --export gives it. It must have a
// key that may sign: RSA of 2048 bits or more, ECDSA or EdDSA. Errors never repeat what was given.
func ParseOpenPGP(armored string) (_ Key, err error) {
	defer func() { // the library may panic on malformed keys
		if p := recover(); p != nil {
			err = errors.New("parse OpenPGP key: malformed")
		}
	}()
	body, err := dearmor(armored, openpgp.PublicKeyType)
	if err != nil {
		return Key{}, fmt.Errorf("parse OpenPGP key: %w", err)
	}
	packets := packet.NewReader(bytes.NewReader(body))
	entity, err := openpgp.ReadEntity(packets)
	if err != nil {
		return Key{}, fmt.Errorf("parse OpenPGP key: %w", err)
	}
	if _, err := packets.Next(); err != io.EOF {
		return Key{}, errors.New("parse OpenPGP key: the block holds more than one key: give each an entry of its own")
	}
	if entity.PrivateKey != nil {
		return Key{}, fmt.Errorf("parse OpenPGP key: %w", errPrivateKey)
	}
	signers, err := signersOf(entity)
	if err != nil {
		return Key{}, fmt.Errorf("parse OpenPGP key: %w", err)
	}
	return Key{fingerprint: fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint), openPGP: &openPGPKey{signers}}, nil
}

// dearmor gives the content of text, which must be one armored block and nothing else.
func dearmor(text, kind string) ([]byte, error) {
	text = strings.TrimSpace(text)
	switch {
	case len(text) > maxArmored:
		return nil, fmt.Errorf("larger than %d bytes: export it without the signatures of others (gpg --export-options export-minimal)", maxArmored)
	case strings.Contains(text, "PRIVATE KEY"):
		return nil, errPrivateKey
	case !strings.HasPrefix(text, "-----BEGIN "+kind+"-----") || !strings.HasSuffix(text, "-----END "+kind+"-----"):
		return nil, fmt.Errorf("want one block from -----BEGIN %s----- to -----END %s-----", kind, kind)
	case strings.Count(text, "-----BEGIN ") != 1:
		return nil, errors.New("more than one armored block")
	}
	block, err := armor.Decode(strings.NewReader(text + "\n"))
	if err != nil || block.Type != kind {
		return nil, errors.New("the armor is malformed")
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, maxArmored))
	if err != nil {
		return nil, errors.New("the armor is malformed")
	}
	return body, nil
}

func signersOf(e *openpgp.Entity) ([]openPGPSigner, error) {
	self, err := newestSelfSignature(e)
	if err != nil {
		return nil, err
	}
	primary := judge(e.PrimaryKey, self, e.Revocations)
	var signers []openPGPSigner
	var weak error
	add := func(key *packet.PublicKey, self *packet.Signature, v ...validity) {
		if !self.FlagsValid || !self.FlagSign {
			return
		}
		if err := checkOpenPGP(key); err != nil {
			weak = err
			return
		}
		signers = append(signers, openPGPSigner{key, v})
	}
	add(e.PrimaryKey, self, primary)
	for _, sub := range e.Subkeys { // ReadEntity has checked that key and subkey signed each other
		add(sub.PublicKey, sub.Sig, primary, judge(sub.PublicKey, sub.Sig, sub.Revocations))
	}
	switch {
	case len(signers) > 0:
		return signers, nil
	case weak != nil:
		return nil, weak
	}
	return nil, errors.New("neither the key nor a subkey may sign")
}

// newestSelfSignature is the key's latest word on itself. Of equally old ones it is the one that expires first.
func newestSelfSignature(e *openpgp.Entity) (*packet.Signature, error) {
	if e.PrimaryKey.Version == 6 {
		return e.SelfSignature, nil
	}
	var newest *packet.Signature
	for _, id := range e.Identities {
		sig := id.SelfSignature
		if sig == nil || slices.ContainsFunc(id.Revocations, func(r *packet.Signature) bool { return !r.CreationTime.Before(sig.CreationTime) }) {
			continue
		}
		if newest == nil || sig.CreationTime.After(newest.CreationTime) ||
			sig.CreationTime.Equal(newest.CreationTime) && earlier(expiry(e.PrimaryKey, sig), expiry(e.PrimaryKey, newest)) {
			newest = sig
		}
	}
	if newest == nil {
		return nil, errors.New("it has no user ID that is not revoked")
	}
	return newest, nil
}

func judge(key *packet.PublicKey, self *packet.Signature, revocations []*packet.Signature) validity {
	v := validity{expires: expiry(key, self)}
	for _, r := range revocations {
		if reason := r.RevocationReason; reason != nil && (*reason == packet.KeySuperseded || *reason == packet.KeyRetired) {
			v.retired = append(v.retired, r.CreationTime)
		} else {
			v.compromised = true
		}
	}
	return v
}

// expiry is when the key or the signature that says so ends, whichever comes first; zero for never.
func expiry(key *packet.PublicKey, self *packet.Signature) time.Time {
	end := after(key.CreationTime, self.KeyLifetimeSecs)
	for _, sig := range []*packet.Signature{self, self.EmbeddedSignature} {
		if sig == nil {
			continue
		}
		if t := after(sig.CreationTime, sig.SigLifetimeSecs); earlier(t, end) {
			end = t
		}
	}
	return end
}

func after(from time.Time, seconds *uint32) time.Time {
	if seconds == nil || *seconds == 0 {
		return time.Time{}
	}
	return from.Add(time.Duration(*seconds) * time.Second)
}

// earlier compares ends, of which the zero one never comes.
func earlier(a, b time.Time) bool {
	return !a.IsZero() && (b.IsZero() || a.Before(b))
}

func checkOpenPGP(key *packet.PublicKey) error {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		bits, err := key.BitLength()
		if err != nil {
			return errors.New("unusable RSA key")
		}
		return checkRSA(int(bits))
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448:
		return nil
	}
	return fmt.Errorf("keys of OpenPGP algorithm %d are not read: use Ed25519", key.PubKeyAlgo)
}

// parseOpenPGPSignature reads an armored block of exactly one signature over bytes as they are.
func parseOpenPGPSignature(armored string) (sig *packet.Signature, err error) {
	defer func() { // the library may panic on malformed packets
		if p := recover(); p != nil {
			err = errors.New("malformed")
		}
	}()
	body, err := dearmor(armored, openpgp.SignatureType)
	if err != nil {
		return nil, err
	}
	packets := packet.NewReader(bytes.NewReader(body))
	p, err := packets.Next()
	if err != nil {
		return nil, err
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, errors.New("not a signature")
	}
	if _, err := packets.Next(); err != io.EOF {
		return nil, errors.New("more than one signature")
	}
	switch {
	case sig.SigType != packet.SigTypeBinary:
		return nil, fmt.Errorf("a signature of type 0x%02x, not one over data as it is", uint8(sig.SigType))
	case !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}, sig.Hash):
		return nil, fmt.Errorf("made with %s, which is too weak", sig.Hash)
	case slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.IsCritical }):
		return nil, errors.New("it has a critical notation, which is not understood")
	}
	return sig, nil
}

// verifyOpenPGP gives the signer among the key's that made the signature.
func (k *openPGPKey) verify(payload []byte, sig *packet.Signature) (_ *openPGPSigner, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("malformed")
		}
	}()
	for i := range k.signers {
		s := &k.signers[i]
		if !sig.CheckKeyIdOrFingerprint(s.key) {
			continue
		}
		h, err := sig.PrepareVerify()
		if err != nil {
			return nil, err
		}
		h.Write(payload)
		if err := s.key.VerifySignature(h, sig); err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, errors.New("made with a subkey that may not sign")
}

// at judges the key, and the times that the signature claims, at the first sight.
func (s *openPGPSigner) at(sig *packet.Signature, seen time.Time) (Status, string) {
	for _, v := range s.validity {
		if v.compromised {
			return Revoked, "the OpenPGP key is revoked"
		}
		for _, t := range v.retired {
			if !seen.Before(t) {
				return Revoked, "the OpenPGP key was revoked at " + stamp(t)
			}
		}
	}
	switch made := sig.CreationTime; {
	case made.After(seen.Add(maxSkew)):
		return Invalid, fmt.Sprintf("the signature claims to be made at %s, after it was first seen at %s", stamp(made), stamp(seen))
	case made.Before(s.key.CreationTime):
		return Invalid, fmt.Sprintf("the signature claims to be made at %s, before its key at %s", stamp(made), stamp(s.key.CreationTime))
	}
	end := after(sig.CreationTime, sig.SigLifetimeSecs)
	if !end.IsZero() && !seen.Before(end) {
		return Expired, "the signature expired at " + stamp(end)
	}
	for _, v := range s.validity {
		if !v.expires.IsZero() && !seen.Before(v.expires) {
			return Expired, "the OpenPGP key expired at " + stamp(v.expires)
		}
	}
	return Good, ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
