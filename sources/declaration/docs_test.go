package declaration

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const reference = "../../docs/declarations.md"

// Every example of the reference is read; the governance kinds together, so
// that their references are checked too.
func TestReferenceExamples(t *testing.T) {
	g := &governance{known: known, complete: true}
	seen := map[string]bool{}
	for i, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readFile(t, reference), -1) {
		text, file := m[1], fmt.Sprintf("example-%d.yaml", i+1)
		kind := regexp.MustCompile(`(?m)^kind: (.*)$`).FindStringSubmatch(text)[1]
		seen[kind] = true
		var err error
		switch kind {
		case "Release":
			_, err = decodeRelease(file, []byte(text), nil)
		case "AgentConfig":
			_, err = decodeAgent(file, "/etc/purser", []byte(text))
		default:
			g.file(file, []byte(text))
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	if _, err := g.finish(); err != nil {
		t.Error(err)
	}
	for _, k := range kinds {
		if !seen[k.name] {
			t.Errorf("%s has no example", k.name)
		}
	}
}

// The tables of the reference have every field, with its default.
func TestReferenceTables(t *testing.T) {
	sections := strings.Split(readFile(t, reference), "\n## ")
	for _, k := range kinds {
		var got []string
		for _, section := range sections {
			if !strings.HasPrefix(section, k.name+"\n") {
				continue
			}
			for _, row := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\| ([^|]*) \\|").FindAllStringSubmatch(section, -1) {
				got = append(got, row[1]+" "+strings.Trim(row[2], "` "))
			}
		}
		if want := rows(k.spec, ""); !reflect.DeepEqual(got, want) {
			t.Errorf("the table of %s is\n%s\nwant\n%s", k.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func rows(typ reflect.Type, path string) []string {
	var all []string
	for _, f := range fieldsOf(reflect.New(typ).Elem()) {
		name, t := path+f.name, f.value.Type()
		if t.Kind() == reflect.Slice {
			name, t = name+"[]", t.Elem()
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct && t != timeType {
			all = append(all, rows(t, name+".")...)
			continue
		}
		def := f.rule.def
		if f.rule.required {
			def = "required"
		}
		all = append(all, name+" "+def)
	}
	return all
}
