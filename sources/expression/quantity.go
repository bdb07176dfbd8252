package expression

import (
	"errors"
	"reflect"
	"regexp"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
)

// quantityFunctions have the names that they have in Kubernetes' own policies.
var quantityFunctions = []string{"quantity", "isQuantity", "isLessThan", "isGreaterThan", "compareTo"}

var quantityType = cel.OpaqueType("kubernetes.Quantity")

// quantity is an amount of a resource, such as 500m or 4Gi.
type quantity struct{ resource.Quantity }

// quantityForm is what Kubernetes accepts, with few digits: it would compute for ever with 1e999999999.
var quantityForm = regexp.MustCompile(`^[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`)

var errQuantity = errors.New("not a quantity")

func parseQuantity(text string) (quantity, error) {
	if !quantityForm.MatchString(text) {
		return quantity{}, errQuantity
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return quantity{}, errQuantity
	}
	return quantity{q}, nil
}

// quantities makes them known to an environment.
var quantities = cel.Lib(quantityLibrary{})

type quantityLibrary struct{}

func (quantityLibrary) ProgramOptions() []cel.ProgramOption { return nil }

func (quantityLibrary) CompileOptions() []cel.EnvOption {
	compare := func(name string, result *cel.Type, judge func(order int) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload("quantity_"+name, []*cel.Type{quantityType, quantityType}, result,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				left, right := a.(quantity), b.(quantity)
				return judge(left.Cmp(right.Quantity))
			})))
	}
	return []cel.EnvOption{
		cel.Function("quantity",
			cel.Overload("string_to_quantity", []*cel.Type{cel.StringType}, quantityType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				q, err := parseQuantity(string(v.(types.String)))
				if err != nil {
					return types.WrapErr(err)
				}
				return q
			})),
			cel.Overload("int_to_quantity", []*cel.Type{cel.IntType}, quantityType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				return quantity{*resource.NewQuantity(int64(v.(types.Int)), resource.DecimalSI)}
			}))),
		cel.Function("isQuantity", cel.Overload("is_quantity_string", []*cel.Type{cel.StringType}, cel.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val {
			_, err := parseQuantity(string(v.(types.String)))
			return types.Bool(err == nil)
		}))),
		compare("isLessThan", cel.BoolType, func(order int) ref.Val { return types.Bool(order < 0) }),
		compare("isGreaterThan", cel.BoolType, func(order int) ref.Val { return types.Bool(order > 0) }),
		compare("compareTo", cel.IntType, func(order int) ref.Val { return types.Int(order) }),
	}
}

func (q quantity) Type() ref.Type { return quantityType }
func (q quantity) Value() any     { return q.Quantity }

func (q quantity) ConvertToNative(to reflect.Type) (any, error) {
	if to == reflect.TypeFor[resource.Quantity]() {
		return q.Quantity, nil
	}
	return nil, errors.New("type conversion error from quantity")
}

func (q quantity) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.TypeType:
		return quantityType
	case quantityType:
		return q
	}
	return types.NewErr("type conversion error from quantity")
}

func (q quantity) Equal(other ref.Val) ref.Val {
	o, ok := other.(quantity)
	return types.Bool(ok && q.Cmp(o.Quantity) == 0)
}
