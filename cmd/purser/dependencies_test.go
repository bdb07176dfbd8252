package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestDependenciesHaveReasons compares docs/dependencies.md with the modules that go.mod requires directly.
func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{} // modules have a dot in their first part, our folders have none
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+\\.[^`]+)` \\| \\S").FindAllSubmatch(page, -1) {
		explained[string(row[1])] = true
	}
	for _, r := range module.Require {
		if !r.Indirect && !explained[r.Mod.Path] {
			t.Errorf("docs/dependencies.md gives no reason for %s", r.Mod.Path)
		}
		if !r.Indirect {
			delete(explained, r.Mod.Path)
		}
	}
	for path := range explained {
		t.Errorf("docs/dependencies.md explains %s, which go.mod does not require directly", path)
	}
	if want := regexp.MustCompile(`\*\*Go ` + regexp.QuoteMeta(module.Go.Version[:len("1.26")]) + `\*\*`); !want.Match(page) {
		t.Errorf("docs/dependencies.md does not say Go %s", module.Go.Version)
	}
}
