package declaration

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purser-gitops/purser/sources"
)

var update = flag.Bool("update", false, "write golden files")

// known is what the fixtures may refer to.
var known = Known{Clusters: []string{"lab"}, Sources: []string{"apps", "estate"}, Stores: []string{"main", "offsite"}, Governance: Source{Repository: "estate", Branch: "main", Path: "purser"}}

// tree makes a tree of files; a value that starts with "-> " is a link.
func tree(t testing.TB, files map[string]string) *sources.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(text, "-> "); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tr, err := sources.WorkTree(dir, sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// estate is a tree with the folders that fixtures refer to and the file
// purser/<name> with text.
func estate(t testing.TB, name, text string) *sources.Tree {
	return tree(t, map[string]string{
		"apps/web/kustomization.yaml": "", "apps/qa/kustomization.yaml": "", "apps/out": "-> ../../etc",
		"purser/README.md": "not a declaration", "purser/" + name: text,
	})
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// golden compares v, as JSON, with the file at path.
func golden(t *testing.T, path string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := strings.TrimSpace(readFile(t, path)); want != string(got) {
		t.Errorf("differs from %s (rewrite it with -update):\n%s", path, got)
	}
}

func TestGoodDeclarations(t *testing.T) {
	for _, path := range fixtures(t, "testdata/declaration/*.good.yaml") {
		set, err := Parse(estate(t, filepath.Base(path), readFile(t, path)), "purser", known)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		golden(t, strings.TrimSuffix(path, "good.yaml")+"golden.json", set)
	}
}

func TestGoodReleases(t *testing.T) {
	for _, path := range fixtures(t, "testdata/release/*.good.yaml") {
		r, err := ParseRelease(tree(t, map[string]string{
			"apps/web/release.yaml": readFile(t, path), "apps/web/attestations/unit-tests.dsse.json": "{}",
		}), "apps/web")
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		golden(t, strings.TrimSuffix(path, "good.yaml")+"golden.json", r)
	}
}

func TestGoodAgents(t *testing.T) {
	for _, path := range fixtures(t, "testdata/agent/*.good.yaml") {
		c, err := decodeAgent(path, "/etc/purser", []byte(readFile(t, path)))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		golden(t, strings.TrimSuffix(path, "good.yaml")+"golden.json", c)
	}
}

func fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures %s: %v", pattern, err)
	}
	return paths
}

func TestEveryProblemOfEveryFileAtOnce(t *testing.T) {
	tr := tree(t, map[string]string{
		"purser/b/dev.yml":     "apiVersion: purser.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec:\n  purpose: prod\n  namespce: x\n  cluster: mars\n  source: {path: /a}\n  dependsOn: [nowhere, 7]\n",
		"purser/a.yaml":        "kind: Tenant\n---\n- a\n",
		"purser/c.yaml":        "a: b: c\n",
		"purser/notes.txt":     "a: b: c\n",
		"purser/d.yaml":        "-> a.yaml",
		"purser/b/tenant.yaml": "apiVersion: purser.dev/v1alpha1\nkind: Tenant\nmetadata: {name: north}\nspec: {namespaces: []}\n",
	})
	_, err := Parse(tr, "purser/", known)
	want := []string{
		`purser/a.yaml:1:1: missing field "apiVersion"`,
		`purser/a.yaml:3:1: document is a list`,
		`purser/b/dev.yml:5:12: spec.purpose is "prod"`,
		`purser/b/dev.yml:6:3: unknown field "namespce"`,
		`purser/b/dev.yml:7:12: unknown cluster "mars"`,
		`purser/b/dev.yml:8:18: spec.source.path is "/a"`,
		`purser/b/dev.yml:9:24: spec.dependsOn[1] is a number`,
		`purser/b/tenant.yaml:4:20: spec.namespaces is an empty list`,
		`purser/c.yaml:1:1: not YAML`,
		`purser/d.yaml: is a link`,
	}
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("error is %T: %v", err, err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(lines), len(want), err)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w+": ") {
			t.Errorf("problem %d:\n got %s\nwant %s: …", i, lines[i], w)
		}
	}
}

// Problems of people do not hide those of classes, calendars and policies, and the other way round.
func TestEveryProblemOfGovernanceAtOnce(t *testing.T) {
	const head = "apiVersion: purser.dev/v1alpha1\nkind: "
	tr := tree(t, map[string]string{
		"purser/calendar.yaml": head + "Calendar\nmetadata: {name: retail}\nspec:\n  timeZone: Europe/Berln\n  freezes: [{name: peak, start: 2026-02-30T00:00, end: 2026-12-01T06:00, exempt: [none]}]\n",
		"purser/class.yaml":    head + "ReleaseClass\nmetadata: {name: high}\nspec:\n  rank: 0\n  approvals: [{count: 1, roles: [dba]}]\n  tests: [{predicateType: x, roles: [tester]}]\n",
		"purser/dev.yaml":      head + "Environment\nmetadata: {name: dev}\nspec: {purpose: development, namespace: dev, source: {path: apps/web}, class: hihg, calendar: retial, promotion: {from: dev}}\n",
		"purser/estate.yaml":   head + "Estate\nmetadata: {name: e}\nspec:\n  governance: {approvals: [{count: 1, roles: [governance-owner]}]}\n  classification: [{name: c, expression: modules, class: medium}]\n",
		"purser/person.yaml":   head + "Person\nmetadata: {name: developer-1}\nspec:\n  roles: [develper]\n  keys: [{ssh: x}]\n",
		"purser/policy.yaml":   head + "Policy\nmetadata: {name: p}\nspec:\n  match: {tenants: [north]}\n  rules: [{name: r, expression: 1 == '1', message: m}]\n",
		"apps/web/k":           "",
	})
	_, err := Parse(tr, "purser", known)
	want := []string{
		`purser/calendar.yaml:5:13: time zone is "Europe/Berln"`,
		`purser/calendar.yaml:6:33: start is "2026-02-30T00:00"`,
		`purser/calendar.yaml:6:83: unknown class "none"`,
		`purser/class.yaml:5:9: class "high" has rank 0`,
		`purser/class.yaml:7:27: spec.tests[0].predicateType is "x"`,
		`purser/class.yaml:7:38: unknown role "tester"`,
		`purser/dev.yaml:4:79: unknown class "hihg"`,
		`purser/dev.yaml:4:95: unknown calendar "retial"`,
		`purser/dev.yaml:4:121: environment "dev" is promoted from itself`,
		`purser/estate.yaml:6:42: expression is not valid`,
		`purser/estate.yaml:6:58: unknown class "medium"`,
		`purser/person.yaml:5:11: unknown role "develper"`,
		`purser/person.yaml:6:16: key is not valid`,
		`purser/policy.yaml:5:21: unknown tenant "north"`,
		`purser/policy.yaml:6:35: expression is not valid`,
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(lines), len(want), err)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w+": ") {
			t.Errorf("problem %d:\n got %s\nwant %s: …", i, lines[i], w)
		}
	}
}

// What a broken file declares is not known, so references to it are not wrong.
func TestBrokenFileDoesNotBreakReferences(t *testing.T) {
	_, err := Parse(tree(t, map[string]string{
		"purser/dev.yaml": strings.Replace(readFile(t, "testdata/declaration/unknown-environment.bad.yaml"), "purpose", "tenant: south\n  purpose", 1),
		"purser/qa.yaml":  "a: b: c",
		"apps/web/k":      "",
	}), "purser", known)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "purser/qa.yaml:1:1: not YAML") {
		t.Fatalf("got %v", err)
	}
}

func TestDefaultTenantIsGivenItsOwnNamespaces(t *testing.T) {
	set, err := Parse(estate(t, "a.yaml", readFile(t, "testdata/declaration/smallest.good.yaml")), "purser", known)
	if err != nil {
		t.Fatal(err)
	}
	tenant := set.Tenants[DefaultTenant]
	if tenant == nil || !tenant.Spec.AllowsNamespace("dev") || tenant.Spec.AllowsNamespace("dev2") || set.Environments["dev"].Spec.Tenant != DefaultTenant {
		t.Fatalf("default tenant is %+v", tenant)
	}
}

func TestWithoutAnAgent(t *testing.T) {
	text := readFile(t, "testdata/declaration/smallest.good.yaml")
	set, err := Parse(estate(t, "a.yaml", text), "purser", Known{})
	if err != nil || set.Environments["dev"].Spec.Cluster != "" {
		t.Fatalf("got %+v, %v", set, err)
	}
	_, err = Parse(estate(t, "a.yaml", strings.Replace(text, "apps/web", "apps/gone", 1)), "purser", Known{})
	if err == nil || !strings.Contains(err.Error(), `no folder "apps/gone"`) {
		t.Fatalf("got %v", err)
	}
	cluster := "---\napiVersion: purser.dev/v1alpha1\nkind: Cluster\nmetadata: {name: lab}\n"
	set, err = Parse(estate(t, "a.yaml", text+cluster), "purser", Known{})
	if err != nil || set.Environments["dev"].Spec.Cluster != "lab" {
		t.Fatalf("got %+v, %v", set, err)
	}
}

func TestSeveralClustersMustBeChosenFrom(t *testing.T) {
	k := known
	k.Clusters = []string{"lab", "spare"}
	_, err := Parse(estate(t, "a.yaml", readFile(t, "testdata/declaration/smallest.good.yaml")), "purser", k)
	const want = `purser/a.yaml:5:1: missing field "cluster": there are several clusters: lab, spare: add "cluster:" with one of them`
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}

func TestPathsOfOtherRepositoriesAreNotLookedUp(t *testing.T) {
	for _, source := range []string{"repository: apps", "branch: next"} {
		text := strings.Replace(readFile(t, "testdata/declaration/smallest.good.yaml"), "path: apps/web", "path: elsewhere\n    "+source, 1)
		if _, err := Parse(estate(t, "a.yaml", text), "purser", known); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestFolders(t *testing.T) {
	for _, c := range []struct{ root, want string }{
		{"nowhere", `nowhere: no such folder: the declarations of the estate are in it: create it, or name the right folder in the agent's configuration`},
		{"apps", `apps/web/kustomization.yaml:1:1: file is empty: a file of declarations says something: remove the file, or declare something in it`},
		{"apps/web/bare", `apps/web/bare: no declarations: the folder has no .yaml or .yml file: declare an Environment, or name the right folder in the agent's configuration`},
		{"../purser", `../purser: cannot be read: it leads out of the tree: use a relative path that stays inside the repository`},
	} {
		_, err := Parse(tree(t, map[string]string{"apps/web/kustomization.yaml": "", "apps/web/bare/x": ""}), c.root, known)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.root, err, c.want)
		}
	}
}

// A file that cannot be read must not look like a declaration that is wrong,
// and never like one that is not there.
func TestDamageIsNotAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "purser"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "purser", "a.yaml")
	if err := os.WriteFile(file, []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	tr, err := sources.WorkTree(dir, sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	set, err := Parse(tr, "purser", known)
	var errs Errors
	if set != nil || err == nil || errors.As(err, &errs) || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, %T %v", set, err, err)
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	_, err := Parse(estate(t, "a.yaml", strings.Repeat("# padding\n", 1<<17)), "purser", known)
	var refused *sources.RefusedError
	if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "purser/a.yaml: cannot be read: the file is too large") {
		t.Fatalf("got %v", err)
	}
}

func TestManyDocumentsAndProblemsAreBounded(t *testing.T) {
	one := readFile(t, "testdata/declaration/json.good.yaml")
	_, err := Parse(estate(t, "a.yaml", strings.Repeat("---\n"+one, maxDocuments+1)), "purser", known)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxProblems+1 || errs[maxProblems].What != "900 more problems" {
		t.Fatalf("got %d problems, the last %v", len(errs), errs[len(errs)-1])
	}
}

func TestParseReleaseWithout(t *testing.T) {
	if _, err := ParseRelease(tree(t, map[string]string{"apps/k": ""}), "apps"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestLoadAgentResolvesPaths(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "purser.yaml")
	if err := os.WriteFile(path, []byte(readFile(t, "testdata/agent/least.good.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadAgent(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != filepath.Join(dir, "data") || c.Audit.SigningKeyFile != filepath.Join(dir, "keys", "agent") || c.Clusters[0].Kubeconfig != filepath.Join(dir, "kubeconfig") {
		t.Fatalf("got %+v", c)
	}
	if k := c.Known(); k.Governance != (Source{Repository: "estate", Branch: "main", Path: "purser"}) || k.Clusters[0] != "lab" || k.Sources[0] != "estate" {
		t.Fatalf("got %+v", k)
	}
	if k := c.Known(); k.Stores == nil || len(k.Stores) > 0 {
		t.Fatalf("it has no stores, and knows of %#v", k.Stores)
	}
	if l := c.Limits; l.FileBytes != 1<<20 || l.CacheBytes != 64<<20 {
		t.Fatalf("got %+v", l)
	}
}

func TestLoadAgentBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "purser.yaml")
	if err := os.WriteFile(path, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAgent(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Fatalf("got %v", err)
	}
	if _, err := LoadAgent(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestSampleEstate(t *testing.T) {
	tr, err := sources.WorkTree("../../examples/estate", sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := Parse(tr, "purser", known)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Environments) != 6 || len(set.Tenants) != 2 || set.Estate == nil || set.Clusters["lab"] == nil {
		t.Fatalf("got %+v", set)
	}
	for name, e := range set.Environments {
		if e.Spec.Health.Timeout != 2*time.Minute {
			t.Errorf("%s: the estate's default does not hold: %+v", name, e.Spec.Health)
		}
		if _, err := ParseRelease(tr, e.Spec.Source.Path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSampleGovernance(t *testing.T) {
	tr, err := sources.WorkTree("../../examples/governance", sources.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]Known{"with an agent": known, "without": {}} {
		set, err := Parse(tr, "purser", known)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(set.Classes) != 4 || len(set.Persons) != 8 || len(set.Policies) == 0 || len(set.BackupPolicies) != 2 || set.Calendars["retail"].Compiled == nil {
			t.Fatalf("%s: got %+v", name, set)
		}
		if w := set.Warnings(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)); len(w) > 0 {
			t.Errorf("%s: it is warned of:\n%v", name, w)
		}
		if p, ok := set.Keyring.PersonByAccount("apps", "DBA-1", 31); !ok || p.Name != "dba-1" {
			t.Errorf("%s: dba-1 is not known by the account, but %+v", name, p)
		}
		dev, prod := set.Environments["dev"].Spec, set.Environments["prod-eu"].Spec
		if dev.Class != "low" || dev.Calendar != "retail" || prod.Class != "standard" || prod.Promotion != (Promotion{From: "staging", Soak: 4 * time.Hour}) || dev.Backup != "basic" || prod.Backup != "shop" {
			t.Errorf("%s: environments are %+v and %+v", name, dev, prod)
		}
	}
}

func TestDefaultClassIsThere(t *testing.T) {
	set, err := Parse(estate(t, "a.yaml", readFile(t, "testdata/declaration/smallest.good.yaml")), "purser", known)
	if err != nil {
		t.Fatal(err)
	}
	low := set.Classes[DefaultClass]
	if low == nil || low.Spec.Rank != 0 || len(low.Spec.Approvals) > 0 || low.Spec.Signatures != SignaturesOptional || low.Spec.Authorship != AuthorshipSigned || low.Spec.LiveHealth != LiveHealthAny {
		t.Errorf("the class low is %+v", low)
	}
	if set.Environments["dev"].Spec.Class != DefaultClass || len(set.Roles()) != 5 || set.Keyring == nil {
		t.Errorf("got %+v", set)
	}
}

func TestCheckRelease(t *testing.T) {
	set := &Set{Classes: map[string]*ReleaseClass{"low": {}, "high": {}}}
	for text, want := range map[string]string{
		"": "", "class: high": "", "class: hgih": `apps/web/release.yaml:5:10: unknown class "hgih": no class of that name is declared: did you mean "high"?`,
	} {
		file := "apiVersion: purser.dev/v1alpha1\nkind: Release\nspec:\n  version: \"18\"\n  " + text + "\n"
		r, err := ParseRelease(tree(t, map[string]string{"apps/web/release.yaml": file}), "apps/web")
		if err != nil {
			t.Fatal(err)
		}
		err = set.CheckRelease(r)
		var errs Errors
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want || !errors.As(err, &errs)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A class that asks for more than the schedules give is warned of.
func TestWarningsAboutBackups(t *testing.T) {
	good := readFile(t, "testdata/declaration/everything.good.yaml")
	const demand = "backup: {maxAge: 24h, drillMaxAge: 720h}"
	for name, test := range map[string]struct {
		old, new string
		want     []string // of warnings about backups
	}{
		"the class asks for younger ones": {demand, "backup: {maxAge: 5h, drillMaxAge: 240h}", []string{
			`backups of environment "training" are often too old to release: BackupPolicy "shop" leaves 10h0m0s between two backups, and class "high" lets a verified backup be 5h0m0s old: back up more often`,
			`restore drills of environment "training" are often too old to release: class "high" asks for one that is at most 240h0m0s old`,
		}},
		"only its rpo counts": {demand, "backup: {drillMaxAge: 8760h}", []string{
			`backups of environment "training" are often too old to release: BackupPolicy "shop" leaves 25h0m0s between two verifications of level 1, and its rpo lets a verified backup be 16h0m0s old: verify more often`,
		}},
		"it asks for none": {demand, "backup: {}", nil},
	} {
		set, err := Parse(estate(t, "a.yaml", strings.Replace(good, test.old, test.new, 1)), "purser", known)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := set.Warnings(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)).Error()
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, got)
			}
		}
		if n := strings.Count(got, "too old to release"); n != len(test.want) {
			t.Errorf("%s: %d warnings:\n%s", name, n, got)
		}
	}
}

// Backups of a production that anybody with the right can delete are warned of.
func TestWarningAboutLocks(t *testing.T) {
	good := readFile(t, "testdata/declaration/everything.good.yaml")
	for purpose, want := range map[string]bool{"training": false, "production": true} {
		text := strings.NewReplacer("purpose: training", "purpose: "+purpose, "lock: compliance", "lock: none", "lock: governance", "lock: none").Replace(good)
		set, err := Parse(estate(t, "a.yaml", text), "purser", known)
		if err != nil {
			t.Fatal(err)
		}
		got := set.Warnings(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)).Error()
		if strings.Contains(got, `backups of environment "training" are not locked`) != want {
			t.Errorf("%s:\n%s", purpose, got)
		}
	}
}

// Whether there is a store of the name is asked where that is known, and there always.
func TestStoresOfPolicies(t *testing.T) {
	text := readFile(t, "testdata/declaration/everything.good.yaml")
	for name, test := range map[string]struct {
		stores []string
		want   string
	}{
		"it is not known which there are": {nil, ""},
		"both are there":                  {[]string{"offsite", "main"}, ""},
		"the agent has none":              {[]string{}, `unknown store "main": the agent has no stores: add it to backup.stores of the agent's configuration`},
		"the replica's is not there":      {[]string{"main"}, `unknown store "offsite": the agent has no store of that name: name one of: main`},
	} {
		k := known
		k.Stores = test.stores
		_, err := Parse(estate(t, "a.yaml", text), "purser", k)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
