package apply

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func secret(password string, more string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: %q%s}\n", password, more)
}

// Values of Secrets are in no plan, diff or change set, in the clear or encoded, also when kubectl kept a copy.
func TestSecretValuesStayInMemory(t *testing.T) {
	s := newSite(t)
	s.kubectlApply(secret("first-hush", ", old: gone-hush"))
	for _, release := range []string{secret("second-hush", ", user: odoo-hush"), secret("third-hush", "")} {
		d := s.with(release)
		p, err := s.client.Plan(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		e := entry(t, p, "Secret/db")
		if got := changed(e)["data.password"]; e.Action != Configured || got != maskAfter {
			t.Errorf("the plan does not name the changed key: %s", show(p))
		}
		changes, err := s.client.Apply(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		s.inventory = s.inventory.Merge(changes)
		data, err := json.Marshal(map[string]any{"plan": p, "entries": p.Entries, "changes": changes, "inventory": s.inventory})
		if err != nil {
			t.Fatal(err)
		}
		all := string(data) + fmt.Sprintf("%v %+v %v %+v %+v %s", p, p, d, d, changes, show(p))
		for _, value := range []string{"first-hush", "second-hush", "third-hush", "gone-hush", "odoo-hush"} {
			if strings.Contains(all, value) || strings.Contains(all, base64.StdEncoding.EncodeToString([]byte(value))) {
				t.Errorf("%s got out: %s", value, all)
			}
		}
		s.unchanged(release)
	}
	data := s.live("{apiVersion: v1, kind: Secret, metadata: {name: db}}").Object["data"].(map[string]any)
	if len(data) != 1 || data["password"] != base64.StdEncoding.EncodeToString([]byte("third-hush")) {
		t.Errorf("live data has keys %d", len(data))
	}
}
