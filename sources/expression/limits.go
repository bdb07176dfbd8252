package expression

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

const (
	// MaxLength is how many characters an expression may have.
	MaxLength = 4096
	// CostLimit is what one evaluation may cost. Reading a field or calling a function costs 1, and more where it looks
	// at more: 1 for each 100 characters of a text, 1 for each 10 in functions that make a new one. A rule over an
	// ordinary object costs some tens; comparing each of 150 objects with each of 300, 250,000. All of it takes in the
	// order of a second.
	CostLimit = 500_000

	maxDepth   = 50         // of nested parts of an expression
	maxPattern = 1000       // instructions of a pattern's program
	maxSteps   = 50_000_000 // of one match: characters times instructions
)

// offered are the functions that an expression may call. Left out are those whose cost cannot be bounded before they run
// (replace, join, indexOf, format) and calendar functions, which read time zones from disk.
var offered = slices.Concat([]string{
	operators.Conditional, operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
	operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate,
	operators.Index, operators.OptIndex, operators.OptSelect, operators.In, operators.NotStrictlyFalse,
	"size", "contains", "startsWith", "endsWith", "matches",
	"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint",
	"optional.of", "optional.ofNonZeroValue", "optional.none", "hasValue", "value", "or", "orValue",
	"charAt", "lowerAscii", "upperAscii", "split", "substring", "trim",
}, quantityFunctions)

// checkCalls refuses what the type checker lets through. It gives the programs' sizes of the patterns.
func checkCalls(checked *cel.Ast) (patterns map[string]int, errs Errors) {
	info := checked.NativeRep().SourceInfo()
	patterns = map[string]int{}
	refuse := func(e ast.Expr, why, remedy string) {
		at := info.GetStartLocation(e.ID())
		errs = append(errs, Error{Line: at.Line(), Column: at.Column() + 1, Why: why, Remedy: remedy})
	}
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.StructKind {
			refuse(e, "it makes a "+e.AsStruct().TypeName(), "compare the fields one by one")
		}
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		switch name := call.FunctionName(); {
		case !slices.Contains(offered, name):
			refuse(e, fmt.Sprintf("expressions do not have the function %q", name), "use split, startsWith, endsWith, contains or matches")
		case name == "matches":
			args := call.Args()
			pattern := args[len(args)-1]
			if pattern.Kind() != ast.LiteralKind || pattern.AsLiteral().Type() != types.StringType {
				refuse(pattern, "the pattern of matches is not written out", "write it in quotes")
				return
			}
			text := string(pattern.AsLiteral().(types.String))
			if size, err := patternSize(text); err != nil {
				refuse(pattern, "the pattern of matches is wrong: "+err.Error(), "correct it (RE2 syntax)")
			} else if size > maxPattern {
				refuse(pattern, "the pattern of matches is too large", "shorten it or its repetitions")
			} else {
				patterns[text] = size
			}
		}
	}))
	return patterns, errs
}

// patternSize gives the number of instructions that matching steps through.
func patternSize(pattern string) (int, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}

// boundedMatch compiles each pattern once, and refuses texts on which it may take too long.
func boundedMatch(patterns map[string]int) *interpreter.RegexOptimization {
	return &interpreter.RegexOptimization{
		Function:   "matches",
		RegexIndex: 1,
		Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
			compiled, err := regexp.Compile(pattern)
			if err != nil {
				return nil, err
			}
			longest := maxSteps / patterns[pattern]
			match := func(args ...ref.Val) ref.Val {
				text, ok := args[0].Value().(string)
				if !ok {
					return types.NoSuchOverloadErr()
				}
				if len(text) > longest {
					panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "text too long for the pattern"})
				}
				return types.Bool(compiled.MatchString(text))
			}
			return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), match), nil
		},
	}
}

// boundedEquality weighs values before it compares them: a list that holds a list twice, which holds a list twice and so
// on, is small and takes for ever to compare.
func boundedEquality(step interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := step.(interpreter.InterpretableCall)
	if !ok {
		return step, nil
	}
	var compare func(a, b ref.Val) ref.Val
	switch call.Function() {
	case operators.Equals:
		compare = types.Equal
	case operators.NotEquals:
		compare = func(a, b ref.Val) ref.Val { return types.Bool(types.Equal(a, b) != types.True) }
	case operators.In:
		compare = func(a, b ref.Val) ref.Val {
			if container, ok := b.(traits.Container); ok {
				return container.Contains(a)
			}
			return types.NoSuchOverloadErr()
		}
	default:
		return step, nil
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		if lighter(args[0], args[1]) >= heaviest {
			panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "values too large to compare"})
		}
		return compare(args[0], args[1])
	}), nil
}

// costs says what calls cost. It implements [interpreter.ActualCostEstimator].
type costs struct{ patterns map[string]int }

// CallCost counts what CEL's own costs leave out: the length of lists that are joined, what lies within objects that are
// compared, how large a pattern's program is, and the length of texts in all other calls.
func (c costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	cost := uint64(1)
	switch function {
	case operators.In:
		if list, ok := args[1].(traits.Lister); ok {
			cost += sizeOf(list) * (1 + weigh(args[0])/charactersPerCost)
		}
	case operators.Equals, operators.NotEquals:
		cost += lighter(args[0], args[1]) / charactersPerCost
	case "matches":
		pattern, _ := args[1].Value().(string)
		cost += (1 + weigh(args[0])) * uint64(c.patterns[pattern]) / stepsPerCost
	default:
		for _, arg := range args {
			switch v := arg.(type) {
			case types.String:
				cost += uint64(len(v)) / charactersPerCost
			case types.Bytes:
				cost += uint64(len(v)) / charactersPerCost
			case traits.Lister:
				if function == operators.Add {
					cost += sizeOf(v)
				}
			}
		}
	}
	return &cost
}

const (
	charactersPerCost = 100
	elementWeight     = 50 // of each element of a list or map, in characters
	stepsPerCost      = 100
	// heaviest is the most that values are weighed.
	heaviest = CostLimit * charactersPerCost
)

func sizeOf(list traits.Lister) uint64 {
	n, _ := list.Size().(types.Int)
	return uint64(n)
}

// lighter gives the weight of the lighter of two values: comparing them looks at no more of the other.
func lighter(a, b ref.Val) uint64 {
	switch a.(type) {
	case types.Bool, types.Int, types.Double, types.Null, *types.Type:
		return 1
	}
	weight := weigh(a)
	if weight <= charactersPerCost {
		return weight
	}
	return min(weight, weigh(b))
}

// weigh gives the number of characters of a value, with some for each element, at most heaviest.
func weigh(v ref.Val) uint64 {
	s := scale{left: heaviest}
	s.put(v.Value())
	return uint64(heaviest - max(0, s.left))
}

type scale struct{ left int }

func (s *scale) put(value any) {
	s.left -= elementWeight
	if s.left <= 0 {
		return
	}
	switch v := value.(type) {
	case string:
		s.left -= len(v)
	case []byte:
		s.left -= len(v)
	case map[string]any:
		for key, inner := range v {
			s.left -= len(key)
			s.put(inner)
		}
	case []any:
		for _, inner := range v {
			s.put(inner)
		}
	case []map[string]any:
		for _, inner := range v {
			s.put(inner)
		}
	case []ref.Val:
		for _, inner := range v {
			s.put(inner.Value())
		}
	case map[ref.Val]ref.Val:
		for key, inner := range v {
			s.put(key.Value())
			s.put(inner.Value())
		}
	case []ObjectChange:
		s.left -= elementWeight * len(v)
	case *ObjectChange:
		s.left -= elementWeight * len(v.Fields)
	}
}
