package render

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDiffFields(t *testing.T) {
	wrap := func(spec string) string {
		return `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":` + spec + `}`
	}
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{"nothing", `{"a":1,"b":[{"name":"x"}]}`, `{"b":[{"name":"x"}],"a":1.0}`, nil},
		{"scalar", `{"a":1}`, `{"a":2}`, []string{"spec.a: 1 -> 2"}},
		{"type", `{"a":1}`, `{"a":"1"}`, []string{"spec.a: 1 -> 1"}},
		{"added and removed", `{"a":1}`, `{"b":{"c":true,"d":[]}}`, []string{"spec.a: 1 -> <nil>", "spec.b.c: <nil> -> true", "spec.b.d: <nil> -> []"}},
		{"by name", `{"template":{"spec":{"containers":[{"name":"web","image":"a"},{"name":"side","image":"s"}]}}}`,
			`{"template":{"spec":{"containers":[{"name":"web","image":"b"},{"name":"new","image":"n"}]}}}`,
			[]string{"spec.template.spec.containers[name=web].image: a -> b", "spec.template.spec.containers[name=new].image: <nil> -> n", "spec.template.spec.containers[name=new].name: <nil> -> new",
				"spec.template.spec.containers[name=side].image: s -> <nil>", "spec.template.spec.containers[name=side].name: side -> <nil>"}},
		{"ambiguous names", `{"l":[{"name":"x","v":1},{"name":"x","v":2}]}`, `{"l":[{"name":"x","v":1},{"name":"x","v":3}]}`, []string{"spec.l[1].v: 2 -> 3"}},
		{"by port", `{"ports":[{"port":80,"p":1}]}`, `{"ports":[{"port":80,"p":2}]}`, []string{"spec.ports[port=80].p: 1 -> 2"}},
		{"order", `{"l":[{"name":"x"},{"name":"y"}]}`, `{"l":[{"name":"y"},{"name":"x"}]}`, []string{"spec.l[] (order): x y -> y x"}},
		{"list of scalars", `{"args":["a","b"]}`, `{"args":["a","c"]}`, []string{"spec.args: [a b] -> [a c]"}},
		{"keys with dots", `{"l":{"a.b/c":"1"}}`, `{"l":{"a.b/c":"2"}}`, []string{`spec.l["a.b/c"]: 1 -> 2`}},
		{"null", `{"a":null}`, `{}`, []string{"spec.a: null -> <nil>"}},
		{"map for a list", `{"a":[1]}`, `{"a":{"b":1}}`, []string{"spec.a: [1] -> map[b:1]"}},
	} {
		var got []string
		for _, f := range diffObjects(object(t, wrap(c.old)), object(t, wrap(c.new))) {
			got = append(got, fmt.Sprintf("%s: %v -> %v", f.Path, f.Old, f.New))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestDiffReleases(t *testing.T) {
	from := mustRelease(t, result(t, webObject, settingsObject), nil, Binding{})
	to := mustRelease(t, result(t, strings.Replace(webObject, "odoo@sha256:00", "odoo@sha256:01", 1), `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"type":"ClusterIP"}}`), nil, Binding{})
	var b strings.Builder
	if err := FormatDiff(&b, Diff(from, to), false); err != nil {
		t.Fatal(err)
	}
	want := `- ConfigMap north-dev/settings deleted
+ Service web created
    apiVersion: v1
    kind: Service
    metadata.name: web
    spec.type: ClusterIP
~ apps/Deployment north-dev/web configured
    spec.template.spec.containers[name=odoo].image: odoo@sha256:00 -> odoo@sha256:01
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if d := Diff(nil, to); len(d) != 2 || d[0].Action != ActionCreated || d[1].Action != ActionCreated {
		t.Errorf("diff from nothing is %+v", d)
	}
	if d := Diff(to, to); len(d) != 0 {
		t.Errorf("diff of a release with itself is %+v", d)
	}
}

func TestDiffMasksSecrets(t *testing.T) {
	secret := func(body string) string {
		return `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hidden-` + fmt.Sprint(len(body)) + `"}},` + body + `}`
	}
	old := secret(`"data":{"a":"hidden-1","b":"hidden-2","d.e":"hidden-x"},"sops":{"mac":"hidden-3"},"type":"Opaque"`)
	for _, new := range []string{
		secret(`"data":{"a":"hidden-4","c":"hidden-5","d.e":"hidden-y"},"stringData":{"z":"hidden-6"},"sops":{"mac":"hidden-7"},"type":"other"`),
		secret(`"data":"hidden-8","stringData":["hidden-9"]`),
		secret(`"data":{"a":{"deep":"hidden-10"},"b":["hidden-11"]}`),
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"},"data":{"a":"hidden-12"}}`,
	} {
		for _, pair := range [][2]string{{old, new}, {new, old}} {
			text := fmt.Sprint(diffObjects(object(t, pair[0]), object(t, pair[1])))
			if strings.Contains(text, "hidden") {
				t.Errorf("diff tells a value: %s", text)
			}
		}
	}
	if text := fmt.Sprint(diffObjects(nil, object(t, old)), diffObjects(object(t, old), nil)); strings.Contains(text, "hidden") {
		t.Errorf("diff tells a value: %s", text)
	}
	noted := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","annotations":{"note":"hidden-%[1]d"},"labels":{"team":"hidden-%[1]d"},"finalizers":["hidden-%[1]d"]},"type":"Opaque"}`
	marks := fmt.Sprint(diffObjects(object(t, fmt.Sprintf(noted, 1)), object(t, fmt.Sprintf(noted, 2))))
	if marks != `[{metadata.annotations.note (changed) (changed)} {metadata.finalizers (changed) (changed)} {metadata.labels.team (changed) (changed)}]` {
		t.Errorf("diff is %s", marks)
	}
	if text := fmt.Sprint(diffObjects(nil, object(t, fmt.Sprintf(noted, 1)))); strings.Contains(text, "hidden") || !strings.Contains(text, "{type <nil> Opaque}") {
		t.Errorf("diff is %s", text)
	}
	fields := diffObjects(object(t, old), object(t, secret(`"data":{"a":"hidden-4","b":"hidden-2","d.e":"hidden-z"},"sops":{"mac":"hidden-3"},"type":"Opaque"`)))
	if text := fmt.Sprint(fields); text != `[{data.a (changed) (changed)} {data["d.e"] (changed) (changed)}]` {
		t.Errorf("diff is %s", text)
	}
}

func TestDiffIsBounded(t *testing.T) {
	data := map[string]any{}
	for i := range 3 * maxFields {
		data[fmt.Sprintf("k%04d", i)] = strings.Repeat("ü", maxValueBytes)
	}
	o := object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`)
	o.Object["data"] = data
	whole := Diff(nil, mustRelease(t, &Result{Objects: append(result(t).Objects, o)}, nil, Binding{}))
	changes := Told(whole)
	if n := len(whole[0].Fields); n != 3*maxFields+3 || whole[0].More != 0 || whole[0].Fields[3].New != data["k0000"] && whole[0].Fields[1].New != data["k0000"] {
		t.Errorf("what rules see is cut: %d fields and %d more", n, whole[0].More)
	}
	if n := len(changes[0].Fields); n != maxFields || changes[0].More != 2*maxFields+3 {
		t.Errorf("%d fields and %d more", n, changes[0].More)
	}
	for _, f := range changes[0].Fields {
		if s, _ := f.New.(string); len(s) > maxValueBytes+40 {
			t.Fatalf("%s has %d bytes", f.Path, len(s))
		}
	}
}

func TestFormatDiffKeepsTheTerminal(t *testing.T) {
	o := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a\u001b[31m"},"data":{"k\u001b[2J":"v\u001b]0;x\u0007\nsecond","\u009bz":1}}`
	var plain, coloured strings.Builder
	changes := Diff(nil, mustRelease(t, result(t, o), nil, Binding{}))
	if err := FormatDiff(&plain, changes, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(plain.String(), "\x1b\x07\u009b") || strings.Count(plain.String(), "\n") != 6 {
		t.Errorf("control characters reach the terminal: %q", plain.String())
	}
	if err := FormatDiff(&coloured, changes, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(coloured.String(), colourGreen) {
		t.Error("no colour")
	}
}

func diffObjects(old, new *unstructured.Unstructured) []FieldChange { return diffFields(old, new) }
