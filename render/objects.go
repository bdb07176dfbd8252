package render

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/yaml"

	"sigs.k8s.io/kustomize/api/types"
)

// Result is what a kustomization renders to. It is shared: copy an object before
// changing it.
type Result struct {
	Objects   []*unstructured.Unstructured // in Kustomize's order; Secret values still ciphertext
	Inputs    Inputs
	Directory string // of the kustomization in the tree, clean; "." for the root

	secretFiles map[string]string // Ref.Key of a Secret → file it seems to come from
}

// YAML gives the objects as `kustomize build` prints them.
func (r *Result) YAML() ([]byte, error) {
	var b bytes.Buffer
	for i, o := range r.Objects {
		y, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", RefOf(o), err)
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(y)
	}
	return b.Bytes(), nil
}

// judgeObjects takes lists apart and refuses what cannot be applied and pruned
// by name: no objects, nameless ones, the same one twice.
func judgeObjects(dir string, objs []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	objs, err := flatten(dir, objs, 0)
	if err != nil {
		return nil, err
	}
	if len(objs) == 0 {
		return nil, &RefusedError{File: dir, Reason: ErrEmpty.Error(),
			Remedy: "list resources; to remove an environment, remove its declaration", Err: ErrEmpty}
	}
	seen := map[string]bool{}
	for _, o := range objs {
		ref := RefOf(o)
		switch {
		case ref.Kind == "" || o.GetAPIVersion() == "":
			return nil, &RefusedError{File: dir, Object: ref.String(), Reason: "an object has no kind or apiVersion", Remedy: "give it both"}
		case ref.Name == "" && o.GetGenerateName() != "":
			return nil, &RefusedError{File: dir, Object: ref.String(),
				Reason: fmt.Sprintf("generateName %q gives another object at every apply", o.GetGenerateName()), Remedy: "give it metadata.name"}
		case ref.Name == "":
			return nil, &RefusedError{File: dir, Object: ref.String(), Reason: "an object has no name", Remedy: "give it metadata.name"}
		case seen[ref.Key()]:
			return nil, &RefusedError{File: dir, Object: ref.String(), Reason: "it is rendered twice", Remedy: "remove one, or give it another name or namespace"}
		}
		seen[ref.Key()] = true
	}
	return objs, nil
}

// judgeNames refuses names and namespaces that cannot be part of an object's address.
func judgeNames(dir string, objs []*unstructured.Unstructured) error {
	for _, o := range objs {
		if wrong := content.IsPathSegmentName(o.GetName()); len(wrong) > 0 {
			return &RefusedError{File: dir, Object: RefOf(o).String(), Reason: fmt.Sprintf("its name %q %s", o.GetName(), wrong[0]),
				Remedy: "give it a name that the API server takes"}
		}
		if wrong := content.IsDNS1123Label(o.GetNamespace()); o.GetNamespace() != "" && len(wrong) > 0 {
			return &RefusedError{File: dir, Object: RefOf(o).String(), Reason: fmt.Sprintf("its namespace %q is none: %s", o.GetNamespace(), wrong[0]),
				Remedy: "name a namespace that the API server takes"}
		}
	}
	return nil
}

func flatten(dir string, objs []*unstructured.Unstructured, depth int) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(objs))
	for _, o := range objs {
		if o.GetAPIVersion() != "v1" || o.GetKind() != "List" {
			out = append(out, o)
			continue
		}
		items, ok := o.Object["items"].([]any)
		if depth > 8 || (!ok && o.Object["items"] != nil) {
			return nil, &RefusedError{File: dir, Object: "List", Reason: "its items are no list of objects", Remedy: "write the objects one by one"}
		}
		inner := make([]*unstructured.Unstructured, 0, len(items))
		for _, i := range items {
			m, ok := i.(map[string]any)
			if !ok {
				return nil, &RefusedError{File: dir, Object: "List", Reason: "one of its items is no object", Remedy: "write the objects one by one"}
			}
			inner = append(inner, &unstructured.Unstructured{Object: m})
		}
		inner, err := flatten(dir, inner, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, inner...)
	}
	return out, nil
}

// secretFiles guesses for error messages which file each Secret comes from:
// Kustomize does not say. A name counts that the rendered one contains, since
// prefixes, suffixes and hashes are added to it.
func secretFiles(objs []*unstructured.Unstructured, content map[string][]byte) map[string]string {
	files := map[string]string{}
	for _, o := range objs {
		if ref := RefOf(o); ref.isSecret() {
			files[ref.Key()] = ""
		}
	}
	if len(files) == 0 {
		return nil
	}
	best := map[string]int{}
	note := func(name, file string) {
		for _, o := range objs {
			key := RefOf(o).Key()
			if _, ok := files[key]; ok && name != "" && strings.Contains(o.GetName(), name) &&
				(len(name) > best[key] || len(name) == best[key] && file < files[key]) {
				best[key], files[key] = len(name), file
			}
		}
	}
	for file, data := range content {
		if isKustomizationName(path.Base(file)) {
			var k types.Kustomization
			if k.Unmarshal(data) == nil {
				for _, g := range k.SecretGenerator {
					note(g.Name, file)
				}
			}
			continue
		}
		if !bytes.Contains(data, []byte("Secret")) {
			continue
		}
		parsed, err := parseObjects(string(data))
		if err != nil {
			continue
		}
		for _, p := range parsed {
			if p.GetKind() == "Secret" {
				note(p.GetName(), file)
			}
		}
	}
	return files
}

func isKustomizationName(name string) bool {
	for _, n := range konfig.RecognizedKustomizationFileNames() {
		if n == name {
			return true
		}
	}
	return false
}

// secretValues calls fn for every value of a Secret, in data and stringData.
func secretValues(o *unstructured.Unstructured, fn func(field, key string, value any) error) error {
	for _, field := range []string{"data", "stringData"} {
		m, _ := o.Object[field].(map[string]any)
		for _, key := range sortedKeys(m) {
			if err := fn(field, key, m[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeBase64 decodes a value of data; Kustomize wraps long ones.
func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	return b, err == nil
}
