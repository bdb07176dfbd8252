package credential

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// Bounds on a connection: on making it, with the TLS handshake, and on the header of an answer.
const (
	dialLimit   = 15 * time.Second
	headerBytes = 64 << 10
)

// Transport makes the connections that credentials go over: TLS 1.2 at least, verified by some roots, nil for the system's,
// and bounded.
func Transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialLimit}).DialContext,
		TLSHandshakeTimeout:    dialLimit,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: headerBytes,
	}
}
