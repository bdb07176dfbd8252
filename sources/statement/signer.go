package statement

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/purser-gitops/purser/sources/credential"
	"github.com/purser-gitops/purser/sources/identity"
)

const maxKeyFile = 64 << 10 // bytes

// LoadSigner reads a private key in a form that OpenSSH writes. passphrase is asked once, if the key is encrypted; nil
// refuses such a key. A file that group or others may read is refused. The error never holds any of the key.
func LoadSigner(path string, passphrase func() ([]byte, error)) (ssh.Signer, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if passphrase == nil {
			return nil, fmt.Errorf("read signing key %s: it has a passphrase: use ssh-agent", path)
		}
		phrase, perr := passphrase()
		if perr != nil {
			return nil, fmt.Errorf("read passphrase of %s: %w", path, perr)
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(data, phrase)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key %s: not an OpenSSH private key, or the passphrase is wrong", path)
	}
	if err := checkSigner(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("use signing key %s: %w", path, err)
	}
	return signer, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return credential.Read(f, maxKeyFile)
}

// SignWithAgent signs a payload with a key that the ssh-agent at socket holds. key is its fingerprint, "SHA256:…", or its
// public line, "ssh-ed25519 AAAA…"; "" is the only key of the agent. ctx bounds it, also while a security token waits to
// be touched.
func SignWithAgent(ctx context.Context, socket, key string, payload []byte) (Signed, error) {
	if socket == "" {
		return Signed{}, errors.New("no ssh-agent: start one and ssh-add the key, or name a key file")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return Signed{}, fmt.Errorf("connect to ssh-agent: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	signer, err := chooseSigner(agent.NewClient(conn), key)
	if err == nil {
		var signed Signed
		if signed, err = Sign(payload, signer); err == nil {
			return signed, nil
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return Signed{}, fmt.Errorf("use ssh-agent: %w", err)
}

// signerLister is what is used of an [agent.Agent].
type signerLister interface {
	Signers() ([]ssh.Signer, error)
}

func chooseSigner(a signerLister, key string) (ssh.Signer, error) {
	wanted := strings.TrimSpace(key)
	if wanted != "" && !strings.HasPrefix(wanted, "SHA256:") {
		k, err := identity.ParseSSH(wanted)
		if err != nil {
			return nil, err
		}
		wanted = k.Fingerprint()
	}
	all, err := a.Signers()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var found []ssh.Signer
	var names []string
	for _, s := range all {
		if _, ok := s.PublicKey().(*ssh.Certificate); ok {
			continue
		}
		name := ssh.FingerprintSHA256(s.PublicKey())
		names = append(names, name)
		if wanted == "" || wanted == name {
			found = append(found, s)
		}
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("it holds no key: ssh-add one")
	case len(found) == 0:
		return nil, fmt.Errorf("it does not hold %s, but %s: ssh-add it", wanted, strings.Join(names, ", "))
	case len(found) > 1:
		return nil, fmt.Errorf("it holds several keys, %s: name one", strings.Join(names, ", "))
	}
	return found[0], nil
}
