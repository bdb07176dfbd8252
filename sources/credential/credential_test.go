package credential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSecret(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "token")
	for _, c := range []struct{ text, want, problem string }{
		{"s3cret", "s3cret", ""},
		{"s3cret\r\n\n", "s3cret", ""},
		{" s3cret \n", " s3cret ", ""},
		{"12345678901234567", "", "has more than 16 bytes"},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(name, 16)
		if string(got) != c.want || (err == nil) != (c.problem == "") {
			t.Errorf("%q: got %q, %v", c.text, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.problem) || strings.Contains(err.Error(), c.text)) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	if _, err := ReadSecret(name+".missing", 16); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{" bad token s3cret \n", "bad token ***"},
		{"a\x00b\nc\xffd", "a b c d"},
		{strings.Repeat("ü", 150), strings.Repeat("ü", 100) + "…"},
	} {
		if got := Scrub(c.text, "s3cret", ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}
