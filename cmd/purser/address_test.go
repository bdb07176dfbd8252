package main

import (
	"testing"
)

// TestAddressOfTheAgent reads where an agent listens from its configuration.
func TestAddressOfTheAgent(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"":                      "http://127.0.0.1:8780",
		"127.0.0.1:9000":        "http://127.0.0.1:9000",
		"0.0.0.0:9000":          "http://127.0.0.1:9000",
		`"[::]:9000"`:           "http://[::1]:9000",
		"purser.example.org:80": "http://purser.example.org:80",
		"127.0.0.1:0":           "", // nobody can know
	} {
		d := &daemon{t: t, dir: t.TempDir()}
		d.configure(listen, "file:///estate.git", "file:///audit.git", "kubeconfig")
		at := address{config: d.config}
		if got, err := at.url(); got != want || (err == nil) != (want != "") {
			t.Errorf("listening on %q gives %q (%v), want %q", listen, got, err, want)
		}
	}
	if _, err := (&address{config: "nowhere.yaml"}).url(); err == nil {
		t.Error("a configuration that is not there is passed over")
	}
	if got, err := (&address{server: "http://elsewhere:1"}).url(); got != "http://elsewhere:1" || err != nil {
		t.Errorf("without a configuration: %q (%v)", got, err)
	}
}
