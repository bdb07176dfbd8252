package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/purser-gitops/purser/sources/identity"
)

// Namespace is that of the SSH signatures of statements.
const Namespace = "purser-statement"

const (
	maxPayload   = 16 << 10 // bytes
	maxSignature = 16 << 10 // bytes, armored
	maxSkew      = 5 * time.Minute
)

// Encode gives the payload: one line of JSON with its fields in order, and a newline.
func (s Statement) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	payload, err := s.encode()
	if err == nil && len(payload) > maxPayload {
		err = fmt.Errorf("it has more than %d bytes", maxPayload)
	}
	if err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	return payload, nil
}

func (s Statement) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return b.Bytes(), err
}

// Decode reads a payload. Bytes that [Statement.Encode] would not write, an unknown or repeated field, other spaces,
// another order, are an error.
func Decode(payload []byte) (Statement, error) {
	s, err := decode(payload)
	if err != nil {
		return Statement{}, fmt.Errorf("decode statement: %w", err)
	}
	return s, nil
}

func decode(payload []byte) (s Statement, err error) {
	if len(payload) > maxPayload {
		return s, fmt.Errorf("it has more than %d bytes", maxPayload)
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, err
	}
	if _, err := d.Token(); err != io.EOF {
		return s, errors.New("something follows the object")
	}
	if err := s.Validate(); err != nil {
		return s, err
	}
	canonical, err := s.encode()
	if err == nil && !bytes.Equal(canonical, payload) {
		err = errors.New("it is not in the one form that is read: each field once and in order, no spaces, a newline at the end")
	}
	return s, err
}

// Signed is a statement as it is stored.
type Signed struct {
	Payload   []byte // statement.json
	Signature []byte // statement.sig, an armored SSH signature over Payload
}

// ID names the statement, whoever signed it.
func (s Signed) ID() string {
	sum := sha256.Sum256(s.Payload)
	return hex.EncodeToString(sum[:])
}

// Sign signs a payload that [Decode] takes.
func Sign(payload []byte, signer ssh.Signer) (Signed, error) {
	if _, err := Decode(payload); err != nil {
		return Signed{}, fmt.Errorf("sign: %w", err)
	}
	if err := checkSigner(signer.PublicKey()); err != nil {
		return Signed{}, fmt.Errorf("sign: %w", err)
	}
	sig, err := sshsig.Sign(bytes.NewReader(payload), signer, sshsig.HashSHA512, Namespace)
	if err != nil {
		return Signed{}, fmt.Errorf("sign statement: %w", err)
	}
	return Signed{Payload: bytes.Clone(payload), Signature: sshsig.Armor(sig)}, nil
}

// checkSigner refuses what no keyring takes, before anything is pushed.
func checkSigner(key ssh.PublicKey) error {
	_, err := identity.ParseSSH(string(ssh.MarshalAuthorizedKey(key)))
	return err
}

// Verify tells what was said and by whom. seen is when the agent first saw the statement: the key must have been valid
// then, and the statement not be made later. A statement that cannot be read is [identity.Invalid].
func Verify(keys *identity.Keyring, signed Signed, seen time.Time) (Statement, identity.Signature) {
	s, err := Decode(signed.Payload)
	if err != nil {
		return Statement{}, identity.Signature{Status: identity.Invalid, Detail: err.Error()}
	}
	sig := keys.VerifySSH(Namespace, signed.Payload, signed.Signature, seen)
	if sig.Counts() && s.At.After(seen.Add(maxSkew)) {
		sig.Status = identity.Invalid
		sig.Detail = fmt.Sprintf("the statement claims to be made at %s, after it was first seen at %s",
			s.At.Format(time.RFC3339), seen.UTC().Format(time.RFC3339))
	}
	return s, sig
}
