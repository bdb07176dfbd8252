// Package credential reads tokens, passwords, keys and authorities from files, makes the connections that they go over, and
// keeps them out of what others say.
package credential

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ReadFile reads a file of limit bytes at most.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, limit)
}

// Read reads an open file of limit bytes at most.
func Read(f *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), limit)
	}
	return data, nil
}

// ReadSecret reads a file of limit bytes at most, without the newlines that editors add at its end.
func ReadSecret(name string, limit int64) ([]byte, error) {
	data, err := ReadFile(name, limit)
	return bytes.TrimRight(data, "\r\n"), err
}

// ErrNoAuthority says that a file has no certificate in it.
var ErrNoAuthority = errors.New("the CA file holds no certificate")

// Authorities are those to trust: the system's and those in a PEM file.
func Authorities(pem []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, ErrNoAuthority
	}
	return pool, nil
}

// mostSaid bounds what is repeated of others' words, in bytes.
const mostSaid = 200

// Scrub makes a server's words fit for a log: short, printable, and without our secrets, should the server repeat them.
func Scrub(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
	if len(text) > mostSaid {
		text = strings.ToValidUTF8(text[:mostSaid], "") + "…"
	}
	return text
}
