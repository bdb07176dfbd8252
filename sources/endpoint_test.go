package sources

import "testing"

func TestAddress(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://git.example/retail/estate.git":            "git.example/retail/estate",
		"https://GIT.example:443/retail/estate/":           "git.example/retail/estate",
		"http://git.example:80/retail//estate.git":         "git.example/retail/estate",
		"ssh://git@git.example:22/retail/estate.git":       "git.example/retail/estate",
		"git@git.example:retail/estate.git":                "git.example/retail/estate",
		"ssh://git@git.example/retail/estate":              "git.example/retail/estate",
		"https://git.example:8443/retail/estate.git":       "git.example:8443/retail/estate",
		"ssh://git@git.example:2222/retail/estate.git":     "git.example:2222/retail/estate",
		"http://git.example:443/retail/estate.git":         "git.example:443/retail/estate",
		"https://git.example/Retail/estate.git":            "git.example/Retail/estate",
		"https://git.example/test/../retail/estate.git":    "git.example/retail/estate",
		"release-bot@git.example:estate.git":               "release-bot@git.example/estate",
		"http://[::1]:3000/estate.git":                     "[::1]:3000/estate",
		"http://[::1]/estate.git":                          "[::1]/estate",
		"http://[::1]:80/estate.git":                       "[::1]/estate",
		"file:///srv/git/estate.git":                       "/srv/git/estate",
		"/srv/git/estate.git":                              "/srv/git/estate",
		"https://developer-1:secret@git.example/a.git":     "",
		"https://git.example/retail/estate.git?token=what": "",
		"estate": "",
	} {
		got, err := Address(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("Address(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
}
