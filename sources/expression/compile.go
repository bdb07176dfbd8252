package expression

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	program cel.Program
	checked *cel.Ast
	text    string
}

// CompileRule checks an expression and makes it ready to be evaluated. Its error is [Errors]: everything that is wrong,
// each with its place.
func CompileRule(kind Kind, text string) (*Program, error) {
	environment := environments[kind]
	if environment == nil {
		return nil, fmt.Errorf("compile expression: %s is not known", kind)
	}
	env := environment()
	if strings.TrimSpace(text) == "" {
		return nil, Errors{{1, 1, "the expression is empty", "write one that is true or false"}}
	}
	if n := utf8.RuneCountInString(text); n > MaxLength {
		return nil, Errors{{1, 1, fmt.Sprintf("the expression has %d characters", n), fmt.Sprintf("it may have %d: split it into several", MaxLength)}}
	}
	if !utf8.ValidString(text) {
		return nil, Errors{{1, 1, "the expression is not valid UTF-8", "correct it"}}
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, translate(kind, text, issues.Errors())
	}
	patterns, errs := checkCalls(checked)
	if result := checked.OutputType(); result != cel.BoolType {
		errs = append(errs, Error{1, 1, fmt.Sprintf("its result is of type %s, not true or false", result), remedyForResult(result)})
	}
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	program, err := env.Program(checked,
		cel.CustomDecoratorV2(boundedEquality),
		cel.OptimizeRegex(boundedMatch(patterns)),
		cel.CostTracking(costs{patterns}),
		cel.CostLimit(CostLimit),
	)
	if err != nil {
		return nil, Errors{{1, 1, err.Error(), "correct the expression"}}
	}
	return &Program{program: program, checked: checked, text: text}, nil
}

func remedyForResult(result *cel.Type) string {
	if result == cel.DynType {
		return `its value is known only when it is evaluated: compare it, as in "… == true"`
	}
	return "compare it with what it should be"
}

// maxErrors is how many mistakes of one expression are told.
const maxErrors = 10

func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	return e[:min(len(e), maxErrors)]
}

// translate gives the errors of CEL with a remedy.
func translate(kind Kind, text string, found []*common.Error) Errors {
	lines := strings.Split(text, "\n")
	errs := make(Errors, len(found))
	for i, e := range found {
		why, _, _ := strings.Cut(e.Message, "\n")
		why = strings.ReplaceAll(why, " (in container '')", "")
		why, _, _ = strings.Cut(why, " expecting {") // a list of all that CEL knows
		errs[i] = Error{Line: max(1, e.Location.Line()), Column: max(1, e.Location.Column()+1), Why: why}
		before := ""
		if n := errs[i].Line; n <= len(lines) {
			line := []rune(lines[n-1])
			before = string(line[:min(len(line), errs[i].Column-1)])
		}
		errs[i].Remedy = remedy(kind, why, before)
	}
	return errs.sorted()
}

// remedy says what to do about an error, which stands behind what is before it in its line.
func remedy(kind Kind, why, before string) string {
	switch {
	case strings.HasSuffix(why, "'optMap'"), strings.HasSuffix(why, "'optFlatMap'"):
		return "expressions do not have it: use orValue"
	case strings.HasPrefix(why, "max recursion depth"):
		return "split it into several expressions"
	case strings.HasPrefix(why, "undeclared reference"):
		return fmt.Sprintf("the variables of this %s are %s", kind, strings.Join(names[kind], ", "))
	case strings.HasPrefix(why, "undefined field"):
		of := before[strings.LastIndexFunc(before, func(r rune) bool { return !unicode.IsLetter(r) })+1:]
		if fields := structs[variables[of].typeName()]; fields != nil {
			return fmt.Sprintf("the fields of %s are %s", of, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		return "write a field that it has"
	case strings.HasPrefix(why, "found no matching overload"):
		return "compare or combine values of types that go together"
	}
	return "correct it (CEL)"
}

func (v variable) typeName() string {
	if v.kind == nil {
		return ""
	}
	return v.kind.TypeName()
}
