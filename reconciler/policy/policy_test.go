package policy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/render"
	"github.com/purser-gitops/purser/sources/declaration"
)

var now = time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)

func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// candidate of the environment dev of the tenant north, whose gates all allow.
func candidate(objects ...*unstructured.Unstructured) Candidate {
	return Candidate{
		Environment: &declaration.Environment{
			Meta: declaration.Meta{Name: "dev"},
			Spec: declaration.EnvironmentSpec{Tenant: "north", Namespace: "north-dev", Prune: declaration.Prune{MaxObjects: 10, MaxShare: 0.5}},
		},
		Tenant: &declaration.Tenant{Meta: declaration.Meta{Name: "north"}, Spec: declaration.TenantSpec{
			Namespaces:   []string{"north-*"},
			ClusterKinds: []declaration.GroupKind{{Kind: "Namespace"}},
		}},
		Release: &render.Release{Objects: objects},
		Origin:  OriginGit,
		Class:   &declaration.ReleaseClass{Meta: declaration.Meta{Name: "low"}},
	}
}

// beside is a candidate with an object in the namespace of a second environment of its tenant.
func beside(cluster string) Candidate {
	c := candidate(object("v1", "ConfigMap", "north-qa", "a"))
	c.FindNeighbours(&declaration.Set{Environments: map[string]*declaration.Environment{"qa": {
		Meta: declaration.Meta{Name: "qa"},
		Spec: declaration.EnvironmentSpec{Tenant: "north", Namespace: "north-qa", Cluster: cluster},
	}}}, nil)
	return c
}

// besideLeftover is a candidate with an object in the namespace of an environment that is declared no more.
func besideLeftover() Candidate {
	c := candidate(object("v1", "ConfigMap", "north-qa", "a"))
	c.FindNeighbours(&declaration.Set{}, []Leftover{{Environment: "qa", Namespace: "north-qa"}})
	return c
}

var scopes = map[string]bool{
	"/ConfigMap": true, "/Secret": true, "apps/Deployment": true,
	"/Namespace": false, "rbac.authorization.k8s.io/ClusterRole": false, "apiextensions.k8s.io/CustomResourceDefinition": false,
}

func facts() Facts {
	return Facts{Scopes: scopes, Evidence: &EvidenceFact{Reached: now, Limit: time.Minute, SpoolMax: 100}}
}

func TestGates(t *testing.T) {
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "shops.example.com")
	crd.Object["spec"] = map[string]any{"group": "example.com", "scope": "Namespaced", "names": map[string]any{"kind": "Shop"}}
	deleted := func(n, of int) Candidate {
		c := candidate(object("v1", "ConfigMap", "", "a"))
		c.Approved = &render.Release{Objects: make([]*unstructured.Unstructured, of)}
		for range n {
			c.Diff = append(c.Diff, render.ObjectChange{Action: "deleted"})
		}
		return c
	}
	withCRDs := candidate(crd, object("example.com/v1", "Shop", "north-dev", "one"))
	withCRDs.Tenant.Spec.ClusterKinds = append(withCRDs.Tenant.Spec.ClusterKinds,
		declaration.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"})
	tenantless := candidate(object("v1", "ConfigMap", "north-qa", "a"))
	tenantless.Tenant = nil
	restricted := candidate(object("v1", "Secret", "north-dev", "a"))
	restricted.Tenant.Spec.Kinds = []declaration.GroupKindRule{{Kind: "ConfigMap"}, {Group: "apps", Kind: "*"}}

	for name, test := range map[string]struct {
		candidate Candidate
		facts     func(*Facts)
		gate      string
		want      Answer
		says      string
	}{
		"own namespace":            {candidate: candidate(object("v1", "ConfigMap", "north-dev", "a")), gate: "isolation", want: Allow},
		"no namespace":             {candidate: candidate(object("v1", "ConfigMap", "", "a")), gate: "isolation", want: Deny, says: "it names no namespace"},
		"namespace of a namespace": {candidate: candidate(object("v1", "Namespace", "north-dev", "north-dev")), gate: "isolation", want: Deny, says: "leave metadata.namespace out"},
		"namespace of the tenant":  {candidate: candidate(object("v1", "ConfigMap", "north-qa", "a")), gate: "isolation", want: Allow},
		"namespace of a neighbour": {candidate: beside(""), gate: "isolation", want: Deny, says: `namespace "north-qa" is that of environment "qa"`},
		"of another cluster's":     {candidate: beside("far"), gate: "isolation", want: Allow},
		"namespace of another":     {candidate: candidate(object("v1", "ConfigMap", "south-uat", "a")), gate: "isolation", want: Deny, says: `namespace "south-uat" is outside tenant "north"`},
		"default tenant":           {candidate: tenantless, gate: "isolation", want: Deny, says: `outside tenant "default"`},
		"kind not listed":          {candidate: restricted, gate: "isolation", want: Deny, says: "may not touch the kind Secret"},
		"cluster-scoped kind":      {candidate: candidate(object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "all")), gate: "isolation", want: Deny, says: "cluster-scoped kind ClusterRole"},
		"own Namespace object":     {candidate: candidate(object("v1", "Namespace", "", "north-dev")), gate: "isolation", want: Allow},
		"Namespace of another":     {candidate: candidate(object("v1", "Namespace", "", "kube-system")), gate: "isolation", want: Deny, says: `namespace "kube-system" is outside`},
		"unknown kind":             {candidate: candidate(object("example.com/v1", "Shop", "", "one")), gate: "isolation", want: Deny, says: "does not serve the kind"},
		"kind that comes along":    {candidate: withCRDs, gate: "isolation", want: Allow},
		"unknown scope of all":     {candidate: candidate(object("v1", "ConfigMap", "", "a")), facts: func(f *Facts) { f.Scopes = nil }, gate: "isolation", want: Deny},
		"cluster cannot be asked":  {candidate: candidate(object("v1", "ConfigMap", "", "a")), facts: func(f *Facts) { f.ScopesUnknown = "connection refused" }, gate: "isolation", want: Wait, says: "connection refused"},
		"beside what is left":      {candidate: besideLeftover(), gate: "isolation", want: Deny, says: `that of environment "qa"`},
		"claimed by another":       {candidate: candidate(object("v1", "ConfigMap", "", "a")), facts: func(f *Facts) { f.Claims = map[string]string{"/ConfigMap/north-dev/a": "qa"} }, gate: "claims", want: Deny, says: `belongs to the environment "qa"`},
		"claimed by itself":        {candidate: candidate(object("v1", "ConfigMap", "", "a")), facts: func(f *Facts) { f.Claims = map[string]string{"/ConfigMap/north-dev/a": "dev"} }, gate: "claims", want: Allow},
		"first release":            {candidate: candidate(), gate: "prune", want: Allow},
		"one of two goes":          {candidate: deleted(1, 2), gate: "prune", want: Allow},
		"the only one goes":        {candidate: deleted(1, 1), gate: "prune", want: Deny},
		"half goes":                {candidate: deleted(5, 10), gate: "prune", want: Allow},
		"four fifths go":           {candidate: deleted(8, 10), gate: "prune", want: Deny, says: "delete 8 of 10 objects"},
		"many of very many go":     {candidate: deleted(11, 1000), gate: "prune", want: Deny},
		"the way back":             {candidate: restoring(deleted(8, 10)), gate: "prune", want: Allow},
		"dependency ready":         {candidate: candidate(), facts: func(f *Facts) { f.Dependencies = []Dependency{{Name: "qa", Ready: true}} }, gate: "dependencies", want: Allow},
		"dependency on its way":    {candidate: candidate(), facts: func(f *Facts) { f.Dependencies = []Dependency{{Name: "qa", State: "not live yet"}} }, gate: "dependencies", want: Wait, says: `"qa", which is not live yet`},
		"evidence unknown":         {candidate: candidate(), facts: func(f *Facts) { f.Evidence = nil }, gate: "evidence", want: Deny},
		"evidence remote away":     {candidate: candidate(), facts: func(f *Facts) { f.Evidence.Reached = now.Add(-time.Hour) }, gate: "evidence", want: Wait, says: "out of reach since 2026-11-27T08:00:00Z"},
		"evidence spool full":      {candidate: candidate(), facts: func(f *Facts) { f.Evidence.Spooled = 100 }, gate: "evidence", want: Wait},
		"evidence branch rewound":  {candidate: candidate(), facts: func(f *Facts) { f.Evidence.Problem = "rewound" }, gate: "evidence", want: Wait, says: "rewound"},
		"evidence within the time": {candidate: candidate(), facts: func(f *Facts) { f.Evidence.Reached = now.Add(-time.Minute) }, gate: "evidence", want: Allow},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			if test.facts != nil {
				test.facts(&f)
			}
			verdict := Evaluate(test.candidate, f, now)
			for _, r := range verdict.Gates {
				if r.Reason == "" {
					t.Errorf("gate %s gives no reason", r.Gate)
				}
				if r.Gate != test.gate {
					continue
				}
				if r.Answer != test.want || !strings.Contains(r.Reason, test.says) {
					t.Errorf("gate %s answers %s: %s; want %s: …%s…", r.Gate, r.Answer, r.Reason, test.want, test.says)
				}
				if verdict.Answer < r.Answer {
					t.Errorf("verdict %s is milder than its gate's %s", verdict.Answer, r.Answer)
				}
				return
			}
			t.Errorf("no gate %q", test.gate)
		})
	}
}

func restoring(c Candidate) Candidate {
	c.Origin = OriginRollback
	return c
}

func TestZeroFactsNeverAllow(t *testing.T) {
	if v := Evaluate(candidate(object("v1", "ConfigMap", "", "a")), Facts{}, now); v.Answer != Deny {
		t.Errorf("knowing nothing gives %s", v.Answer)
	}
}

func TestAnswersSurviveJSON(t *testing.T) {
	for _, a := range []Answer{Allow, Wait, Deny} {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back Answer
		if err := json.Unmarshal(text, &back); err != nil || back != a {
			t.Errorf("%s became %s (%v)", a, back, err)
		}
	}
	var a Answer
	if err := json.Unmarshal([]byte(`"yes"`), &a); err == nil {
		t.Error("an unknown answer was accepted")
	}
}

func TestVerdictUntilIsTheEarliest(t *testing.T) {
	early, late := now.Add(time.Hour), now.Add(2*time.Hour)
	v := Verdict{Answer: Wait, Gates: []Result{{Answer: Wait, Until: &late}, {Answer: Wait, Until: &early}, {Answer: Allow, Until: &now}}}
	if got := v.Until(); got == nil || !got.Equal(early) {
		t.Errorf("until %v, want %v", got, early)
	}
}
