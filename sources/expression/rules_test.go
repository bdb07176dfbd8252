package expression

import (
	"encoding/json"
	"testing"
)

// rules are what policies usually demand.
var rules = []struct {
	name, text string
	good, bad  string // objects as JSON
}{
	{"labels", "'team' in object.metadata.?labels.orValue({})",
		`{"metadata":{"labels":{"team":"pos"}}}`, `{"metadata":{}}`},
	{"label's value", `object.metadata.?labels[?"app.kubernetes.io/name"].orValue("").matches("^[a-z][-a-z0-9]*$")`,
		`{"metadata":{"labels":{"app.kubernetes.io/name":"odoo"}}}`, `{"metadata":{"labels":{"app.kubernetes.io/name":"Odoo!"}}}`},
	{"limits", "object.spec.template.spec.containers.all(c, has(c.resources) && has(c.resources.limits) && has(c.resources.limits.cpu) && has(c.resources.limits.memory))",
		pod(`{"name":"web","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}`), pod(`{"name":"web","resources":{"limits":{"cpu":"1"}}}`)},
	{"limits below", "object.spec.template.spec.containers.all(c, !quantity(c.resources.limits.memory).isGreaterThan(quantity('4Gi')))",
		pod(`{"resources":{"limits":{"memory":"4096Mi"}}}`), pod(`{"resources":{"limits":{"memory":"4097Mi"}}}`)},
	{"whole cores", "object.spec.template.spec.containers.all(c, type(c.resources.limits.cpu) == int ? c.resources.limits.cpu <= 2 : quantity(c.resources.limits.cpu).compareTo(quantity(2)) <= 0)",
		pod(`{"resources":{"limits":{"cpu":2}}},{"resources":{"limits":{"cpu":"1500m"}}}`), pod(`{"resources":{"limits":{"cpu":3}}}`)},
	{"no latest", "object.spec.template.spec.containers.all(c, c.image.contains('@sha256:') || (c.image.split('/')[c.image.split('/').size() - 1].contains(':') && !c.image.endsWith(':latest')))",
		pod(`{"image":"registry.example:5000/odoo:18.0"}`), pod(`{"image":"registry.example:5000/odoo"}`)},
	{"no latest tag", "object.spec.template.spec.containers.all(c, !c.image.endsWith(':latest'))",
		pod(`{"image":"odoo:18.0"}`), pod(`{"image":"odoo:latest"}`)},
	{"digests", "object.spec.template.spec.containers.all(c, c.image.matches('@sha256:[0-9a-f]{64}$'))",
		pod(`{"image":"odoo@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`), pod(`{"image":"odoo:18.0"}`)},
	{"no plain Secret", "object.kind != 'Secret' || object.?type.orValue('') == 'kubernetes.io/service-account-token'",
		`{"kind":"ConfigMap"}`, `{"kind":"Secret","stringData":{"password":"x"}}`},
	{"namespace", "object.metadata.?namespace.orValue(environment.namespace) == environment.namespace",
		`{"metadata":{"namespace":"north-prod"}}`, `{"metadata":{"namespace":"south-prod"}}`},
	{"tenant's namespaces", "tenant.namespaces.exists(n, n.endsWith('*') ? object.metadata.namespace.startsWith(n.substring(0, n.size() - 1)) : object.metadata.namespace == n)",
		`{"metadata":{"namespace":"north-prod"}}`, `{"metadata":{"namespace":"south-prod"}}`},
	{"no host network", "!object.spec.template.spec.?hostNetwork.orValue(false)",
		pod(`{}`), `{"spec":{"template":{"spec":{"hostNetwork":true}}}}`},
	{"replicas in production", "environment.purpose != 'production' || object.spec.?replicas.orValue(1) >= 2",
		`{"spec":{"replicas":2}}`, `{"spec":{}}`},
	{"storage never shrinks", "oldObject == null || !quantity(object.spec.resources.requests.storage).isLessThan(quantity(oldObject.spec.resources.requests.storage))",
		`{"spec":{"resources":{"requests":{"storage":"20Gi"}}}}`, `{"spec":{"resources":{"requests":{"storage":"9Gi"}}}}`},
	{"ticket", "release.change.ticket.matches('^ERP-[0-9]+$') && release.migration in ['none', 'additive']",
		`{}`, ""},
	{"images of the release", "release.images.all(role, release.images[role].contains('@sha256:')) && release.modules.exists(m, m == 'sale_pricing')",
		`{}`, ""},
}

func pod(containers string) string {
	return `{"spec":{"template":{"spec":{"containers":[` + containers + `]}}}}`
}

// sample has a value for every variable.
func sample() *Vars {
	return &Vars{
		OldObject:   decode(`{"spec":{"resources":{"requests":{"storage":"10Gi"}}}}`),
		Environment: Environment{Name: "prod-eu", Purpose: "production", Tenant: "north", Cluster: "eu", Namespace: "north-prod", Class: "high"},
		Tenant:      Tenant{Name: "north", Namespaces: []string{"north-*"}},
		Release: Release{Version: "18.0.15", Migration: "additive", Modules: []string{"sale_pricing"},
			Change: Change{Ticket: "ERP-241", Reason: "Refunds"}, Images: map[string]string{"web/odoo": "odoo@sha256:00"}},
		Objects: []map[string]any{decode(`{"kind":"NetworkPolicy","metadata":{"name":"default-deny"},"spec":{"podSelector":{}}}`),
			decode(`{"kind":"ResourceQuota","metadata":{"name":"quota"}}`), decode(`{"kind":"Deployment","metadata":{"name":"odoo"}}`)},
		Changes: []ObjectChange{{Action: "configured", Group: "apps", Kind: "Deployment", Namespace: "north-prod", Name: "odoo",
			Fields: []FieldChange{{Path: "spec.replicas", Old: int64(2), New: int64(3)}, {Path: "metadata.labels.tier", New: "web"}}}},
		Paths:   []string{"apps/odoo/overlays/prod/kustomization.yaml"},
		Modules: []string{"sale_pricing", "payment_stripe"},
	}
}

// decode gives what objects of Kubernetes hold: whole numbers are int64.
func decode(text string) map[string]any {
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	return whole(v).(map[string]any)
}

func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = whole(v[key])
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, rule := range rules {
		p := compile(t, ObjectRule, rule.text)
		for object, want := range map[string]bool{rule.good: true, rule.bad: false} {
			if object == "" {
				continue
			}
			vars := sample()
			vars.Object = decode(object)
			if got, err := p.Eval(vars); err != nil || got != want {
				t.Errorf("%s: %v, %v for %s", rule.name, got, err, object)
			}
		}
	}
}

func TestReleaseRulesAndClassification(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind Kind
		text string
		want bool
	}{
		{ReleaseRule, "objects.exists(o, o.kind == 'NetworkPolicy' && o.spec.podSelector == {})", true},
		{ReleaseRule, "objects.exists(o, o.kind == 'ResourceQuota')", true},
		{ReleaseRule, "objects.exists(o, o.kind == 'LimitRange')", false},
		{ReleaseRule, "objects.filter(o, o.kind == 'Deployment').all(d, objects.exists(p, p.kind == 'PodDisruptionBudget' && p.metadata.name == d.metadata.name))", false},
		{ReleaseRule, "objects.map(o, o.metadata.name).size() == 3", true},
		{Classification, "modules.exists(m, ['payment', 'tax', 'pricing'].exists(word, m.contains(word)))", true},
		{Classification, "modules.exists(m, m in ['payment', 'tax', 'pricing'])", false},
		{Classification, "paths.exists(p, p.startsWith('apps/odoo/base/'))", false},
		{Classification, "!paths.exists(p, p.endsWith('/release.yaml'))", true},
		{Classification, "paths.exists(p, p.matches('^apps/[a-z]+/overlays/prod'))", true},
		{Classification, "changes.exists(c, c.kind == 'Deployment' && c.fields.exists(f, f.path == 'spec.replicas' && f.new > f.old))", true},
		{Classification, "changes.all(c, c.action == 'configured' && c.fields.all(f, f.path.startsWith('metadata.labels.')))", false},
		{Classification, "changes.exists(c, c.fields.exists(f, f.old == null && f.new == 'web'))", true},
		{Classification, "changes.exists(c, changes.exists(d, c == d)) && changes[0].fields[0].path == 'spec.replicas'", true},
		{Classification, "release.change.ticket != '' && !has(release.change.impact) && has(release.change.reason)", true},
		{Classification, "environment.class == 'high' && dyn(environment)['class'] == 'high' && dyn(environment).?class.hasValue()", true},
		{Classification, "type(environment) == type(environment) && environment == environment", true},
		{Classification, "release.?version.orValue('') == '18.0.15' && release.?change.?impact.orValue('none') == 'none'", true},
	} {
		if got, err := compile(t, test.kind, test.text).Eval(sample()); err != nil || got != test.want {
			t.Errorf("%s: %v, %v", test.text, got, err)
		}
	}
}

func compile(t testing.TB, kind Kind, text string) *Program {
	t.Helper()
	p, err := CompileRule(kind, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}
