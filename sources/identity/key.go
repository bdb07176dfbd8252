package identity

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	maxSSHLine = 16 << 10 // bytes of an authorized_keys line; an RSA key of 16384 bits has 3 KiB
	maxArmored = 64 << 10 // bytes of an armored OpenPGP key or of any signature
	minRSABits = 2048
	maxRSABits = 16384
)

// Key is the public half of what a person signs with: an SSH key or an OpenPGP key. It is immutable.
type Key struct {
	fingerprint string
	ssh         ssh.PublicKey // or
	openPGP     *openPGPKey
}

// Fingerprint names the key: "SHA256:…" as ssh-keygen -l prints it, or an OpenPGP primary key's fingerprint in capital
// hexadecimal digits as gpg prints it.
func (k Key) Fingerprint() string { return k.fingerprint }

// SSH is the SSH key, nil for an OpenPGP key.
func (k Key) SSH() ssh.PublicKey { return k.ssh }

// String is the fingerprint.
func (k Key) String() string { return k.fingerprint }

var errPrivateKey = errors.New("this is a private key: write the public half here, and replace the pair, for it has been shown")

// ParseSSH reads one line as in a .pub or authorized_keys file, "ssh-ed25519 AAAA… comment". Ed25519, ECDSA, RSA of 2048
// bits or more, and the keys of security tokens (sk-…) are read; DSA, certificates and lines with options are refused.
// Errors never repeat what was given.
func ParseSSH(line string) (Key, error) {
	line = strings.TrimSpace(line)
	fields := strings.Fields(line)
	switch {
	case len(line) > maxSSHLine:
		return Key{}, fmt.Errorf("parse SSH key: longer than %d bytes", maxSSHLine)
	case strings.Contains(line, "PRIVATE KEY"):
		return Key{}, fmt.Errorf("parse SSH key: %w", errPrivateKey)
	case strings.ContainsAny(line, "\r\n\x00"):
		return Key{}, errors.New("parse SSH key: more than one line: give each key an entry of its own")
	case len(fields) < 2 || strings.HasPrefix(fields[0], "#"):
		return Key{}, errors.New(`parse SSH key: want "TYPE BASE64", as in a .pub file`)
	case strings.HasPrefix(fields[0], "ssh-dss"):
		return Key{}, errors.New("parse SSH key: DSA keys are too weak: use Ed25519")
	case strings.Contains(fields[0], "-cert-v"):
		return Key{}, errors.New("parse SSH key: this is a certificate: write the key itself, and its validity as validAfter and validBefore")
	}
	public, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return Key{}, errors.New(`parse SSH key: not a public key in the form "TYPE BASE64"`)
	}
	if len(options) > 0 {
		return Key{}, errors.New("parse SSH key: options before the key are not read: remove them")
	}
	if err := checkSSH(public); err != nil {
		return Key{}, fmt.Errorf("parse SSH key: %w", err)
	}
	return Key{fingerprint: ssh.FingerprintSHA256(public), ssh: public}, nil
}

func checkSSH(public ssh.PublicKey) error {
	switch public.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		key, ok := public.(ssh.CryptoPublicKey)
		if !ok {
			return errors.New("unusable RSA key")
		}
		public, ok := key.CryptoPublicKey().(*rsa.PublicKey)
		if !ok {
			return errors.New("unusable RSA key")
		}
		return checkRSA(public.N.BitLen())
	}
	return fmt.Errorf("keys of type %s are not read: use ssh-ed25519", public.Type())
}

func checkRSA(bits int) error {
	if bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("an RSA key of %d bits: want %d to %d", bits, minRSABits, maxRSABits)
	}
	return nil
}
