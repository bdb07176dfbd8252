// Command imports checks that the packages of this repository import each other only inwards: cmd, reconciler, its
// sub-packages, leaves. Run it in the root of the repository.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const module = "github.com/purser-gitops/purser"

// leaves never import the reconciler.
var leaves = []string{"sources", "sources/...", "render", "health"}

// product is what programs are made of.
var product = append([]string{"reconciler", "reconciler/...", "backup", "backup/..."}, leaves...)

// A rule says what the matching packages may import of this repository. A pattern that ends in /... matches the
// packages below a folder, any other exactly one package.
type rule struct {
	packages string
	may      []string
}

// rules are tried in order; the first that matches counts. A package without a rule is an error.
var rules = []rule{
	{"cmd/...", product},
	{"reconciler", append([]string{"reconciler/...", "backup", "backup/..."}, leaves...)},
	{"reconciler/evidence", append([]string{"reconciler/policy", "backup", "backup/store"}, leaves...)}, // records decisions; never the reverse
	{"reconciler/upkeep", append([]string{"reconciler/evidence", "reconciler/policy", "backup", "backup/..."}, leaves...)},
	{"reconciler/alert", append([]string{"reconciler/policy"}, leaves...)},  // tells of verdicts; never the reverse
	{"reconciler/landed", append([]string{"reconciler/policy"}, leaves...)}, // gives facts to gates; never the reverse
	{"reconciler/answer", append([]string{"reconciler/policy"}, leaves...)}, // words verdicts; never the reverse
	{"reconciler/...", leaves},
	{"sources", []string{"sources/credential"}},
	{"sources/credential", nil},
	{"sources/calendar", nil},
	{"sources/schedule", []string{"sources/calendar"}},
	{"sources/edit", nil},
	{"sources/expression", nil},
	{"sources/identity", nil},
	{"sources/forge", []string{"sources/credential"}},
	{"sources/attestation", []string{"sources/identity"}},
	{"sources/statement", []string{"sources", "sources/credential", "sources/identity"}},
	{"sources/declaration", []string{"sources", "sources/calendar", "sources/expression", "sources/identity", "sources/schedule"}},
	{"sources/declaration/schemagen", []string{"sources/declaration"}},
	{"render", []string{"sources", "sources/credential", "sources/declaration"}},
	{"health", []string{"render"}},
	{"backup", []string{"backup/filestore", "backup/postgres", "backup/seal", "backup/store", "sources/declaration"}},
	{"backup/site", []string{"backup/postgres", "backup/store", "sources/credential", "sources/declaration"}},
	{"backup/store", []string{"sources/credential"}},
	{"backup/store/storetest", []string{"backup/store"}},
	{"backup/filestore", nil},
	{"backup/seal", nil},
	{"backup/postgres", []string{"sources/credential"}},
	{"examples/lab", nil},
	{"examples/lab/...", []string{"examples/lab", "examples/lab/..."}},
	{"examples/...", append([]string{"examples/..."}, product...)},
}

// tests may import these as well.
var tests = []string{"examples/lab", "examples/lab/labtest", "examples/lab/odoodb", "backup/store/storetest"}

// goPackage is what is needed of the output of go list.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func main() {
	problems, err := check()
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports:", err)
		os.Exit(2)
	}
	for _, problem := range problems {
		fmt.Println(problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func check() ([]string, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var problems []string
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return problems, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read list of packages: %w", err)
		}
		problems = append(problems, judge(p)...)
	}
}

// judge returns what is wrong with the imports of one package.
func judge(p goPackage) []string {
	name, ok := inside(p.ImportPath)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.packages, name) })
	if i < 0 {
		return []string{name + ": no rule says what it may import: add one to .ci/tools/imports"}
	}
	var problems []string
	forbid := func(imports, may []string, kind string) {
		for _, path := range imports {
			to, ok := inside(path)
			if ok && to != name && !slices.ContainsFunc(may, func(pattern string) bool { return matches(pattern, to) }) {
				problems = append(problems, fmt.Sprintf("%s must not import %s%s", name, to, kind))
			}
		}
	}
	forbid(p.Imports, rules[i].may, "")
	mayTest := slices.Concat(rules[i].may, tests)
	forbid(p.TestImports, mayTest, " in tests")
	forbid(p.XTestImports, mayTest, " in tests")
	return problems
}

// inside returns the path of a package relative to the module; false for packages of others.
func inside(path string) (string, bool) {
	return strings.CutPrefix(path, module+"/")
}

func matches(pattern, name string) bool {
	if folder, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(name, folder+"/")
	}
	return pattern == name
}
