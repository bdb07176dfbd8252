package declaration

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Whatever a file holds, it gives a set or errors with a place inside it, and
// what is accepted once is accepted again.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "../../examples/estate/purser/*/*.yaml"} {
		for _, path := range fixtures(f, pattern) {
			f.Add(readFile(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		for _, parse := range []func() (any, error){
			func() (any, error) {
				g := &governance{known: known, complete: true}
				g.file("a.yaml", []byte(text))
				return g.finish()
			},
			func() (any, error) { return decodeRelease("a.yaml", []byte(text), nil) },
			func() (any, error) { return decodeAgent("a.yaml", "/etc", []byte(text)) },
		} {
			v, err := parse()
			again, _ := parse()
			if a, b := encode(t, v), encode(t, again); a != b { // compiled expressions cannot be compared
				t.Fatalf("read twice:\n%s\n%s", a, b)
			}
			if err == nil {
				continue
			}
			var errs Errors
			if !errors.As(err, &errs) || len(errs) > maxProblems+1 {
				t.Fatalf("%T: %v", err, err)
			}
			for _, e := range errs {
				if e.File != "a.yaml" || e.Line < 1 || e.Line > lines+1 || e.Column < 1 || e.What == "" || e.Why == "" || e.Remedy == "" {
					t.Fatalf("%#v", e)
				}
			}
		}
	})
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The text of a value never enters an error about the agent's configuration,
// wherever it stands.
func TestAgentErrorsRepeatNoValue(t *testing.T) {
	for _, path := range fixtures(t, "testdata/agent/*.good.yaml") {
		lines := strings.Split(readFile(t, path), "\n")
		for i, line := range lines {
			key, value, ok := strings.Cut(line, ": ")
			if !ok || strings.HasPrefix(line, "apiVersion") || strings.HasPrefix(line, "kind") || strings.HasSuffix(key, " name") {
				continue
			}
			for _, secret := range []string{"{x: hunter2}", "[hunter2]", "hunter2 hunter2", "*hunter2", "!hunter2 x", "https://u:hunter2@h/x", "'hunter2", "\"\\hunter2\""} {
				changed := append([]string{}, lines...)
				changed[i] = key + ": " + secret
				_, err := decodeAgent("a.yaml", "/etc", []byte(strings.Join(changed, "\n")))
				if err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s with %s instead of %s: %v", key, secret, value, err)
				}
			}
		}
	}
}

func TestTagsAreUnderstood(t *testing.T) {
	for _, k := range kinds {
		checkTags(t, k.name, k.spec)
	}
	checkTags(t, "metadata", reflect.TypeFor[Meta]())
}

// checkTags sees that each tag can be read, and that a default keeps its own rule.
func checkTags(t *testing.T, path string, typ reflect.Type) {
	v := reflect.New(typ).Elem()
	setDefaults(v)
	for _, f := range fieldsOf(v) {
		name, r := path+"."+f.name, f.rule
		if f.name == "" {
			t.Errorf("a field of %s has no name", path)
		}
		if r.format != "" && formats[r.format] == nil {
			t.Errorf("%s: format %q does not exist", name, r.format)
		}
		if r.required && r.def != "" {
			t.Errorf("%s is required and has a default", name)
		}
		if k := f.value.Kind(); k == reflect.Int || k == reflect.Int64 || k == reflect.Float64 {
			if bound := r.outside(f.value); r.def != "" && bound != "" {
				t.Errorf("%s: the default is not %s", name, bound)
			}
		}
		if r.def != "" && (len(r.enum) > 0 && !slices.Contains(r.enum, r.def) || r.format != "" && formats[r.format].wrong(r.def) != "") {
			t.Errorf("%s: the default %q is not allowed", name, r.def)
		}
		elem := f.value.Type()
		for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		if elem.Kind() == reflect.Struct && elem != timeType {
			checkTags(t, name, elem)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"namespace", "source", "staging", "prod-eu", "url"}
	for got, want := range map[string]string{
		"namespce": "namespace", "nmaespace": "namespace", "Namespace": "namespace", "sources": "source", "stagign": "staging",
		"prod": "prod-eu", "ulr": "url", "x": "", "something": "", "": "", "prod-us": "prod-eu",
	} {
		if near := nearest(got, names); near != want {
			t.Errorf("nearest(%q) = %q, want %q", got, near, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xbc", 1}, {"kitten", "sitting", 3}} {
		if got := editDistance(c.a, c.b); got != c.want || editDistance(c.b, c.a) != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"a", "a", true}, {"a", "b", false}, {"a-*", "a-b", true}, {"a-*", "a", false}, {"a-*", "a-b-*", true}, {"*", "x", true}, {"a*", "b*", false}} {
		if overlap(c.a, c.b) != c.want || overlap(c.b, c.a) != c.want {
			t.Errorf("overlap(%q, %q) is not %v", c.a, c.b, c.want)
		}
	}
}

func TestTenantRules(t *testing.T) {
	s := TenantSpec{Namespaces: []string{"north-*", "shared"}}
	for ns, want := range map[string]bool{"north-dev": true, "north-": true, "north": false, "shared": true, "shared2": false, "north-*": true} {
		if s.AllowsNamespace(ns) != want {
			t.Errorf("AllowsNamespace(%q) is not %v", ns, want)
		}
	}
	if !s.AllowsKind("apps", "Deployment") || s.AllowsClusterKind("", "Namespace") {
		t.Error("without lists: all namespaced kinds, no cluster-scoped ones")
	}
	s.Kinds = []GroupKindRule{{Kind: "ConfigMap"}, {Group: "apps", Kind: "*"}}
	s.ClusterKinds = []GroupKind{{Kind: "Namespace"}}
	if !s.AllowsKind("", "ConfigMap") || !s.AllowsKind("apps", "Deployment") || s.AllowsKind("", "Secret") || s.AllowsKind("batch", "Job") {
		t.Error("the list of kinds does not hold")
	}
	if !s.AllowsClusterKind("", "Namespace") || s.AllowsClusterKind("rbac.authorization.k8s.io", "ClusterRole") {
		t.Error("the list of cluster kinds does not hold")
	}
}

// 2000 environments, a file each.
func BenchmarkLargeEstate(b *testing.B) {
	one := readFile(b, filepath.Join("testdata", "declaration", "smallest.good.yaml"))
	for b.Loop() {
		g := &governance{known: known, complete: true}
		for i := range 2000 {
			name := fmt.Sprintf("e%d", i)
			g.file(name+".yaml", []byte(strings.NewReplacer("name: dev", "name: "+name, "namespace: dev", "namespace: "+name).Replace(one)))
		}
		if set, err := g.finish(); err != nil || len(set.Environments) != 2000 {
			b.Fatal(err)
		}
	}
}
