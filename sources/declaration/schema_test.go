package declaration

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
)

const schemaDir = "../../docs/schemas"

func TestSchemasAreFresh(t *testing.T) {
	schemas, err := Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range schemas {
		if got := readFile(t, filepath.Join(schemaDir, name)); got != string(want) {
			t.Errorf("%s is not what the types say; run go generate in sources/declaration", name)
		}
	}
	files, err := os.ReadDir(schemaDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(schemas) {
		t.Errorf("%d files in %s, want %d", len(files), schemaDir, len(schemas))
	}
}

func TestSchemasDescribeEveryField(t *testing.T) {
	schemas, err := Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range schemas {
		var s spec.Schema
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		described(t, name, s)
	}
}

func described(t *testing.T, path string, s spec.Schema) {
	if s.Description == "" {
		t.Errorf("%s has no description", path)
	}
	for name, p := range s.Properties {
		described(t, path+"."+name, p)
	}
	if s.Items != nil {
		for name, p := range s.Items.Schema.Properties {
			described(t, path+"[]."+name, p)
		}
	}
}

// bySchema reports whether the schemas accept every document of text.
func bySchema(t *testing.T, schemas map[string][]byte, text string) error {
	t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var root yaml.Node
		if err := dec.Decode(&root); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		doc, _ := plain(root.Content[0]).(map[string]any)
		kind, _ := doc["kind"].(string)
		text, ok := schemas[strings.ToLower(kind)+".json"]
		if !ok {
			return errors.New("no schema of that kind")
		}
		var s spec.Schema
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if err := validate.NewSchemaValidator(&s, nil, "", strfmt.Default).Validate(doc).AsError(); err != nil {
			return err
		}
	}
}

// plain gives the value of n as JSON has it, with every scalar that JSON does
// not know as a text.
func plain(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			list = append(list, plain(item))
		}
		return list
	case yaml.AliasNode:
		return plain(n.Alias)
	}
	switch n.ShortTag() {
	case "!!int", "!!float", "!!bool", "!!null":
		var v any
		if err := json.Unmarshal([]byte(n.Value), &v); err == nil {
			return v
		}
		if n.ShortTag() == "!!null" {
			return nil
		}
	}
	return n.Value
}

func TestSchemasAgreeWithTheDecoder(t *testing.T) {
	schemas, err := Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range fixtures(t, "testdata/*/*.good.yaml") {
		if err := bySchema(t, schemas, readFile(t, path)); err != nil {
			t.Errorf("%s: the decoder accepts it, the schema does not: %v", path, err)
		}
	}
	for _, path := range fixtures(t, "testdata/*/*.bad.yaml") {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".bad.yaml")
		err := bySchema(t, schemas, readFile(t, path))
		if bad[name].beyond != (err == nil) {
			t.Errorf("%s: refused by the schema: %v, want %v", name, err, !bad[name].beyond)
		}
	}
}
