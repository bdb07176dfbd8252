package declaration

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/purser-gitops/purser/sources/expression"
)

// Each rule of the ready policies holds for its passing sample, and is broken by its failing one.
func TestReadyPolicies(t *testing.T) {
	const root = "../../examples/policies"
	for _, path := range fixtures(t, root+"/*.yaml") {
		set, err := Parse(tree(t, map[string]string{"purser/" + filepath.Base(path): readFile(t, path)}), "purser", Known{})
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		policy := set.Policies[name]
		if policy == nil {
			t.Errorf("%s does not declare the policy %q", path, name)
			continue
		}
		samples := fixtures(t, filepath.Join(root, "samples", name, "*.yaml"))
		if len(samples) != 2*len(policy.Spec.Rules) {
			t.Errorf("%s: %d samples for %d rules", name, len(samples), len(policy.Spec.Rules))
		}
		for _, rule := range policy.Spec.Rules {
			for _, want := range []string{"pass", "fail"} {
				sample := filepath.Join(root, "samples", name, rule.Name+"."+want+".yaml")
				holds, err := ask(policy, rule, objects(t, sample))
				if err != nil || holds != (want == "pass") {
					t.Errorf("%s: the rule holds: %v, %v", sample, holds, err)
				}
			}
		}
	}
}

// ask asks a rule about a release that consists of the objects.
func ask(p *Policy, rule PolicyRule, objects []map[string]any) (bool, error) {
	vars := expression.Vars{
		Objects:     objects,
		Environment: expression.Environment{Name: "prod-eu", Purpose: "production", Tenant: "north", Cluster: "lab", Namespace: "north-prod-eu", Class: "standard"},
		Tenant:      expression.Tenant{Name: "north", Namespaces: []string{"north-*"}},
		Release:     expression.Release{Version: "18.0.14", Migration: "none"},
	}
	if rule.Scope == ScopeRelease {
		return rule.Program.Eval(&vars)
	}
	asked := 0
	for _, object := range objects {
		version, _ := object["apiVersion"].(string)
		group, _, grouped := strings.Cut(version, "/")
		if !grouped {
			group = ""
		}
		kind, _ := object["kind"].(string)
		if !p.Spec.Match.MatchesKind(group, kind) {
			continue
		}
		asked++
		vars.Object = object
		if holds, err := rule.Program.Eval(&vars); err != nil || !holds {
			return false, err
		}
	}
	if asked == 0 {
		return false, errors.New("no object of the sample is matched")
	}
	return true, nil
}

// objects reads the documents of a sample.
func objects(t *testing.T, path string) []map[string]any {
	t.Helper()
	var all []map[string]any
	reader := utilyaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(readFile(t, path))))
	defer reader.Close()
	for {
		buffer := make([]byte, 1<<16)
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := yaml.Unmarshal(buffer[:n], &object); err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
}
