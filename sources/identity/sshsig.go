package identity

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const (
	sshPrefix = "-----BEGIN SSH SIGNATURE-----"
	sshBegin  = sshPrefix + "\n"
	sshEnd    = "-----END SSH SIGNATURE-----"
)

// parseSSHSignature reads one armored signature as ssh-keygen -Y sign writes it, with nothing around it.
func parseSSHSignature(armored []byte) (_ *sshsig.Signature, err error) {
	defer func() { // against a panic in the parser of somebody's bytes
		if p := recover(); p != nil {
			err = errors.New("malformed")
		}
	}()
	text := bytes.TrimRight(armored, " \r\n")
	if len(text) > maxArmored {
		return nil, fmt.Errorf("larger than %d bytes", maxArmored)
	}
	if !bytes.HasPrefix(text, []byte(sshBegin)) || !bytes.HasSuffix(text, []byte(sshEnd)) {
		return nil, errors.New("not one armored SSH signature")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != sshsig.PEMType || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the armor is malformed")
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, err
	}
	if _, ok := sig.PublicKey.(*ssh.Certificate); ok {
		return nil, errors.New("made with a certificate, which is not read")
	}
	if token := sig.PublicKey.Type() == ssh.KeyAlgoSKED25519 || sig.PublicKey.Type() == ssh.KeyAlgoSKECDSA256; !token && len(sig.Signature.Rest) > 0 {
		return nil, errors.New("bytes follow the signature")
	}
	return sig, nil
}

// sshSigned is a signature over a message, with the key that it names. Whether that key made it does not depend on whose it
// is, and is found out once.
type sshSigned struct {
	fingerprint string
	err         error        // why it cannot be read
	genuine     func() error // why the key did not make it
}

func readSSH(namespace string, message, armored []byte) *sshSigned {
	sig, err := parseSSHSignature(armored)
	if err != nil {
		return &sshSigned{err: err}
	}
	return &sshSigned{
		fingerprint: ssh.FingerprintSHA256(sig.PublicKey),
		genuine:     sync.OnceValue(func() error { return verifySSHSignature(sig, sig.PublicKey, namespace, message) }),
	}
}

// verifySSHSignature checks that the key made the signature over message for the namespace.
func verifySSHSignature(sig *sshsig.Signature, key ssh.PublicKey, namespace string, message []byte) error {
	return sshsig.Verify(bytes.NewReader(message), sig, key, sig.HashAlgorithm, namespace)
}
