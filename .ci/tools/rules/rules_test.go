package rules

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"text/template"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"
)

// file is a file of alerting rules:
// https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
type file struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

// Every rule has an expression that Prometheus parses, a severity of ours, texts, and a name of its own.
func TestRulesAreValid(t *testing.T) {
	names, err := filepath.Glob("../../../examples/monitoring/*.rules.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("files %v: %v", names, err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		for _, g := range read(t, name).Groups {
			for _, r := range g.Rules {
				if _, err := parser.ParseExpr(r.Expr); err != nil {
					t.Errorf("%s: %s: %v", name, r.Alert, err)
				}
				if _, err := model.ParseDuration(r.For); r.For != "" && err != nil {
					t.Errorf("%s: %s: %v", name, r.Alert, err)
				}
				if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
					t.Errorf("%s: %s has severity %q", name, r.Alert, s)
				}
				if seen[r.Alert] || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%s: %q is there twice, or lacks summary or description", name, r.Alert)
				}
				seen[r.Alert] = true
				for _, text := range r.Annotations {
					renders(t, name+": "+r.Alert, text)
				}
			}
		}
	}
	if len(seen) == 0 {
		t.Error("there are no rules")
	}
}

func read(t *testing.T, name string) file {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var f file
	if err := decoder.Decode(&f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// renders tries the template of an annotation, with the variables and the one function of Prometheus that are used.
func renders(t *testing.T, what, text string) {
	t.Helper()
	duration := func(seconds float64) string { return time.Duration(seconds * float64(time.Second)).String() }
	tmpl, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"humanizeDuration": duration}).
		Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	if err == nil {
		err = tmpl.Execute(io.Discard, map[string]any{"Value": 1.0, "Labels": map[string]string{"instance": "i", "result": "failed"}})
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
