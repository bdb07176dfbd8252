package declaration

import (
	"strings"
	"testing"
)

// A character of an expression is found in the file, however YAML writes the expression.
func TestWithin(t *testing.T) {
	const head = "apiVersion: purser.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\nspec:\n  rules:\n    - name: r\n      message: m\n"
	for name, text := range map[string]string{
		"plain":         "      expression: object.kind == HERE\n",
		"quoted":        "      expression: \"object.kind == HERE\"\n",
		"escaped":       "      expression: \"'a' == \\\"b\\\" || \\t'ä' == 'ä' || HERE\"\n",
		"single":        "      expression: 'object.kind == ''x'' || HERE'\n",
		"literal":       "      expression: |\n        object.kind == 'x' &&\n          HERE\n",
		"literal strip": "      expression: |-\n\n        object.kind == 'x'\n        && HERE\n",
		"folded":        "      expression: >-\n        object.kind == 'x' &&\n        HERE\n        && true\n",
		"folded plain":  "      expression: object.kind\n        == 'x' &&\n        HERE\n",
		"wide":          "      expression: \"'äöü€𝄞' == HERE\"\n",
		"character":     "      expression: \"'\\u00e4' == HERE\"\n",
		"flow":          "      expression: [1, 2]\n",
	} {
		data := head + text
		var errs Errors
		docs, _ := split("a.yaml", []byte(data), &errs)
		if !docs[0].header(&errs, "", "Policy") {
			t.Fatal(errs)
		}
		var spec PolicySpec
		docs[0].decode(&spec, false, &errs)
		if name == "flow" || name == "character" {
			if at := docs[0].within("spec.rules[0].expression", 1, 9); at.Line != 8 {
				t.Errorf("%s: %v", name, at)
			}
			continue
		}
		before, _, _ := strings.Cut(spec.Rules[0].Expression, "HERE")
		line, column := 1+strings.Count(before, "\n"), 1+len([]rune(before[strings.LastIndex(before, "\n")+1:]))
		got := docs[0].within("spec.rules[0].expression", line, column)
		before, _, _ = strings.Cut(data, "HERE")
		want := Position{"a.yaml", 1 + strings.Count(before, "\n"), 1 + len([]rune(before[strings.LastIndex(before, "\n")+1:]))}
		if got != want {
			t.Errorf("%s: %v, want %v (of %d:%d in %q)", name, got, want, line, column, spec.Rules[0].Expression)
		}
		if end := docs[0].within("spec.rules[0].expression", 99, 99); end.Line < want.Line {
			t.Errorf("%s: the end is at %v", name, end)
		}
	}
}
