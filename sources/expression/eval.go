package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
)

// Eval says whether the expression is true of the values. An error means that there is no answer: it is [ErrCost] or
// says where and why the evaluation failed.
func (p *Program) Eval(vars *Vars) (bool, error) {
	value, _, err := p.program.Eval(activation{vars})
	if err != nil {
		return false, p.failure(err)
	}
	holds, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("evaluate expression: its result is neither true nor false")
	}
	return bool(holds), nil
}

// reasons are the beginnings of CEL's messages that are told. What follows them may be a value of an object, and is told
// only when the expression itself says it.
var reasons = []string{
	"no such key", "no such attribute", "no such overload", "no such field", "index out of bounds", "index out of range",
	"division by zero", "modulus by zero", "integer overflow", "unsigned integer overflow", "return error for overflow",
	"optional.none() dereference", "type conversion error", "not a quantity", "unsupported index type", "invalid qualifier type",
}

func (p *Program) failure(err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded {
		return fmt.Errorf("evaluate expression: %w: more than %d", ErrCost, CostLimit)
	}
	message := err.Error()
	why := "a value is not as it has to be"
	if i := slices.IndexFunc(reasons, func(reason string) bool { return strings.HasPrefix(message, reason) }); i >= 0 {
		why = reasons[i]
		detail := strings.TrimPrefix(message[len(why):], ": ")
		if detail != "" && strings.Contains(p.text, detail) {
			why += ": " + detail
		}
	}
	var at *types.Err
	if errors.As(err, &at) && at.NodeID() != 0 {
		place := p.checked.NativeRep().SourceInfo().GetStartLocation(at.NodeID())
		if place.Line() > 0 {
			return fmt.Errorf("evaluate expression: %d:%d: %s", place.Line(), place.Column()+1, why)
		}
	}
	return fmt.Errorf("evaluate expression: %s", why)
}
