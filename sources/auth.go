package sources

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/purser-gitops/purser/sources/credential"
)

// ErrDenied says that the server did not accept the credentials.
var ErrDenied = errors.New("access denied")

// Auth names the files that hold credentials. They are read at every use, so
// that a rotated credential works at the next poll.
type Auth struct {
	UsernameFile   string // user name; default "git"
	PasswordFile   string // password or token; for ssh also the identity's passphrase
	IdentityFile   string // ssh private key
	KnownHostsFile string // ssh host keys; required for ssh
	CAFile         string // PEM certificates trusted besides the system's, for https
}

// check refuses what could send a credential where others can read it.
func (a Auth) check(e endpoint) error {
	switch e.scheme {
	case "http":
		if a.hasPassword() && !e.loopback() {
			return hint(errors.New("credentials are not sent over plain http"), "use https")
		}
	case "ssh":
		if a.KnownHostsFile == "" {
			return hint(errors.New("ssh without known hosts: the server could not be told from an impostor"),
				"write the server's key with ssh-keyscan, compare its fingerprint, and name the file as known hosts")
		}
		if a.IdentityFile == "" && a.PasswordFile == "" {
			return hint(errors.New("ssh without an identity"), "name a file with a private key")
		}
	}
	return nil
}

func (a Auth) hasPassword() bool { return a.PasswordFile != "" || a.UsernameFile != "" }

// credentials are what the files held a moment ago. Never print one.
type credentials struct {
	user, password string
	identity       []byte
	ca             []byte
}

// String keeps a credential out of logs, whatever prints it.
func (credentials) String() string { return "credentials" }

// GoString does the same for %#v.
func (credentials) GoString() string { return "credentials" }

func (a Auth) read(e endpoint) (credentials, error) {
	if e.scheme == "file" {
		return credentials{}, nil
	}
	c := credentials{user: "git"}
	if e.user != "" {
		c.user = e.user
	}
	for _, f := range []struct {
		name  string
		limit int64
		set   func([]byte)
	}{
		{a.UsernameFile, maxKeyBytes, func(b []byte) { c.user = string(b) }},
		{a.PasswordFile, maxKeyBytes, func(b []byte) { c.password = string(b) }},
		{a.IdentityFile, maxKeyBytes, func(b []byte) { c.identity = append(b, '\n') }},
		{a.CAFile, maxCABytes, func(b []byte) { c.ca = b }},
	} {
		if f.name == "" {
			continue
		}
		b, err := credential.ReadSecret(f.name, f.limit)
		if err != nil {
			return credentials{}, fmt.Errorf("read credential: %w", err)
		}
		f.set(b)
	}
	return c, nil
}

// roots are the authorities to trust; nil for the system's.
func (c credentials) roots() (*x509.CertPool, error) {
	if len(c.ca) == 0 {
		return nil, nil
	}
	pool, err := credential.Authorities(c.ca)
	if err != nil {
		return nil, hint(err, "write PEM certificates to it")
	}
	return pool, nil
}

// says turns a server's words into something fit for a log: short, printable,
// without our own credentials, should the server repeat them.
func (c credentials) says(text string) string {
	return credential.Scrub(text, c.password, string(c.identity))
}
