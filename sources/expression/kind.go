package expression

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
)

// Kind is what an expression is for. It decides on the variables.
type Kind int

// The kinds. The zero value is none.
const (
	ObjectRule     Kind = iota + 1 // a rule of a policy, for each object
	ReleaseRule                    // a rule of a policy, for all objects of a release
	Classification                 // raises the class of a release
)

// String gives the name of the kind.
func (k Kind) String() string {
	switch k {
	case ObjectRule:
		return "object rule"
	case ReleaseRule:
		return "release rule"
	case Classification:
		return "classification"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// names are the variables of each kind, in the order in which they are told.
var names = map[Kind][]string{
	ObjectRule:     {"object", "oldObject", "environment", "tenant", "release"},
	ReleaseRule:    {"objects", "environment", "tenant", "release"},
	Classification: {"changes", "paths", "modules", "release", "environment"},
}

// environments are made when they are first needed, and once: each holds all functions of the language.
var environments = map[Kind]func() *cel.Env{
	ObjectRule:     sync.OnceValue(func() *cel.Env { return newEnvironment(ObjectRule) }),
	ReleaseRule:    sync.OnceValue(func() *cel.Env { return newEnvironment(ReleaseRule) }),
	Classification: sync.OnceValue(func() *cel.Env { return newEnvironment(Classification) }),
}

// newEnvironment gives the language of a kind. It panics on a mistake in this package, which any test shows.
func newEnvironment(kind Kind) *cel.Env {
	options := []cel.EnvOption{
		cel.OptionalTypes(),
		// Of the macros of optional values, each doubles what it is called on: a chain of them would never be parsed.
		cel.ClearMacros(), cel.Macros(cel.StandardMacros...),
		ext.Strings(ext.StringsVersion(5)), // from this version on it tells what it costs
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ParserRecursionLimit(maxDepth),
		quantities,
		withStructs,
	}
	for _, name := range names[kind] {
		options = append(options, cel.Variable(name, variables[name].kind))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		panic(fmt.Sprintf("expression: %s: %v", kind, err))
	}
	return env
}
