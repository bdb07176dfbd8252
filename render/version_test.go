package render

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// Version must follow the library, else an upgrade that renders differently goes
// unseen; and the command it is compared with must be built from the same one.
func TestVersionNamesTheLibrary(t *testing.T) {
	require := func(file, module string) string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.Parse(file, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range mod.Require {
			if r.Mod.Path == module {
				return r.Mod.Version
			}
		}
		t.Fatalf("%s does not require %s", file, module)
		return ""
	}
	library := require("../go.mod", "sigs.k8s.io/kustomize/api")
	if !strings.HasPrefix(Version, "kustomize/api "+library+",") {
		t.Errorf("Version is %q, go.mod has %s", Version, library)
	}
	if v := require("../examples/lab/kustomize/go.mod", "sigs.k8s.io/kustomize/kustomize/v5"); v != kustomizeVersion {
		t.Errorf("kustomizeVersion is %s, the lab builds %s", kustomizeVersion, v)
	}
	if v := require("../examples/lab/kustomize/go.mod", "sigs.k8s.io/kustomize/api"); v != library {
		t.Errorf("the lab's command is built with the library's %s, not %s", v, library)
	}
}
