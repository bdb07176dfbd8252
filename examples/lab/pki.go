package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is how long the lab's certificates are valid.
const certificateLife = 365 * 24 * time.Hour

// A keyPair is a certificate and its private key in PEM.
type keyPair struct {
	cert, key []byte
}

// An authority signs the certificates of one lab.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// loadAuthority reads the lab's authority from dir.
func loadAuthority(dir string) (*authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	return &authority{cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer), pem: data}, nil
}

// ensurePKI creates in dir what is missing: the authority, the serving certificate for loopback and the key that
// signs service-account tokens.
func ensurePKI(dir string) (*authority, error) {
	ca, err := loadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		ca, err = createAuthority(dir)
	}
	if err != nil {
		return nil, err
	}
	serving, err := ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "purser-lab"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	if err := serving.write(dir, "serving"); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "service-account.key")); err == nil {
		return ca, nil
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode service-account key: %w", err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	if err := writeFile(filepath.Join(dir, "service-account.pub"), publicPEM, 0o600); err != nil {
		return nil, err
	}
	return ca, writeFile(filepath.Join(dir, "service-account.key"), keyPEM, 0o600)
}

func createAuthority(dir string) (*authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "purser-lab-ca"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := sign(template, template, key, key.Public())
	if err != nil {
		return nil, err
	}
	pair := keyPair{cert: cert, key: keyPEM}
	if err := pair.write(dir, "ca"); err != nil {
		return nil, err
	}
	return loadAuthority(dir)
}

// issue signs a certificate with a new key.
func (a *authority) issue(template *x509.Certificate) (keyPair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	cert, err := sign(template, a.cert, a.key, key.Public())
	return keyPair{cert: cert, key: keyPEM}, err
}

// sign fills in serial number and life, unless the template has its own, and returns the certificate in PEM.
func sign(template, parent *x509.Certificate, signer crypto.Signer, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("choose serial number: %w", err)
	}
	template.SerialNumber = serial
	now := time.Now()
	template.NotBefore = now.Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = now.Add(certificateLife)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// write stores the pair as name.crt and name.key.
func (k keyPair) write(dir, name string) error {
	if err := writeFile(filepath.Join(dir, name+".crt"), k.cert, 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, name+".key"), k.key, 0o600)
}
