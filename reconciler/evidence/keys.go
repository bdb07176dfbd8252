package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// maxKeyFile bounds key and trust files, in bytes.
const maxKeyFile = 1 << 20

// Key signs for one writer: record envelopes, checkpoints and commits. The
// three signed texts begin differently ("DSSEv1 ", the checkpoint's origin,
// "SSHSIG"), so a signature made for one cannot pass for another.
type Key struct {
	private ed25519.PrivateKey
	signer  ssh.Signer
	public  PublicKey
}

// GenerateKey makes an Ed25519 key, writes it to path in OpenSSH's format
// (mode 0600, no passphrase) with the public line beside it in path.pub, and
// returns the public half. It fails with [fs.ErrExist] rather than overwrite.
func GenerateKey(path, comment string) (PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return PublicKey{}, fmt.Errorf("generate key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return PublicKey{}, fmt.Errorf("encode key: %w", err)
	}
	pub, err := newPublicKey(public)
	if err != nil {
		return PublicKey{}, err
	}
	if _, err := os.Lstat(path + ".pub"); !errors.Is(err, fs.ErrNotExist) {
		return PublicKey{}, fmt.Errorf("create %s.pub: %w", path, fs.ErrExist)
	}
	if err := createFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return PublicKey{}, err
	}
	line := strings.TrimSpace(pub.Line()+" "+comment) + "\n"
	return pub, createFile(path+".pub", []byte(line), 0o644)
}

func createFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

// LoadKey reads an Ed25519 private key in OpenSSH's format. It refuses a file
// that group or others may read.
func LoadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat signing key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &StalledError{
			What: fmt.Sprintf("signing key %s may be read by others (mode %04o)", path, info.Mode().Perm()),
			Hint: "chmod 600 " + path,
		}
	}
	data, err := readKeyFile(f)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("parse signing key %s: %w", path, err)
	}
	private, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse signing key %s: want Ed25519, have %T", path, raw)
	}
	return newKey(*private)
}

// readKeyFile refuses a file that is too large: half of it is another one.
func readKeyFile(f io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = fmt.Errorf("%w: the file has more than %d bytes", ErrTooLarge, maxKeyFile)
	}
	return data, err
}

func newKey(private ed25519.PrivateKey) (*Key, error) {
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("use signing key: %w", err)
	}
	public, err := newPublicKey(private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Key{private: private, signer: signer, public: public}, nil
}

// Public is the half that may be given away.
func (k *Key) Public() PublicKey { return k.public }

// ID is [PublicKey.ID] of the public half.
func (k *Key) ID() string { return k.public.ID() }

// String never shows the private half.
func (k *Key) String() string { return "key " + k.ID() }

// GoString never shows the private half.
func (k *Key) GoString() string { return k.String() }

func (k *Key) sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

// signSSH makes an armored SSH signature (OpenSSH's PROTOCOL.sshsig).
func (k *Key) signSSH(message []byte, namespace string) ([]byte, error) {
	sig, err := sshsig.Sign(bytes.NewReader(message), k.signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign with SSH key: %w", err)
	}
	return sshsig.Armor(sig), nil
}

// PublicKey is an Ed25519 public key.
type PublicKey struct {
	raw ed25519.PublicKey
	ssh ssh.PublicKey
}

func newPublicKey(raw ed25519.PublicKey) (PublicKey, error) {
	pub, err := ssh.NewPublicKey(raw)
	if err != nil {
		return PublicKey{}, fmt.Errorf("use public key: %w", err)
	}
	return PublicKey{raw: raw, ssh: pub}, nil
}

// ID is the key's OpenSSH fingerprint, "SHA256:…", as ssh-keygen -l prints it.
// Envelopes carry it as keyid.
func (p PublicKey) ID() string { return ssh.FingerprintSHA256(p.ssh) }

// Line is "ssh-ed25519 AAAA…", as in a .pub file, without a comment.
func (p PublicKey) Line() string {
	return p.ssh.Type() + " " + base64.StdEncoding.EncodeToString(p.ssh.Marshal())
}

// Trusted is the set of keys whose signatures count, by writer.
type Trusted struct {
	keys map[string]trustedKey
}

type trustedKey struct {
	PublicKey
	writers []string // patterns as in path.Match; "*" is every writer
}

// Trust makes a set in which every key may sign for every writer.
func Trust(keys ...PublicKey) *Trusted {
	t := &Trusted{keys: map[string]trustedKey{}}
	for _, k := range keys {
		t.keys[k.ID()] = trustedKey{PublicKey: k, writers: []string{"*"}}
	}
	return t
}

// LoadTrusted reads a file for parseTrusted.
func LoadTrusted(path string) (*Trusted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open trusted keys: %w", err)
	}
	defer f.Close()
	data, err := readKeyFile(f)
	if err != nil {
		return nil, fmt.Errorf("read trusted keys: %w", err)
	}
	t, err := parseTrusted(data)
	if err != nil {
		return nil, fmt.Errorf("parse trusted keys %s: %w", path, err)
	}
	return t, nil
}

// parseTrusted reads keys in the form of OpenSSH's allowed_signers, so that Git
// and Purser share one file: "PRINCIPALS [namespaces="git"] ssh-ed25519 AAAA…".
// The principals are the writers the key may sign for. A line without them, as
// in a .pub file, stands for every writer.
func parseTrusted(data []byte) (*Trusted, error) {
	t := Trust()
	for n, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		key, err := parseTrustedLine(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if _, dup := t.keys[key.ID()]; dup {
			return nil, fmt.Errorf("line %d: key %s appears twice: list its writers on one line, separated by commas", n+1, key.ID())
		}
		t.keys[key.ID()] = key
	}
	if len(t.keys) == 0 {
		return nil, errors.New("no keys")
	}
	return t, nil
}

func parseTrustedLine(fields []string) (trustedKey, error) {
	at := slices.Index(fields, ssh.KeyAlgoED25519)
	if at < 0 || at+1 >= len(fields) {
		return trustedKey{}, errors.New("no ssh-ed25519 key: only Ed25519 keys sign evidence")
	}
	key := trustedKey{writers: []string{"*"}}
	if at > 0 {
		key.writers = strings.Split(strings.Trim(fields[0], `"`), ",")
	}
	for _, w := range key.writers {
		if _, err := path.Match(w, ""); err != nil {
			return key, fmt.Errorf("principal %q: %w", w, err)
		}
	}
	for _, option := range fields[min(at, 1):at] {
		if !strings.HasPrefix(option, "namespaces=") {
			return key, fmt.Errorf("option %q is not supported: only namespaces= is", option)
		}
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.Join(fields[at:at+2], " ")))
	if err != nil {
		return key, fmt.Errorf("parse key: %w", err)
	}
	crypto, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return key, errors.New("parse key: unusable")
	}
	raw, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return key, errors.New("parse key: not Ed25519")
	}
	key.PublicKey = PublicKey{raw: raw, ssh: pub}
	return key, nil
}

// find returns the key with the ID, and whether it may sign for the writer.
func (t *Trusted) find(id, writer string) (PublicKey, error) {
	key, ok := t.keys[id]
	if !ok {
		return PublicKey{}, fmt.Errorf("key %s is not trusted", id)
	}
	for _, pattern := range key.writers {
		if ok, _ := path.Match(pattern, writer); ok {
			return key.PublicKey, nil
		}
	}
	return PublicKey{}, fmt.Errorf("key %s is not trusted to sign for writer %q", id, writer)
}

// forWriter lists the keys that may sign for the writer.
func (t *Trusted) forWriter(writer string) []PublicKey {
	var keys []PublicKey
	for id := range t.keys {
		if key, err := t.find(id, writer); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// verifySSH checks an armored SSH signature and returns the signing key's ID.
func (t *Trusted) verifySSH(message, armored []byte, namespace, writer string) (string, error) {
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return "", fmt.Errorf("parse SSH signature: %w", err)
	}
	key, err := t.find(ssh.FingerprintSHA256(sig.PublicKey), writer)
	if err != nil {
		return "", err
	}
	err = sshsig.Verify(bytes.NewReader(message), sig, key.ssh, sig.HashAlgorithm, namespace)
	if err != nil {
		return "", fmt.Errorf("verify SSH signature: %w", err)
	}
	return key.ID(), nil
}
