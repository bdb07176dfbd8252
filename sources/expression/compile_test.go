package expression

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	const all = "object, oldObject, environment, tenant, release"
	tests := []struct {
		kind       Kind
		text, want string // place, reason and remedy, or their beginning
	}{
		{ObjectRule, "objct.kind == 'Pod'", "1:1: undeclared reference to 'objct': the variables of this object rule are " + all},
		{ObjectRule, "objects.all(o, true)", "1:1: undeclared reference to 'objects': the variables of this object rule are " + all},
		{ReleaseRule, "object.kind == 'Pod'", "1:1: undeclared reference to 'object': the variables of this release rule are objects,"},
		{Classification, "tenant.name == 'north'", "1:1: undeclared reference to 'tenant': the variables of this classification are changes,"},
		{ObjectRule, "environment.nmae == 'dev'", "1:12: undefined field 'nmae': the fields of environment are class, cluster, name, namespace, purpose, tenant"},
		{ObjectRule, "release.change.tiket == ''", "1:15: undefined field 'tiket': write a field that it has"},
		{Classification, "changes.exists(c, c.knd == 'Pod')", "1:20: undefined field 'knd'"},
		{ObjectRule, "true &&\n  environment.name == 1", "2:20: found no matching overload for '_==_' applied to '(string, int)': compare or"},
		{ObjectRule, "object.kind == 'Bücher' && environment.name > 3", "1:45: found no matching overload for '_>_'"}, // columns count characters
		{ObjectRule, "1 +", "1:4: Syntax error: mismatched input '<EOF>': correct it (CEL)"},
		{ObjectRule, "object.kind = 'Pod'", "1:13: Syntax error: "},
		{ObjectRule, "", "1:1: the expression is empty: write one"},
		{ObjectRule, " \n", "1:1: the expression is empty: write one"},
		{ObjectRule, "object.kind == '\xff'", "1:1: the expression is not valid UTF-8"},
		{ObjectRule, strings.Repeat("true && ", 600) + "true", "1:1: the expression has 4804 characters: it may have 4096"},
		{ObjectRule, strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "1:"},
		{ObjectRule, "object.metadata.name", "1:1: its result is of type dyn, not true or false: its value is known only"},
		{ObjectRule, "environment.name", "1:1: its result is of type string, not true or false: compare it"},
		{ObjectRule, "[true]", "1:1: its result is of type list(bool)"},
		{ObjectRule, "null", "1:1: its result is of type null"},

		{ObjectRule, "object.a.matches(object.b)", "1:24: the pattern of matches is not written out: write it in quotes"},
		{ObjectRule, "matches(environment.name, 'a' + 'b')", "1:31: the pattern of matches is not written out"},
		{ObjectRule, "environment.name.matches('(')", "1:26: the pattern of matches is wrong: error parsing regexp: missing closing ): `(`: correct"},
		{ObjectRule, "environment.name.matches('((a{50}){20})')", "1:26: the pattern of matches is too large"},
		{ObjectRule, "object.a.replace('a', 'b') == 'b'", "1:17: expressions do not have the function \"replace\""},
		{ObjectRule, "['a'].join() == 'a'", "1:11: expressions do not have the function \"join\""},
		{ObjectRule, "'%s'.format(['a']) == 'a'", "1:12: expressions do not have the function \"format\""},
		{ObjectRule, "'a'.indexOf('a') == 0", "1:12: expressions do not have the function \"indexOf\""},
		{ObjectRule, "timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') == 1", "1:43: expressions do not have the function \"getHours\""},
		{ObjectRule, "now() > timestamp('2026-01-01T00:00:00Z')", "1:4: undeclared reference to 'now'"},
		{ObjectRule, "object.?a.optMap(x, x).orValue(true) == true", "1:17: undeclared reference to 'optMap': expressions do not have it: use orValue"},
		{ObjectRule, "environment == Environment{name: 'dev'}", "1:27: it makes a Environment: compare the fields one by one"},
		{ObjectRule, "quantity('1') > 1", "1:15: found no matching overload"},
	}
	for _, test := range tests {
		_, err := CompileRule(test.kind, test.text)
		var errs Errors
		if !errors.As(err, &errs) {
			t.Errorf("%q: got %v", test.text, err)
			continue
		}
		if !strings.HasPrefix(errs[0].Error(), test.want) || errs[0].Remedy == "" {
			t.Errorf("%q:\ngot  %s\nwant %s", test.text, errs[0], test.want)
		}
	}
	if _, err := CompileRule(0, "true"); err == nil {
		t.Error("a kind that does not exist is accepted")
	}
}

func TestCompileTellsEverything(t *testing.T) {
	t.Parallel()
	_, err := CompileRule(ObjectRule, "environment.nmae == 'a' ||\n objct.b == 'c' ||\n environment.name == 1")
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 3 || errs[0].Line != 1 || errs[1].Line != 2 || errs[2].Line != 3 {
		t.Errorf("got %v", err)
	}
}

// TestCompileIsBounded gives texts that parsers are known to spend much time on.
func TestCompileIsBounded(t *testing.T) {
	t.Parallel()
	long := func(part string) string { return strings.Repeat(part, MaxLength/len(part)) }
	nested := func(open, middle, end string) string {
		n := (MaxLength - len(middle)) / (len(open) + len(end))
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	for _, text := range []string{
		long("("), long("["), long("{"), long("!"), long("-"), long("a."), long("a?"), long("a[0]"), long("''"), long("\n"), long("1+"),
		nested("(", "true", ")"), nested("[", "1", "]"), nested("{1:", "1", "}"), nested("!(", "true", ")"), nested("has(a.", "b", ")"),
		"object" + long(".?a")[:3000] + ".orValue(true) == true", "object" + long(".a")[:3000] + " == true",
		"object" + long(".?a.or(object.?b)")[:3000], "object" + long(".?a.optMap(x,x)")[:3000],
		nested("[1].map(x,", "1", ")"), nested("[1].all(x,", "true", ")"), "[1]" + long(".map(x,x+x)")[:3000] + " == [1]",
		nested("true?", "true", ":true"), nested("dyn(", "1", ")"), nested("type(", "1", ")"), "[" + long("[1],")[:4000] + "[1]] == []",
		nested("optional.of(", "1", ")"), long("true||"), long("true&&"), "'" + long("a") + "'", "'a'.matches('" + strings.Repeat("(a?){20}", 100) + "')",
	} {
		begin := time.Now()
		_, err := CompileRule(ObjectRule, text)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%.40q took %s: %.200v", text, took, err)
		}
	}
}

// FuzzCompile looks for texts that crash it, or whose errors have no place.
func FuzzCompile(f *testing.F) {
	for _, rule := range rules {
		f.Add(rule.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := CompileRule(ObjectRule, text)
		var errs Errors
		if errors.As(err, &errs) {
			for _, e := range errs {
				if e.Line < 1 || e.Column < 1 || e.Why == "" || e.Remedy == "" {
					t.Errorf("%#v", e)
				}
			}
		}
		if err == nil {
			_, _ = p.Eval(sample())
		}
	})
}
