package sources

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// ErrURL says that a repository's address cannot be used.
var ErrURL = errors.New("unusable repository address")

// endpoint is the address of a repository. It never holds a credential.
type endpoint struct {
	scheme string   // file, http, https, ssh
	user   string   // ssh only
	host   string   // host, or host:port
	path   string   // for file and ssh
	url    *url.URL // for http and https
}

// parseEndpoint reads an absolute path, a URL, or the short form of ssh,
// user@host:path. Its errors never repeat the address: it may hold a secret.
func parseEndpoint(raw string) (endpoint, error) {
	if strings.HasPrefix(raw, "/") {
		return endpoint{scheme: "file", path: path.Clean(raw)}, nil
	}
	if !strings.Contains(raw, "://") {
		return parseShortSSH(raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, fmt.Errorf("%w: it is not a URL", ErrURL)
	}
	if _, set := u.User.Password(); set || (u.User != nil && u.Scheme != "ssh") {
		return endpoint{}, hint(fmt.Errorf("%w: it holds a credential", ErrURL),
			"remove the part before @ and name files with the user name and the password or token instead")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, fmt.Errorf("%w: it has a query or a fragment", ErrURL)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return endpoint{}, fmt.Errorf("%w: it names no host", ErrURL)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		return endpoint{scheme: u.Scheme, host: u.Host, url: u}, nil
	case "ssh":
		if u.Hostname() == "" || u.Path == "" {
			return endpoint{}, fmt.Errorf("%w: ssh needs a host and a path", ErrURL)
		}
		return endpoint{scheme: "ssh", user: u.User.Username(), host: u.Host, path: u.Path}, nil
	case "file":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return endpoint{}, fmt.Errorf("%w: file needs an absolute path, file:///srv/estate.git", ErrURL)
		}
		return endpoint{scheme: "file", path: path.Clean(u.Path)}, nil
	}
	return endpoint{}, fmt.Errorf("%w: scheme %q is none of https, ssh, http, file", ErrURL, u.Scheme)
}

func parseShortSSH(raw string) (endpoint, error) {
	where, p, ok := strings.Cut(raw, ":")
	user, host, named := strings.Cut(where, "@")
	if !named {
		user, host = "", where
	}
	if !ok || host == "" || p == "" || p[0] == ':' || strings.ContainsAny(where, "/ ") {
		return endpoint{}, fmt.Errorf("%w: want https://host/path, ssh://user@host/path, user@host:path or an absolute path", ErrURL)
	}
	return endpoint{scheme: "ssh", user: user, host: host, path: p}, nil
}

// hostPort gives host:port, with ssh's port when there is none.
func (e endpoint) hostPort() string {
	if _, _, err := net.SplitHostPort(e.host); err == nil {
		return e.host
	}
	return net.JoinHostPort(strings.Trim(e.host, "[]"), "22")
}

func (e endpoint) loopback() bool {
	host := e.url.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// String is the address for logs.
func (e endpoint) String() string {
	switch e.scheme {
	case "file":
		return "file://" + e.path
	case "ssh":
		return "ssh://" + e.host + "/" + strings.TrimPrefix(e.path, "/")
	}
	return e.url.String()
}

// defaultPorts are those that an address need not say.
var defaultPorts = map[string]string{"http": "80", "https": "443", "ssh": "22"}

// Address is a repository's address as two addresses are compared: "git.example/retail/estate", the same over https and
// ssh. Scheme, the scheme's own port, ".git" and ssh's user "git" are left out; any other user or port makes another
// repository. One on this machine is its path. The error never repeats the address.
func Address(raw string) (string, error) {
	e, err := parseEndpoint(raw)
	if err != nil {
		return "", err
	}
	where, below := "", e.path
	if e.url != nil {
		below = e.url.Path
	}
	if e.scheme != "file" {
		where = strings.ToLower(e.host)
		if _, port, err := net.SplitHostPort(where); err == nil && port == defaultPorts[e.scheme] {
			where = strings.TrimSuffix(where, ":"+port)
		}
		if e.user != "" && e.user != "git" {
			where = e.user + "@" + where
		}
	}
	return where + strings.TrimSuffix(path.Clean("/"+below), ".git"), nil
}
