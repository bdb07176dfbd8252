package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
)

func writeKubeconfig(t *testing.T, dir, cluster, user string) string {
	t.Helper()
	path := filepath.Join(dir, "kubeconfig")
	text := "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}, {name: lost, context: {cluster: none}}],\n" +
		"clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'" + cluster + "}}], users: [{name: u, user: {" + user + "}}]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKubeconfigRefusals(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(outside, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ cluster, user, text string }{
		"exec":           {"", "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/steal, interactiveMode: Never}", "/bin/steal"},
		"token outside":  {"", "tokenFile: " + outside, "outside the kubeconfig's folder"},
		"dots":           {"", "tokenFile: ../../../../../../../../../etc/hostname", "outside"},
		"impersonation":  {"", "token: a, as: admin", "impersonate"},
		"auth provider":  {"", "auth-provider: {name: gcp}", "gcp"},
		"missing ca":     {", certificate-authority: ca.crt", "token: a", "ca.crt"},
		"link to a file": {"", "tokenFile: link", "outside"},
	} {
		dir := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		path := writeKubeconfig(t, dir, c.cluster, c.user)
		_, err := RESTConfig(path, "", false)
		if !errors.Is(err, errKubeconfig) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantText(t, name, err.Error(), c.text, "kubeconfig")
	}
}

func TestKubeconfigFilesBesideIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := writeKubeconfig(t, dir, "", "tokenFile: token")
	cfg, err := RESTConfig(path, "c", false)
	if err != nil || cfg.BearerTokenFile != filepath.Join(dir, "token") {
		t.Errorf("got %v, %v", cfg, err)
	}
	for _, context := range []string{"missing", "lost"} {
		if _, err := RESTConfig(path, context, false); err == nil {
			t.Errorf("context %s was accepted", context)
		}
	}
	if _, err := RESTConfig(filepath.Join(dir, "nothing"), "", false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := NewCluster("c", &rest.Config{Impersonate: rest.ImpersonationConfig{UserName: "x"}}, Options{}); err == nil {
		t.Error("a configuration that impersonates was accepted")
	}
}
