package render

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

const oneValue = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"

func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func indented(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n" }

// Each of these doubles an object at every line.
func TestCopiesThatDoubleAreRefused(t *testing.T) {
	patch := lines(30, "- {op: copy, from: /data, path: /data/k%d}\n")
	replacements := lines(30, "- source: {kind: ConfigMap, name: a, fieldPath: data}\n  targets: [{select: {kind: ConfigMap, name: a}, fieldPaths: [data.k%d], options: {create: true}}]\n")
	joins := lines(30, "- source: {kind: ConfigMap, name: a, fieldPath: data.k}\n  targets: [{select: {kind: ConfigMap, name: a}, fieldPaths: [data.k], options: {delimiter: x, index: 1%d}}]\n")
	fields := strings.TrimSuffix(lines(30, "data.k%d, "), ", ")
	old := "patchesJson6902:\n- target: {version: v1, kind: ConfigMap, name: a}\n"
	const head = "resources: [a.yaml]\n"
	components := "-- env/kustomization.yaml --\n" + head + "components: [" + strings.TrimSuffix(lines(30, "../c%d, "), ", ") + "]\n-- env/a.yaml --\n" + oneValue
	for i := range 30 {
		components += fmt.Sprintf("-- c%d/kustomization.yaml --\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n- {target: {kind: ConfigMap}, patch: '[{\"op\": \"copy\", \"from\": \"/data\", \"path\": \"/data/k%d\"}]'}\n", i, i)
	}
	for name, files := range map[string]string{
		"patches, inline":         head + "patches:\n- target: {kind: ConfigMap}\n  patch: |-\n" + indented(patch),
		"patches, file":           "-- env/kustomization.yaml --\n" + head + "patches: [{target: {kind: ConfigMap}, path: p.yaml}]\n-- env/p.yaml --\n" + patch + "-- env/a.yaml --\n" + oneValue,
		"patches, one line each":  head + "patches:\n" + lines(30, "- {target: {kind: ConfigMap}, patch: '[{\"op\": \"copy\", \"from\": \"/data\", \"path\": \"/data/k%d\"}]'}\n"),
		"patches, whole object":   head + "patches:\n" + lines(30, "- {target: {kind: ConfigMap}, patch: '[{\"op\": \"copy\", \"from\": \"\", \"path\": \"/data/k%d\"}]'}\n"),
		"patches, in turn":        head + "patches:\n" + lines(30, "- {target: {kind: ConfigMap}, patch: '[{\"op\": \"copy\", \"from\": \"/data\", \"path\": \"/b%d\"}, {\"op\": \"copy\", \"from\": \"/b%[1]d\", \"path\": \"/data/k%[1]d\"}]'}\n"),
		"patchesJson6902, inline": head + old + "  patch: |-\n" + indented(patch),
		"patchesJson6902, file":   "-- env/kustomization.yaml --\n" + head + old + "  path: p.yaml\n-- env/p.yaml --\n" + patch + "-- env/a.yaml --\n" + oneValue,
		"components":              components,
		"transformer":             head + "transformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: a}\n  target: {kind: ConfigMap}\n  patch: |-\n" + indented(patch),
		"transformer, file":       "-- env/kustomization.yaml --\n" + head + "transformers: [t.yaml]\n-- env/t.yaml --\napiVersion: builtin\nkind: PatchJson6902Transformer\nmetadata: {name: a}\ntarget: {version: v1, kind: ConfigMap, name: a}\npath: p.yaml\n-- env/p.yaml --\n" + patch + "-- env/a.yaml --\n" + oneValue,
		"replacements":            head + "replacements:\n" + replacements,
		"replacements, file":      "-- env/kustomization.yaml --\n" + head + "replacements: [{path: r.yaml}]\n-- env/r.yaml --\n" + replacements + "-- env/a.yaml --\n" + oneValue,
		"replacements, fields":    head + "replacements:\n- source: {kind: ConfigMap, name: a, fieldPath: data}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [" + fields + "], options: {create: true}}]\n",
		"replacements, wildcard":  head + "replacements:\n- source: {kind: ConfigMap, name: a, fieldPath: data}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: ['data.*']}]\n",
		"replacements, joined":    head + "replacements:\n" + joins,
		"replacement transformer": head + "transformers:\n- |-\n  apiVersion: builtin\n  kind: ReplacementTransformer\n  metadata: {name: a}\n  replacements:\n" + indented(replacements),
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.HasPrefix(files, "-- ") {
				files = "-- env/kustomization.yaml --\n" + files + "-- env/a.yaml --\n" + oneValue
			}
			tree := treeOf(t, files)
			prime()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := newRenderer(t, Options{}).Render(testContext(t), tree, "env")
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "copy") || refused.Remedy == "" {
				t.Errorf("error is %.300v, want a refusal of the copies", err)
			}
			if took > time.Second {
				t.Errorf("the refusal took %s", took)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
				t.Errorf("the refusal took %d MiB", n>>20)
			}
		})
	}
}

// The library's own limit holds where a single patch copies something large.
func TestLargeCopiesAreRefused(t *testing.T) {
	files := "-- env/kustomization.yaml --\nresources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: |-\n" +
		indented(lines(30, "- {op: copy, from: /data/k, path: /data/k%d}\n")) + "-- env/a.yaml --\n" + oneValue[:len(oneValue)-3] + strings.Repeat("v", 100<<10) + "}\n"
	_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "accumulated size") {
		t.Errorf("error is %.300v", err)
	}
}

// Text that replacements copy shares its memory until it is written out.
func TestCopiedTextIsAddedUpFirst(t *testing.T) {
	files := "-- env/kustomization.yaml --\nresources: [a.yaml, b.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: b, fieldPath: data.v}\n  targets: [{select: {kind: ConfigMap, name: a}, options: {create: true}, fieldPaths: [" +
		strings.TrimSuffix(lines(500, "data.k%d, "), ", ") + "]}]\n-- env/a.yaml --\n" + oneValue +
		"-- env/b.yaml --\n" + strings.Replace(oneValue, "name: a", "name: b", 1)[:len(oneValue)-7] + "{v: " + strings.Repeat("v", 900<<10) + "}\n"
	_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
	if err == nil || !strings.Contains(err.Error(), "more than 33554432 bytes") {
		t.Errorf("error is %.300v", err)
	}
}

func TestOrdinaryCopiesPass(t *testing.T) {
	files := "-- env/kustomization.yaml --\nresources: [a.yaml]\npatches:\n- {target: {kind: ConfigMap}, patch: '[{\"op\": \"copy\", \"from\": \"/data/k\", \"path\": \"/data/l\"}, {\"op\": \"copy\", \"from\": \"/metadata\", \"path\": \"/data/m\"}]'}\n" +
		"replacements:\n" + lines(100, "- source: {kind: ConfigMap, name: a, fieldPath: data.k}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: [data.r%d], options: {create: true}}]\n") + "-- env/a.yaml --\n" + oneValue
	mustRender(t, treeOf(t, files), "env")
}

func TestDeepNesting(t *testing.T) {
	head := "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n" + configMap
	block := ""
	for i := range 300 {
		block += strings.Repeat(" ", i) + "a:\n"
	}
	for name, c := range map[string]struct{ files, at string }{
		"lists":             {head + "data: " + strings.Repeat("[", 9900) + strings.Repeat("]", 9900) + "\n", "env/a.yaml:4:1"},
		"maps":              {head + "data: " + strings.Repeat("{a: ", 9900) + strings.Repeat("}", 9900) + "\n", "env/a.yaml:4:1"},
		"lists in blocks":   {head + "data:\n" + strings.Repeat("- ", 9900) + "x\n", "env/a.yaml:5:1"},
		"blocks":            {head + "data:\n" + indented(block), "env/a.yaml:204:1"},
		"second document":   {head + "---\n" + configMap + "data: " + strings.Repeat("[\n", 300) + strings.Repeat("]", 300) + "\n", "env/a.yaml:208:1"},
		"the kustomization": {"-- env/kustomization.yaml --\nresources: " + strings.Repeat("[", 9900) + strings.Repeat("]", 9900) + "\n", "env/kustomization.yaml:1:1"},
		"an inline patch": {"-- env/kustomization.yaml --\nresources: [a.yaml]\npatches:\n- patch: |-\n" + indented(configMap+"data: "+strings.Repeat("[", 9900)+strings.Repeat("]", 9900)) +
			"-- env/a.yaml --\n" + configMap, "env/kustomization.yaml:3:1"},
	} {
		start := time.Now()
		_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, c.files), "env")
		var refused *RefusedError
		if !errors.As(err, &refused) || fmt.Sprintf("%s:%d:%d", refused.File, refused.Line, refused.Column) != c.at || !strings.Contains(refused.Reason, "nested more than 200") {
			t.Errorf("%s: error is %.300v, want a refusal at %s", name, err, c.at)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: the refusal took %s", name, took)
		}
	}
	for name, text := range map[string]string{
		"a text with wide indentation": "data:\n  k: |\n" + strings.Repeat(" ", 3000) + "x\n",
		"a text of brackets":           "data: {k: '" + strings.Repeat("[{", 5000) + "'}\n",
		"many short lists":             "data: {k: v}\nx: [" + strings.Repeat("[a], ", 500) + "b]\n",
	} {
		if _, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, head+text), "env"); err != nil {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

// A slow build is its author's; a build that waited for it is nobody's.
func TestTimeLimit(t *testing.T) {
	tree := treeOf(t, twoEnvironments)
	_, err := newRenderer(t, Options{Limits: Limits{Time: time.Nanosecond}}).Render(testContext(t), tree, "north")
	var refused *RefusedError
	if !errors.As(err, &refused) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "longer than the limit of 1ns") {
		t.Errorf("error of a slow build is %v", err)
	}
	const limit = 500 * time.Millisecond
	r := newRenderer(t, Options{Concurrency: 1, Limits: Limits{Time: limit}})
	r.slots <- struct{}{}
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*limit, errors.New("the agent stops waiting"))
	defer cancel()
	_, err = r.Render(ctx, tree, "north")
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &refused) || !strings.Contains(err.Error(), "stops waiting") {
		t.Errorf("error of a caller that waited is %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := r.Render(testContext(t), tree, "south")
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("a build that waits ends with %v", err)
	case <-time.After(2 * limit):
	}
	<-r.slots
	if err := <-done; err != nil {
		t.Errorf("a build that waited longer than its limit fails: %v", err)
	}
}

func TestNamesThatAreNoPath(t *testing.T) {
	for _, name := range []string{"a/b", "..", "a%b"} {
		files := "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n" + strings.Replace(configMap, "name: a", "name: "+name, 1)
		_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Object, name) || !strings.Contains(refused.Reason, "may not") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestNamespacesThatAreNone(t *testing.T) {
	for _, namespace := range []string{"north-a/../north-b", "..", "North", "a.b"} {
		files := "-- env/kustomization.yaml --\nresources: [a.yaml]\n-- env/a.yaml --\n" +
			strings.Replace(configMap, "name: a", "name: a, namespace: \""+namespace+"\"", 1)
		_, err := newRenderer(t, Options{}).Render(testContext(t), treeOf(t, files), "env")
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "its namespace") || refused.Remedy == "" {
			t.Errorf("%s: error is %v", namespace, err)
		}
	}
}

// The cheap look must not pass anything that parsing would find.
func TestDeepTextInsideIsFoundHoweverItIsWritten(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("- ", maxNesting+2) + "a"
	short := strings.Repeat("- ", 20)
	for what, text := range map[string]string{
		"plain lines joined":  "patches:\n- patch: |-\n    a\n- patch: >-\n" + strings.Repeat("    "+short+"\n", maxNesting/20+2) + "    a\n",
		"quoted lines joined": "a: '" + strings.Repeat("\n  "+short, maxNesting/20+2) + " a'\n",
		"literal":             "a: |\n  " + deep + "\n",
		"in brackets":         "a: '" + strings.Repeat("[", maxNesting+2) + strings.Repeat("]", maxNesting+2) + "'\n",
		"escaped":             `a: "` + strings.Repeat(`\x5b`, maxNesting+2) + strings.Repeat(`\x5d`, maxNesting+2) + "\"\n",
		"escaped indentation": `a: "` + strings.Repeat(`-\x20`, maxNesting+2) + "a\"\n",
		"shallow":             "a: |\n  b: 1\n",
	} {
		want := deepTextLine(positions{[]byte(text)}.docs())
		if got := tooDeepInside([]byte(text)); got != want {
			t.Errorf("%s: line %d, parsed %d", what, got, want)
		}
		if found := want > 0; found == (what == "shallow") {
			t.Errorf("%s: found %t", what, found)
		}
	}
}
