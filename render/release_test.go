package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/purser-gitops/purser/sources/declaration"
)

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return o
}

func result(t testing.TB, objects ...string) *Result {
	res := &Result{Inputs: Inputs{{Path: "env/kustomization.yaml", Hash: strings.Repeat("0", 40)}}}
	for _, o := range objects {
		res.Objects = append(res.Objects, object(t, o))
	}
	return res
}

func mustRelease(t testing.TB, res *Result, d *declaration.Release, b Binding) *Release {
	t.Helper()
	r, err := NewRelease(res, d, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	webObject = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"north-dev","labels":{"purser.dev/role":"web"}},
		"spec":{"replicas":2,"ratio":0.5,"template":{"spec":{"initContainers":[{"name":"wait","image":"wait:1"}],"containers":[{"name":"odoo","image":"odoo@sha256:00"}]}}}}`
	settingsObject = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"north-dev"},"data":{"a":"<b>&\u2028"}}`
)

var exampleDeclaration = &declaration.Release{
	Position: declaration.Position{File: "env/release.yaml", Line: 3, Column: 1},
	Version:  "17.0.4", Migration: "none", Class: "low",
	Change: declaration.Change{Ticket: "SHOP-1", Reason: "fix", Impact: "none", Rollback: "promote the last"},
}

var exampleBinding = Binding{Environment: "north-dev", Cluster: "main", Namespace: "north-dev", Health: json.RawMessage(`{"timeout": "5m", "http": []}`)}

// A digest is kept in records for years: these must never change. They were
// computed by another program from the description in the package comment.
func TestDigestVectors(t *testing.T) {
	bare := mustRelease(t, result(t, settingsObject), nil, Binding{Cluster: "c", Namespace: "n"})
	full := mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, exampleBinding)
	for _, c := range []struct{ name, got, want string }{
		{"object", bare.ObjectDigests["/ConfigMap/north-dev/settings"], "sha256:61cf173a3527681843a7b1880b5824dfa2c733fef49759924c285bc70b3cdc93"},
		{"web", full.ObjectDigests["apps/Deployment/north-dev/web"], "sha256:a7219980399ef46b0851664c6112ba68408957a372f088f1afa7174c365699db"},
		{"bare release", bare.Digest, "sha256:9e52d633e3331ba08f3ba1af786dd6a4aeb298a2499220845f3d12fb28db84c4"},
		{"full release", full.Digest, "sha256:74d624101d5f12bbb8298d3b32f82466c19562a82395442ad652ea37d4e73ad0"},
	} {
		if c.got != c.want {
			t.Errorf("%s: digest is %s, want %s", c.name, c.got, c.want)
		}
	}
	full.Renderer = "kustomize/api v0.21.1, render 1"
	encoded, err := full.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "release.json")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded, want) {
		t.Errorf("encoded bytes differ from %s:\n%s", golden, encoded)
	}
}

func TestDigestCovers(t *testing.T) {
	base := mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, exampleBinding)
	same := map[string]func() *Release{
		"order of objects": func() *Release {
			return mustRelease(t, result(t, settingsObject, webObject), exampleDeclaration, exampleBinding)
		},
		"order of keys and number form": func() *Release {
			return mustRelease(t, result(t, strings.NewReplacer(`"replicas":2,"ratio":0.5`, `"ratio":5e-1,"replicas":2.0`).Replace(webObject), settingsObject), exampleDeclaration, exampleBinding)
		},
		"place of release.yaml": func() *Release {
			d := *exampleDeclaration
			d.Position = declaration.Position{File: "elsewhere", Line: 9}
			return mustRelease(t, result(t, webObject, settingsObject), &d, exampleBinding)
		},
		"name of the environment": func() *Release {
			b := exampleBinding
			b.Environment = "renamed"
			return mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, b)
		},
		"white space of the health": func() *Release {
			b := exampleBinding
			b.Health = json.RawMessage(`{"http":[],"timeout":"5m"}`)
			return mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, b)
		},
		"inputs": func() *Release {
			res := result(t, webObject, settingsObject)
			res.Inputs = append(res.Inputs, Input{Path: "x"})
			return mustRelease(t, res, exampleDeclaration, exampleBinding)
		},
	}
	for name, make := range same {
		if got := make().Digest; got != base.Digest {
			t.Errorf("%s: changes the digest", name)
		}
	}
	seen := map[string]string{base.Digest: "base"}
	differ := map[string]func() *Release{}
	for name, change := range map[string]func(*declaration.Release){
		"version": func(d *declaration.Release) { d.Version += "x" }, "migration": func(d *declaration.Release) { d.Migration += "x" },
		"class": func(d *declaration.Release) { d.Class += "x" }, "ticket": func(d *declaration.Release) { d.Change.Ticket += "x" },
		"reason": func(d *declaration.Release) { d.Change.Reason += "x" }, "impact": func(d *declaration.Release) { d.Change.Impact += "x" },
		"rollback": func(d *declaration.Release) { d.Change.Rollback += "x" },
		"modules":  func(d *declaration.Release) { d.Modules = []string{"sale"} }, "attestations": func(d *declaration.Release) { d.Attestations = []string{"sale"} },
		"other modules": func(d *declaration.Release) { d.Modules = []string{"sale", "tax"} },
	} {
		differ[name] = func() *Release {
			d := *exampleDeclaration
			change(&d)
			return mustRelease(t, result(t, webObject, settingsObject), &d, exampleBinding)
		}
	}
	for name, change := range map[string]func(*Binding){
		"cluster": func(b *Binding) { b.Cluster += "x" }, "namespace": func(b *Binding) { b.Namespace += "x" },
		"health": func(b *Binding) { b.Health = json.RawMessage(`{"timeout":"6m","http":[]}`) },
	} {
		differ[name] = func() *Release {
			b := exampleBinding
			change(&b)
			return mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, b)
		}
	}
	differ["no release.yaml"] = func() *Release { return mustRelease(t, result(t, webObject, settingsObject), nil, exampleBinding) }
	differ["an object less"] = func() *Release { return mustRelease(t, result(t, webObject), exampleDeclaration, exampleBinding) }
	for from, to := range map[string]string{`"replicas":2`: `"replicas":3`, "odoo@sha256:00": "odoo@sha256:01", `"name":"web"`: `"name":"web2"`, "apps/v1": "apps/v1beta1"} {
		differ[to] = func() *Release {
			return mustRelease(t, result(t, strings.Replace(webObject, from, to, 1), settingsObject), exampleDeclaration, exampleBinding)
		}
	}
	for name, make := range differ {
		got := make().Digest
		if other, ok := seen[got]; ok {
			t.Errorf("%s: has the digest of %s", name, other)
		}
		seen[got] = name
	}
}

func TestEncodeDecode(t *testing.T) {
	r := mustRelease(t, result(t, webObject, settingsObject), exampleDeclaration, exampleBinding)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeRelease(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("encoding the decoded release gives other bytes (%v)\n%s\n%s", err, data, again)
	}
	if back.Digest != r.Digest || !maps.Equal(back.Images, r.Images) || !maps.Equal(back.ObjectDigests, r.ObjectDigests) || len(Diff(r, back)) != 0 {
		t.Errorf("decoded release differs: %+v", back)
	}
	if back.Renderer != r.Renderer || back.Binding.Environment != "north-dev" || len(back.Inputs) != 1 {
		t.Errorf("decoded release lost what is beside the digest: %+v", back)
	}
	about := *exampleDeclaration
	about.Modules, about.Attestations = []string{"sale_pricing", "tax"}, []string{"attestations/unit-tests.dsse.json"}
	described, err := mustRelease(t, result(t, webObject, settingsObject), &about, exampleBinding).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := DecodeRelease(described); err != nil || !slices.Equal(back.Declaration.Modules, about.Modules) || !slices.Equal(back.Declaration.Attestations, about.Attestations) {
		t.Errorf("decoded release lost modules or attestations: %+v, %v", back, err)
	}
	if _, err := DecodeRelease([]byte(strings.Replace(string(described), "sale_pricing", "sale_other", 1))); !errors.Is(err, ErrDigest) {
		t.Errorf("other modules: error is %v, want ErrDigest", err)
	}
	for from, to := range map[string]string{
		`"replicas":2`: `"replicas":3`, `"cluster":"main"`: `"cluster":"other"`, `17.0.4`: `17.0.5`, `"timeout":"5m"`: `"timeout":"6m"`, "wait:1": "wait:2",
	} {
		if _, err := DecodeRelease([]byte(strings.Replace(string(data), from, to, 1))); !errors.Is(err, ErrDigest) {
			t.Errorf("%s for %s: error is %v, want ErrDigest", to, from, err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "cut": string(data[:len(data)/2]), "more": string(data) + "{}", "unknown field": strings.Replace(string(data), `"format"`, `"x":1,"format"`, 1),
		"other format": strings.Replace(string(data), "release/v1", "release/v2", 1), "no objects": `{"format":"purser.dev/release/v1"}`,
		"plain secret": strings.Replace(string(data), `"kind":"ConfigMap"`, `"kind":"Secret"`, 1),
	} {
		if _, err := DecodeRelease([]byte(bad)); err == nil {
			t.Errorf("%s: is decoded", name)
		}
	}
}

func TestImages(t *testing.T) {
	pod := func(kind, api, name, role, at string) string {
		spec := `{"initContainers":[{"name":"i","image":"init:` + name + `"}],"containers":[{"name":"c","image":"main:` + name + `"}],"ephemeralContainers":[{"name":"e","image":"eph:1"}],` +
			`"volumes":[{"name":"c","image":{"reference":"addons:` + name + `","pullPolicy":"Always"}},{"name":"none","emptyDir":{}},{"name":"unset","image":{}}]}`
		body := `"template":{"metadata":{"labels":{` + role + `}},"spec":` + spec + `}`
		switch at {
		case "pod":
			return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `","labels":{` + role + `}},"spec":` + spec + `}`
		case "cron":
			body = `"jobTemplate":{"spec":{` + body + `}}`
		case "top":
			return `{"apiVersion":"v1","kind":"` + kind + `","metadata":{"name":"` + name + `"},` + body + `}`
		case "revision":
			return `{"apiVersion":"` + api + `","kind":"` + kind + `","metadata":{"name":"` + name + `"},"data":{"spec":{` + body + `}}}`
		}
		return `{"apiVersion":"` + api + `","kind":"` + kind + `","metadata":{"name":"` + name + `"},"spec":{` + body + `}}`
	}
	r := mustRelease(t, result(t,
		pod("Deployment", "apps/v1", "d", `"purser.dev/role":"web"`, ""), pod("StatefulSet", "apps/v1", "s", "", ""), pod("DaemonSet", "apps/v1", "ds", "", ""),
		pod("ReplicaSet", "apps/v1", "rs", "", ""), pod("Job", "batch/v1", "j", `"purser.dev/role":"migration"`, ""), pod("CronJob", "batch/v1", "cj", `"purser.dev/role":"cron"`, "cron"),
		pod("Pod", "v1", "p", `"purser.dev/role":"queue"`, "pod"), pod("Deployment", "example.org/v1", "no", "", ""),
		pod("ReplicationController", "v1", "rc", "", ""), pod("PodTemplate", "v1", "pt", "", "top"), pod("ControllerRevision", "apps/v1", "cr", "", "revision"),
		pod("Deployment", "apps/v1", "x", `"purser.dev/role":"twin"`, ""), pod("Job", "batch/v1", "y", `"purser.dev/role":"twin"`, ""),
	), nil, Binding{})
	want := map[string]string{"twin/e": "eph:1"}
	for role, name := range map[string]string{"web": "d", "s": "s", "ds": "ds", "rs": "rs", "migration": "j", "cron": "cj", "queue": "p", "rc": "rc", "pt": "pt", "cr": "cr"} {
		want[role+"/c"], want[role+"/i"], want[role+"/e"], want[role+"/volume:c"] = "main:"+name, "init:"+name, "eph:1", "addons:"+name
	}
	for _, n := range []string{"Deployment.x", "Job.y"} {
		_, name, _ := strings.Cut(n, ".")
		want["twin/c#"+n], want["twin/i#"+n], want["twin/volume:c#"+n] = "main:"+name, "init:"+name, "addons:"+name
	}
	if !maps.Equal(r.Images, want) {
		t.Errorf("images are %v, want %v", r.Images, want)
	}
}

// TestImagesOfTwoNamespaces has one object's image hidden by that of its namesake elsewhere.
func TestImagesOfTwoNamespaces(t *testing.T) {
	web := func(namespace, image string) string {
		return `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"` + namespace + `"},"spec":{"template":{"spec":{"containers":[{"name":"odoo","image":"` + image + `"}]}}}}`
	}
	want := map[string]string{"web/odoo#Deployment.one/web": "odoo:1", "web/odoo#Deployment.two/web": "odoo:2"}
	if got := mustRelease(t, result(t, web("one", "odoo:1"), web("two", "odoo:2")), nil, Binding{}).Images; !maps.Equal(got, want) {
		t.Errorf("images are %v, want %v", got, want)
	}
	want = map[string]string{"web/odoo": "odoo:1"}
	if got := mustRelease(t, result(t, web("one", "odoo:1"), web("two", "odoo:1")), nil, Binding{}).Images; !maps.Equal(got, want) {
		t.Errorf("images are %v, want %v", got, want)
	}
}

// TestImagesOfNamesakesInOnePod has one container's image hidden by that of its namesake, in a kind whose pods nobody checks.
func TestImagesOfNamesakesInOnePod(t *testing.T) {
	two := `{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"name":"r","namespace":"n"},"data":{"spec":{"template":{"spec":{"containers":[` +
		`{"name":"odoo","image":"odoo:1"},{"name":"odoo","image":"odoo:2"}]}}}}}`
	want := map[string]string{"r/odoo#ControllerRevision.n/r": "odoo:1", "r/odoo#ControllerRevision.n/r[2]": "odoo:2"}
	if got := mustRelease(t, result(t, two), nil, Binding{}).Images; !maps.Equal(got, want) {
		t.Errorf("images are %v, want %v", got, want)
	}
}

func TestPlainSecretsAreRefused(t *testing.T) {
	tree := treeOf(t, `
-- manifest/kustomization.yaml --
resources: [s.yaml]
namePrefix: p-
-- manifest/s.yaml --
apiVersion: v1
kind: Secret
metadata: {name: credentials}
stringData: {password: in-clear-text}
-- generator/kustomization.yaml --
secretGenerator: [{name: token, literals: [t=in-clear-text]}]
-- fine/kustomization.yaml --
resources: [s.yaml]
-- fine/s.yaml --
apiVersion: v1
kind: Secret
metadata: {name: none, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: Secret
metadata: {name: empty}
data: {a: ""}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: es}
spec: {dataFrom: [{extract: {key: odoo}}]}
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: ss}
spec: {encryptedData: {a: AgBy}}
`)
	for dir, want := range map[string][]string{
		"manifest":  {"manifest/s.yaml: Secret p-credentials: stringData.password", "External Secrets", "SOPS"},
		"generator": {"generator/kustomization.yaml: Secret token-", "data.t"},
	} {
		_, err := NewRelease(mustRender(t, tree, dir), nil, Binding{})
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: error is %v, want a RefusedError", dir, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q does not say %q", dir, err, w)
			}
		}
		if strings.Contains(err.Error(), "clear-text") || strings.Contains(err.Error(), "aW4tY2xlYXI") {
			t.Errorf("%s: error tells the value", dir)
		}
	}
	if _, err := NewRelease(mustRender(t, tree, "fine"), nil, Binding{}); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]string{
		"data that is text":    `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":"x"}`,
		"a number":             `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"n":5}}`,
		"kubectl's copy":       `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}}}`,
		"ciphertext and more":  `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"sops":{"mac":"x"},"data":{"k":"ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str] and more"}}`,
		"in sops, but plain":   `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"sops":{"mac":"x"},"data":{"k":"cGxhaW4="}}`,
		"sops that is no file": `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"k":"RU5DW0FFUzI1Nl9HQ00sZGF0YTp4XQ=="}}`,
	} {
		if _, err := NewRelease(result(t, o), nil, Binding{}); err == nil {
			t.Errorf("%s: is not refused", name)
		}
	}
	if _, err := NewRelease(&Result{}, nil, Binding{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("error is %v, want ErrEmpty", err)
	}
}

func TestRef(t *testing.T) {
	r := RefOf(object(t, webObject))
	if r.String() != "apps/Deployment north-dev/web" || r.Key() != "apps/Deployment/north-dev/web" {
		t.Errorf("String is %q, Key is %q", r, r.Key())
	}
	r = Ref{Version: "v1", Kind: "Namespace", Name: "north"}
	if r.String() != "Namespace north" || r.Key() != "/Namespace//north" {
		t.Errorf("String is %q, Key is %q", r, r.Key())
	}
}

func TestStillCurrent(t *testing.T) {
	repo, commits := synced(t, t.TempDir(), 2, 1)
	before, after := treeAt(t, repo, commits[0]), treeAt(t, repo, commits[1])
	encoded, err := mustRelease(t, mustRender(t, before, overlay(0)), nil, exampleBinding).Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeRelease(encoded) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	if !r.StillCurrent(after, "./"+overlay(0)+"/") {
		t.Error("a neighbour's push counts as a change")
	}
	if r.StillCurrent(after, overlay(1)) || r.StillCurrent(after, "base") {
		t.Error("another directory does not count as a change")
	}
	if other := treeOf(t, "-- "+overlay(0)+"/kustomization.yaml --\nnamespace: x\n"); r.StillCurrent(other, overlay(0)) {
		t.Error("other files do not count as a change")
	}
	older := *r
	older.Renderer = "kustomize/api v0.1.0, render 1"
	if older.StillCurrent(before, overlay(0)) {
		t.Error("what another renderer gave counts as current")
	}
	bare := *r
	bare.Inputs = nil
	if bare.StillCurrent(before, overlay(0)) {
		t.Error("a release without inputs counts as current")
	}
	atRoot := mustRelease(t, mustRender(t, treeOf(t, "-- kustomization.yaml --\nresources: [a.yaml]\n-- a.yaml --\n"+settingsObject+"\n"), "."), nil, exampleBinding)
	if atRoot.Directory != "." {
		t.Errorf("the root is called %q", atRoot.Directory)
	}
}
