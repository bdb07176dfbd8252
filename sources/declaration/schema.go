package declaration

import (
	"embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// The doc comments of the types are the descriptions in the schemas.
//
//go:embed types.go estate.go tenant.go environment.go person.go class.go schedule.go policy.go backup.go release.go agent.go agent_backup.go
var typeFiles embed.FS

// Schemas gives the JSON Schema (draft 7) of each kind, by file name, such as
// environment.json. They are made of the types that the decoder fills.
func Schemas() (map[string][]byte, error) {
	comments, err := fieldComments()
	if err != nil {
		return nil, err
	}
	schemas := map[string][]byte{}
	for _, k := range kinds {
		text, err := json.MarshalIndent(k.schema(comments), "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encode schema of %s: %w", k.name, err)
		}
		schemas[strings.ToLower(k.name)+".json"] = append(text, '\n')
	}
	return schemas, nil
}

func (k kind) schema(comments map[string]string) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous:                  true, // no $id: the file's place is its address
		DoNotReference:             true, // one tree, which every editor understands
		RequiredFromJSONSchemaTags: true,
		Mapper:                     mapType,
		LookupComment:              func(t reflect.Type, field string) string { return comments[t.Name()+"."+field] },
	}
	word := func(text, description string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Enum: []any{text}, Description: description}
	}
	part := func(t reflect.Type, description string) *jsonschema.Schema {
		s := r.ReflectFromType(t)
		s.Version, s.Description = "", description
		tighten(s)
		return s
	}
	root := &jsonschema.Schema{
		Version: "http://json-schema.org/draft-07/schema#",
		Title:   k.name, Description: comments[k.name+"."],
		Type: "object", Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema,
		Required: []string{"apiVersion", "kind"},
	}
	root.Properties.Set("apiVersion", word(APIVersion, "Version of this format."))
	root.Properties.Set("kind", word(k.name, "What this document declares."))
	if k.named {
		root.Properties.Set("metadata", part(reflect.TypeFor[Meta](), "Name of the declaration."))
		root.Required = append(root.Required, "metadata")
	}
	root.Properties.Set("spec", part(k.spec, "What is declared."))
	if k.needsSpec() {
		root.Required = append(root.Required, "spec")
	}
	return root
}

// mapType gives the schemas of the types that are written as texts.
func mapType(t reflect.Type) *jsonschema.Schema {
	switch t {
	case durationType:
		return &jsonschema.Schema{Type: "string", Pattern: duration}
	case timeType:
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	}
	return nil
}

// tighten turns the formats of this package into patterns, and says of every
// required text that it is not empty.
func tighten(s *jsonschema.Schema) {
	if f, ok := formats[s.Format]; ok {
		s.Format, s.Pattern = "", f.pattern
		if f.max > 0 {
			most := uint64(f.max)
			s.MaxLength = &most
		}
	}
	if s.Items != nil {
		tighten(s.Items)
	}
	if s.Properties == nil {
		return
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		tighten(p.Value)
	}
	for _, name := range s.Required {
		if p, _ := s.Properties.Get(name); p.Type == "string" && p.Pattern == "" && len(p.Enum) == 0 {
			one := uint64(1)
			p.MinLength = &one
		}
	}
}

// fieldComments gives the doc comments of the types, as "Type." and "Type.Field".
func fieldComments() (map[string]string, error) {
	comments := map[string]string{}
	files, err := typeFiles.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read comments: %w", err)
	}
	for _, f := range files {
		text, err := typeFiles.ReadFile(f.Name())
		if err != nil {
			return nil, fmt.Errorf("read comments: %w", err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("read comments: %w", err)
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				t := spec.(*ast.TypeSpec)
				comments[t.Name.Name+"."] = sentence(g.Doc)
				if st, ok := t.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, id := range f.Names {
							comments[t.Name.Name+"."+id.Name] = sentence(f.Doc)
						}
					}
				}
			}
		}
	}
	return comments, nil
}

// sentence gives a comment as one line, without the links of Go's comments.
func sentence(doc *ast.CommentGroup) string {
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(strings.Fields(doc.Text()), " "))
}
