package expression

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// field is a field of a variable with fixed fields.
type field struct {
	kind  *cel.Type
	value func(any) any // of a pointer to its struct
}

func text[T any](value func(*T) string) field {
	return field{cel.StringType, func(v any) any { return value(v.(*T)) }}
}

func texts[T any](value func(*T) []string) field {
	return field{textList, func(v any) any { return value(v.(*T)) }}
}

// structs are the types of variables with fixed fields.
var structs = map[string]map[string]field{
	"Environment": {
		"name":      text(func(e *Environment) string { return e.Name }),
		"purpose":   text(func(e *Environment) string { return e.Purpose }),
		"tenant":    text(func(e *Environment) string { return e.Tenant }),
		"cluster":   text(func(e *Environment) string { return e.Cluster }),
		"namespace": text(func(e *Environment) string { return e.Namespace }),
		"class":     text(func(e *Environment) string { return e.Class }),
	},
	"Tenant": {
		"name":       text(func(t *Tenant) string { return t.Name }),
		"namespaces": texts(func(t *Tenant) []string { return t.Namespaces }),
	},
	"Release": {
		"version":   text(func(r *Release) string { return r.Version }),
		"migration": text(func(r *Release) string { return r.Migration }),
		"modules":   texts(func(r *Release) []string { return r.Modules }),
		"change":    {cel.ObjectType("Change"), func(v any) any { return &v.(*Release).Change }},
		"images":    {cel.MapType(cel.StringType, cel.StringType), func(v any) any { return v.(*Release).Images }},
	},
	"Change": {
		"ticket":   text(func(c *Change) string { return c.Ticket }),
		"reason":   text(func(c *Change) string { return c.Reason }),
		"impact":   text(func(c *Change) string { return c.Impact }),
		"rollback": text(func(c *Change) string { return c.Rollback }),
	},
	"ObjectChange": {
		"action":    text(func(c *ObjectChange) string { return c.Action }),
		"group":     text(func(c *ObjectChange) string { return c.Group }),
		"kind":      text(func(c *ObjectChange) string { return c.Kind }),
		"namespace": text(func(c *ObjectChange) string { return c.Namespace }),
		"name":      text(func(c *ObjectChange) string { return c.Name }),
		"fields":    {cel.ListType(cel.ObjectType("FieldChange")), func(v any) any { return v.(*ObjectChange).Fields }},
	},
	"FieldChange": {
		"path": text(func(c *FieldChange) string { return c.Path }),
		"old":  {cel.DynType, func(v any) any { return v.(*FieldChange).Old }},
		"new":  {cel.DynType, func(v any) any { return v.(*FieldChange).New }},
	},
}

// withStructs makes the types known to an environment.
func withStructs(env *cel.Env) (*cel.Env, error) {
	env, err := cel.CustomTypeProvider(provider{env.CELTypeProvider()})(env)
	if err != nil {
		return nil, err
	}
	return cel.CustomTypeAdapter(adapter{env.CELTypeAdapter()})(env)
}

// provider tells CEL about the types.
type provider struct{ types.Provider }

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := structs[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if fields, ok := structs[name]; ok {
		return slices.Sorted(maps.Keys(fields)), true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	fields, ok := structs[name]
	if !ok {
		return p.Provider.FindStructFieldType(name, fieldName)
	}
	f, ok := fields[fieldName]
	if !ok {
		return nil, false
	}
	return &types.FieldType{
		Type:    f.kind,
		IsSet:   func(v any) bool { return isSet(f.value(v)) },
		GetFrom: func(v any) (any, error) { return f.value(v), nil },
	}, true
}

// isSet reports whether a field has a value.
func isSet(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []string:
		return len(v) > 0
	case map[string]string:
		return len(v) > 0
	case []FieldChange:
		return len(v) > 0
	}
	return true
}

// adapter gives CEL the values.
type adapter struct{ types.Adapter }

func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case *Environment:
		return a.instance("Environment", v)
	case *Tenant:
		return a.instance("Tenant", v)
	case *Release:
		return a.instance("Release", v)
	case *Change:
		return a.instance("Change", v)
	case ObjectChange:
		return a.instance("ObjectChange", &v)
	case FieldChange:
		return a.instance("FieldChange", &v)
	case []ObjectChange:
		return types.NewDynamicList(a, v)
	case []FieldChange:
		return types.NewDynamicList(a, v)
	}
	return a.Adapter.NativeToValue(value)
}

func (a adapter) instance(name string, value any) ref.Val {
	return &instance{adapter: a, fields: structs[name], kind: cel.ObjectType(name), value: value}
}

// instance is a value of one of the types.
type instance struct {
	adapter adapter
	fields  map[string]field
	kind    *types.Type
	value   any // pointer to the struct
}

func (i *instance) Type() ref.Type { return i.kind }
func (i *instance) Value() any     { return i.value }

func (i *instance) ConvertToNative(to reflect.Type) (any, error) {
	if reflect.TypeOf(i.value) == to {
		return i.value, nil
	}
	return nil, fmt.Errorf("type conversion error from %s", i.kind)
}

func (i *instance) ConvertToType(to ref.Type) ref.Val {
	switch to {
	case types.TypeType:
		return i.kind
	case i.kind:
		return i
	}
	return types.NewErr("type conversion error from %s", i.kind)
}

func (i *instance) Equal(other ref.Val) ref.Val {
	o, ok := other.(*instance)
	return types.Bool(ok && reflect.DeepEqual(i.value, o.value))
}

// Get gives a field whose name is known only when it is evaluated.
func (i *instance) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if f, is := i.fields[string(name)]; ok && is {
		return i.adapter.NativeToValue(f.value(i.value))
	}
	return types.NewErr("no such key")
}

// IsSet reports whether such a field has a value.
func (i *instance) IsSet(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if f, is := i.fields[string(name)]; ok && is {
		return types.Bool(isSet(f.value(i.value)))
	}
	return types.NewErr("no such key")
}
