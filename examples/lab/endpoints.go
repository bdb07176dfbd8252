package lab

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// EnvDir is the environment variable that names the data directory of a running lab.
const EnvDir = "PURSER_LAB"

// Endpoints say where the servers of a lab are reached. The methods work in any process of the same user on the
// same machine.
type Endpoints struct {
	Dir             string         `json:"dir"`
	Servers         []string       `json:"servers"`              // servers that were started
	Kubeconfig      string         `json:"kubeconfig,omitempty"` // file, cluster-admin
	APIURL          string         `json:"apiURL,omitempty"`
	CAFile          string         `json:"caFile"` // authority of every certificate of the lab
	GitURL          string         `json:"gitURL,omitempty"`
	GiteaURL        string         `json:"giteaURL,omitempty"`
	AlertmanagerURL string         `json:"alertmanagerURL,omitempty"`
	PostgresAddress string         `json:"postgresAddress,omitempty"` // host:port; PostgresDSN says how to connect
	S3URL           string         `json:"s3URL,omitempty"`           // HTTPS, see CAFile
	Ports           map[string]int `json:"ports"`
}

// Join returns the endpoints of the lab that runs in dir.
func Join(dir string) (*Endpoints, error) {
	data, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return nil, fmt.Errorf("join lab: %w", err)
	}
	var e Endpoints
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("join lab in %s: %w", dir, err)
	}
	lock, err := tryLock(filepath.Join(dir, "lock"))
	if err == nil {
		return nil, errors.Join(fmt.Errorf("join lab in %s: it does not run", dir), lock.Close())
	}
	if !errors.Is(err, errLocked) {
		return nil, fmt.Errorf("join lab: %w", err)
	}
	return &e, nil
}

// Has reports whether the lab was started with the server.
func (e *Endpoints) Has(server string) bool { return slices.Contains(e.Servers, server) }

// path returns a path in the data directory.
func (e *Endpoints) path(elem ...string) string {
	return filepath.Join(append([]string{e.Dir}, elem...)...)
}

// An Identity is a user as the API server sees it. RBAC decides what it may do; group "system:masters" may do
// everything.
type Identity struct {
	User     string
	Groups   []string
	NotAfter time.Time // end of the client certificate; zero means a year from now
}

// KubeconfigFor writes a kubeconfig with a client certificate for the identity and returns its path. A second call
// for the same user replaces the file.
func (e *Endpoints) KubeconfigFor(id Identity) (string, error) {
	ca, pair, err := e.clientCertificate(id)
	if err != nil {
		return "", err
	}
	return e.writeKubeconfig(id.User, map[string]any{"server": e.APIURL, "certificate-authority-data": ca.pem},
		map[string]any{"client-certificate-data": pair.cert, "client-key-data": pair.key})
}

// writeKubeconfig writes kubeconfigs/<name>.yaml. JSON is YAML, and []byte becomes base64 as the format wants it.
func (e *Endpoints) writeKubeconfig(name string, cluster, user map[string]any) (string, error) {
	path := e.path("kubeconfigs", url.PathEscape(name)+".yaml")
	return path, writeJSON(path, map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"clusters":        []any{map[string]any{"name": "lab", "cluster": cluster}},
		"users":           []any{map[string]any{"name": name, "user": user}},
		"contexts":        []any{map[string]any{"name": "lab", "context": map[string]any{"cluster": "lab", "user": name}}},
		"current-context": "lab",
	})
}

func (e *Endpoints) clientCertificate(id Identity) (*authority, keyPair, error) {
	ca, err := loadAuthority(e.path("pki"))
	if err != nil {
		return nil, keyPair{}, err
	}
	pair, err := ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: id.User, Organization: id.Groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotAfter:    id.NotAfter,
	})
	return ca, pair, err
}

// Transport returns an HTTP transport that trusts the lab's authority and shows a client certificate of the
// identity.
func (e *Endpoints) Transport(id Identity) (*http.Transport, error) {
	ca, pair, err := e.clientCertificate(id)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.cert, pair.key)
	if err != nil {
		return nil, fmt.Errorf("use client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}, nil
}

// ServingTLS returns the lab's certificate for servers on loopback; clients trust it with CAFile.
func (e *Endpoints) ServingTLS() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(e.path("pki", "serving.crt"), e.path("pki", "serving.key"))
	if err != nil {
		return nil, fmt.Errorf("load serving certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
