package lab

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Gitea starts with an administrator whose token works, again after a restart, and ends with the lab.
func TestGiteaServesItsAPI(t *testing.T) {
	dir := t.TempDir()
	l := startLab(t, dir, Gitea)
	whoAmI := func() string {
		t.Helper()
		token, err := os.ReadFile(l.GiteaTokenFile())
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.GiteaURL+"/api/v1/user", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "token "+string(token))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var user struct {
			Login string `json:"login"`
			Admin bool   `json:"is_admin"`
		}
		if err := json.NewDecoder(response.Body).Decode(&user); err != nil || !user.Admin {
			t.Fatalf("%s: %+v, %v", response.Status, user, err)
		}
		return user.Login
	}
	if got := whoAmI(); got != giteaAdmin {
		t.Errorf("the token belongs to %q", got)
	}
	url := l.GiteaURL
	if err := l.Restart(t.Context(), Gitea); err != nil {
		t.Fatal(err)
	}
	if got := whoAmI(); got != giteaAdmin || l.GiteaURL != url {
		t.Errorf("after a restart the token belongs to %q at %s, want %s", got, l.GiteaURL, url)
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if found := processesOf(t, dir); len(found) > 0 {
		t.Errorf("still running: %s", strings.Join(found, ", "))
	}
}
