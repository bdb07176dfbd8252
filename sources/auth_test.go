package sources

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func secretFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEndpoints(t *testing.T) {
	for raw, want := range map[string]string{
		"https://git.example.com/north/estate.git":    "https://git.example.com/north/estate.git",
		"https://git.example.com/north/estate/":       "https://git.example.com/north/estate",
		"http://127.0.0.1:3000/x":                     "http://127.0.0.1:3000/x",
		"ssh://git@git.example.com:2222/north/estate": "ssh://git.example.com:2222/north/estate",
		"git@git.example.com:north/estate.git":        "ssh://git.example.com/north/estate.git",
		"git.example.com:estate.git":                  "ssh://git.example.com/estate.git",
		"file:///srv/estate.git":                      "file:///srv/estate.git",
		"/srv/../srv/estate.git":                      "file:///srv/estate.git",
	} {
		e, err := parseEndpoint(raw)
		if err != nil || e.String() != want {
			t.Errorf("parseEndpoint(%q) = %v, %v; want %s", raw, e, err, want)
		}
	}
	for _, raw := range []string{
		"", "estate", "./estate", "ftp://x/y", "git://x/y", "https://", "https:///x", "ssh://host", "file://host/x", "https://h/x?token=s3cret", "https://h/x#s3cret",
		"https://s3cret@h/x", "https://user:s3cret@h/x", "ssh://git:s3cret@h/x", "http://user:s3cret@127.0.0.1/x", "https://user:s3cret%zz@h/x",
		"ext::sh -c s3cret", "a b:c", ":x",
	} {
		e, err := parseEndpoint(raw)
		if !errors.Is(err, ErrURL) {
			t.Errorf("parseEndpoint(%q) = %v, %v; want ErrURL", raw, e, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("parseEndpoint(%q) repeats the secret: %v", raw, err)
		}
	}
}

func TestOpenRefusesUnsafeCredentials(t *testing.T) {
	secret := secretFile(t, "s3cret")
	for name, o := range map[string]Options{
		"plain http":               {URL: "http://git.example.com/x", Auth: Auth{PasswordFile: secret}},
		"plain http to localhost.": {URL: "http://localhost.example.com/x", Auth: Auth{PasswordFile: secret}},
		"no known hosts":           {URL: "git@git.example.com:x", Auth: Auth{IdentityFile: secret}},
		"no identity":              {URL: "git@git.example.com:x", Auth: Auth{KnownHostsFile: secret}},
	} {
		dir := filepath.Join(t.TempDir(), "copy.git")
		r, err := Open(dir, o)
		var h *HintError
		if !errors.As(err, &h) {
			t.Errorf("%s: Open = %v, %v; want a hint", name, r, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a repository was created", name)
		}
	}
	for _, url := range []string{"http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost:1/x", "https://git.example.com/x"} {
		open(t, Options{URL: url, Auth: Auth{PasswordFile: secret}})
	}
}

func TestCredentialsAreReadAtEveryUse(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	const first, second = "s3cret-first", "s3cret-second"
	s.set(func() { s.user, s.password = "north", first })
	password, user := secretFile(t, "wrong-s3cret\n"), secretFile(t, "north\n")
	r := open(t, Options{URL: s.url(), Auth: Auth{UsernameFile: user, PasswordFile: password}})
	refused := func(when string) {
		t.Helper()
		_, err := r.Sync(t.Context(), []string{"main"})
		var h *HintError
		if !errors.Is(err, ErrDenied) || !errors.As(err, &h) {
			t.Errorf("%s: Sync = %v, want ErrDenied", when, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, "s3cret") {
			t.Errorf("%s: the error holds a credential: %s", when, text)
		}
	}
	put := func(p string) {
		t.Helper()
		if err := os.WriteFile(password, []byte(p+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused("wrong password")
	put(first)
	mustSync(t, r, "main")
	wantHead(t, r, "main", one)
	s.set(func() { s.password = second })
	refused("rotated on the server only")
	wantHead(t, r, "main", one)
	put(second)
	mustSync(t, r, "main")
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sync(t.Context(), []string{"main"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Sync without the file = %v", err)
	}
	anonymous := open(t, Options{URL: s.url()})
	if _, err := anonymous.Sync(t.Context(), []string{"main"}); !errors.Is(err, ErrDenied) {
		t.Errorf("Sync without credentials = %v", err)
	}
}

// TestServerThatRepeatsCredentials is an impostor's or a debug server's answer.
func TestServerThatRepeatsCredentials(t *testing.T) {
	s := newGitServer(t)
	r := open(t, Options{URL: s.url(), Auth: Auth{PasswordFile: secretFile(t, "s3cret")}})
	s.set(func() {
		s.before = func(w http.ResponseWriter, req *http.Request) bool {
			_, p, _ := req.BasicAuth()
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = fmt.Fprintf(w, "%04xERR bad %s", 4+len("ERR bad ")+len(p), p)
			return true
		}
	})
	if _, err := r.Sync(t.Context(), []string{"main"}); err == nil || !strings.Contains(err.Error(), "bad ***") {
		t.Errorf("Sync = %v", err)
	}
}

func TestTLSWithItsOwnAuthority(t *testing.T) {
	s := newGitServer(t)
	c := newClone(t, s.dir)
	one := c.commit(map[string]string{"f": "one\n"})
	c.push("main")
	secure := httptest.NewUnstartedServer(s.Server.Config.Handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	ca := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	r := open(t, Options{URL: secure.URL + "/estate.git", Auth: Auth{CAFile: ca}})
	mustSync(t, r, "main")
	wantHead(t, r, "main", one)
	unknown := open(t, Options{URL: secure.URL + "/estate.git"})
	var h *HintError
	if _, err := unknown.Sync(t.Context(), []string{"main"}); !errors.As(err, &h) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Sync with an unknown authority = %v", err)
	}
	empty := open(t, Options{URL: secure.URL + "/estate.git", Auth: Auth{CAFile: secretFile(t, "nothing")}})
	if _, err := empty.Sync(t.Context(), []string{"main"}); !errors.As(err, &h) {
		t.Errorf("Sync with an empty CA file = %v", err)
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	c := credentials{user: "north", password: "s3cret", identity: []byte("s3cret"), ca: []byte("x")}
	if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, &c); strings.Contains(text, "s3cret") || strings.Contains(text, "73 33") {
		t.Errorf("credentials print as %s", text)
	}
}
