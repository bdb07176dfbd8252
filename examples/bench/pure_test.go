package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestReadSeries(t *testing.T) {
	t.Parallel()
	const text = `# HELP x_total Help {of} "x".
# TYPE x_total counter
x_total 1
x_total{a="1",b="say \"}\", twice"} 2.5e+01
x_total_more{a="1"} 7
`
	got := map[string]float64{}
	if err := readSeries(strings.NewReader(text), "x_total", func(labels map[string]string, value float64) { got[fmt.Sprint(labels)] = value }); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"map[]": 1, `map[a:1 b:say "}", twice]`: 25}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
	for _, bad := range []string{`x{a="1" 2`, `x{a=1} 2`, "x many", `x{a`} {
		if err := readSeries(strings.NewReader(bad), "x", func(map[string]string, float64) {}); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestRatioOfNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, floor, want float64 }{{0, 0, 1}, {24, 0, 24}, {0.5, 0, 1}, {6, 2, 3}} {
		f := spare("x", "requests", c.value, c.floor, 1, 1, "")
		if f.Ratio != c.want || f.check() != nil {
			t.Errorf("%g with a floor of %g: %+v: %v", c.value, c.floor, f, f.check())
		}
	}
	if cost("x", "s", 0, 1, 1, "").check() == nil {
		t.Error("no time at all is accepted")
	}
	for q, want := range map[float64]float64{0.99: 99, 0.5: 50, 0: 1, 1: 100} {
		var samples []float64
		for i := range 100 {
			samples = append(samples, float64(100-i))
		}
		if got := quantile(samples, q); got != want {
			t.Errorf("quantile %g is %g, not %g", q, got, want)
		}
	}
}

func TestEditsAreOfDifferentObjects(t *testing.T) {
	t.Parallel()
	var namespaces []string
	for i := range 500 {
		namespaces = append(namespaces, fmt.Sprint(i))
	}
	list := planEdits(seed(), edits, 200, namespaces)
	objects, ways := map[objectKey]bool{}, map[string]int{}
	for _, p := range list {
		objects[p.key] = true
		ways[p.name]++
	}
	if len(list) != 200 || len(objects) != 200 || len(ways) != len(edits) {
		t.Errorf("%d edits of %d objects in %d ways", len(list), len(objects), len(ways))
	}
	for way, n := range ways {
		if n < 13 {
			t.Errorf("%s: only %d times", way, n)
		}
	}
	if few := planEdits(seed(), edits, 200, namespaces[:2]); len(few) == 0 || len(few) > 2*len(managed) {
		t.Errorf("%d edits of 8 objects", len(few))
	}
}

func TestUndone(t *testing.T) {
	t.Parallel()
	object := func(value string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"resourceVersion": fmt.Sprint(time.Now().UnixNano()), "labels": map[string]any{"a": "b"}},
			"data":     map[string]any{"value": value}, "status": map[string]any{"seen": value},
		}}
	}
	see := undone(object("one"))
	for i, step := range []struct {
		event event
		want  bool
	}{
		{event{object: object("one")}, false}, // a controller wrote its status before the edit
		{event{object: object("two")}, false},
		{event{object: object("one")}, true},
	} {
		if got := see(step.event); got != step.want {
			t.Errorf("event %d: %t", i, got)
		}
	}
	see = undone(object("one"))
	if see(event{object: object("one"), deleted: true}) || !see(event{object: object("one")}) {
		t.Error("an object that was made again is not seen")
	}
}

func TestSays(t *testing.T) {
	t.Parallel()
	live := map[string]any{"a": []any{map[string]any{"b": int64(1), "c": "more"}}, "d": true}
	for _, c := range []struct {
		want any
		says bool
	}{
		{map[string]any{"a": []any{map[string]any{"b": int64(1)}}}, true},
		{map[string]any{"a": []any{}}, false},
		{map[string]any{"e": nil}, true},
		{map[string]any{"d": map[string]any{}}, false},
		{map[string]any{"a": []any{map[string]any{"b": int64(2)}}}, false},
	} {
		if says(live, c.want) != c.says {
			t.Errorf("%v: %t", c.want, !c.says)
		}
	}
}

func TestAuditTellsWhoseARequestIs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	const agent = `{"kind":"Event","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/n/deployments/web?dryRun=All&force=true","verb":"patch",` +
		`"user":{"username":"` + agentUser + `"},"impersonatedUser":{"username":"purser:tenant:north"},` +
		`"objectRef":{"resource":"deployments","apiGroup":"apps","namespace":"n","name":"web"}}` + "\n"
	const server = `{"requestURI":"/api/v1/services","verb":"list","user":{"username":"system:apiserver"},"objectRef":{"resource":"services"}}` + "\n" +
		`{"requestURI":"/openapi/v3?timeout=32s","verb":"get","user":{"username":"system:apiserver"}}` + "\n"
	if err := os.WriteFile(path, []byte(agent+agent+server[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	log := &auditLog{file: file}
	defer log.close()
	got, err := log.next()
	if want := "2 PATCH (dry run) deployments by " + agentUser; err != nil || got.only(ofAgent).String() != want || got.only(ofOthers).sum() != 0 {
		t.Errorf("got %v, %v, not %s", got, err, want)
	}
	if _, err := file.WriteAt([]byte(server), int64(2*len(agent))); err != nil {
		t.Fatal(err)
	}
	got, err = log.next()
	if want := "1 GET openapi/v3 by system:apiserver, 1 LIST services by system:apiserver"; err != nil || got.only(ofOthers).String() != want || got.only(ofAgent).sum() != 0 {
		t.Errorf("got %v, %v, not %s", got, err, want)
	}
}
