package expression

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFailures has evaluations without an answer. None of the errors may hold a value of an object.
func TestFailures(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, test := range []struct{ text, want string }{
		{"object.metadata.labels.team == 'pos'", "evaluate expression: 1:23: no such key: team"},
		{"object.metadata.annotations.team == 'pos'", "evaluate expression: 1:28: no such key: annotations"},
		{"object.kind > 3", "evaluate expression: 1:13: no such overload"},
		{"!object.kind", "evaluate expression: 1:1: no such overload"},
		{"object.kind ? true : false", "evaluate expression: 1:13: no such overload"},
		{"object.list[7] == 1", "evaluate expression: 1:12: index out of bounds: 7"},
		{"object.number / 0 == 1", "evaluate expression: 1:15: division by zero"},
		{"object.number + 9223372036854775807 == 1", "evaluate expression: 1:15: integer overflow"},
		{"object.list.all(x, x.name == 'a')", "evaluate expression: 1:21: no such key: name"},
		{"object.?nothing.value() == 1", "evaluate expression: 1:22: optional.none() dereference"},
		{"int(object.secret) == 1", "evaluate expression: 1:4: "},
		{"double(object.secret) == 1.0", "evaluate expression: 1:7: type conversion error"},
		{"timestamp(object.secret) == timestamp(object.secret)", "evaluate expression: 1:10: "},
		{"duration(object.secret) == duration('1s')", "evaluate expression: 1:9: "},
		{"object.metadata[object.secret] == 1", "evaluate expression: 1:16: no such key"},
		{"quantity(object.secret) == quantity('1')", "evaluate expression: 1:9: not a quantity"},
		{"object.secret.substring(99) == ''", "evaluate expression: 1:24: index out of range: 99"},
		{"bool(object.secret)", "evaluate expression: 1:5: "},
		{"object.list.exists(x, object.metadata[object.secret] == x)", "evaluate expression: 1:38: no such key"},
	} {
		vars := sample()
		vars.Object = decode(`{"kind":"Pod","metadata":{"labels":{}},"list":[1,2],"number":5,"secret":"` + secret + `"}`)
		holds, err := compile(t, ObjectRule, test.text).Eval(vars)
		if err == nil || holds || !strings.HasPrefix(err.Error(), test.want) || errors.Is(err, ErrCost) {
			t.Errorf("%s:\ngot  %v, %v\nwant %s", test.text, holds, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds a value: %v", test.text, err)
		}
	}
}

// TestWithoutValues evaluates rules of which nothing is known: they fail or say no, they do not crash.
func TestWithoutValues(t *testing.T) {
	t.Parallel()
	for _, rule := range rules {
		_, _ = compile(t, ObjectRule, rule.text).Eval(&Vars{})
	}
	if got, err := compile(t, Classification, "changes == [] && paths == [] && modules == [] && release.images == {}").Eval(&Vars{}); !got || err != nil {
		t.Error(got, err)
	}
	if got, err := compile(t, ObjectRule, "oldObject == null").Eval(&Vars{}); !got || err != nil {
		t.Error(got, err)
	}
}

// TestCostBombs has expressions that would compute for minutes or take all memory.
func TestCostBombs(t *testing.T) {
	t.Parallel()
	numbers := "[" + strings.Repeat("0,", 99) + "0]"
	for name, text := range map[string]string{
		"nested loops":                numbers + ".all(a, " + numbers + ".all(b, " + numbers + ".all(c, " + numbers + ".all(d, a == b && c == d))))",
		"nested loops over nothing":   "[" + numbers + "].all(l, l.all(a, l.all(b, l.all(c, l.all(d, true)))))",
		"nested loops over a field":   "[" + numbers + "].all(l, l.all(a, l.all(b, l.all(c, l.all(d, environment.name != 'x')))))",
		"nested loops of exists":      "[" + numbers + "].exists(l, l.exists(a, l.exists(b, l.exists(c, l.exists(d, false)))))",
		"nested loops that fail":      "[" + numbers + "].exists(l, l.exists(a, l.exists(b, l.exists(c, double(object.text) > 0.0))))",
		"objects times objects":       "object.list.all(a, object.list.all(b, object.list.all(c, a != b || b != c || a == c)))",
		"comparison of large objects": "object.list.all(a, object.list.all(b, object == object))",
		"objects in lists":            "object.list.all(a, object.list.all(b, object in [{}, object]))",
		"list that doubles":           "[[1]]" + strings.Repeat(".map(x, x + x)", 35) + ".all(x, 2 in x)",
		"list that doubles, compared": "[[1]]" + strings.Repeat(".map(x, x + x)", 35) + ".all(x, x == x)",
		"list that doubles, counted":  "[[1]]" + strings.Repeat(".map(x, x + x)", 35) + ".all(x, size(x) == 2)",
		"text that doubles":           "[object.text]" + strings.Repeat(".map(x, x + x)", 35) + ".all(x, x != 'b')",
		"lists within lists":          "[[1]]" + strings.Repeat(".map(x, [x, x])", 35) + ".all(x, x == x)",
		"maps within maps":            "[{'a': 1}]" + strings.Repeat(".map(x, {'a': x, 'b': x})", 35) + ".all(x, x == x)",
		"patterns":                    "object.list.all(a, object.list.all(b, object.text.matches('(a|aa|aaa|a{1,300})+$')))",
		"pattern on a large text":     "object.text.matches('(x?){90}(x+x+)+y')",
		"splitting":                   "object.list.all(a, object.list.all(b, object.text.split('').size() > 0))",
		"conversions":                 "object.list.exists(a, object.list.exists(b, double(object.digits) < 0.0))",
		"conversions that fail":       "object.list.exists(a, object.list.exists(b, timestamp(object.text) == timestamp(object.text)))",
		"searching":                   "object.list.all(a, object.list.all(b, !object.text.contains('aaaaaaaaaaaaaaaaaaaaab')))",
		"size of a text":              "object.list.all(a, object.list.all(b, size(object.text) > 0))",
		"upper case":                  "object.list.all(a, object.list.all(b, object.text.upperAscii() != ''))",
		"prefix":                      "object.list.all(a, object.list.all(b, object.text.startsWith(object.text)))",
		"order of texts":              "object.list.all(a, object.list.all(b, object.text <= object.text))",
		"keys":                        "object.list.all(a, object.list.all(b, object.map.exists(k, k == 'nothing') == false))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := CompileRule(ObjectRule, text)
			if err != nil {
				t.Fatal(err)
			}
			vars := sample()
			vars.Object = large
			begin := time.Now()
			holds, err := p.Eval(vars)
			if took := time.Since(begin); took > time.Minute || !errors.Is(err, ErrCost) || holds {
				t.Errorf("%v, %v after %s", holds, err, took)
			}
		})
	}
}

// large is an object as large as the API server takes.
var large = func() map[string]any {
	list, keys := make([]any, 2000), map[string]any{}
	for i := range list {
		list[i] = map[string]any{"name": "element", "value": int64(1)}
		keys[fmt.Sprint("key-", i)] = "value"
	}
	return map[string]any{"list": list, "map": keys, "text": strings.Repeat("a", 1<<20), "digits": strings.Repeat("9", 1<<20)}
}()

// TestOrdinaryCost expects that large, honest releases stay far below the limit.
func TestOrdinaryCost(t *testing.T) {
	t.Parallel()
	vars := sample()
	for i := range 150 {
		vars.Objects = append(vars.Objects, decode(fmt.Sprintf(`{"kind":"Deployment","metadata":{"name":"d%d"}}`, i)),
			decode(fmt.Sprintf(`{"kind":"PodDisruptionBudget","metadata":{"name":"d%d"}}`, i)))
	}
	vars.Objects = vars.Objects[3:]
	p := compile(t, ReleaseRule, "objects.filter(o, o.kind == 'Deployment').all(d, objects.exists(p, p.kind == 'PodDisruptionBudget' && p.metadata.name == d.metadata.name))")
	if got, err := p.Eval(vars); err != nil || !got {
		t.Error(got, err)
	}
	vars.Object = large
	for _, text := range []string{"!object.text.contains('password')", "!object.text.matches('(?i)password')", "object == object", "object.list.all(x, x.value == 1)"} {
		if got, err := compile(t, ObjectRule, text).Eval(vars); err != nil || !got {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestConcurrentUse evaluates one program in many goroutines.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := compile(t, ObjectRule, rules[1].text)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				vars := sample()
				vars.Object = decode([]string{rules[1].good, rules[1].bad}[(worker+i)%2])
				if got, err := p.Eval(vars); err != nil || got != ((worker+i)%2 == 0) {
					t.Error(got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestQuantities(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"quantity('1') == quantity('1000m')": true, "quantity('1Gi').isGreaterThan(quantity('1G'))": true, "quantity(3) == quantity('3')": true,
		"quantity('1.5Gi').compareTo(quantity('1536Mi')) == 0": true, "isQuantity('500m') && isQuantity('1e3') && isQuantity('.5')": true,
		"isQuantity('') || isQuantity('1 Gi') || isQuantity('1GB') || isQuantity('1e999999999') || isQuantity('.') || isQuantity('-')": false,
		"type(quantity('1')) == type(quantity('2'))": true, "quantity('1') == dyn(1)": false, "quantity('1') in [quantity('1000m')]": true,
	} {
		if got, err := compile(t, ObjectRule, text).Eval(sample()); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// BenchmarkRules evaluates rules on objects as the policies of 1,000 environments do: 20 rules on 4 objects in each.
func BenchmarkRules(b *testing.B) {
	programs := make([]*Program, 20)
	objects := make([]map[string]any, 20)
	for i := range programs {
		rule := rules[i%len(rules)]
		programs[i] = compile(b, ObjectRule, rule.text)
		objects[i] = decode(rule.good)
	}
	for b.Loop() {
		for range 1000 {
			vars := sample1
			for i, p := range programs {
				vars.Object = objects[i]
				for range 4 {
					if holds, err := p.Eval(vars); err != nil || !holds {
						b.Fatal(i, holds, err)
					}
				}
			}
		}
	}
}

var sample1 = sample()

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		for _, rule := range rules {
			compile(b, ObjectRule, rule.text)
		}
	}
}
