package reconciler

// What examples/monitoring has for Prometheus and Grafana fits the agent's metrics and works.

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"github.com/purser-gitops/purser/examples/lab"
	"github.com/purser-gitops/purser/reconciler/evidence"
	"github.com/purser-gitops/purser/sources/declaration"
)

const (
	monitoring    = "../examples/monitoring/"
	rulesFile     = monitoring + "purser.rules.yaml"
	dashboardFile = monitoring + "backups.dashboard.json"
)

// catalogue is a registry that knows the names of all metrics, also of those that have no sample yet.
type catalogue struct {
	*prometheus.Registry
	names map[string]bool
}

var descName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (c catalogue) Register(collector prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() {
		collector.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		c.names[descName.FindStringSubmatch(d.String())[1]] = true
	}
	return c.Registry.Register(collector)
}

func (c catalogue) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		if err := c.Register(collector); err != nil {
			panic(err)
		}
	}
}

// agentMetrics are the names of all that an agent registers.
func agentMetrics(t *testing.T) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	remote, key := filepath.Join(dir, "audit.git"), filepath.Join(dir, "key")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", remote).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := evidence.GenerateKey(key, "hq"); err != nil {
		t.Fatal(err)
	}
	config := &declaration.AgentConfig{Writer: "hq", DataDir: filepath.Join(dir, "data")}
	config.Audit.URL, config.Audit.SigningKeyFile = remote, key
	config.Concurrency.Render = 1
	c := catalogue{prometheus.NewRegistry(), map[string]bool{}}
	a, err := New(t.Context(), config, Options{Version: "test", Init: true, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registerer: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return c.names
}

// unknown are the metrics in PromQL that no agent has.
func unknown(known map[string]bool, expr string) []string {
	var list []string
	for _, name := range regexp.MustCompile(`\bpurser_\w+`).FindAllString(expr, -1) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !known[name] && !known[base] {
			list = append(list, name)
		}
	}
	return list
}

// promtool runs Prometheus' own checker.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := lab.Binary(t.Context(), lab.Promtool)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The rules parse, have texts and a severity of ours, ask for metrics that there are, and do what their tests say: each rule
// has a test in which it fires, and one in which it does not.
func TestPrometheusRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", rulesFile)
	promtool(t, "test", "rules", strings.TrimSuffix(rulesFile, ".yaml")+"_test.yaml")
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	readYAML(t, rulesFile, &rules)
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert  string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, strings.TrimSuffix(rulesFile, ".yaml")+"_test.yaml", &tests)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			fires[c.Alert] = fires[c.Alert] || len(c.Expect) > 0
			rests[c.Alert] = rests[c.Alert] || len(c.Expect) == 0
		}
	}
	pushed, err := os.ReadFile("alert/rules.go")
	if err != nil {
		t.Fatal(err)
	}
	known, seen := agentMetrics(t), map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if missing := unknown(known, r.Expr); len(missing) > 0 {
				t.Errorf("%s asks for %v", r.Alert, missing)
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
				t.Errorf("%s has severity %q", r.Alert, s)
			}
			if seen[r.Alert] || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%q is there twice, or lacks summary or description", r.Alert)
			}
			if seen[r.Alert] = true; !fires[r.Alert] || !rests[r.Alert] {
				t.Errorf("%s has a test in which it fires: %v; in which it does not: %v", r.Alert, fires[r.Alert], rests[r.Alert])
			}
			if strings.Contains(string(pushed), `"`+r.Alert+`"`) {
				t.Errorf("%s is pushed as well: it would be told twice", r.Alert)
			}
		}
	}
	if len(seen) == 0 {
		t.Error("there are no rules")
	}
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// dashboard is what of a dashboard of Grafana is checked.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		Grid    struct{ H, W, X, Y int } `json:"gridPos"`
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// Each query of the dashboard is one that Prometheus takes, of metrics that there are, and all metrics of backups are in it.
func TestDashboard(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	known, shown := agentMetrics(t), map[string]bool{}
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var queries []rule
	query := func(where, expr string) {
		if missing := unknown(known, expr); len(missing) > 0 {
			t.Errorf("%s asks for %v", where, missing)
		}
		for name := range known {
			shown[name] = shown[name] || regexp.MustCompile(`\b`+name+`\b`).MatchString(expr)
		}
	}
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || ids[p.ID] || (p.Type != "row" && len(p.Targets) == 0) {
			t.Errorf("panel %d, %q, has no title, no query, or the number of another one", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.Grid.X; x < p.Grid.X+p.Grid.W; x++ {
			for y := p.Grid.Y; y < p.Grid.Y+p.Grid.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			query(p.Title, target.Expr)
			queries = append(queries, rule{Record: "purser:dashboard", Expr: strings.ReplaceAll(target.Expr, "$environment", "prod-eu")})
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains([]string{"environment", "level", "segment", "kind", "outcome", "store", "alertname", "severity"}, label[1]) {
					t.Errorf("%s names series by %q", p.Title, label[1])
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		query("variable "+v.Name, v.Definition)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if (strings.HasPrefix(name, "purser_backup_") || strings.HasPrefix(name, "purser_drill_")) && !shown[name] && name != "purser_backup_last_success_timestamp_seconds" && name != "purser_drill_last_end_timestamp_seconds" {
			t.Errorf("%s is not shown", name)
		}
	}
	encoded, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": queries}}})
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := errors.Join(err, os.WriteFile(file, encoded, 0o600)); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}

// The documents list every metric of backups.
func TestBackupMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/backup.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(purser_(?:backup|drill)_\\w+)").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
	}
	for name := range agentMetrics(t) {
		if (strings.HasPrefix(name, "purser_backup_") || strings.HasPrefix(name, "purser_drill_")) && !documented[name] {
			t.Errorf("docs/backup.md does not list %s", name)
		}
		delete(documented, name)
	}
	if len(documented) > 0 {
		t.Errorf("docs/backup.md lists %v, which there is not", documented)
	}
}
