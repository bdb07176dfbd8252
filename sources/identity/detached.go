package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"time"

	"golang.org/x/crypto/ssh"
)

// VerifyDetached judges a bare signature over a message, as a DSSE envelope holds it, made with a key for statements:
// Ed25519, or ECDSA on P-256 with SHA-256 in ASN.1. keyID is the key's fingerprint. seen is when the agent first saw it.
func (k *Keyring) VerifyDetached(message []byte, keyID string, signature []byte, seen time.Time) Signature {
	owned, ok := k.keys[keyID]
	if !ok || owned.Key.ssh == nil {
		return Signature{Status: UnknownKey, Key: keyID, Detail: "no person declares an SSH key with this fingerprint"}
	}
	if !detachedBy(owned.Key.ssh, message, signature) {
		return Signature{Status: Invalid, Key: keyID, Detail: "the signature is not one of this key over this content"}
	}
	return k.judge(owned, Statements, seen, Good, "")
}

func detachedBy(key ssh.PublicKey, message, signature []byte) bool {
	public, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return false
	}
	switch p := public.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(p, message, signature)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		return p.Curve.Params().BitSize == 256 && ecdsa.VerifyASN1(p, digest[:], signature)
	}
	return false
}
